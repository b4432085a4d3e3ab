package httpserver

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"srs-proxy/protocol/hls"
)

// errFetch says that the fetch that clients shared has ended without a reason.
var errFetch = errors.New("the fetch of the segment broke off")

// serveShared serves a segment of which other clients have a part: one request to the
// origin for all. false leaves the request to be served alone; then finished has to be called
// at its end.
func (s *Server) serveShared(w http.ResponseWriter, r *http.Request, f *fileRequest) (done bool, finished func()) {
	finished = func() {}
	if !shareable(r, f.target) {
		return false, finished
	}
	o, err := s.router.Lookup(r.Context(), f.stream)
	if err != nil {
		return false, finished // again, and then it is told
	}
	key := segmentKey{
		source: source{origin: o.ID, service: o.Service, stream: f.stream},
		host:   r.Host, path: f.target.path, query: hls.CutContext(f.target.query),
	}
	ft, first := s.segments.join(r.Context(), key)
	if ft == nil {
		return false, finished
	}
	if first {
		out := segmentRequest(r, f, ft)
		s.sessions.Go(func() { s.runFetch(ft, out) })
	}
	leave := func() { s.segments.leave(ft, first) }
	select {
	case <-ft.head:
	case <-r.Context().Done():
		leave()
		s.fail(w, r, f.target, context.Cause(r.Context()))
		return true, finished
	}
	if ft.alone != nil {
		if !first {
			leave()
			return false, finished
		}
		f.answer = ft.alone
		stop := context.AfterFunc(r.Context(), func() { ft.cancel(context.Cause(r.Context())) })
		return false, func() { stop(); leave() }
	}
	defer leave()
	if ft.err != nil {
		s.fail(w, r, f.target, ft.err)
		return true, finished
	}
	send(w, r, ft)
	return true, finished
}

// shareable tells whether a request is for a segment, the whole of it, on no terms that are
// the client's own. A token is on what a playlist has named; DASH and recordings have none.
func shareable(r *http.Request, t target) bool {
	if !t.tokened || t.kind != file || r.Method != http.MethodGet {
		return false
	}
	switch t.ext {
	case ".ts", ".m4s", ".aac", ".mp3", ".vtt":
	default: // an init segment keeps its name when its bytes change; keys are nobody else's business
		return false
	}
	for _, name := range [...]string{
		"Authorization", "Cookie", "Cache-Control", "Pragma",
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	} {
		if _, ok := r.Header[name]; ok {
			return false
		}
	}
	ranges := r.Header["Range"]
	// ffmpeg asks for all of a segment by this. A server may answer with the whole (RFC 9110
	// section 14.2), as SRS does.
	return len(ranges) == 0 || len(ranges) == 1 && ranges[0] == "bytes=0-"
}

// segmentRequest is the request of a fetch: that of the client which began it.
func segmentRequest(r *http.Request, f *fileRequest, ft *fetch) *http.Request {
	own := &fileRequest{target: f.target, stream: f.stream, cancel: ft.cancel}
	out := forOrigin(ft.ctx, r, own)
	out.Header.Del("Range")
	return out
}

// runFetch fetches a segment for all that wait for it.
func (s *Server) runFetch(ft *fetch, out *http.Request) {
	last, err := 0, errFetch // if there is a panic
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p, out.RemoteAddr)
		}
		f := fileOf(out.Context())
		again := err == nil && ft.status == http.StatusOK && f.origin.ID == ft.key.origin && f.origin.Service == ft.key.service
		s.segments.finish(ft, again) // before the last bytes are known: who has them leaves
		ft.end(last, err)
	}()
	last, err = s.fetchInto(ft, out)
}

// fetchInto fetches a segment and makes it known as it comes, but for the last bytes.
func (s *Server) fetchInto(ft *fetch, out *http.Request) (last int, err error) {
	resp, err := s.roundTrip(out)
	if err != nil {
		return 0, err
	}
	if !forAll(resp) || !s.segments.reserve(ft, resp.ContentLength) {
		if !s.segments.hand(ft, resp) {
			resp.Body.Close()
		}
		return 0, nil
	}
	defer resp.Body.Close()
	if err := s.modify(resp); err != nil {
		return 0, err
	}
	ft.answer(resp.StatusCode, resp.Header, resp.ContentLength)
	for at := 0; at < len(ft.body); at += last {
		ft.grow(last, nil)
		last, err = resp.Body.Read(ft.body[at:])
		if err != nil && at+last < len(ft.body) {
			return last, err
		}
	}
	return last, nil
}

// forAll tells whether an answer may be given to other clients than the one that asked.
func forAll(resp *http.Response) bool {
	if resp.ContentLength < 0 { // it may have no end
		return false
	}
	for _, name := range [...]string{"Set-Cookie", "Vary", "Content-Encoding", "Content-Range", "Trailer"} {
		if _, ok := resp.Header[name]; ok {
			return false
		}
	}
	for _, v := range resp.Header["Cache-Control"] {
		v = strings.ToLower(v)
		for _, no := range [...]string{"no-store", "no-cache", "private", "max-age=0"} {
			if strings.Contains(v, no) {
				return false
			}
		}
	}
	return true
}

// send writes a fetched answer to a client, as it comes. How fast the client reads is its own affair.
func send(w http.ResponseWriter, r *http.Request, ft *fetch) {
	h := w.Header()
	maps.Copy(h, ft.header)
	if age := time.Since(ft.asked) / time.Second; age > 0 {
		h["Age"] = []string{strconv.Itoa(int(age))} // RFC 9111 section 4
	}
	w.WriteHeader(ft.status)
	for sent := 0; sent < len(ft.body); {
		n, err := ft.await(r.Context(), sent)
		if err == nil {
			_, err = w.Write(ft.body[sent:n])
		}
		if err == nil && n < len(ft.body) {
			err = http.NewResponseController(w).Flush()
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client is to see that this was not all
		}
		sent = n
	}
}
