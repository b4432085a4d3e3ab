package httpserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/balancer"
)

// hlsOrigin is an origin of one HLS stream, a, whose window is at the segments first to last.
type hlsOrigin struct {
	addr        string
	first, last atomic.Int64
	target      atomic.Int64 // seconds
	// serve answers for a segment.
	serve func(w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex
	asked map[string]int // by path
}

func newHLSOrigin(t *testing.T, serve func(w http.ResponseWriter, r *http.Request)) *hlsOrigin {
	t.Helper()
	o := &hlsOrigin{serve: serve, asked: make(map[string]int)}
	o.first.Store(1000)
	o.last.Store(1009)
	o.target.Store(10)
	o.addr = newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".m3u8") {
			w.Header().Set("Connection", "close") // as SRS: a connection for each answer
			w.Write(bytes.Replace(mediaPlaylist(int(o.first.Load()), int(o.last.Load())), []byte("DURATION:2"), fmt.Appendf(nil, "DURATION:%d", o.target.Load()), 1))
			return
		}
		o.mu.Lock()
		o.asked[r.URL.Path]++
		o.mu.Unlock()
		o.serve(w, r)
	})
	return o
}

// askedFor is how many requests there were for paths with an ending.
func (o *hlsOrigin) askedFor(ending string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for path, count := range o.asked {
		if strings.HasSuffix(path, ending) {
			n += count
		}
	}
	return n
}

// whole answers with n bytes and their length.
func whole(w http.ResponseWriter, r *http.Request, n int) {
	w.Header().Set("Content-Type", "video/MP2T")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.Write(segmentBytes(r.URL.Path, n))
}

func segmentBytes(path string, n int) []byte {
	return bytes.Repeat([]byte(path+"\n"), n/(len(path)+1)+1)[:n]
}

// shared is how many segments clients can share now.
func (e *env) shared() int {
	e.segments.mu.Lock()
	defer e.segments.mu.Unlock()
	return len(e.segments.table)
}

const segmentA = "/live/a-1009.ts?spbhid="

// 20 viewers at their own pace; the window moves on when all have all of it. Each
// segment is asked for once.
func TestSegmentOnce(t *testing.T) {
	const viewers, size = 20, 100_000
	o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, size) })
	o.first.Store(1006)
	e := start(t, nil, o.addr)
	for round := range 3 {
		var wg sync.WaitGroup
		for v := range viewers {
			wg.Go(func() {
				list := fmt.Sprintf("/live/a.m3u8?hls_ctx=v%d", v)
				_, playlist := e.get(list)
				for line := range strings.Lines(playlist) {
					if strings.HasPrefix(line, "#") {
						continue
					}
					path, _, _ := strings.Cut(line, "?")
					resp, body := e.get("/live/" + strings.TrimSpace(line))
					if resp.StatusCode != 200 || resp.ContentLength != size || body != string(segmentBytes("/live/"+path, size)) ||
						resp.Header.Get("Content-Type") != "video/MP2T" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
						t.Errorf("%s: %d, %d bytes, %v", line, resp.StatusCode, len(body), resp.Header)
					}
				}
			})
		}
		wg.Wait()
		if want := 4 + 2*round; len(o.asked) != want || o.askedFor("") != want {
			t.Errorf("round %d: %v", round, o.asked)
		}
		o.first.Add(2)
		o.last.Add(2)
	}
	st := e.Stats()
	if s := st.Segments; s.Misses != 8 || s.Hits+s.Shared+s.Misses != 3*4*viewers || s.Alone != 0 || s.BytesIn != 8*size || s.Held > 9*size {
		t.Errorf("%+v", s)
	}
	if st.Requests != 3*5*viewers || st.BytesOut < 3*4*viewers*size {
		t.Errorf("%+v", st)
	}
}

// stepped is an origin's answer that a test sends piece by piece.
type stepped struct {
	next chan string   // pieces; closed at the end
	gone chan struct{} // closed when nobody wants it any more
}

func (s *stepped) serve(size int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for {
			select {
			case piece, ok := <-s.next:
				if !ok {
					return
				}
				io.WriteString(w, piece)
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				close(s.gone)
				return
			}
		}
	}
}

func newStepped() *stepped { return &stepped{next: make(chan string), gone: make(chan struct{})} }

func segmentRequestOf(extra string) string {
	return "GET " + segmentA + tokenA + " HTTP/1.1\r\nHost: x\r\n" + extra + "\r\n"
}

// Who comes while a segment is fetched gets what is there, at once, and then the rest as it comes.
// Neither a client that does not read nor one that goes away, the first or another, is noticed by others.
func TestSegmentInFlight(t *testing.T) {
	const tail = 8 << 20 // more than sockets hold
	step := newStepped()
	o := newHLSOrigin(t, step.serve(6+tail))
	e := start(t, nil, o.addr)
	e.get("/live/a.m3u8", "Host", "x")
	first := e.dial(segmentRequestOf(""))
	step.next <- "abc"
	first.head()
	first.expect("abc")
	second, idle, leaver := e.dial(segmentRequestOf("")), e.dial(segmentRequestOf("")), e.dial(segmentRequestOf("Range: bytes=0-\r\n"))
	for _, c := range []*rawConn{second, idle, leaver} {
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200") || strings.Contains(head, "Age:") {
			t.Fatalf("head %q", head)
		}
		c.expect("abc")
	}
	first.Close()
	leaver.Close()
	eventually(t, "two are left", func() bool { return e.Stats().RequestsActive == 2 })
	step.next <- "def"
	second.expect("def")
	step.next <- strings.Repeat("x", tail)
	close(step.next)
	if n, err := io.CopyN(io.Discard, second.br, tail); err != nil {
		t.Errorf("%d bytes, then %v", n, err)
	}
	eventually(t, "the reader has all", func() bool { return e.Stats().RequestsActive == 1 })
	if st := e.Stats().Segments; st.Misses != 1 || st.Shared != 3 || o.askedFor("") != 1 {
		t.Errorf("%+v, asked %v", st, o.asked)
	}
	idle.expect("def") // it was only slow
}

// When all have gone, the origin is asked no longer and nothing is kept.
func TestSegmentNobodyLeft(t *testing.T) {
	step := newStepped()
	o := newHLSOrigin(t, step.serve(6))
	e := start(t, nil, o.addr)
	e.get("/live/a.m3u8", "Host", "x")
	for _, c := range []*rawConn{e.dial(segmentRequestOf("")), e.dial(segmentRequestOf(""))} {
		eventually(t, "it is asked for", func() bool { return o.askedFor("") == 1 })
		defer c.Close()
		time.AfterFunc(20*time.Millisecond, func() { c.Close() })
	}
	select {
	case <-step.gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the origin is still asked")
	}
	eventually(t, "nothing is left", func() bool { return e.shared() == 0 && e.Stats().Segments.Held < 1000 })
}

// What goes wrong goes wrong for all who wait, with its status, and for nobody later.
func TestSegmentErrors(t *testing.T) {
	const together = 5
	for name, tt := range map[string]struct {
		status int
		body   string
		serve  func(w http.ResponseWriter, r *http.Request)
	}{
		"not found": {404, "no such file", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "12")
			w.WriteHeader(404)
			io.WriteString(w, "no such file")
		}},
		"redirect": {302, "", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(302)
		}},
		"hang-up":      {502, errHungUp.Error() + "\n", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
		"no answer":    {504, errNoAnswer.Error() + "\n", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"unknown size": {200, "abc", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "abc"); w.(http.Flusher).Flush() }},
	} {
		t.Run(name, func(t *testing.T) {
			var e *env
			o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				eventually(t, "all wait", func() bool { return name == "unknown size" || e.Stats().Segments.Shared == together-1 })
				tt.serve(w, r)
			})
			e = start(t, func(c *Config) { c.FileTimeout = 300 * time.Millisecond }, o.addr)
			e.get("/live/a.m3u8")
			var wg sync.WaitGroup
			for range together {
				wg.Go(func() {
					resp, body := e.get(segmentA + tokenA)
					if resp.StatusCode != tt.status || body != tt.body || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
						t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
					}
				})
			}
			wg.Wait()
			if n := o.askedFor(""); tt.status != 200 && n != 1 {
				t.Errorf("asked %d times", n)
			}
			eventually(t, "nothing is kept", func() bool { return e.shared() == 0 })
		})
	}
}

// An origin that stops in the middle of a body, or breaks off: clients see that it was not all.
func TestSegmentCut(t *testing.T) {
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request){
		"stops":      func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"breaks off": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var e *env
			o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "9")
				io.WriteString(w, "abc")
				http.NewResponseController(w).Flush()
				eventually(t, "both read", func() bool { return e.Stats().Segments.Shared == 1 })
				serve(w, r)
			})
			e = start(t, func(c *Config) { c.FileTimeout = 300 * time.Millisecond }, o.addr)
			e.get("/live/a.m3u8", "Host", "x")
			for _, c := range []*rawConn{e.dial(segmentRequestOf("")), e.dial(segmentRequestOf(""))} {
				c.head()
				c.expect("abc")
				if took := c.ended(); took > 5*time.Second {
					t.Errorf("cut after %v", took)
				}
			}
			if n := o.askedFor(""); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// Requests on terms of their own, and those that no playlist here vouches for, are each the origin's.
func TestSegmentAlone(t *testing.T) {
	o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, 10) })
	e := start(t, nil, o.addr)
	e.get("/live/a.m3u8")
	_, long := e.get(segmentA + tokenA)
	if _, again := e.get("/live/a-1009.ts?hls_ctx=7&spbhid=" + tokenA); o.askedFor("") != 1 || again != long {
		t.Fatal("the same is not shared: this test would show nothing")
	}
	for name, tt := range map[string]struct {
		method, path string
		header       []string
	}{
		"Range":               {path: segmentA + tokenA, header: []string{"Range", "bytes=0-3"}},
		"two ranges":          {path: segmentA + tokenA, header: []string{"Range", "bytes=0-", "Range", "bytes=1-"}},
		"If-None-Match":       {path: segmentA + tokenA, header: []string{"If-None-Match", `"x"`}},
		"If-Modified-Since":   {path: segmentA + tokenA, header: []string{"If-Modified-Since", "Sun, 22 Nov 2026 00:00:00 GMT"}},
		"Authorization":       {path: segmentA + tokenA, header: []string{"Authorization", "Bearer x"}},
		"Cookie":              {path: segmentA + tokenA, header: []string{"Cookie", "a=b"}},
		"Cache-Control":       {path: segmentA + tokenA, header: []string{"Cache-Control", "no-cache"}},
		"HEAD":                {method: "HEAD", path: segmentA + tokenA},
		"query of a user":     {path: "/live/a-1009.ts?hls_ctx=1&token=u&spbhid=" + tokenA},
		"host":                {path: segmentA + tokenA, header: []string{"Host", "known.example"}},
		"no token":            {path: "/live/a-1009.m4s"},
		"not listed":          {path: "/live/a-999.ts?spbhid=" + tokenA},
		"another name":        {path: "/live/xa-1009.ts?spbhid=" + tokenA},
		"an init segment":     {path: "/live/a/init.mp4?spbhid=" + tokenA},
		"a key":               {path: "/live/a-1009.key?spbhid=" + tokenA},
		"path of its own":     {path: "/live/../live/a-1009.ts?spbhid=" + tokenA},
		"If-Range with Range": {path: segmentA + tokenA, header: []string{"Range", "bytes=0-", "If-Range", `"x"`}},
	} {
		if tt.method == "" {
			tt.method = http.MethodGet
		}
		before := o.askedFor("")
		if resp, _ := e.do(tt.method, tt.path, tt.header...); resp.StatusCode != 200 {
			t.Errorf("%s: %s", name, resp.Status)
		}
		if n := o.askedFor("") - before; n != 1 {
			t.Errorf("%s: the origin was asked %d times", name, n)
		}
	}
}

// Answers that are for one client only, or do not fit, pass as they are, each from the origin.
func TestSegmentNotForAll(t *testing.T) {
	const limit = 1 << 20
	for name, header := range map[string][]string{
		"Set-Cookie": {"Set-Cookie", "a=b"}, "Vary": {"Vary", "Origin"}, "no-store": {"Cache-Control", "public, No-Store"}, "private": {"Cache-Control", "private"},
		"packed": {"Content-Encoding", "br"}, "too large": nil,
	} {
		t.Run(name, func(t *testing.T) {
			size := 1000
			if header == nil {
				size = limit/segmentShare + 1
			}
			o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if header != nil {
					w.Header().Set(header[0], header[1])
				}
				whole(w, r, size)
			})
			e := start(t, func(c *Config) { c.SegmentMemory = limit }, o.addr)
			e.get("/live/a.m3u8")
			const together = 4
			var wg sync.WaitGroup
			for range together {
				wg.Go(func() {
					resp, body := e.get(segmentA + tokenA)
					if resp.StatusCode != 200 || body != string(segmentBytes("/live/a-1009.ts", size)) || header != nil && resp.Header.Get(header[0]) != header[1] {
						t.Errorf("got %d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
					}
				})
			}
			wg.Wait()
			if n := o.askedFor(""); n != together {
				t.Errorf("asked %d times", n)
			}
			if st := e.Stats().Segments; st.Alone == 0 || st.BytesIn != 0 || st.Held > 1000 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A client that goes away in the middle of an answer that it has for itself ends the request.
func TestSegmentAloneLeaves(t *testing.T) {
	step := newStepped()
	o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "X")
		step.serve(6)(w, r)
	})
	e := start(t, nil, o.addr)
	e.get("/live/a.m3u8", "Host", "x")
	c := e.dial(segmentRequestOf(""))
	step.next <- "abc"
	c.head()
	c.expect("abc")
	c.Close()
	select {
	case <-step.gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the origin is still asked")
	}
}

// Memory is bounded whoever holds it; what has no room is served all the same.
func TestSegmentMemory(t *testing.T) {
	const size = 8 << 20 // more than sockets hold
	const limit = 4 * size
	o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, size) })
	o.first.Store(1000)
	o.last.Store(1031)
	e := start(t, func(c *Config) { c.SegmentMemory = limit }, o.addr)
	e.get("/live/a.m3u8", "Host", "x")
	get := func(n int) {
		if _, body := e.get(fmt.Sprintf("/live/a-%d.ts?spbhid=%s", n, tokenA), "Host", "x"); len(body) != size {
			t.Errorf("segment %d: %d bytes", n, len(body))
		}
		if held := e.Stats().Segments.Held; held > limit {
			t.Errorf("%d bytes are held", held)
		}
	}
	for n := 1000; n < 1008; n++ { // the oldest make room for the newest
		get(n)
	}
	if asked := o.askedFor(""); asked != 8 {
		t.Errorf("asked %d times", asked)
	}
	get(1007)
	get(1005)
	if asked := o.askedFor(""); asked != 8 {
		t.Errorf("asked %d times: the newest were not kept", asked)
	}
	// Clients that do not read hold theirs, and there is no room.
	for n := 1010; n < 1016; n++ {
		c := e.dial(strings.Replace(segmentRequestOf(""), "1009", strconv.Itoa(n), 1))
		c.head()
	}
	get(1020)
	get(1020)
	if n := o.askedFor("a-1020.ts"); n != 2 {
		t.Errorf("asked %d times without room", n)
	}
	// They go, and there is.
	e.stop()
	if st := e.Stats().Segments; st.Held != 0 || st.Alone < 2 {
		t.Errorf("after the end %+v", st)
	}
}

func TestSegmentSharingOff(t *testing.T) {
	o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, 10) })
	e := start(t, func(c *Config) { c.SegmentMemory = 0 }, o.addr)
	e.get("/live/a.m3u8")
	for range 3 {
		e.get(segmentA + tokenA)
	}
	if st := e.Stats().Segments; o.askedFor("") != 3 || st != (SegmentStats{}) {
		t.Errorf("asked %d times, %+v", o.askedFor(""), st)
	}
	e.SetSegmentMemory(1 << 20) // and on again
	e.get("/live/a.m3u8")
	for range 3 {
		e.get(segmentA + tokenA)
	}
	if n := o.askedFor(""); n != 4 {
		t.Errorf("asked %d times", n)
	}
	e.SetSegmentMemory(0)
	if st := e.Stats().Segments; st.Held != 0 {
		t.Errorf("off, and %+v", st)
	}
}

// Whoever gets a segment that was fetched a while ago is told.
func TestSegmentIsKeptForSeconds(t *testing.T) {
	o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, 10) })
	o.target.Store(2)
	e := start(t, nil, o.addr)
	e.get("/live/a.m3u8")
	e.get(segmentA + tokenA)
	asked := time.Now()
	time.Sleep(1100 * time.Millisecond)
	resp, _ := e.get(segmentA + tokenA)
	if age := resp.Header.Get("Age"); age != "1" && age != "2" || o.askedFor("") != 1 {
		t.Errorf("age %q, asked %d times", age, o.askedFor(""))
	}
	// With a target of 2 s it is kept for 4.
	eventually(t, "it is gone", func() bool { return e.shared() == 0 })
	if kept := time.Since(asked); kept < 3*time.Second || kept > 8*time.Second {
		t.Errorf("kept for %v", kept)
	}
}

// A process that took another's place has segments of its own.
func TestSegmentOfAnotherProcess(t *testing.T) {
	o := newHLSOrigin(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, 10) })
	e := start(t, nil, o.addr)
	for n, service := range []string{"first", "second"} {
		if err := e.bal.Update(context.Background(), balancer.Origin{ID: "o0", Service: service, Endpoints: balancer.Endpoints{HTTP: o.addr}}); err != nil {
			t.Fatal(err)
		}
		e.get("/live/a.m3u8")
		for range 2 {
			e.get(segmentA + tokenA)
		}
		if asked := o.askedFor(""); asked != n+1 {
			t.Errorf("%s: asked %d times in all", service, asked)
		}
	}
}
