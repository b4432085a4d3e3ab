package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"srs-proxy/protocol/streamurl"
)

var (
	errRTCOff     = errors.New("rtc is off")
	errRTMPToRTC  = errors.New("rtmp_to_rtc is off")
	errFull       = errors.New("max_connections reached")
	errRTCGone    = errors.New("no sign of the client")
	errRTCDeleted = errors.New("ended by the client")
)

// rtcRequest is what a client asks for.
type rtcRequest struct {
	publish bool
	key     streamurl.Stream
	ip      string
	tcURL   string
	pageURL string
	offer   string
	eip     string // a candidate that the client knows better
	codec   string // that it would rather publish
	ufrag   string // that it wants us to have; made up where empty
	pwd     string
}

// rtcSession is one WebRTC client.
type rtcSession struct {
	s      *rtcServer
	id     string // "local ufrag:remote ufrag", as SRS has it
	token  string // whoever has it may end the session
	ufrag  string
	client *client
	stream *stream
	pc     *webrtc.PeerConnection
	cancel context.CancelCauseFunc
	log    *slog.Logger
	meter  meter

	player  *rtcPlayer // nil of a publisher
	ingress *rtcIngress
	readers gate // goroutines that end with pc
}

// open makes a session and returns it with its answer. Whoever publishes has the
// stream from here on, before any media flows, as in SRS.
func (s *rtcServer) open(req rtcRequest) (sess *rtcSession, answer string, err error) {
	if !s.enabled() {
		return nil, "", errRTCOff
	}
	offer, err := parseOffer(req.offer, req.publish)
	if err != nil {
		return nil, "", err
	}
	engine, err := s.start()
	if err != nil {
		return nil, "", err
	}
	if !s.slots.take() {
		return nil, "", errFull
	}
	defer func() {
		if err != nil {
			s.slots.free.Add(1)
		}
	}()
	if !s.o.sessions.enter() {
		return nil, "", errStopping
	}
	defer func() {
		if err != nil {
			s.o.sessions.leave()
		}
	}()

	ctx, cancel := context.WithCancelCause(context.Background()) // the hub ends it
	sess = &rtcSession{s: s, token: secretID(16), cancel: cancel}
	sess.client = &client{
		key: req.key, typ: typeRTCPlay, ip: req.ip, name: req.key.Name, tcURL: req.tcURL, pageURL: req.pageURL,
		kill: cancel, meter: &sess.meter,
	}
	if req.publish {
		sess.client.typ = typeRTCPublish
	}
	if sess.stream, err = s.o.hub.join(sess.client, true); err != nil {
		cancel(err)
		return nil, "", err
	}
	sess.log = s.o.log.With("session", sess.client.id, "proto", "rtc", "client", req.ip, "stream", sess.stream.url())
	if answer, err = sess.negotiate(engine, req, offer); err != nil {
		sess.end(err)
		return nil, "", err
	}
	go sess.run(ctx)
	return sess, answer, nil
}

// reserve takes a free ufrag and names the session.
func (s *rtcServer) reserve(sess *rtcSession, ufrag, remote string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ufrag == "" || s.ufrags[ufrag] {
		ufrag = randomID(8)
	}
	sess.ufrag, sess.id = ufrag, ufrag+":"+remote
	s.ufrags[ufrag], s.sessions[sess.id] = true, sess
}

func (s *rtcServer) forget(sess *rtcSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ufrags, sess.ufrag)
	if s.sessions[sess.id] == sess {
		delete(s.sessions, sess.id)
	}
}

func (s *rtcServer) session(id string) *rtcSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// negotiate makes the answer.
func (x *rtcSession) negotiate(e *rtcEngine, req rtcRequest, offer *rtcOffer) (string, error) {
	codecs, err := x.choose(req, offer)
	if err != nil {
		return "", err
	}
	x.s.reserve(x, req.ufrag, offer.ufrag)
	pwd := req.pwd
	if pwd == "" {
		pwd = secretID(32)
	}
	set, err := x.s.settings(e, offer, x.ufrag, pwd)
	if err != nil {
		return "", err
	}
	media, interceptors, err := mediaEngine(codecs, req.publish, e.logs)
	if err != nil {
		return "", err
	}
	api := webrtc.NewAPI(webrtc.WithSettingEngine(set), webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(interceptors))
	if x.pc, err = api.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{e.cert}}); err != nil {
		return "", fmt.Errorf("make peer connection: %w", err)
	}
	x.pc.OnConnectionStateChange(x.onState)
	if req.publish {
		x.begin(codecs)
	} else if err := x.addTracks(codecs); err != nil {
		return "", err
	}
	if err := x.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.sdp}); err != nil {
		return "", fmt.Errorf("%w: %w", errOffer, err)
	}
	answer, err := x.pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("make answer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(x.pc)
	if err := x.pc.SetLocalDescription(answer); err != nil {
		return "", fmt.Errorf("make answer: %w", err)
	}
	<-gathered
	return answerWith(x.pc.LocalDescription().SDP, x.s.candidates(req.eip)), nil
}

// choose decides on one codec of each kind, nil for none.
func (x *rtcSession) choose(req rtcRequest, offer *rtcOffer) (codecs [rtcKinds]*webrtc.RTPCodecParameters, err error) {
	codecs[rtcAudio] = pick(offer.audio, webrtc.MimeTypeOpus)
	fan := &x.stream.rtc
	var video []string
	switch live := fan.mime(rtcVideo); {
	case req.publish:
		video = videoCodecs(req.codec)
	case live != "":
		video = []string{live}
	case !x.s.cfg.FromRTMP && x.s.o.hub.publishing(x.stream) && fan.mime(rtcAudio) == "":
		return codecs, errRTMPToRTC
	default: // of RTMP, or not known yet
		video = []string{webrtc.MimeTypeH264}
	}
	for _, mime := range video {
		if codecs[rtcVideo] = pick(offer.video, mime); codecs[rtcVideo] != nil {
			break
		}
	}
	if codecs[rtcVideo] == nil && (offer.hasVideo || codecs[rtcAudio] == nil) {
		return codecs, errNoCodec
	}
	return codecs, nil
}

// mediaEngine knows the chosen codecs, by the offer's own payload types, and no
// retransmission format: lost packets are sent again as they were.
func mediaEngine(codecs [rtcKinds]*webrtc.RTPCodecParameters, publish bool, logs pionLogs) (*webrtc.MediaEngine, *interceptor.Registry, error) {
	m, r := &webrtc.MediaEngine{}, &interceptor.Registry{}
	for kind, c := range codecs {
		if c == nil {
			continue
		}
		p, typ := *c, webrtc.RTPCodecTypeAudio
		if kind == rtcVideo {
			typ = webrtc.RTPCodecTypeVideo
			p.RTCPFeedback = []webrtc.RTCPFeedback{{Type: "ccm", Parameter: "fir"}}
		}
		if err := m.RegisterCodec(p, typ); err != nil {
			return nil, nil, fmt.Errorf("register %s: %w", c.MimeType, err)
		}
	}
	configure := []func(*webrtc.MediaEngine, *interceptor.Registry) error{
		webrtc.ConfigureNack,
		func(_ *webrtc.MediaEngine, r *interceptor.Registry) error { return webrtc.ConfigureRTCPReports(r) },
	}
	if publish { // the bandwidth estimation of browsers needs it
		configure = append(configure, webrtc.ConfigureTWCCSender,
			func(m *webrtc.MediaEngine, _ *interceptor.Registry) error {
				return webrtc.ConfigureSimulcastExtensionHeaders(m)
			})
	}
	for _, c := range configure {
		if err := c(m, r); err != nil {
			return nil, nil, fmt.Errorf("configure interceptors: %w", err)
		}
	}
	return m, r, nil
}

// addTracks makes the player's side.
func (x *rtcSession) addTracks(codecs [rtcKinds]*webrtc.RTPCodecParameters) error {
	x.player = &rtcPlayer{meter: &x.meter}
	label := x.client.key.App + "-" + x.client.key.Name
	for kind, typ := range [rtcKinds]webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if codecs[kind] == nil {
			continue
		}
		t := &rtcTrack{kind: typ, mime: codecs[kind].MimeType, label: sdpToken(label)}
		sender, err := x.pc.AddTrack(t)
		if err != nil {
			return fmt.Errorf("add %s: %w", typ, err)
		}
		x.player.tracks[kind] = t
		x.read(func() { x.readRTCP(sender.ReadRTCP) })
	}
	return nil
}

// sdpToken makes a name fit for an SDP attribute.
func sdpToken(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

// read runs what reads from pc until that is closed.
func (x *rtcSession) read(f func()) {
	if !x.readers.enter() {
		return
	}
	go func() {
		defer x.readers.leave()
		defer x.survive()
		f()
	}()
}

// readRTCP lets the library see the client's reports, and passes a player's wish
// for a keyframe on.
func (x *rtcSession) readRTCP(read func() ([]rtcp.Packet, interceptor.Attributes, error)) {
	for {
		packets, _, err := read()
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				x.stream.rtc.askKeyframe()
			}
		}
	}
}

func (x *rtcSession) onState(state webrtc.PeerConnectionState) {
	switch state {
	case webrtc.PeerConnectionStateConnected:
		x.log.Debug("rtc connected")
		x.stream.rtc.askKeyframe()
	case webrtc.PeerConnectionStateFailed:
		x.cancel(errRTCGone)
	case webrtc.PeerConnectionStateClosed:
		x.cancel(errRTCDeleted)
	}
}

// run owns the session until it ends.
func (x *rtcSession) run(ctx context.Context) {
	defer x.s.o.sessions.leave()
	defer x.s.slots.free.Add(1)
	verb := "play"
	if x.player == nil {
		verb = "publish"
	} else {
		x.stream.rtc.join(x.player)
	}
	x.log.Info(verb)
	x.wait(ctx)
	x.end(context.Cause(ctx))
	x.log.Info(verb+" ended", "in", x.meter.in.Load(), "out", x.meter.out.Load(),
		"took", time.Since(x.client.created).Round(time.Millisecond), "cause", context.Cause(ctx))
}

// wait asks for keyframes from time to time, for players that can't ask (SRS:
// pli_for_rtmp), until the session ends.
func (x *rtcSession) wait(ctx context.Context) {
	if x.ingress == nil || x.ingress.frames == nil {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(x.s.cfg.KeyframeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			x.ingress.askKeyframe()
		}
	}
}

// end undoes open.
func (x *rtcSession) end(cause error) {
	x.cancel(cause)
	if x.player != nil {
		x.stream.rtc.leave(x.player)
	}
	if x.pc != nil {
		_ = x.pc.Close()
		x.readers.closeAndWait()
	}
	if x.ingress != nil {
		x.ingress.pub.end()
	}
	x.s.forget(x)
	x.s.o.hub.leave(x.client)
}

// survive is a seat belt, to be deferred: one session's bug must not end the others.
func (x *rtcSession) survive() {
	if p := recover(); p != nil {
		x.log.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
		x.cancel(errPanic)
	}
}
