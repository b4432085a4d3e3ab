package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// Prepare takes the state dir, writes every origin's config, has the program
// check the kinds of them, and proves that all ports are free. Its errors say what
// is wrong and what to do; nothing was started then.
func (s *Supervisor) Prepare(ctx context.Context) (err error) {
	if err := s.cfg.validate(); err != nil {
		return err
	}
	if err := s.cfg.findCommand(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the state dir: %w", err)
	}
	if s.lock, err = lockDir(s.cfg.StateDir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.bootID, err = runtime.BootID(); err != nil {
		return err
	}
	// What an origin forks and leaves behind becomes our child, so that we can end it.
	if err := runtime.BecomeSubreaper(); err != nil {
		return err
	}
	state := loadState(s.cfg.StateDir, s.log)
	if err := s.inherit(ctx, state); err != nil {
		return err
	}
	s.drainAsBefore(state)
	for _, slot := range s.all() {
		if err := slot.writeConfig(); err != nil {
			return err
		}
	}
	if s.cgroups, err = runtime.OpenCgroups(runtime.CgroupConfig{Name: cmp.Or(s.cfg.Cgroup, runtime.CgroupsOff)}); err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	s.spawner = runtime.NewSpawner()
	if err := s.checkKinds(ctx); err != nil {
		return err
	}
	return s.provePorts(ctx)
}

// findCommand makes the program's path one that works in any folder.
func (c *Config) findCommand() error {
	path, err := exec.LookPath(c.Command[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w; name an srs with --srs, or leave it out to run the built-in origin", ErrNoBinary, err)
	}
	c.Command = append([]string{path}, c.Command[1:]...)
	return nil
}

// writeConfig renders the slot's config, and makes the folders that it names.
func (s *slot) writeConfig() error {
	text, err := s.cfg.Template.Render(s.params)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, s.id, err)
	}
	root, err := srsconf.Parse(s.configFile, text)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, s.id, err)
	}
	if s.listeners, err = srsconf.Listeners(root); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, s.id, err)
	}
	for _, dir := range append(srsconf.Dirs(root), s.params.WorkDir) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the folders of %s: %w", s.id, err)
		}
	}
	s.configHash = hashOf(text)
	// A write goes to the disk, which is slow a hundred times over.
	if old, err := os.ReadFile(s.configFile); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := srsconf.WriteFile(s.configFile, text); err != nil {
		return fmt.Errorf("config of %s: %w", s.id, err)
	}
	return nil
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// checkKinds checks one config for each overlay text there is, which is two at
// most: slot 0 has what only one origin may have. The other slots check their own
// just before their first start, many at a time. A kind that an adopted process
// serves with needs no check: clients wait meanwhile.
func (s *Supervisor) checkKinds(ctx context.Context) error {
	seen := make(map[string]bool)
	for _, slot := range s.all() {
		if l := slot.leftover; l != nil && l.sameCommand && l.configHash == slot.configHash {
			seen[slot.params.Overlay] = true
		}
	}
	for _, slot := range s.all() {
		if seen[slot.params.Overlay] {
			continue
		}
		seen[slot.params.Overlay] = true
		if err := slot.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// provePorts tries every port of every slot, and names all that are not free.
func (s *Supervisor) provePorts(ctx context.Context) error {
	var busy []*portBusy
	var where []string
	for _, slot := range s.all() {
		if slot.leftover != nil {
			continue
		}
		err := proveFree(ctx, slot.listeners)
		var b *portBusy
		switch {
		case err == nil:
		case errors.As(err, &b):
			busy = append(busy, b)
			where = append(where, fmt.Sprintf("%s needs %s", slot.id, b))
		default:
			return fmt.Errorf("%s: %w", slot.id, err)
		}
	}
	if len(busy) == 0 {
		return nil
	}
	if s.inherited.adopted > 0 {
		// Those that serve go on; the others wait for their ports.
		s.log.Error("ports of origins are held by strangers; only the other origins run", "ports", strings.Join(firstFew(where), "; "))
		return nil
	}
	return fmt.Errorf("%w: %s; %s", ErrPortBusy, strings.Join(firstFew(where), "; "), s.portAdvice(busy[0].holder))
}

func firstFew(all []string) []string {
	const shown = 4
	if len(all) > shown {
		return append(all[:shown:shown], fmt.Sprintf("and %d more", len(all)-shown))
	}
	return all
}

// portAdvice tells a leftover origin of this state dir, which no state file
// remembers, from a stranger.
func (s *Supervisor) portAdvice(h holder) string {
	switch {
	case h.pid == 0:
		return "choose other ports with --port-base"
	case strings.Contains(h.command, s.cfg.StateDir):
		return fmt.Sprintf("it is an origin that was left over; stop it with: kill %d", h.pid)
	}
	return fmt.Sprintf("stop that process (kill %d), or choose other ports with --port-base", h.pid)
}
