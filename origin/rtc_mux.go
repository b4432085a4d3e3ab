package origin

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
)

// rtcUDPMux shares the port. The library would make a candidate, and look up the
// interfaces, for each address of the host; packets are told apart by their user
// name fragment alone, so one address of each family will do.
type rtcUDPMux struct {
	*ice.UDPMuxDefault
	addresses []net.Addr
}

func newRTCUDPMux(c *net.UDPConn, logs pionLogs) *rtcUDPMux {
	m := &rtcUDPMux{UDPMuxDefault: ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: c, Logger: logs.NewLogger("udp")})}
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok || !local.IP.IsUnspecified() {
		m.addresses = []net.Addr{c.LocalAddr()}
		return m
	}
	m.addresses = []net.Addr{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: local.Port}}
	if local.IP.To4() == nil {
		m.addresses = append(m.addresses, &net.UDPAddr{IP: net.IPv6loopback, Port: local.Port})
	}
	return m
}

// GetListenAddresses is what candidates are made of.
func (m *rtcUDPMux) GetListenAddresses() []net.Addr { return m.addresses }

// rtcListener does the same for TCP: connections seem to arrive on loopback, which
// is where the library looks for them.
type rtcListener struct{ *listener }

func (l rtcListener) Addr() net.Addr {
	port := 0
	if a, ok := l.listener.Addr().(*net.TCPAddr); ok {
		port = a.Port
	}
	return &net.TCPAddr{Port: port} // on no address in particular
}

func (l rtcListener) Accept() (net.Conn, error) {
	c, err := l.listener.Accept()
	if err != nil {
		return nil, err
	}
	return rtcConn{c}, nil
}

type rtcConn struct{ net.Conn }

func (c rtcConn) LocalAddr() net.Addr {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	if a, ok := c.Conn.LocalAddr().(*net.TCPAddr); ok {
		local.Port = a.Port
		if a.IP.To4() == nil {
			local.IP = net.IPv6loopback
		}
	}
	return local
}

// pionLogs brings the library's log lines into ours. They are for whoever debugs:
// a stranger's datagram is a warning to the library.
type pionLogs struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (l pionLogs) NewLogger(scope string) logging.LeveledLogger {
	return pionLog{l.log.With("webrtc", scope)}
}

type pionLog struct{ log *slog.Logger }

func (l pionLog) print(msg string) { l.log.Debug(msg) }

func (l pionLog) printf(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, args...))
	}
}

func (pionLog) Trace(string)                     {}
func (pionLog) Tracef(string, ...any)            {}
func (pionLog) Debug(string)                     {}
func (pionLog) Debugf(string, ...any)            {}
func (l pionLog) Info(msg string)                { l.print(msg) }
func (l pionLog) Infof(format string, a ...any)  { l.printf(format, a...) }
func (l pionLog) Warn(msg string)                { l.print(msg) }
func (l pionLog) Warnf(format string, a ...any)  { l.printf(format, a...) }
func (l pionLog) Error(msg string)               { l.print(msg) }
func (l pionLog) Errorf(format string, a ...any) { l.printf(format, a...) }
