package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/header"
	"srs-proxy/proxy/rawconn"
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

// requestKey is where a file's target travels.
type requestKey struct{}

// fileRequest is a request on its way to an origin.
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

// serveFile serves a request that ends by itself, on a connection that many share in turn.
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
	out := forOrigin(ctx, r, f)
	resp, err := s.fetchFile(out)
	if err != nil {
		s.fail(cw, out, t, err)
		return
	}
	defer resp.Body.Close()
	s.pass(cw, resp)
}

// fetchFile returns an origin's answer, fit for the client.
func (s *Server) fetchFile(out *http.Request) (*http.Response, error) {
	resp, err := s.roundTrip(out)
	if err != nil {
		return nil, err
	}
	if err := s.modify(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// pass writes an answer to the client, as it comes: a slow origin's bytes are somebody's latency.
func (s *Server) pass(w http.ResponseWriter, resp *http.Response) {
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	b := s.buffers.get()
	defer s.buffers.put(b)
	for {
		n, err := resp.Body.Read(*b)
		if n > 0 {
			_, werr := w.Write((*b)[:n])
			if werr == nil {
				werr = http.NewResponseController(w).Flush()
			}
			if werr != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client is to see that this was not all
		}
	}
}

// dialOrigin dials an origin and tells the balancer how it went.
func (s *Server) dialOrigin(ctx context.Context, o balancer.Origin) (*originConn, error) {
	addr := o.Endpoints.HTTP
	c, err := s.router.Dial(ctx, addr)
	if !errors.Is(err, context.Canceled) {
		s.router.ReportDial(ctx, o.ID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", errDial, addr, err)
	}
	tc, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%w %s: not TCP", errDial, addr)
	}
	return newOriginConn(rawconn.New(tc), addr), nil
}

// forOrigin makes the request for the origin out of the client's.
func forOrigin(ctx context.Context, r *http.Request, f *fileRequest) *http.Request {
	out := r.WithContext(context.WithValue(ctx, requestKey{}, f))
	out.Body, out.Close, out.RequestURI = nil, false, ""
	out.Header = header.ForOrigin(r)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // or net/http adds its own
	}
	u := *r.URL
	u.Scheme, u.RawQuery = "http", f.target.query
	if p := f.target.path; strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "//") {
		u.Opaque = p // verbatim; of "//" net/http would make a host
	}
	out.URL = &u
	if f.target.kind == playlist {
		// It is read and rewritten whole: a part or a packed one would be of no use.
		for _, name := range []string{"Range", "If-Range", "Accept-Encoding"} {
			out.Header.Del(name)
		}
	}
	return out
}

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
	header.DropHopByHop(resp.Header)
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

// buffers are what answers are copied by.
type buffers struct{ pool sync.Pool }

func (p *buffers) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 32<<10)
	return &b
}

func (p *buffers) put(b *[]byte) { p.pool.Put(b) }
