package signal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/sdp"
	"srs-proxy/proxy/header"
	"srs-proxy/proxy/route"
)

// Errors of what an origin does, each with its status in failure.
var (
	errNoAnswer  = errors.New("the origin did not answer in time")
	errHungUp    = errors.New("the origin closed the connection without an answer; it may have refused the request")
	errBadAnswer = errors.New("the origin's answer cannot be used")
)

// maxAnswer bounds an origin's answer: a description as a string of JSON, at worst.
const maxAnswer = 2 * sdp.MaxSize

// request is a client's, as an origin gets it.
type request struct {
	method      string
	path, query string // as the client sent them, but for a slash at the end of path
	host        string
	header      http.Header
	body        []byte
}

// forward is the request r for an origin: all the client's headers, its true address,
// and path and query as SRS wants them.
func forward(r *http.Request, path string, body []byte) request {
	h := header.ForOrigin(r)
	if _, ok := h["User-Agent"]; !ok {
		h.Set("User-Agent", "") // or net/http adds its own
	}
	h.Del("Accept-Encoding") // the answer is read
	h.Del("Content-Encoding")
	return request{method: r.Method, path: path, query: r.URL.RawQuery, host: r.Host, header: h, body: body}
}

// answer is an origin's, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request to an origin. An error of route.Retry says that the origin did
// not get it, or died over it; one that closes an accepted connection without a word
// has refused: that is how SRS does it.
func (s *Server) ask(ctx context.Context, o balancer.Origin, req request) (answer, error) {
	if o.Endpoints.API == "" {
		return answer{}, fmt.Errorf("origin %s, api: %w", o.ID, route.ErrNoEndpoint)
	}
	conn, err := s.router.Dial(ctx, o.Endpoints.API)
	if err != nil {
		return answer{}, route.Retry(fmt.Errorf("dial origin %s: %w", o.ID, err))
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(s.cfg.AnswerTimeout)) // fails only on a closed socket
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	ans, err := talk(conn, req)
	switch {
	case err == nil:
		return ans, nil
	case ctx.Err() != nil:
		return answer{}, context.Cause(ctx)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return answer{}, route.Retry(fmt.Errorf("origin %s: %w", o.ID, err))
	}
	return answer{}, fmt.Errorf("origin %s: %w", o.ID, err)
}

func talk(conn io.ReadWriter, req request) (answer, error) {
	out := &http.Request{
		Method: req.method,
		URL:    &url.URL{Scheme: "http", Host: req.host, Opaque: req.path, RawQuery: req.query},
		Host:   req.host,
		Header: req.header,
		Close:  true,
	}
	if len(req.body) > 0 || req.method == http.MethodPost {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(req.body)), int64(len(req.body))
	}
	if err := out.Write(conn); err != nil {
		return answer{}, fmt.Errorf("send the request: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), out)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return answer{}, errHungUp
	case isTimeout(err):
		return answer{}, errNoAnswer
	case err != nil && isNetwork(err):
		return answer{}, err
	case err != nil:
		return answer{}, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case isTimeout(err):
		return answer{}, errNoAnswer
	case err != nil:
		return answer{}, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	header.DropHopByHop(resp.Header)
	resp.Header.Del("Content-Length")
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

func isNetwork(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// write passes an answer on.
func (a answer) write(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = nil // no guessing by net/http
	for k, v := range a.header {
		h[k] = v
	}
	expose(h)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // to a client that may be gone
}

// expose lets a page of another site read the headers that WHIP needs (RFC 9725
// section 4.2). They are named one by one: * means nothing on a request with
// credentials.
func expose(h http.Header) {
	header.AddCORS(h)
	const names = "Location, Link, ETag, Content-Type, Accept-Patch, Retry-After, WWW-Authenticate"
	switch own := h.Get("Access-Control-Expose-Headers"); own {
	case "", "*":
		h.Set("Access-Control-Expose-Headers", names+", *")
	default:
		h.Set("Access-Control-Expose-Headers", own+", "+names)
	}
}

// relocate makes a Location that names the origin itself one of the proxy. SRS's is a
// path and passes as it is.
func relocate(h http.Header, o balancer.Origin) {
	location := h.Get("Location")
	for _, scheme := range []string{"http://", "https://"} {
		if rest, ok := strings.CutPrefix(location, scheme+o.Endpoints.API); ok && strings.HasPrefix(rest, "/") {
			h.Set("Location", rest)
		}
	}
}
