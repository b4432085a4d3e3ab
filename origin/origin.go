// Package origin is the built-in media origin: what `up` runs in its slots where
// no SRS is installed. One process, one core, all in memory.
//
//	RTMP, SRT, WHIP ─▶ stream ─▶ GOP cache, queue per player ─▶ RTMP, HTTP-FLV, AAC, MP3
//	                     ├─────▶ transport stream packets, once ─▶ HTTP-TS, HLS, SRT
//	                     └─────▶ RTP packets, once ─▶ WHEP
//	API /api/v1/* and heartbeat: SRS's JSON, so nothing in front can tell the difference
//	                             but by what versions says
//
// What plays what is published how; a ✓ is all of it, v the video alone:
//
//	published by         RTMP, FLV  HTTP-TS, HLS  SRT  WHEP
//	RTMP  H.264 AAC          ✓            ✓        ✓    v
//	RTMP  HEVC AAC           ✓            ✓        ✓    -
//	SRT   H.264 AAC          ✓            ✓        ✓    v
//	SRT   HEVC AAC           ✓            ✓        ✓    -
//	SRT   other codecs       -            -        ✓    -
//	WHIP  H.264 Opus         v            v        v    ✓
//	WHIP  other codecs       -            -        -    ✓
//
// It relays and never decodes: browsers don't play AAC over WebRTC, and the other
// protocols' players have no Opus (SRS transcodes between the two). HEVC of SRT is
// enhanced RTMP (hvc1). It has no hooks, no recording, no edge and no cluster of its
// own: who needs those installs SRS. A player never holds up a publisher: whoever is
// too slow loses frames up to the next keyframe.
package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"srs-proxy/protocol/srt"
)

// Config is what the generated config file says, as far as it concerns this
// origin. Addresses are SRS's: a port, or ip:port.
type Config struct {
	RTMPListen []string
	HTTPListen []string // HTTP-FLV, HTTP-TS, AAC, MP3 and HLS
	APIListen  []string // may be among HTTPListen: then one listener serves both

	// MaxConnections bounds RTMP and HTTP connections together; the API has as
	// many for itself, so that health checks get through on a full origin.
	MaxConnections int
	Vhosts         []string // that are configured; any other name means the default one

	HLSEnabled  bool
	HLSFragment time.Duration // at least; segments begin with a keyframe
	HLSWindow   time.Duration // the playlist's length
	HLSDispose  time.Duration // how long segments outlive their publication

	GOPCache bool
	// MergedWrite is the least time between two writes to one player (SRS:
	// mw_latency). 0 writes as frames come.
	MergedWrite time.Duration
	// How long a publisher may be silent: before its first packet, and after
	// (SRS: publish_1stpkt_timeout, publish_normal_timeout).
	PublishFirst  time.Duration
	PublishNormal time.Duration

	RTC RTC
	SRT SRT

	Heartbeat Heartbeat

	ServerID string // "server" of the API; made up where empty
	PIDFile  string // none where empty
	Version  string // of srs-proxy, for the API
	Args     string // the command line, for the API
}

// RTC is the WebRTC server (SRS: rtc_server, and rtc of the default vhost).
type RTC struct {
	Listen    string // UDP, "" is off
	TCPListen string // "" is off
	// Protocol is which candidates an answer has: udp, tcp or all.
	Protocol string
	// Candidate is the host of the candidates, perhaps with a port. "*" is every
	// address of this host but loopback's.
	Candidate string
	FromRTMP  bool // what others publish can be played (rtmp_to_rtc)
	ToRTMP    bool // what is published here can be played by others (rtc_to_rtmp)
	// KeyframeEvery is how often a publisher is asked for a keyframe, for players
	// that can't ask themselves (pli_for_rtmp).
	KeyframeEvery time.Duration
	// Timeout is how long a session lives without a sign of its client (stun_timeout).
	Timeout time.Duration
}

// SRT is the SRT server (SRS: srt_server, and srt of the default vhost).
type SRT struct {
	Listen     string // UDP, "" is off
	Passphrase string // all must have it, or none
	// DefaultApp and DefaultStreamID are those of a stream id that has none, or is
	// empty.
	DefaultApp, DefaultStreamID string
	RecvLatency                 time.Duration
	PeerLatency                 time.Duration
	PeerIdle                    time.Duration // without a sign of the client it is gone
	ToRTMP                      bool          // what is published here can be played by others (srt_to_rtmp)
}

// Heartbeat tells somebody that this origin is there, as SRS's heartbeat does.
type Heartbeat struct {
	Enabled  bool
	Interval time.Duration
	URL      string
	DeviceID string
	Ports    bool   // tell the listen addresses
	IP       string // SRS_DEVICE_IP; the first address of this host where empty
}

// DefaultConfig has SRS's defaults and no listeners.
func DefaultConfig() Config {
	return Config{
		MaxConnections: 1000,
		HLSFragment:    10 * time.Second,
		HLSWindow:      60 * time.Second,
		HLSDispose:     120 * time.Second,
		GOPCache:       true,
		PublishFirst:   20 * time.Second,
		PublishNormal:  5 * time.Second,
		RTC:            RTC{Protocol: "udp", Candidate: "*", KeyframeEvery: 6 * time.Second, Timeout: 30 * time.Second},
		SRT: SRT{
			DefaultApp: srt.DefaultApp, DefaultStreamID: srt.DefaultStreamID, RecvLatency: 120 * time.Millisecond, PeerLatency: 120 * time.Millisecond,
			PeerIdle: 10 * time.Second, ToRTMP: true,
		},
		Heartbeat: Heartbeat{Interval: 9 * time.Second},
	}
}

// Deadlines. See also those of a player's writes in sink.go.
const (
	handshakeTimeout = 5 * time.Second  // whole; nobody needs more to send 3 KiB
	identifyTimeout  = 10 * time.Second // from there to publish or play
	republishTimeout = 30 * time.Second // after an unpublish on the same connection
	headerTimeout    = 5 * time.Second  // an HTTP request
	maxHeader        = 16 << 10
	requestTimeout   = 30 * time.Second // with its body, if it has any; above firstSegmentWait
	idleTimeout      = 60 * time.Second // between HTTP requests: pollers come every few seconds
	stopTimeout      = 2 * time.Second  // for HTTP responses that are nearly done
)

// Origin is the server. Make one with New; use is Listen, then Run.
type Origin struct {
	cfg Config
	log *slog.Logger
	hub *hub
	hls hlsViewers

	serverID  string
	serviceID string
	started   time.Time
	procs     procSampler
	stall     time.Duration // writeStall; tests can't wait so long

	rtmp, http, api []*listener
	rtc             rtcServer
	srt             srtServer
	pid             *pidFile
	sessions        gate
}

// New makes an origin; Listen and Run do the rest.
func New(cfg Config, log *slog.Logger) *Origin {
	def := DefaultConfig()
	if cfg.MaxConnections <= 0 {
		cfg.MaxConnections = def.MaxConnections
	}
	if cfg.HLSFragment <= 0 {
		cfg.HLSFragment = def.HLSFragment
	}
	if cfg.HLSWindow <= 0 {
		cfg.HLSWindow = def.HLSWindow
	}
	if cfg.HLSDispose <= 0 {
		cfg.HLSDispose = def.HLSDispose
	}
	if cfg.PublishFirst <= 0 {
		cfg.PublishFirst = def.PublishFirst
	}
	if cfg.PublishNormal <= 0 {
		cfg.PublishNormal = def.PublishNormal
	}
	if cfg.RTC.KeyframeEvery <= 0 {
		cfg.RTC.KeyframeEvery = def.RTC.KeyframeEvery
	}
	if cfg.RTC.Timeout <= 0 {
		cfg.RTC.Timeout = def.RTC.Timeout
	}
	if cfg.SRT.PeerIdle <= 0 {
		cfg.SRT.PeerIdle = def.SRT.PeerIdle
	}
	if cfg.Heartbeat.Interval <= 0 {
		cfg.Heartbeat.Interval = def.Heartbeat.Interval
	}
	o := &Origin{cfg: cfg, log: log, hub: newHub(cfg), serverID: cfg.ServerID, serviceID: randomID(8), started: time.Now(), stall: writeStall}
	if o.serverID == "" {
		o.serverID = "vid-" + randomID(7)
	}
	o.rtc.o, o.rtc.cfg = o, cfg.RTC
	o.srt.o, o.srt.cfg = o, cfg.SRT
	o.hls.init(o.hub, 2*cfg.HLSWindow, cfg.MaxConnections)
	return o
}

// Listen takes the pid file and binds everything, or nothing.
func (o *Origin) Listen() (err error) {
	defer func() {
		if err != nil {
			o.release()
		}
	}()
	if o.cfg.PIDFile != "" {
		if o.pid, err = lockPIDFile(o.cfg.PIDFile); err != nil {
			return err
		}
	}
	media, api := newSlots(o.cfg.MaxConnections), newSlots(o.cfg.MaxConnections)
	for _, l := range []struct {
		name      string
		addresses []string
		slots     *slots
		to        *[]*listener
	}{
		{"rtmp", o.cfg.RTMPListen, media, &o.rtmp},
		{"http", o.cfg.HTTPListen, media, &o.http},
		{"api", o.apiOnly(), api, &o.api},
	} {
		for _, address := range l.addresses {
			bound, err := listen(address, l.slots, o.log.With("listener", l.name))
			if err != nil {
				return fmt.Errorf("listen for %s: %w", l.name, err)
			}
			*l.to = append(*l.to, bound)
		}
	}
	if err := o.rtc.listen(media); err != nil {
		return err
	}
	return o.srt.listen(media)
}

// apiOnly are the API's addresses that no HTTP listener has.
func (o *Origin) apiOnly() (addresses []string) {
	for _, a := range o.cfg.APIListen {
		if !o.sharesHTTP(a) {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

func (o *Origin) sharesHTTP(api string) bool {
	for _, h := range o.cfg.HTTPListen {
		if sameAddress(h, api) {
			return true
		}
	}
	return false
}

// sameAddress: port 0 is another port each time.
func sameAddress(a, b string) bool {
	a, b = listenAddress(a), listenAddress(b)
	return a == b && !strings.HasSuffix(a, ":0")
}

// RTMPAddrs, HTTPAddrs and APIAddrs are what Listen bound.
func (o *Origin) RTMPAddrs() []net.Addr { return addrs(o.rtmp) }

// HTTPAddrs: see RTMPAddrs.
func (o *Origin) HTTPAddrs() []net.Addr { return addrs(o.http) }

// APIAddrs: see RTMPAddrs.
func (o *Origin) APIAddrs() []net.Addr { return addrs(o.api) }

func addrs(ls []*listener) (out []net.Addr) {
	for _, l := range ls {
		out = append(out, l.Addr())
	}
	return out
}

// release closes what Listen took.
func (o *Origin) release() {
	for _, ls := range [][]*listener{o.rtmp, o.http, o.api} {
		for _, l := range ls {
			_ = l.Close() // closing twice is fine
		}
	}
	o.rtc.close()
	o.srt.close()
	if o.pid != nil {
		o.pid.remove()
		o.pid = nil
	}
}

// Run serves until ctx ends, or a listener fails. When it returns, all sessions
// have ended and everything that Listen took is given back.
func (o *Origin) Run(ctx context.Context) error {
	defer o.release()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	var wg sync.WaitGroup
	for _, l := range o.rtmp {
		wg.Go(func() {
			if err := o.serveRTMP(ctx, l); err != nil {
				stop(fmt.Errorf("rtmp: %w", err))
			}
		})
	}
	servers := o.httpServers()
	for _, s := range servers {
		wg.Go(func() {
			if err := s.srv.Serve(s.l); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("http: %w", err))
			}
		})
	}
	if o.srt.l != nil {
		wg.Go(func() {
			if err := o.srt.run(ctx); err != nil {
				stop(fmt.Errorf("srt: %w", err))
			}
		})
	}
	wg.Go(func() { o.runClock(ctx) })
	if o.cfg.Heartbeat.Enabled {
		wg.Go(func() { o.runHeartbeat(ctx) })
	}

	<-ctx.Done()
	for _, l := range o.rtmp {
		_ = l.Close()
	}
	o.hub.close()
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for _, s := range servers {
		if s.srv.Shutdown(shutdown) != nil {
			_ = s.srv.Close()
		}
	}
	o.sessions.closeAndWait()
	o.srt.close() // after its clients were told
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// runClock does what is due every second.
func (o *Origin) runClock(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			o.hub.tick(now)
			o.hls.expire(now)
		}
	}
}
