package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"srs-proxy/proxy/hooks"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// hookRelay is how the hooks in the origins' configs are called: through us, because
// only we know who an origin's RTMP and SRT clients are.
type hookRelay struct {
	// addr is where the relay listens, or would if there were hooks; not valid when
	// it is off. A reload leaves it where it was at the start.
	addr   netip.AddrPort
	sealer *hooks.Sealer // nil when there are no hooks
}

// hookPort is the value of --hook-relay: 0 for auto, negative for off.
type hookPort int

const hookRelayOff hookPort = -1

func parseHookPort(v string) (hookPort, error) {
	switch v {
	case "auto":
		return 0, nil
	case "off":
		return hookRelayOff, nil
	}
	port, err := parsePort(v)
	if err != nil {
		return 0, errors.New("is not a port; give 1024 to 65535, auto or off")
	}
	return hookPort(port), nil
}

// chooseHookPort finds the relay's place: where the kernel gives no port away and where
// it is at the next start too, for the origins that live on have it in their configs.
func (s *setup) chooseHookPort() error {
	if s.cfg.HookRelay == hookRelayOff || s.hooks.addr.IsValid() {
		return nil
	}
	port := int(s.cfg.HookRelay)
	if port == 0 {
		lo, hi, err := runtime.EphemeralRange()
		if err != nil {
			return err
		}
		taken := s.publicPorts()
		for port = s.ports.Ports(0).RTMP - 1; lo <= port && port <= hi || slices.Contains(taken, port); port-- {
		}
	}
	s.hooks.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	return nil
}

// planHooks looks whether the origins have hooks.
func (s *setup) planHooks(context.Context) error {
	s.hooks.sealer = nil
	if !s.hooks.addr.IsValid() {
		return nil
	}
	text, err := s.originConfig(0)
	if err != nil {
		return nil //nolint:nilerr // whoever needs the config says it better
	}
	root, err := srsconf.Parse("config of the first origin", text)
	if err != nil || len(srsconf.HookURLs(root)) == 0 {
		return err
	}
	key, err := readHookKey(s.cfg.StateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.hooks.sealer, err = hooks.NewSealer(s.hooks.addr, key)
	return err
}

// makeHookKey sees to it that the hooks' URLs are those of this state dir for good.
// Only an instance that runs makes one.
func (s *setup) makeHookKey(ctx context.Context) error {
	if s.hooks.sealer == nil {
		return nil
	}
	path := hookKeyFile(s.cfg.StateDir)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key := make([]byte, hooks.KeySize)
	_, _ = rand.Read(key) // never fails
	if err := os.MkdirAll(s.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the state dir: %w", err)
	}
	if err := srsconf.WriteFile(path, key); err != nil {
		return fmt.Errorf("key of the hooks' relay: %w", err)
	}
	return s.planHooks(ctx)
}

func hookKeyFile(stateDir string) string { return filepath.Join(stateDir, "hooks.key") }

func readHookKey(stateDir string) (key [hooks.KeySize]byte, err error) {
	path := hookKeyFile(stateDir)
	b, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("key of the hooks' relay: %w", err)
	}
	if copy(key[:], b) != len(key) || len(b) != len(key) {
		return key, fmt.Errorf("%s has %d bytes where a key of %d should be; remove it, and all origins are replaced", path, len(b), len(key))
	}
	return key, nil
}

// hook is what the configs' hooks become, nil when they stay.
func (s *setup) hook() srsconf.Hook {
	if s.hooks.sealer == nil {
		return nil
	}
	return s.hooks.sealer.URL
}

// reservedPorts are those that no origin may have: our own.
func (s *setup) reservedPorts() []int {
	ports := s.publicPorts()
	if s.hooks.addr.IsValid() && s.hooks.sealer == nil {
		ports = append(ports, int(s.hooks.addr.Port())) // a reload may bring the first hook
	}
	return ports
}

// listenForHooks binds the relay, if the origins have hooks and it is not yet.
func (in *instance) listenForHooks(s *setup) error {
	if s.hooks.sealer == nil {
		return nil
	}
	err := in.hooks.Listen(s.hooks.sealer)
	if isBusy(err) {
		return fmt.Errorf("the relay of hooks needs %s, which is held by %s; stop that one, or choose another --hook-relay",
			s.hooks.addr, portHolder("tcp", int(s.hooks.addr.Port())))
	}
	if err != nil {
		return fmt.Errorf("the relay of hooks: %w", err)
	}
	return nil
}
