package rtmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
	"srs-proxy/proxy/route"
)

// originHandshake is how long an origin may take for the handshake. It is short:
// the kernel accepts for a process that hangs, and another origin may serve.
const originHandshake = 2 * time.Second

// upstream is the origin's side of a session.
type upstream struct {
	session *session
	conn    *route.Conn
	in      *rtmp.Reader
	out     *rtmp.Writer // of renumberPublish

	// fullHeaders says that the origin is known to begin each message with a full
	// header (SRS does): the client can follow it from any boundary on.
	fullHeaders bool
	// inherits are the chunk streams on which the origin's next header could
	// refer to one that the client has not seen as it was sent.
	inherits map[uint32]bool
	streamID uint32 // what the origin's first createStream gave
	created  bool   // it has answered that one
	accepted bool   // it has accepted publish or play
	// answered are the client's commands that the origin must not answer again.
	answered answers
}

// refusal is an origin's own _error.
type refusal struct{ description string }

func (r refusal) Error() string { return "the origin refused: " + r.description }

func newUpstream(s *session, c *route.Conn) *upstream {
	return &upstream{
		session: s, conn: c, inherits: make(map[uint32]bool), streamID: clientStreamID,
		answered: slices.Clone(s.prelude.answered),
	}
}

// open speaks with the origin as the client did, up to createStream, and then
// hands over publish or play. An error of the handshake may be retried on another
// origin; after it the client's commands have been seen and may have had effects.
func (u *upstream) open(ctx context.Context) error {
	socket := u.conn.TCPConn
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	p := u.session.prelude
	origin := quickack{socket, socket}

	u.setDeadline(ctx, originHandshake)
	var realIP netip.Addr
	if u.session.server.realIP.Load() {
		realIP = u.session.client.IP
	}
	if err := rtmp.DialHandshake(origin, realIP); err != nil {
		return route.Retry(fmt.Errorf("handshake: %w", err))
	}
	u.setDeadline(ctx, u.session.server.cfg.PreludeTimeout)
	u.in = rtmp.NewReader(bufio.NewReaderSize(origin, 4096), rtmp.Limits{})
	if _, err := origin.Write(p.raw[:p.publishAt]); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if err := u.awaitStream(); err != nil {
		return err
	}
	if u.streamID != clientStreamID {
		if err := u.renumberPublish(); err != nil {
			return err
		}
	} else if _, err := origin.Write(p.raw[p.publishAt:]); err != nil {
		// The rest as it came: the origin's decoder is now where the client's encoder is.
		return fmt.Errorf("replay: %w", err)
	}
	return u.conn.SetDeadline(time.Time{})
}

func (u *upstream) setDeadline(ctx context.Context, d time.Duration) {
	_ = u.conn.SetDeadline(time.Now().Add(d)) // fails only when closed, and then so does the next read
	if ctx.Err() != nil {
		_ = u.conn.SetDeadline(time.Unix(1, 0))
	}
}

// awaitStream passes the origin's answers until it has answered the first
// createStream: the client's stream is that one. SRS leaves further ones
// unanswered if FCPublish came before.
func (u *upstream) awaitStream() error {
	for !u.created && u.answered.awaits(createStream) {
		m, err := u.in.ReadMessage()
		if isHangup(err) {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if err != nil {
			return fmt.Errorf("answers to connect and createStream: %w", err)
		}
		if err := u.pass(m); err != nil {
			return err
		}
	}
	return nil
}

// pass gives a message of the origin to the client, unless the client has had its
// like from us.
func (u *upstream) pass(m rtmp.Message) error {
	if m.IsCommand() {
		if c, err := rtmp.ParseCommand(m); err == nil {
			swallowed, err := u.swallow(c)
			if err != nil {
				return err
			}
			if swallowed {
				u.inherits[m.ChunkStreamID] = true
				return nil
			}
		}
	}
	if m.Format == 0 {
		delete(u.inherits, m.ChunkStreamID)
	} else {
		u.inherits[m.ChunkStreamID] = true
	}
	return u.session.prelude.out.WriteMessage(renumber(m, u.streamID, clientStreamID))
}

// swallow tells whether the client has been given this answer already.
func (u *upstream) swallow(c rtmp.Command) (bool, error) {
	switch c.Name {
	case "onBWDone":
		return true, nil
	case "_result", "_error":
	default:
		return false, nil
	}
	kind, ok := u.answered.settle(c.TransactionID)
	if !ok {
		return false, nil
	}
	info := amf0.AsObject(c.Arg(0))
	if c.Name == "_error" {
		return true, refusal{info.Text("description")}
	}
	switch kind {
	case connect:
		// SRS and the built-in origin name themselves here, and begin each
		// message with a full header.
		_, u.fullHeaders = amf0.AsObject(info.Get("data")).Get("srs_version").(string)
	case createStream:
		if u.created {
			break
		}
		id, ok := c.Arg(0).(float64)
		if !ok || id < 0 || id > math.MaxUint32 {
			return true, errors.New("createStream answered without a stream id")
		}
		u.streamID, u.created = uint32(id), true
	}
	return true, nil
}

// relay moves the session's bytes until it ends. It reports whether that goes on after
// it has returned; then it ends the session too.
func (u *upstream) relay(ctx context.Context) (handedOn bool) {
	s, conn := u.session, u.conn
	if u.streamID != clientStreamID {
		result, err := u.relayMessages(ctx)
		s.logEnd("session closed", err, result)
		return false
	}
	pair := s.server.relay.Pair(s.client.TCPConn, conn.TCPConn)
	pair.Prologue, pair.TLS, pair.Group, pair.Taken = u.prologue, s.client.TLS(), &s.server.pairs, s.forget
	err := s.handOver(pair)
	if err == nil {
		err = pair.Start(context.Background(), s.relayed)
	}
	if err != nil {
		s.logEnd("session closed", err, pair.Bytes())
	}
	return err == nil
}

// forget lets go of connections that the relay has taken over.
func (s *session) forget() {
	s.client.Forget()
	s.conn.Forget()
}

// relayed is called when the relay is through with the session.
func (s *session) relayed(err error) {
	defer s.end()
	defer s.server.recoverSession(s)
	s.conn.Close()
	s.logEnd("session closed", err, s.pair.Bytes())
}

// awaitAccepted passes the origin's messages until it has accepted the publish. The
// client's bytes wait meanwhile: they are for the origin that does.
func (u *upstream) awaitAccepted(ctx context.Context) error {
	socket := u.conn.TCPConn
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for !u.accepted {
		if err := u.passNext(); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return nil
}

// prologue passes the origin's messages until it has accepted publish or play and
// its bytes can be relayed as they are.
func (u *upstream) prologue() error {
	for !u.accepted || !u.canSplice() {
		if err := u.passNext(); err != nil {
			if errors.Is(err, errRefused) {
				u.session.refuse(errRefused.Error())
			}
			return err
		}
	}
	if out := u.session.prelude.out; out.ChunkSize() != u.in.ChunkSize() {
		if err := out.SetChunkSize(u.in.ChunkSize()); err != nil {
			return err
		}
	}
	// What was read beyond the last message.
	_, err := u.session.client.Write(u.in.Buffered())
	// Nobody asks for the rest any more, and sessions are long.
	u.session.prelude = nil
	return err
}

// passNext passes the origin's next message.
func (u *upstream) passNext() error {
	m, err := u.in.ReadMessage()
	if isHangup(err) && !u.accepted {
		return errRefused // SRS hangs up without a word when a hook or its security refuses
	}
	if err != nil {
		return err
	}
	u.accepted = u.accepted || accepts(m)
	return u.pass(m)
}

// accepts tells whether a message is the origin's word on publish or play: its
// onStatus, or media.
func accepts(m rtmp.Message) bool {
	switch m.Type {
	case rtmp.TypeAudio, rtmp.TypeVideo, rtmp.TypeAggregate:
		return true
	case rtmp.TypeCommandAMF0, rtmp.TypeCommandAMF3:
		c, err := rtmp.ParseCommand(m)
		return err == nil && c.Name == "onStatus"
	}
	return false
}

// canSplice tells whether the client's decoder can follow the origin's encoder
// from the next byte on.
func (u *upstream) canSplice() bool {
	return u.in.AtBoundary() && (u.fullHeaders || len(u.inherits) == 0)
}
