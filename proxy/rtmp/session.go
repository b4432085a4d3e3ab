package rtmp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/rtmp"
	"srs-proxy/protocol/streamurl"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
)

// session is one client from accept to close.
type session struct {
	server *Server
	client *listener.Conn
	id     uint64
	opened time.Time
	role   balancer.Role
	stream balancer.Stream
	conn   *route.Conn // to the origin that has it, or was tried last
	// prelude is nil when it is over, because sessions are long.
	prelude *prelude

	mu     sync.Mutex              // guards the following
	ctx    context.Context         // until it has to end or is relayed
	cancel context.CancelCauseFunc // of ctx
	pair   *relay.Pair             // from then on; see handOver
}

// stop ends the session, wherever it is.
func (s *session) stop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pair != nil {
		s.pair.Stop(cause)
		return
	}
	s.cancel(cause)
}

// handOver makes a pair what ends with the session. The context goes: that of a session
// with nothing to do would take as much memory as the rest.
func (s *session) handOver(p *relay.Pair) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.pair = p
	s.cancel(nil)
	s.ctx, s.cancel = nil, nil
	return nil
}

// errRefused says that the origin hung up instead of accepting the stream.
var errRefused = errors.New("the origin closed the connection without accepting the stream")

// run takes the session to its origin. It reports whether the relay has taken over,
// and will end it.
func (s *session) run(ctx context.Context) (handedOn bool) {
	if err := s.identify(ctx); err != nil {
		s.logEnd("client left before publish or play", err, relay.Result{})
		return false
	}
	up, err := s.upstream(ctx)
	if err != nil {
		s.refuse(describe(err))
		s.logEnd("session refused", err, relay.Result{})
		return false
	}
	defer func() {
		if !handedOn {
			up.conn.Close()
		}
	}()
	return up.relay(ctx)
}

// end gives back what the session holds.
func (s *session) end() {
	s.stop(nil)
	s.client.Close()
	s.server.sessions.Done()
}

// upstream takes the session to an origin. That of a publisher has accepted it.
func (s *session) upstream(ctx context.Context) (*upstream, error) {
	for try := 1; ; try++ {
		up, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = up.conn
		if s.role != balancer.Publish {
			s.log(slog.LevelInfo, "session open")
			return up, nil
		}
		up.conn.Publishes(s.client.IP)
		err = up.awaitAccepted(ctx)
		if err == nil {
			up.conn.Accepted()
			s.log(slog.LevelInfo, "session open")
			return up, nil
		}
		if !errors.Is(err, errRefused) || ctx.Err() != nil {
			up.conn.Close()
			return nil, err
		}
		if elsewhere := up.conn.Refuse(ctx); !elsewhere || try == route.DefaultAttempts {
			return nil, err
		}
		s.log(slog.LevelWarn, "origin refused a publish that it should take, trying another")
	}
}

// identify answers the client until it says what it wants.
func (s *session) identify(ctx context.Context) error {
	sv := s.server
	defer sv.handshaking.Add(-1)
	if most := sv.most.Load(); sv.handshaking.Add(1) > most {
		return fmt.Errorf("more than %d clients are handshaking", most)
	}
	socket := s.client.TCPConn
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	conn := quickack{s.client, socket}
	s.setDeadline(ctx, sv.cfg.HandshakeTimeout)
	if err := s.client.Handshake(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	s.setDeadline(ctx, sv.cfg.HandshakeTimeout)
	// What a client claims to be another's address (0xF3) is not believed.
	if _, err := rtmp.AcceptHandshake(conn); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	s.setDeadline(ctx, sv.cfg.PreludeTimeout)
	if err := s.prelude.read(conn); err != nil {
		return fmt.Errorf("connect to publish or play: %w", err)
	}
	if err := s.client.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s.role = s.prelude.role
	u, err := streamurl.ParseRTMP(s.prelude.tcURL, s.prelude.app, s.prelude.name)
	if err != nil {
		s.refuse(err.Error())
		return err
	}
	s.stream = sv.router.Stream(u)
	return nil
}

func (s *session) setDeadline(ctx context.Context, d time.Duration) {
	_ = s.client.SetDeadline(time.Now().Add(d)) // fails only when closed, and then so does the next read
	if ctx.Err() != nil {
		_ = s.client.SetDeadline(time.Unix(1, 0))
	}
}

// connect takes the session to its origin, which has accepted the connection and
// told its message stream when connect returns.
func (s *session) connect(ctx context.Context) (*upstream, error) {
	var up *upstream
	req := route.Request{Stream: s.stream, Role: s.role, Proto: route.RTMP, Client: s.client.Addr()}
	req.Moved = func() { s.stop(route.ErrMoved) }
	_, err := s.server.router.Connect(ctx, req, func(ctx context.Context, c *route.Conn) error {
		up = newUpstream(s, c)
		return up.open(ctx)
	})
	if err != nil {
		return nil, err
	}
	return up, nil
}

// refuse tells the client why it is turned away, as a server of RTMP does, and
// lets the message arrive before the connection ends.
func (s *session) refuse(description string) {
	if s.prelude == nil || s.prelude.out == nil {
		return
	}
	code := "NetStream.Play.Failed"
	if s.role == balancer.Publish {
		code = "NetStream.Publish.BadName"
	}
	_ = s.client.SetDeadline(time.Now().Add(refuseTimeout))
	if err := s.prelude.out.WriteMessage(rtmp.StatusMessage(s.prelude.streamID, "error", code, description)); err != nil {
		return // gone already
	}
	// A close with unread bytes would reset the connection, and the message with it.
	if err := s.client.CloseWrite(); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(s.client, refuseDiscard))
	}
}

// How long, and for how many bytes, a refused client may still talk.
const (
	refuseTimeout = time.Second
	refuseDiscard = 1 << 20
)

// describe is what a client is told of an error: no addresses of the inside.
func describe(err error) string {
	var r refusal
	switch {
	case errors.As(err, &r):
		return r.Error()
	case errors.Is(err, access.ErrDenied):
		return access.ErrDenied.Error()
	case errors.Is(err, route.ErrBusy):
		return "the server is at its limit of sessions, try again later"
	case errors.Is(err, balancer.ErrOwnerUnreachable):
		return "the server of this stream can't be reached, try again"
	case errors.Is(err, balancer.ErrNoOrigin):
		return "no media server is available, try again later"
	case errors.Is(err, balancer.ErrTooManyStreams):
		return "the server is at its limit of streams, try again later"
	case errors.Is(err, balancer.ErrUnavailable):
		return "the state store can't be reached, try again later"
	case errors.Is(err, errRefused):
		return errRefused.Error()
	}
	return "the media server can't be reached, try again"
}

// logEnd writes the session's last line. Who leaves or is sent away before naming a
// stream is a scan or a broken client: a line each would flood the log.
func (s *session) logEnd(what string, err error, r relay.Result) {
	level := slog.LevelInfo
	if s.stream == (balancer.Stream{}) {
		level = slog.LevelDebug
	}
	if errors.Is(err, balancer.ErrNoOrigin) || errors.Is(err, balancer.ErrOwnerUnreachable) {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.Int64("bytes_in", r.FromClient), slog.Int64("bytes_out", r.FromOrigin),
		slog.Duration("duration", time.Since(s.opened).Round(time.Millisecond)),
	}
	if err != nil {
		attrs = append(attrs, slog.Any("cause", err))
	}
	s.log(level, what, attrs...)
}

// log writes a line about the session. A logger that has its attributes would be there
// for as long as it is.
func (s *session) log(level slog.Level, what string, attrs ...slog.Attr) {
	proto := "rtmp"
	if s.client.TLS() != nil {
		proto = "rtmps"
	}
	all := make([]slog.Attr, 0, 12)
	all = append(all, slog.String("proto", proto), slog.Uint64("session", s.id), slog.String("client", s.client.Addr().String()))
	if s.stream != (balancer.Stream{}) {
		all = append(all, slog.String("role", s.role.String()), slog.String("stream", s.stream.String()))
	}
	if s.conn != nil {
		all = append(all, slog.String("origin", s.conn.Lease.Origin.ID))
	}
	s.server.log.LogAttrs(context.Background(), level, what, append(all, attrs...)...)
}

// isHangup tells whether an error is an ordinary end of a connection.
func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
