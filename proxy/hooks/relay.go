package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/proxy/httplife"
	"srs-proxy/proxy/listener"
)

// Bounds of a call. SRS waits 30 s for an answer (10 s of on_hls_notify) and hangs up
// then, which ends the call here too.
const (
	headTimeout = 5 * time.Second
	callTimeout = 30 * time.Second
	dialTimeout = 5 * time.Second
	maxHead     = 32 << 10 // on_hls_notify may carry a client's whole query in its URL
	maxBody     = 256 << 10
	maxAnswer   = 1 << 20
	// maxCalls are at a time, of all origins; what a hook server of its own takes at a
	// time is callsPerHost, and the others wait in line.
	maxCalls     = 4096
	callsPerHost = 256
	idlePerHost  = 32
	idleTimeout  = 30 * time.Second
	stopTimeout  = 2 * time.Second
)

// Config of a Relay.
type Config struct {
	// Listen is where the origins reach the relay: "127.0.0.1:19999".
	Listen string
	// Client is who an origin means by a peer's address; see source.Pool.
	Client func(netip.Addr) (netip.AddrPort, bool)
}

// Relay passes the origins' hook calls on.
type Relay struct {
	cfg       Config
	log       *slog.Logger
	transport *http.Transport

	mu        sync.Mutex // guards the following until listening is closed; then they stay
	ln        *listener.Listener
	sealer    *Sealer
	listening chan struct{}

	lastTold atomic.Int64 // unix time of the last line about a failure
}

// New returns a Relay; it does nothing yet.
func New(cfg Config, log *slog.Logger) *Relay {
	d := net.Dialer{Timeout: dialTimeout}
	return &Relay{cfg: cfg, log: log, listening: make(chan struct{}), transport: &http.Transport{
		Proxy:                  nil, // never by the environment
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		MaxConnsPerHost:        callsPerHost,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHead,
		DisableCompression:     true, // answers stay as they are
	}}
}

// Listen binds the address, for URLs that the sealer has made. Calls after the first do
// nothing. An instance whose origins have no hooks does not need it.
func (r *Relay) Listen(sealer *Sealer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ln != nil {
		return nil
	}
	ln, err := listener.Listen(r.cfg.Listen, listener.Config{PerIP: maxCalls, Log: r.log})
	if err != nil {
		return err
	}
	r.ln, r.sealer = ln, sealer
	close(r.listening)
	return nil
}

// Close frees the address of a relay that will not Run.
func (r *Relay) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ln != nil {
		r.ln.Close()
	}
}

// Addr is where the relay listens, nil before Listen.
func (r *Relay) Addr() net.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ln == nil {
		return nil
	}
	return r.ln.Addr()
}

// Run serves, from Listen on, until ctx is cancelled. A clean stop returns nil.
func (r *Relay) Run(ctx context.Context) error {
	defer r.transport.CloseIdleConnections()
	select {
	case <-ctx.Done():
		return nil
	case <-r.listening:
	}
	hs := httplife.NewServer(r, httplife.Limits{Header: headTimeout, HeaderBytes: maxHead, Idle: idleTimeout}, r.log)
	hs.ReadTimeout, hs.WriteTimeout = headTimeout, headTimeout+callTimeout+headTimeout
	served := make(chan error, 1)
	go func() { served <- hs.Serve(r.ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the hooks' relay on %s: %w", r.cfg.Listen, err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if hs.Shutdown(grace) != nil {
		hs.Close()
	}
	<-served // http.ErrServerClosed
	return nil
}

// ServeHTTP passes one call on.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	to, name, err := r.sealer.Open(req.RequestURI)
	if err != nil {
		r.refuse(w, http.StatusNotFound, name, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		r.refuse(w, http.StatusBadRequest, name, fmt.Errorf("read the origin's call: %w", err))
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), callTimeout)
	defer cancel()
	resp, answer, err := r.call(ctx, req, to, withClient(body, r.cfg.Client)) //nolint:bodyclose // call has closed it
	if err != nil {
		if req.Context().Err() != nil { // the origin's patience is over, or it is gone
			err = context.Cause(req.Context())
		}
		r.refuse(w, http.StatusBadGateway, name, err)
		return
	}
	h := w.Header()
	for name, values := range resp.Header {
		if !between(name) {
			h[name] = values
		}
	}
	if _, ok := resp.Header["Content-Type"]; !ok {
		h["Content-Type"] = nil // no guessing by net/http
	}
	h.Set("Content-Length", fmt.Sprint(len(answer)))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // an origin that is gone needs no answer
}

// call asks the hook server. It follows no redirect: neither does an origin.
func (r *Relay) call(ctx context.Context, req *http.Request, to *url.URL, body []byte) (*http.Response, []byte, error) {
	out := &http.Request{
		Method: req.Method, URL: to, Host: to.Host, Header: make(http.Header, len(req.Header)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: http.NoBody, ContentLength: int64(len(body)),
	}
	if len(body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	for name, values := range req.Header {
		if !between(name) {
			out.Header[name] = values
		}
	}
	resp, err := r.transport.RoundTrip(out.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return nil, nil, errAnswer
	}
	return resp, answer, nil
}

var errAnswer = errors.New("the answer is too large")

// between tells the headers between two neighbours (RFC 9110 section 7.6.1), and those
// that each message has anew.
func between(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Expect":
		return true
	}
	return false
}

// refuse answers for a hook server that could not be asked, and says so at most once
// a second: without its hook, every client of an origin is turned away.
func (r *Relay) refuse(w http.ResponseWriter, status int, name string, err error) {
	now := time.Now().Unix()
	if last := r.lastTold.Load(); last != now && r.lastTold.CompareAndSwap(last, now) {
		r.log.Warn("hook failed", "hook", name, "status", status, "cause", err)
	}
	http.Error(w, http.StatusText(status), status)
}
