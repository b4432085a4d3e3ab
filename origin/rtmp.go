package origin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"syscall"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
	"srs-proxy/protocol/streamurl"
)

// streamID is what createStream always answers, as SRS does.
const streamID = 1

// serveRTMP accepts until the listener closes or ctx ends.
func (o *Origin) serveRTMP(ctx context.Context, l *listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !o.sessions.enter() {
			_ = c.Close()
			return nil
		}
		go o.runRTMP(ctx, c.(*conn))
	}
}

// rtmpSession is one RTMP connection: first it identifies itself, then it
// publishes or plays, perhaps several times.
//
//	handshake ─▶ connect ─▶ createStream ... ─▶ publish ─▶ media ─▶ FCUnpublish ─┐
//	                              ▲         └─▶ play ─▶ (sink writes) ─▶ close ──┤
//	                              └──────────────────────────────────────────────┘
type rtmpSession struct {
	o      *Origin
	conn   *conn
	cancel context.CancelCauseFunc
	log    *slog.Logger
	r      *rtmp.Reader
	w      *rtmp.Writer
	ip     string

	app, tcURL, pageURL, swfURL string
	encoding                    float64
	connected                   bool
	typ                         string // of a publisher, told by the commands before publish

	ackEvery, acked int64     // bytes; the peer's window, and what it knows we have
	deadline        time.Time // of reads
}

func (o *Origin) runRTMP(parent context.Context, c *conn) {
	defer o.sessions.leave()
	ctx, cancel := context.WithCancelCause(parent)
	s := &rtmpSession{o: o, conn: c, cancel: cancel, ip: hostOf(c.RemoteAddr())}
	s.log = o.log.With("session", randomID(8), "proto", "rtmp", "client", s.ip)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer func() { _ = c.Close() }()
	defer cancel(nil)
	defer s.survive()

	err := s.run(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	level := slog.LevelInfo
	if !s.connected && isHangup(err) {
		level = slog.LevelDebug // port checks and health probes
	}
	s.log.Log(context.WithoutCancel(ctx), level, "rtmp session closed", "in", c.meter.in.Load(), "out", c.meter.out.Load(),
		"took", time.Since(c.accepted).Round(time.Millisecond), "cause", err)
}

// survive is a seat belt, to be deferred: one session's bug must not end the others.
func (s *rtmpSession) survive() {
	if p := recover(); p != nil {
		s.log.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
		s.cancel(errPanic)
	}
}

// isHangup tells ends that are not worth a warning.
func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (s *rtmpSession) run(ctx context.Context) error {
	if err := s.conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	br := bufio.NewReaderSize(s.conn, 16<<10) // fewer reads; large payloads go past it
	real, err := rtmp.AcceptHandshake(struct {
		io.Reader
		io.Writer
	}{br, s.conn})
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if real.IsValid() {
		s.log = s.log.With("real_ip", real)
		s.ip = real.String()
	}
	if err := s.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s.r, s.w = rtmp.NewReader(br, rtmp.Limits{}), rtmp.NewWriter(s.conn)

	timeout := identifyTimeout
	for {
		if err := s.expect(timeout); err != nil {
			return err
		}
		name, publish, err := s.identify()
		if err != nil {
			return err
		}
		if publish {
			err = s.publish(ctx, name)
		} else {
			err = s.play(ctx, name)
		}
		if err != nil {
			return err
		}
		timeout = republishTimeout
	}
}

// expect sets how long everything up to the next expect may take; 0 is for ever.
// Writes of replies are small and share the bound.
func (s *rtmpSession) expect(d time.Duration) error {
	s.deadline = time.Time{}
	if d > 0 {
		s.deadline = time.Now().Add(d)
	}
	return s.conn.SetReadDeadline(s.deadline)
}

// read returns the next message that is not of the protocol itself; those it
// answers.
func (s *rtmpSession) read() (rtmp.Message, error) {
	for {
		m, err := s.r.ReadMessage()
		if err != nil {
			return m, err
		}
		if err := s.acknowledge(); err != nil {
			return m, err
		}
		switch m.Type {
		case rtmp.TypeSetChunkSize, rtmp.TypeAbort, rtmp.TypeAcknowledgement, rtmp.TypeSetPeerBandwidth:
		case rtmp.TypeWindowAckSize:
			if n, err := m.Uint32(); err == nil {
				s.ackEvery = int64(n)
			}
		case rtmp.TypeUserControl:
			if err := s.answerPing(m); err != nil {
				return m, err
			}
		default:
			return m, nil
		}
	}
}

// answerPing: PingRequest (6) is answered by PingResponse (7) with its time
// (section 7.1.7).
func (s *rtmpSession) answerPing(m rtmp.Message) error {
	if len(m.Payload) < 6 || m.Payload[0] != 0 || m.Payload[1] != 6 {
		return nil
	}
	p := append([]byte{0, 7}, m.Payload[2:6]...)
	return s.send(rtmp.Message{ChunkStreamID: 2, Type: rtmp.TypeUserControl, Payload: p})
}

// acknowledge tells peers that asked for it what arrived (section 5.4.3). At half
// of their window, so that none ever waits.
func (s *rtmpSession) acknowledge() error {
	if s.ackEvery == 0 {
		return nil
	}
	in := s.conn.meter.in.Load()
	if in-s.acked < s.ackEvery/2 {
		return nil
	}
	s.acked = in
	return s.send(rtmp.ControlMessage(rtmp.TypeAcknowledgement, uint32(in)))
}

// send writes messages at once. Only this goroutine uses the writer; a sink
// writes whole frames, and the connection keeps the two apart.
func (s *rtmpSession) send(messages ...rtmp.Message) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeStall)); err != nil {
		return err
	}
	return s.w.WriteMessages(messages...)
}

// identify answers commands up to publish or play (SRS:
// SrsRtmpServer::identify_client).
func (s *rtmpSession) identify() (name string, publish bool, err error) {
	s.typ = typeFlashPublish
	for {
		m, err := s.read()
		if err != nil {
			return "", false, err
		}
		if !m.IsCommand() {
			continue // media of a publication that ended a moment ago
		}
		c, err := rtmp.ParseCommand(m)
		if err != nil {
			return "", false, err
		}
		if !s.connected && c.Name != "connect" {
			return "", false, fmt.Errorf("%w: %s before connect", rtmp.ErrCommand, c.Name)
		}
		switch c.Name {
		case "publish", "play":
			name, ok := c.Text(0)
			if !ok {
				return "", false, fmt.Errorf("%w: %s without a stream name", rtmp.ErrCommand, c.Name)
			}
			return name, c.Name == "publish", nil
		}
		if err := s.answer(c); err != nil {
			return "", false, err
		}
	}
}

// answer replies to every command but publish and play.
func (s *rtmpSession) answer(c rtmp.Command) error {
	switch c.Name {
	case "connect":
		return s.connect(c)
	case "createStream":
		return s.reply(c, nil, float64(streamID))
	case "releaseStream":
		s.typ = typeFMLEPublish
		return s.reply(c, nil, amf0.Undefined{})
	case "FCPublish":
		if s.typ == typeFlashPublish {
			s.typ = typeHaivision
		}
		return s.reply(c, nil, amf0.Undefined{})
	case "_result", "_error", "onStatus", "deleteStream", "closeStream", "FCUnpublish":
		return nil
	}
	// _checkbw and whatever else: SRS answers any call that asks for an answer
	// with nulls. The length of a live stream is 0; ffmpeg warns of a null there.
	switch {
	case c.TransactionID > 0 && c.Name == "getStreamLength":
		return s.reply(c, nil, 0.0)
	case c.TransactionID > 0:
		return s.reply(c, nil, nil)
	}
	return nil
}

func (s *rtmpSession) reply(c rtmp.Command, object, result any) error {
	m, err := rtmp.Command{Name: "_result", TransactionID: c.TransactionID, Object: object, Args: []any{result}}.Message(3, 0)
	if err != nil {
		return err
	}
	return s.send(m)
}

// connect answers as SRS's service_cycle and response_connect_app do: bandwidth
// and chunk size, then _result with data that has SRS's keys, by which a proxy
// knows an encoder of full headers.
func (s *rtmpSession) connect(c rtmp.Command) error {
	o := amf0.AsObject(c.Object)
	s.app, s.tcURL = o.Text("app"), o.Text("tcUrl")
	s.pageURL, s.swfURL = o.Text("pageUrl"), o.Text("swfUrl")
	s.encoding, _ = o.Get("objectEncoding").(float64)
	if s.tcURL == "" && s.app == "" {
		return fmt.Errorf("%w: connect without tcUrl", rtmp.ErrCommand)
	}
	s.connected = true

	result, err := rtmp.Command{
		Name: "_result", TransactionID: c.TransactionID,
		Object: amf0.Object{
			{Key: "fmsVer", Value: "FMS/" + fmsVersion},
			{Key: "capabilities", Value: 127.0},
			{Key: "mode", Value: 1.0},
		},
		Args: []any{amf0.Object{
			{Key: "level", Value: "status"},
			{Key: "code", Value: "NetConnection.Connect.Success"},
			{Key: "description", Value: "Connection succeeded"},
			{Key: "objectEncoding", Value: s.encoding},
			{Key: "data", Value: s.o.connectData(s.conn.LocalAddr())},
		}},
	}.Message(3, 0)
	if err != nil {
		return err
	}
	done, err := rtmp.Command{Name: "onBWDone", Object: nil}.Message(3, 0)
	if err != nil {
		return err
	}
	return s.send(
		rtmp.ControlMessage(rtmp.TypeWindowAckSize, 2_500_000),
		rtmp.PeerBandwidthMessage(2_500_000),
		rtmp.ControlMessage(rtmp.TypeSetChunkSize, chunkSize),
		result, done,
	)
}

const fmsVersion = "3,5,3,888" // RTMP_SIG_FMS_VER

func (o *Origin) connectData(local net.Addr) amf0.ECMAArray {
	return amf0.ECMAArray{
		{Key: "version", Value: fmsVersion},
		{Key: "srs_sig", Value: "srs-proxy"},
		{Key: "srs_server", Value: serverName(o.cfg.Version)},
		{Key: "srs_license", Value: "MIT"},
		{Key: "srs_version", Value: apiVersion},
		{Key: "srs_server_ip", Value: hostOf(local)},
		{Key: "srs_pid", Value: float64(o.procs.pid())},
		{Key: "srs_id", Value: o.serviceID},
	}
}

// stream is what the session means by a name.
func (s *rtmpSession) stream(name string) (streamurl.Stream, error) {
	key, err := streamurl.ParseRTMP(s.tcURL, s.app, name)
	if err != nil {
		return key, err
	}
	key.Vhost = s.o.hub.vhost.Fold(key.Vhost)
	return key, nil
}

func (s *rtmpSession) client(key streamurl.Stream, typ string) *client {
	return &client{
		key: key, typ: typ, ip: s.ip, name: key.Name,
		pageURL: withoutSecrets(s.pageURL), swfURL: withoutSecrets(s.swfURL), tcURL: withoutSecrets(s.tcURL),
		kill: s.cancel, meter: &s.conn.meter,
	}
}
