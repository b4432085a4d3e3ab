package route

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"srs-proxy/proxy/listener"
)

// Dial connects to an origin's "ip:port" as Connect does, for requests that are no
// session: within the DialTimeout, with the timeouts of our sockets. The caller tells
// the balancer how it went (ReportDial) and closes the connection.
func (r *Router) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return r.dial(ctx, &r.dialer, addr)
}

// dial gives up after the DialTimeout. Until then it dials anew every now and then:
// an origin whose accept queue is full, as a thousand clients at once make it, drops
// the SYN, and the kernel sends another one only a second later.
func (r *Router) dial(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.DialTimeout)
	defer cancel()
	for {
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err == nil || ctx.Err() != nil || !isTimeout(err) {
			return nc, err
		}
	}
}

// synPatience is far above a round trip to an origin, and leaves four tries in the
// default DialTimeout.
const synPatience = 250 * time.Millisecond

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// noDescriptors tells a failure of this process (or machine) from an origin's.
func noDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func control(_, _ string, rc syscall.RawConn) error {
	var err error
	cerr := rc.Control(func(fd uintptr) { err = listener.SetTimeouts(int(fd)) })
	return errors.Join(cerr, err)
}
