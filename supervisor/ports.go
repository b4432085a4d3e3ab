package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// proveFree binds every listener of an origin's config and lets go of it. SRS
// sets SO_REUSEPORT, so it would start next to whoever has the port and share its
// clients with it; we do not set it, so we see who is there.
func proveFree(ctx context.Context, listeners []srsconf.Listener) error {
	err := tryAll(ctx, listeners)
	var busy *portBusy
	if errors.As(err, &busy) {
		busy.holder = owner(busy.listener)
	}
	return err
}

// tryAll is proveFree without a look for who has a port, which reads the descriptors
// of all processes.
func tryAll(ctx context.Context, listeners []srsconf.Listener) error {
	for _, l := range listeners {
		if err := tryListen(ctx, l); err != nil {
			if !errors.Is(err, unix.EADDRINUSE) {
				return fmt.Errorf("%s on %s: %w", l.Directive, l.Addr, err)
			}
			return &portBusy{listener: l}
		}
	}
	return nil
}

func tryListen(ctx context.Context, l srsconf.Listener) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	addr := l.Addr.String()
	if l.Network == "udp" {
		c, err := lc.ListenPacket(ctx, udpNetwork(l.Addr), addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	c, err := lc.Listen(ctx, "tcp"+family(l.Addr), addr)
	if err != nil {
		return err
	}
	return c.Close()
}

func udpNetwork(a netip.AddrPort) string { return "udp" + family(a) }

func family(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "4"
	}
	return "6"
}

// holder is who has a port.
type holder struct {
	pid     int
	command string
}

func owner(l srsconf.Listener) holder {
	pid, comm, found, err := runtime.PortOwner(l.Network, int(l.Addr.Port()))
	if err != nil || !found || pid == 0 {
		return holder{}
	}
	h := holder{pid: pid, command: comm}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(args) > 0 {
		h.command = printable(strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " ")))
	}
	return h
}

// portBusy is an ErrPortBusy that knows by whom.
type portBusy struct {
	listener srsconf.Listener
	holder   holder
}

func (e *portBusy) Error() string {
	by := "a process that we may not see"
	if e.holder.pid != 0 {
		by = fmt.Sprintf("pid %d (%s)", e.holder.pid, e.holder.command)
	}
	return fmt.Sprintf("%s %d (%s) is held by %s", e.listener.Network, e.listener.Addr.Port(), e.listener.Directive, by)
}

func (e *portBusy) Unwrap() error { return ErrPortBusy }
