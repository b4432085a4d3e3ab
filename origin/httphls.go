package origin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"srs-proxy/protocol/streamurl"
)

// firstSegmentWait is how long a playlist request waits for the first segment of a
// stream that has just begun, instead of an error that the player would retry on.
const firstSegmentWait = 15 * time.Second

// hlsViewers are HLS players, told apart by the hls_ctx that the first playlist
// gives them (SRS: srs_app_http_static.cpp, SrsHlsStream). They have no
// connection, so they expire.
type hlsViewers struct {
	hub    *hub
	expiry time.Duration
	max    int

	mu  sync.Mutex // guards the following
	all map[string]*hlsViewer
}

// viewerID is how many letters or digits name a viewer.
const viewerID = 8

type hlsViewer struct {
	client *client
	seen   time.Time
	kicked bool // stays until it expires, so that it can't come back at once
}

func (v *hlsViewers) init(h *hub, expiry time.Duration, limit int) {
	v.hub, v.expiry, v.max, v.all = h, max(expiry, 10*time.Second), limit, make(map[string]*hlsViewer)
}

// admit makes a viewer, of the id that it had at an origin before if it brings one, as SRS
// does: its player asks for that playlist again and again. Past the bound there is none,
// and the stream plays uncounted.
func (v *hlsViewers) admit(c *client, had string) (id string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) >= v.max {
		return "", false
	}
	viewer := &hlsViewer{client: c, seen: time.Now()}
	c.id, c.meter = had, &meter{}
	if len(had) != viewerID || v.all[had] != nil || !iceChars(had) {
		c.id = randomID(viewerID)
	}
	c.kill = func(error) { v.kick(c.id) }
	if _, err := v.hub.join(c, false); err != nil {
		return "", false
	}
	v.all[c.id] = viewer
	return c.id, true
}

// touch keeps a viewer alive. known is false for an id of before a restart, or
// expired.
func (v *hlsViewers) touch(id string) (m *meter, known, kicked bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	viewer := v.all[id]
	if viewer == nil {
		return nil, false, false
	}
	if !viewer.kicked {
		viewer.seen = time.Now()
	}
	return viewer.client.meter, true, viewer.kicked
}

func (v *hlsViewers) kick(id string) {
	v.mu.Lock()
	viewer := v.all[id]
	if viewer != nil {
		viewer.kicked = true
	}
	v.mu.Unlock()
	if viewer != nil {
		v.hub.leave(viewer.client)
	}
}

func (v *hlsViewers) expire(now time.Time) {
	v.mu.Lock()
	var gone []*client
	for id, viewer := range v.all {
		if now.Sub(viewer.seen) > v.expiry {
			delete(v.all, id)
			gone = append(gone, viewer.client)
		}
	}
	v.mu.Unlock()
	for _, c := range gone {
		v.hub.leave(c)
	}
}

// servePlaylist answers the first request with a playlist of one entry that
// carries hls_ctx, and those with hls_ctx with the media playlist.
func (o *Origin) servePlaylist(w http.ResponseWriter, r *http.Request, key streamurl.Stream) {
	st := o.hub.find(key)
	if st == nil || !st.hasHLS() {
		notFound(w)
		return
	}
	query := r.URL.Query()
	ctx := query.Get("hls_ctx")
	m, known, kicked := o.hls.touch(ctx)
	if kicked {
		http.Error(w, "HLS stream "+ctx+" is EOF", http.StatusNotFound)
		return
	}
	if !known && r.Method == http.MethodGet {
		if id, ok := o.hls.admit(httpClient(r, key, typeHLSPlay, ".m3u8"), ctx); ok {
			query.Del("hls_ctx")
			o.writePlaylist(w, nil, masterPlaylist(r.URL, id, query))
			return
		}
	}
	segmentQuery := make(url.Values)
	for _, k := range []string{"hls_ctx", "vhost"} { // what a segment's request needs
		if v := query.Get(k); v != "" {
			segmentQuery.Set(k, v)
		}
	}
	playlist, ok := st.awaitPlaylist(r.Context(), segmentQuery)
	if !ok {
		notFound(w)
		return
	}
	o.writePlaylist(w, m, playlist)
}

func masterPlaylist(u *url.URL, id string, query url.Values) string {
	q := "hls_ctx=" + id
	if rest := query.Encode(); rest != "" {
		q += "&" + rest
	}
	return "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1\n" + u.EscapedPath() + "?" + q + "\n"
}

func (o *Origin) writePlaylist(w http.ResponseWriter, m *meter, text string) {
	h := w.Header()
	h.Set("Content-Type", "application/vnd.apple.mpegurl")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Cache-Control", "no-cache")
	n, _ := w.Write([]byte(text))
	if m != nil {
		m.out.Add(int64(n))
	}
}

// serveSegment serves name-7.ts and tells whether there is such a segment, or
// could have been: then it has answered.
func (o *Origin) serveSegment(w http.ResponseWriter, r *http.Request, key streamurl.Stream) bool {
	name, seq, ok := segmentName(key.Name)
	if !ok {
		return false
	}
	key.Name = name
	st := o.hub.find(key)
	if st == nil {
		return false
	}
	chunks, size, ok := st.segment(seq)
	if !ok {
		return false
	}
	m, known, _ := o.hls.touch(r.URL.Query().Get("hls_ctx"))
	h := w.Header()
	h.Set("Content-Type", "video/MP2T")
	h.Set("Content-Length", strconv.Itoa(size))
	if r.Method == http.MethodHead {
		return true
	}
	// Time enough at 128 kb/s; slower than that nobody watches.
	control := http.NewResponseController(w)
	enough := writeStall + time.Duration(size/(16<<10))*time.Second
	if err := control.SetWriteDeadline(time.Now().Add(enough)); err != nil {
		return true
	}
	for _, c := range chunks {
		n, err := w.Write(c)
		if known {
			m.out.Add(int64(n))
		}
		if err != nil {
			return true
		}
	}
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{})
	return true
}

func (s *stream) hasHLS() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remux != nil && s.remux.hls != nil
}

// segment returns the packets of a segment. They are shared and never change.
func (s *stream) segment(seq uint64) (chunks [][]byte, size int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.remux == nil || s.remux.hls == nil {
		return nil, 0, false
	}
	seg := s.remux.hls.find(seq)
	if seg == nil {
		return nil, 0, false
	}
	return seg.chunks, seg.size, true
}

// awaitPlaylist waits for the first segment, where there is none.
func (s *stream) awaitPlaylist(ctx context.Context, query url.Values) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, firstSegmentWait)
	defer cancel()
	q := ""
	if len(query) > 0 {
		q = "?" + query.Encode()
	}
	for {
		s.mu.Lock()
		if s.remux == nil || s.remux.hls == nil {
			s.mu.Unlock()
			return "", false
		}
		h := s.remux.hls
		if len(h.segments) > 0 {
			text := h.playlist(q)
			s.mu.Unlock()
			return text, true
		}
		changed := h.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", false
		case <-changed:
		}
	}
}
