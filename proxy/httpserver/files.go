package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/header"
	"srs-proxy/proxy/route"
)

// How many origins one request may try, and how often it may dial at all: the
// balancer takes an origin off only after three failures in a row, so that the
// second origin may be the fourth dial.
const (
	fileOrigins = 3
	fileDials   = 6
	dialBudget  = 3 * time.Second
)

// errDial marks a failure of a dial: the request has reached nobody.
var errDial = errors.New("dial")

// requestKey and originKey are where a file's target and the origin of a dial
// travel through net/http.
type (
	requestKey struct{}
	originKey  struct{}
)

// fileRequest is a request on its way through the reverse proxy.
type fileRequest struct {
	target target
	stream balancer.Stream // target.stream, its vhost folded
	cancel context.CancelCauseFunc
	asked  time.Time       // when it went on to an origin
	origin balancer.Origin // the one that answered
	answer *http.Response  // has come already
}

func fileOf(ctx context.Context) *fileRequest {
	f, _ := ctx.Value(requestKey{}).(*fileRequest)
	return f
}

// serveFile serves a request that ends by itself, from the pool.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, t target) {
	s.stats.beginFile()
	cw := &countingWriter{ResponseWriter: w}
	defer func() { s.stats.endFile(cw.n.Load()) }()

	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	f := &fileRequest{target: t, stream: s.router.Stream(t.stream), cancel: cancel}
	w.Header()["Content-Type"] = nil // no guessing by net/http
	done, finished := s.serveShared(cw, r, f)
	if done {
		return
	}
	defer finished()
	s.files.ServeHTTP(cw, r.WithContext(context.WithValue(ctx, requestKey{}, f)))
}

// newPool returns the transport to the origins, with all connections by origin.
func newPool(cfg Config, router *route.Router) *http.Transport {
	return &http.Transport{
		Proxy: nil, // never by the environment
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return dialOrigin(ctx, router, addr)
		},
		MaxIdleConnsPerHost:    cfg.IdlePerOrigin,
		IdleConnTimeout:        30 * time.Second,
		ResponseHeaderTimeout:  cfg.FileTimeout,
		MaxResponseHeaderBytes: maxHead,
		DisableCompression:     true, // bodies stay as they are
		ReadBufferSize:         32 << 10,
	}
}

// dialOrigin dials the origin of a context and tells the balancer how it went.
func dialOrigin(ctx context.Context, router *route.Router, addr string) (net.Conn, error) {
	c, err := router.Dial(ctx, addr)
	if id, ok := ctx.Value(originKey{}).(string); ok && !errors.Is(err, context.Canceled) {
		router.ReportDial(ctx, id, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", errDial, addr, err)
	}
	return c, nil
}

// newFiles returns the reverse proxy. It does the hop-by-hop work of RFC 9110.
func (s *Server) newFiles() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        s.rewrite,
		Transport:      roundTripper(s.roundTrip),
		FlushInterval:  -1, // at once: a slow origin's bytes are somebody's latency
		BufferPool:     &bufferPool{},
		ModifyResponse: s.modify,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			s.fail(w, r, fileOf(r.Context()).target, err)
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // hang-ups of single clients
	}
}

// rewrite makes the request for the origin out of the client's.
func (s *Server) rewrite(pr *httputil.ProxyRequest) {
	f := fileOf(pr.In.Context())
	out := pr.Out
	out.Header = header.ForOrigin(pr.In)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // or net/http adds its own
	}
	out.URL.Scheme = "http"
	out.URL.RawQuery = f.target.query
	if p := f.target.path; strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "//") {
		out.URL.Opaque = p // verbatim; of "//" net/http would make a host
	}
	if f.target.kind == playlist {
		// It is read and rewritten whole: a part or a packed one would be of no use.
		for _, name := range []string{"Range", "If-Range", "Accept-Encoding"} {
			out.Header.Del(name)
		}
	}
}

// roundTripper makes a function an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTrip asks the stream's origin, and after a failed dial whichever the
// balancer names then.
func (s *Server) roundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	f := fileOf(ctx)
	if f.answer != nil {
		return f.answer, nil
	}
	giveUp := time.Now().Add(dialBudget)
	tried := make(map[string]bool)
	var last error
	for range fileDials {
		o, err := s.router.Lookup(ctx, f.stream)
		if err != nil {
			return nil, errors.Join(err, last)
		}
		if tried[o.ID] = true; len(tried) > fileOrigins {
			break
		}
		if o.Endpoints.HTTP == "" {
			return nil, fmt.Errorf("origin %s: %w", o.ID, route.ErrNoEndpoint)
		}
		f.asked = time.Now()
		resp, err := s.askOrigin(r, o)
		if err == nil {
			f.origin = o
			return resp, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", errHungUp, err)
		}
		last = fmt.Errorf("origin %s: %w", o.ID, err)
		if !errors.Is(err, errDial) || ctx.Err() != nil || time.Now().After(giveUp) {
			break
		}
	}
	return nil, last
}

// modify finishes an origin's answer.
func (s *Server) modify(resp *http.Response) error {
	f := fileOf(resp.Request.Context())
	resp.Body = &watchedBody{ReadCloser: resp.Body, patience: s.cfg.FileTimeout, expired: func() { f.cancel(errNoAnswer) }}
	fixContentType(resp.Header, resp.StatusCode, f.target.ext)
	header.AddCORS(resp.Header)
	if f.target.kind == playlist {
		return s.rewritePlaylist(resp, f)
	}
	return nil
}

// watchedBody ends the request when the origin stops in the middle of a body. The
// time that the client takes does not count.
type watchedBody struct {
	io.ReadCloser
	patience time.Duration
	expired  func()
	timer    *time.Timer
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.timer == nil {
		b.timer = time.AfterFunc(b.patience, b.expired)
	} else {
		b.timer.Reset(b.patience)
	}
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	return n, err
}

// bufferPool lends the reverse proxy its copy buffers.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }
