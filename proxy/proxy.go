// Package proxy is the public side: one set of ports in front of all origins.
//
//	RTMP clients ─▶ rtmp.Server ───────┐
//	HTTP clients ─▶ httpserver.Server ─┼▶ route.Router ─▶ origins
//	API clients ──▶ api.Server ────────┤
//	SRT callers ──▶ srt.Server ────────┤
//	                                   └▶ balancer (who serves what)
//	WebRTC media ─▶ webrtc.Server, of sessions that signal.Server has placed, which
//	                is behind both HTTP servers
//
// Each protocol has a package of its own with the same shape: New, Listen, Run.
// It starts no origin and knows nothing of processes.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"srs-proxy/balancer"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/api"
	"srs-proxy/proxy/certs"
	"srs-proxy/proxy/httpserver"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/rtmp"
	"srs-proxy/proxy/source"
	"srs-proxy/proxy/srt"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/proxy/webrtc/signal"
	"srs-proxy/proxy/webrtc/ticket"
)

// Config of a Proxy. Zero values mean the defaults of the protocol packages.
type Config struct {
	RTMP string // where to listen for RTMP, "host:port" or ":port"
	HTTP string // and for HTTP-FLV, HTTP-TS, MP3, AAC, HLS, DASH and files
	API  string // and for the HTTP API
	SRT  string // and for SRT
	// WebRTC is where to listen for media of WebRTC, over UDP and TCP.
	WebRTC string
	// RTMPS, HTTPS and HTTPSAPI are where to listen for the same with TLS, if there is a
	// certificate.
	RTMPS, HTTPS, HTTPSAPI string
	Certs                  *certs.Store // nil for no TLS
	// Candidates are where clients are told to send it; none means to find out.
	Candidates []candidate.Spec

	Vhosts       []string      // vhosts that the origins know
	RealIPPrefix bool          // see rtmp.Config.RealIP
	PerIP        int           // connections per client address and port, see listener.Config
	HLSCache     int64         // bytes, see httpserver.Config.SegmentMemory
	UDPPerIP     int           // sessions of WebRTC, and of SRT, per client address
	Handshaking  int           // see rtmp.Config
	MaxSessions  int           // see route.Config
	DialTimeout  time.Duration // see route.Config
	// Loops is how many threads relay TCP sessions; 0 means 1. RelayMode is how.
	Loops     int
	RelayMode relay.Mode
	Pipes     int           // see relay.Config
	Shards    int           // event loops of each datagram protocol, see udp.Config
	StreamIDs srt.StreamIDs // what SRT stream ids leave open
	Access    access.Rules  // who may publish and play
	// Pages answers over HTTP for what is no stream; nil leaves that to the origins.
	Pages http.Handler
	// Failed is told of each origin that could not be reached; it may be nil.
	Failed func(originID string)

	// Tickets are the keys that proxies of one balancer share, so that the media of a WebRTC
	// session may come to any of them; nil for a proxy that is alone.
	Tickets *ticket.Keys

	Identity api.Identity      // what the HTTP API says of the whole
	Slots    func() []api.Slot // the supervisor's places for origins, for the HTTP API; may be nil
}

// Proxy serves all protocols.
type Proxy struct {
	cfg     Config
	router  *route.Router
	sources *source.Pool
	relay   *relay.Relay
	rtmp    *rtmp.Server
	http    *httpserver.Server
	api     *api.Server
	srt     *srt.Server
	webrtc  *webrtc.Server
	signal  *signal.Server

	candidates *candidate.List
}

// New returns a Proxy over bal.
func New(cfg Config, bal balancer.Balancer, log *slog.Logger) *Proxy {
	sources := source.New()
	router := route.New(route.Config{
		Vhosts: cfg.Vhosts, DialTimeout: cfg.DialTimeout, MaxSessions: cfg.MaxSessions, Access: cfg.Access, Sources: sources, Failed: cfg.Failed,
	}, bal, log)
	rl := relay.New(relay.Config{Loops: cfg.Loops, Mode: cfg.RelayMode, Pipes: cfg.Pipes})
	ln := listener.Config{PerIP: cfg.PerIP, Log: log}
	web := httpserver.DefaultConfig()
	web.Listen, web.Listener, web.SegmentMemory = cfg.HTTP, ln, cfg.HLSCache
	control := api.DefaultConfig()
	control.Listen, control.Listener = cfg.API, ln
	control.RTMP, control.Identity = cfg.RTMP, cfg.Identity
	media := webrtc.New(webrtc.Config{
		Listen: cfg.WebRTC, TCP: true, Shards: cfg.Shards, Listener: ln, PerIP: cfg.UDPPerIP, Tickets: cfg.Tickets,
	}, sources, router, rl, log)
	candidates := candidate.New(candidate.Config{Fixed: cfg.Candidates, TCP: true}, log)
	signalling := signal.New(signal.Config{TCP: true, Tickets: cfg.Tickets}, router, bal, media, candidates, log)
	media.SetElsewhere(signalling)
	web.RTC, web.Pages = signalling, cfg.Pages
	rtmpConfig := rtmp.Config{Listen: cfg.RTMP, Listener: ln, Handshaking: cfg.Handshaking, RealIP: cfg.RealIPPrefix}
	if cfg.Certs != nil {
		rtmpConfig.ListenTLS, rtmpConfig.TLS = cfg.RTMPS, cfg.Certs.Server()
		web.ListenTLS, web.TLS = cfg.HTTPS, cfg.Certs.Server("http/1.1")
		control.ListenTLS, control.TLS = cfg.HTTPSAPI, cfg.Certs.Server("http/1.1")
	}
	return &Proxy{
		cfg:     cfg,
		router:  router,
		sources: sources,
		relay:   rl,
		rtmp:    rtmp.New(rtmpConfig, router, rl, log),
		http:    httpserver.New(web, router, rl, log),
		api:     api.New(control, api.Deps{Origins: bal, RTC: signalling, Client: sources.Client, Slots: cfg.Slots, Log: log}),
		srt: srt.New(srt.Config{
			Listen: cfg.SRT, Shards: cfg.Shards, StreamIDs: cfg.StreamIDs, DialTimeout: cfg.DialTimeout,
			Handshaking: cfg.Handshaking, PerIP: cfg.UDPPerIP,
		}, router, sources, log),
		webrtc: media,
		signal: signalling,

		candidates: candidates,
	}
}

// Listen binds every address, or none.
func (p *Proxy) Listen() error {
	if err := p.rtmp.Listen(); err != nil {
		return fmt.Errorf("listen for RTMP: %w", err)
	}
	if err := p.http.Listen(); err != nil {
		p.rtmp.Close()
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	if err := p.api.Listen(); err != nil {
		p.rtmp.Close()
		p.http.Close()
		return fmt.Errorf("listen for the HTTP API: %w", err)
	}
	if err := p.srt.Listen(); err != nil {
		p.rtmp.Close()
		p.http.Close()
		p.api.Close()
		return fmt.Errorf("listen for SRT: %w", err)
	}
	if err := p.webrtc.Listen(); err != nil {
		p.rtmp.Close()
		p.http.Close()
		p.api.Close()
		p.srt.Close()
		return fmt.Errorf("listen for WebRTC: %w", err)
	}
	return nil
}

// RTMPAddr is where RTMP is served, once Listen has returned.
func (p *Proxy) RTMPAddr() net.Addr { return p.rtmp.Addr() }

// HTTPAddr is where HTTP is served, once Listen has returned.
func (p *Proxy) HTTPAddr() net.Addr { return p.http.Addr() }

// APIAddr is where the HTTP API is served, once Listen has returned.
func (p *Proxy) APIAddr() net.Addr { return p.api.Addr() }

// SRTAddr is where SRT is served, once Listen has returned.
func (p *Proxy) SRTAddr() net.Addr { return p.srt.Addr() }

// WebRTCAddr is where media of WebRTC is served, once Listen has returned.
func (p *Proxy) WebRTCAddr() net.Addr { return p.webrtc.Addr() }

// Adjust takes over what of a Config can change while the proxy runs: Vhosts, Access,
// RealIPPrefix, PerIP, UDPPerIP, Handshaking, HLSCache, StreamIDs and Candidates. Sessions that are open do not notice.
func (p *Proxy) Adjust(cfg Config) {
	p.router.SetVhosts(cfg.Vhosts...)
	p.router.SetAccess(cfg.Access)
	p.rtmp.Adjust(cfg.Handshaking, cfg.RealIPPrefix, cfg.PerIP)
	p.http.SetPerIP(cfg.PerIP)
	p.http.SetSegmentMemory(cfg.HLSCache)
	p.api.SetPerIP(cfg.PerIP)
	p.srt.Adjust(cfg.StreamIDs, cfg.Handshaking, cfg.UDPPerIP)
	p.webrtc.SetPerIP(cfg.UDPPerIP)
	p.candidates.SetFixed(cfg.Candidates)
}

// TLSAddrs are where RTMPS, HTTPS and the HTTP API over TLS are served, once Listen has
// returned; nil for nowhere.
func (p *Proxy) TLSAddrs() (rtmps, https, api net.Addr) {
	return p.rtmp.AddrTLS(), p.http.AddrTLS(), p.api.AddrTLS()
}

// Client is whose session an origin of this machine means by a peer's address, now or
// a moment ago; see package source.
func (p *Proxy) Client(peer netip.Addr) (netip.AddrPort, bool) { return p.sources.Client(peer) }

// Publisher is the address of the client that publishes a stream through this
// proxy, and the ID of the origin that it does so at.
func (p *Proxy) Publisher(s balancer.Stream) (client netip.Addr, originID string, ok bool) {
	return p.router.Publisher(s)
}

// Abandon ends the sessions that are at an origin which does not answer any more.
func (p *Proxy) Abandon(originID string) { p.router.Abandon(originID) }

// Sessions is how many sessions there are, of all protocols.
func (p *Proxy) Sessions() int { return p.router.Sessions() }

// Drain takes no more sessions and gives up the addresses of TCP, while Run goes on for
// those that there are. The datagram protocols keep their addresses: sessions need them.
func (p *Proxy) Drain() error {
	p.router.Drain()
	return errors.Join(p.rtmp.Drain(), p.http.Drain(), p.api.Drain())
}

// Close frees the addresses of a proxy that will not Run.
func (p *Proxy) Close() {
	p.rtmp.Close()
	p.http.Close()
	p.api.Close()
	p.srt.Close()
	p.webrtc.Close()
}

// Run serves until ctx is cancelled, then ends all sessions.
func (p *Proxy) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.rtmp.Run(ctx) })
	g.Go(func() error { return p.http.Run(ctx) })
	g.Go(func() error { return p.api.Run(ctx) })
	g.Go(func() error { return p.srt.Run(ctx) })
	g.Go(func() error { return p.webrtc.Run(ctx) })
	g.Go(func() error { return p.signal.Run(ctx) })
	defer p.relay.Close()
	return g.Wait()
}
