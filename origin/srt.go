package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"srs-proxy/protocol/srt"
)

// srtServer takes and gives MPEG transport streams over SRT. A stream id says which,
// and whether it is published.
//
//	SRT in ─▶ tsDemuxer ─▶ publication ─▶ remuxer ─▶ SRT out
//	   └────────── as it is, where both are SRT ────────▶
type srtServer struct {
	o     *Origin
	cfg   SRT
	l     gosrt.Listener // nil: off
	slots *slots

	reported time.Time // belongs to run
}

var (
	errPassphrase = errors.New("srt: passphrase is wrong, missing or not expected")
	errHandshake  = errors.New("srt: malformed handshake")
	errSRTVersion = errors.New("srt: peer is too old")
	errSilent     = errors.New("publisher sends nothing")
)

// srtPayload is what fits in a datagram: seven packets of a transport stream.
const srtPayload = 7 * tsPacketSize

// srtRetry is the pause after a full send queue. The library empties it every 10 ms.
const srtRetry = 5 * time.Millisecond

func (s *srtServer) listen(sl *slots) error {
	s.slots = sl
	if s.cfg.Listen == "" {
		return nil
	}
	addr, err := net.ResolveUDPAddr("udp", listenAddress(s.cfg.Listen))
	if err != nil {
		return fmt.Errorf("listen for srt: %w", err)
	}
	// The library sets SO_REUSEADDR, by which two processes would share the port and
	// each lose half of the packets. So it is bound alone first.
	probe, err := net.ListenUDP("udp", addr)
	if err != nil {
		return fmt.Errorf("listen for srt: %w", err)
	}
	bound := probe.LocalAddr().String()
	if err := probe.Close(); err != nil {
		return fmt.Errorf("listen for srt: %w", err)
	}
	c := gosrt.DefaultConfig()
	c.ReceiverLatency, c.PeerLatency = s.cfg.RecvLatency, s.cfg.PeerLatency
	c.PeerIdleTimeout = s.cfg.PeerIdle
	c.Logger = srtLog{}
	if s.l, err = gosrt.Listen("srt", bound, c); err != nil {
		return fmt.Errorf("listen for srt: %w", err)
	}
	return nil
}

func (s *srtServer) close() {
	if s.l != nil {
		s.l.Close()
	}
}

// SRTAddr is what Listen bound, nil where SRT is off.
func (o *Origin) SRTAddr() net.Addr {
	if o.srt.l == nil {
		return nil
	}
	return o.srt.l.Addr()
}

// run answers handshakes until the listener closes.
func (s *srtServer) run(ctx context.Context) error {
	for {
		if err := s.accept(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// accept answers the next client. The library panics on some malformed handshakes,
// here, before it has kept anything of them.
func (s *srtServer) accept() error {
	defer func() {
		// Anybody can send these without end, so at most one line a second.
		if p := recover(); p != nil && time.Since(s.reported) > time.Second {
			s.reported = time.Now()
			s.o.log.Warn("srt refused", "err", errHandshake, "panic", p)
		}
	}()
	req, err := s.l.Accept2()
	if err != nil {
		return err
	}
	if err := s.answer(req); err != nil {
		s.o.log.Warn("srt refused", "client", hostOf(req.RemoteAddr()), "err", err)
	}
	return nil
}

// answer accepts or refuses one client. Whoever publishes has the stream from here
// on.
func (s *srtServer) answer(req gosrt.ConnRequest) (err error) {
	reason := gosrt.REJ_RESOURCE
	defer func() {
		if err != nil {
			req.Reject(reason)
		}
	}()
	if err := s.unlock(req); err != nil {
		reason = gosrt.REJ_UNSECURE
		if req.IsEncrypted() {
			reason = gosrt.REJ_BADSECRET
		}
		return err
	}
	id := req.StreamId()
	if id == "" {
		id = s.cfg.DefaultStreamID
	}
	want, err := srt.ParseStreamID(id, s.cfg.DefaultApp)
	if err != nil {
		reason = gosrt.REJX_BAD_REQUEST
		return err
	}
	if !s.slots.take() {
		return errFull
	}
	if !s.o.sessions.enter() {
		s.slots.free.Add(1)
		return errStopping
	}
	x, ctx := s.session(req, want)
	if x.stream, err = s.o.hub.join(x.client, true); err == nil {
		if x.conn, err = req.Accept(); err != nil {
			s.o.hub.leave(x.client)
		}
	} else if errors.Is(err, ErrBusy) {
		reason = gosrt.REJX_CONFLICT
	}
	if err != nil {
		x.cancel(err)
		s.o.sessions.leave()
		s.slots.free.Add(1)
		return err
	}
	x.log = x.log.With("session", x.client.id, "stream", x.stream.url())
	go x.run(ctx, want.Publish)
	return nil
}

// unlock checks the passphrase: all have it, or none, as with libsrt's
// SRTO_ENFORCEDENCRYPTION.
func (s *srtServer) unlock(req gosrt.ConnRequest) error {
	switch {
	case req.IsEncrypted() != (s.cfg.Passphrase != ""):
		return errPassphrase
	case !req.IsEncrypted():
		return nil
	case req.Version() != 5:
		return errSRTVersion
	case req.SetPassphrase(s.cfg.Passphrase) != nil:
		return errPassphrase
	}
	return nil
}

// srtSession is one SRT client.
type srtSession struct {
	s      *srtServer
	conn   gosrt.Conn
	client *client
	stream *stream
	cancel context.CancelCauseFunc
	log    *slog.Logger
	meter  meter
}

func (s *srtServer) session(req gosrt.ConnRequest, want srt.Request) (*srtSession, context.Context) {
	ctx, cancel := context.WithCancelCause(context.Background()) // the hub ends it
	key := want.Stream
	tcURL := "srt://" + key.Vhost + "/" + key.App
	key.Vhost = s.o.hub.vhost.Fold(key.Vhost)
	x := &srtSession{s: s, cancel: cancel}
	ip := hostOf(req.RemoteAddr())
	x.client = &client{key: key, typ: typeSRTPlay, ip: ip, name: key.Name, tcURL: tcURL, kill: cancel, meter: &x.meter}
	if want.Publish {
		x.client.typ = typeSRTPublish
	}
	x.log = s.o.log.With("proto", "srt", "client", ip)
	return x, ctx
}

func (x *srtSession) run(ctx context.Context, publish bool) {
	defer x.s.o.sessions.leave()
	defer x.s.slots.free.Add(1)
	defer x.s.o.hub.leave(x.client)
	stop := context.AfterFunc(ctx, func() { _ = x.conn.Close() })
	defer stop()
	defer func() { _ = x.conn.Close() }()
	defer x.survive()

	verb, serve := "play", x.play
	if publish {
		verb, serve = "publish", x.publish
	}
	x.log.Info(verb)
	err := serve(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	x.cancel(err)
	x.log.Info(verb+" ended", "in", x.meter.in.Load(), "out", x.meter.out.Load(),
		"took", time.Since(x.client.created).Round(time.Millisecond), "cause", err)
}

// survive is a seat belt, to be deferred: one session's bug must not end the others.
func (x *srtSession) survive() {
	if p := recover(); p != nil {
		x.log.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
		x.cancel(errPanic)
	}
}

// publish reads until the client goes, or is silent for too long.
func (x *srtSession) publish(context.Context) error {
	p := x.stream.begin()
	defer p.end()
	demux := tsDemuxer{out: &ingest{p: p}}
	normal := x.s.o.cfg.PublishNormal
	silence := time.AfterFunc(x.s.o.cfg.PublishFirst, func() { x.cancel(errSilent) })
	defer silence.Stop()
	var moved time.Time
	buf := make([]byte, gosrt.MAX_MSS_SIZE)
	for {
		n, err := x.conn.Read(buf)
		if err != nil {
			return err
		}
		x.meter.in.Add(int64(n))
		if now := time.Now(); now.Sub(moved) > min(time.Second, normal/2) { // a timer costs more than a look at the clock
			moved = now
			silence.Reset(normal)
		}
		p.relay(buf[:n])
		if x.s.cfg.ToRTMP {
			demux.push(buf[:n])
		}
	}
}

// play sends until the client goes. Nobody need publish: the player waits.
func (x *srtSession) play(ctx context.Context) error {
	pl := &player{q: newQueue(), ts: true, srt: true}
	x.stream.play(pl)
	defer x.stream.leave(pl)

	gone := make(chan struct{})
	go func() { // a client that goes is seen by reading
		defer close(gone)
		var buf [gosrt.MAX_MSS_SIZE]byte
		for {
			n, err := x.conn.Read(buf[:])
			if err != nil {
				x.cancel(err)
				return
			}
			x.meter.in.Add(int64(n))
		}
	}()
	defer func() {
		_ = x.conn.Close()
		<-gone
		if n := pl.q.dropped(); n > 0 {
			x.log.Info("slow player", "dropped", n)
		}
	}()
	return x.send(ctx, pl.q)
}

// send moves packets from the queue to the client, seven to a datagram.
func (x *srtSession) send(ctx context.Context, q *queue) error {
	var frames []*frame
	datagram := make([]byte, 0, srtPayload)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.ready:
		}
		var err error
		if frames, err = q.take(frames[:0], batchBytes); err != nil {
			return err
		}
		for _, f := range frames {
			for b := f.payload; len(b) > 0; {
				n := min(len(b), srtPayload-len(datagram))
				datagram = append(datagram, b[:n]...)
				b = b[n:]
				if len(datagram) < srtPayload {
					break
				}
				if err := x.write(ctx, datagram); err != nil {
					return err
				}
				datagram = datagram[:0]
			}
		}
		if len(datagram) > 0 {
			if err := x.write(ctx, datagram); err != nil {
				return err
			}
			datagram = datagram[:0]
		}
		clear(frames)
	}
}

// write waits for room in the library's queue, which says io.EOF when it is full, and
// when the client is gone. The reader knows which it is.
func (x *srtSession) write(ctx context.Context, b []byte) error {
	for {
		if _, err := x.conn.Write(b); err == nil {
			x.meter.out.Add(int64(len(b)))
			return nil
		}
		t := time.NewTimer(srtRetry)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// srtLog silences the library, which would make a queue of log lines for each
// listener.
type srtLog struct{}

// HasTopic and the rest implement gosrt's Logger.
func (srtLog) HasTopic(string) bool { return false }

// Print drops the line.
func (srtLog) Print(string, uint32, int, func() string) {}

// Listen has nothing to tell.
func (srtLog) Listen() <-chan gosrt.Log { return nil }

// Close does nothing.
func (srtLog) Close() {}
