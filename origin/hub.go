package origin

import (
	crand "crypto/rand"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"srs-proxy/protocol/streamurl"
)

// Errors of the hub.
var (
	ErrBusy     = errors.New("stream is being published already")
	ErrNotFound = errors.New("no such stream")
	errKicked   = errors.New("ended by the API")
	errStopping = errors.New("origin is stopping")
	errEnded    = errors.New("stream ended")
	errPanic    = errors.New("session panicked")
)

// Types of clients, as SRS's API names them.
const (
	typeFMLEPublish  = "fmle-publish"
	typeFlashPublish = "flash-publish"
	typeHaivision    = "haivision-publish"
	typeRTCPublish   = "rtc-publish"
	typeSRTPublish   = "srt-publish"
	typePlay         = "rtmp-play"
	typeRTCPlay      = "rtc-play"
	typeSRTPlay      = "srt-play"
	typeFLVPlay      = "flv-play"
	typeHLSPlay      = "hls-play"
)

// client is a publisher or a player, of whatever protocol.
type client struct {
	id      string
	key     streamurl.Stream
	typ     string
	ip      string
	pageURL string
	swfURL  string
	tcURL   string
	name    string // the stream's name as requested, extension included
	created time.Time
	kill    func(error) // ends the session; safe to call at any time, does not wait
	meter   *meter

	// The hub's mutex guards the following.
	stream  *stream
	seen    sample // what of meter is in the sums already
	traffic traffic
}

func (c *client) publishes() bool { return strings.HasSuffix(c.typ, "-publish") }

// hub knows the streams and clients of this origin, by name and by id.
//
//	publisher ─▶ stream ─▶ queue ─▶ player (RTMP, HTTP-FLV, AAC, MP3)
//	                └─▶ remuxer ─▶ queue ─▶ player (HTTP-TS)
//	                       └─▶ HLS segments
//
// Locks: hub.mu before stream.mu before queue.mu. Media passes through a stream
// without hub.mu.
type hub struct {
	cfg   Config
	vhost streamurl.Vhosts

	mu      sync.Mutex // guards the following
	streams map[streamurl.Stream]*stream
	clients map[string]*client
	vhosts  map[string]*vhostStat
	total   traffic
	closed  error
}

// vhostStat is a vhost that has been used. They are few: unknown names fold into
// the default one.
type vhostStat struct {
	id      string
	name    string
	traffic traffic
}

func newHub(cfg Config) *hub {
	return &hub{
		cfg:     cfg,
		vhost:   streamurl.NewVhosts(cfg.Vhosts...),
		streams: make(map[streamurl.Stream]*stream),
		clients: make(map[string]*client),
		vhosts:  make(map[string]*vhostStat),
	}
}

// join adds a client to its stream, which is made when create is set and it does
// not exist.
func (h *hub) join(c *client, create bool) (*stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		return nil, h.closed
	}
	s := h.streams[c.key]
	if s == nil && !create {
		return nil, ErrNotFound
	}
	if c.publishes() && s != nil && s.publisher != nil {
		return nil, ErrBusy
	}
	if s == nil {
		s = newStream(h, c.key, c.tcURL)
		h.streams[c.key] = s
		h.vhostLocked(c.key.Vhost)
	}
	if c.publishes() {
		s.publisher = c
		s.tcURL = c.tcURL
	}
	s.clients++
	c.stream = s
	c.created = time.Now()
	c.traffic.sample(c.created)
	if c.id == "" {
		c.id = randomID(8)
	}
	h.clients[c.id] = c
	return s, nil
}

// leave takes a client off its stream, and the stream with it where it was the
// last one.
func (h *hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.clients[c.id] != c {
		return
	}
	h.collectLocked(c)
	delete(h.clients, c.id)
	s := c.stream
	s.clients--
	if s.publisher == c {
		s.publisher = nil
	}
	h.reapLocked(s, time.Now())
}

func (h *hub) reapLocked(s *stream, now time.Time) {
	if s.clients == 0 && !s.keepsHLS(now) && h.streams[s.key] == s {
		delete(h.streams, s.key)
	}
}

// find returns the stream of that name, or nil.
func (h *hub) find(key streamurl.Stream) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams[key]
}

// publishing tells whether the stream has a publisher.
func (h *hub) publishing(s *stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.publisher != nil
}

// kick ends the client with this id.
func (h *hub) kick(id string) bool {
	h.mu.Lock()
	c := h.clients[id]
	h.mu.Unlock()
	if c == nil {
		return false
	}
	c.kill(errKicked)
	return true
}

// close ends all clients and takes no more.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = errStopping
	all := make([]*client, 0, len(h.clients))
	for _, c := range h.clients {
		all = append(all, c)
	}
	h.mu.Unlock()
	for _, c := range all {
		c.kill(errStopping)
	}
}

// tick is due once a second.
func (h *hub) tick(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total.sample(now)
	for _, c := range h.clients {
		h.collectLocked(c)
		c.traffic.sample(now)
	}
	for _, s := range h.streams {
		s.traffic.sample(now)
		if s.publisher == nil {
			s.expireHLS(now)
		}
		h.reapLocked(s, now)
	}
	for _, v := range h.vhosts {
		v.traffic.sample(now)
	}
}

// collectLocked adds what passed since the last time to all sums.
func (h *hub) collectLocked(c *client) {
	if c.meter == nil {
		return
	}
	in, out := c.meter.in.Load(), c.meter.out.Load()
	dIn, dOut := in-c.seen.recv, out-c.seen.send
	c.seen.recv, c.seen.send = in, out
	if dIn == 0 && dOut == 0 {
		return
	}
	c.traffic.add(dIn, dOut)
	c.stream.traffic.add(dIn, dOut)
	h.vhostLocked(c.key.Vhost).traffic.add(dIn, dOut)
	h.total.add(dIn, dOut)
}

func (h *hub) vhostLocked(name string) *vhostStat {
	v := h.vhosts[name]
	if v == nil {
		v = &vhostStat{id: "vid-" + randomID(7), name: name}
		v.traffic.sample(time.Now())
		h.vhosts[name] = v
	}
	return v
}

// randomID is made of SRS's alphabet. It names things; it keeps no secret.
func randomID(n int) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[rand.IntN(len(alphabet))]
	}
	return string(b)
}

// secretID is for what others must not guess.
func secretID(n int) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/" // ice-char, RFC 8839 section 5.4
	b := make([]byte, n)
	_, _ = crand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[b[i]&63]
	}
	return string(b)
}

func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}
