package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/protocol/rtmp"
)

// publisher sends the clip in a loop at its own pace, every video frame stamped.
type publisher struct {
	peer   *peer
	id     uint32
	sent   atomic.Uint32 // video frames
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid after done; nil if we ended it
}

// streamIDs tells streams apart in stamps.
var streamIDs atomic.Uint32

// startPublisher publishes live/name, or whatever tcURL and name say.
func startPublisher(addr, tcURL, name string) (*publisher, error) {
	p, err := openPublish(addr, tcURL, name)
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", name, err)
	}
	return feed(p), nil
}

func feed(p *peer) *publisher {
	ctx, cancel := context.WithCancel(context.Background())
	pub := &publisher{peer: p, id: streamIDs.Add(1), cancel: cancel, done: make(chan struct{})}
	go pub.run(ctx)
	return pub
}

// publish is startPublisher on the default vhost, ended with the test.
func (in *instance) publish(t *testing.T, name string) *publisher {
	t.Helper()
	return in.publishAs(t, "rtmp://"+in.rtmp()+"/live", name)
}

func (in *instance) publishAs(t *testing.T, tcURL, name string) *publisher {
	t.Helper()
	pub, err := startPublisher(in.rtmp(), tcURL, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pub.stop)
	return pub
}

func (p *publisher) stop() {
	p.cancel()
	<-p.done
	p.peer.conn.Close()
}

func (p *publisher) run(ctx context.Context) {
	defer close(p.done)
	go func() {
		for { // acknowledgements, and the end
			if _, err := p.peer.r.ReadMessage(); err != nil {
				p.cancel()
				return
			}
		}
	}()
	err := p.send(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	p.err = err
}

func (p *publisher) send(ctx context.Context) error {
	c := suite.clip
	if err := p.peer.w.WriteMessages(c.headers...); err != nil {
		return err
	}
	start := time.Now()
	tick := time.NewTimer(0)
	defer tick.Stop()
	var seq uint32
	for loop := uint32(0); ; loop++ {
		for _, m := range c.frames {
			m.Timestamp += loop * c.length
			tick.Reset(time.Until(start.Add(time.Duration(m.Timestamp) * time.Millisecond)))
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if m.Type == rtmp.TypeVideo {
				seq++
				m.Payload = stamped(m.Payload, stamp{p.id, seq, time.Now()})
			}
			if err := p.peer.w.WriteMessage(m); err != nil {
				return err
			}
			p.sent.Store(seq)
		}
	}
}

// player plays a stream and keeps account of every frame.
type player struct {
	name   string
	conn   net.Conn
	next   func() (rtmp.Message, error)
	closed atomic.Bool
	done   chan struct{}

	mu      sync.Mutex // guards the following
	frames  int        // of video
	last    stamp
	missing []string
	late    time.Duration // the worst delay of a frame that was sent after the start
	err     error         // why it ended, unless we ended it
}

// playRTMP starts a player that ends with the test.
func (in *instance) playRTMP(t *testing.T, name string) *player {
	t.Helper()
	p, err := openPlay(in.rtmp(), "rtmp://"+in.rtmp()+"/live", name)
	if err != nil {
		t.Fatalf("play %s: %v", name, err)
	}
	return watch(t, "rtmp "+name, p.conn, p.media)
}

// playFLV is playRTMP over HTTP.
func (in *instance) playFLV(t *testing.T, name string) *player {
	t.Helper()
	conn, err := net.Dial("tcp", in.http())
	if err != nil {
		t.Fatal(err)
	}
	body, err := openFLV(conn, in.http(), "/live/"+name+".flv", nil)
	if err != nil {
		conn.Close()
		t.Fatalf("play %s: %v", name, err)
	}
	return watch(t, "flv "+name, conn, body.next)
}

// watch counts the frames that next returns.
func watch(t *testing.T, name string, conn net.Conn, next func() (rtmp.Message, error)) *player {
	p := &player{name: name, conn: conn, next: next, done: make(chan struct{})}
	go p.run()
	t.Cleanup(p.stop)
	return p
}

func (p *player) stop() {
	p.closed.Store(true)
	p.conn.Close()
	<-p.done
}

func (p *player) run() {
	defer close(p.done)
	start := time.Now()
	for {
		m, err := p.next()
		if err != nil {
			if !p.closed.Load() {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
			}
			return
		}
		if m.Type != rtmp.TypeVideo || isHeader(m) {
			continue
		}
		p.account(m, start)
	}
}

func (p *player) account(m rtmp.Message, start time.Time) {
	now := time.Now()
	s, ok := findStamp(m.Payload)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !ok:
		p.missing = append(p.missing, fmt.Sprintf("a frame at %d ms has no stamp", m.Timestamp))
	case p.frames > 0 && s.stream == p.last.stream && s.seq != p.last.seq+1:
		p.missing = append(p.missing, fmt.Sprintf("frame %d after %d", s.seq, p.last.seq))
	}
	if s.sent.After(start) {
		p.late = max(p.late, now.Sub(s.sent))
	}
	p.frames++
	p.last = s
}

// seen is what a player saw so far.
type seen struct {
	frames  int
	last    stamp
	missing []string
	late    time.Duration
	err     error
}

func (p *player) seen() seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return seen{p.frames, p.last, p.missing, p.late, p.err}
}

// hasFramesWithin reports whether a frame comes within a time.
func (p *player) hasFramesWithin(limit time.Duration) bool {
	until := time.Now().Add(limit)
	for p.seen().frames == 0 && time.Now().Before(until) {
		time.Sleep(10 * time.Millisecond)
	}
	return p.seen().frames > 0
}

// awaitFrames waits for so many more frames.
func (p *player) awaitFrames(t *testing.T, n int, within time.Duration) {
	t.Helper()
	awaitFrames(t, n, within, p)
}

// awaitFrames waits until each player has seen so many more frames.
func awaitFrames(t *testing.T, n int, within time.Duration, players ...*player) {
	t.Helper()
	want := make([]int, len(players))
	for i, p := range players {
		want[i] = p.seen().frames + n
	}
	for i, p := range players {
		eventually(t, within, fmt.Sprintf("%d more frames of %s", n, p.name), func() (bool, string) {
			s := p.seen()
			if s.err != nil {
				t.Fatalf("%s ended after %d frames: %v", p.name, s.frames, s.err)
			}
			return s.frames >= want[i], fmt.Sprintf("%d of them", n-(want[i]-s.frames))
		})
	}
}

// gapless is the delay that no frame may reach where nothing was lost. It is
// far above what a loaded machine of two cores shows, and below what a player's
// buffer hides.
const gapless = 2 * time.Second

// checkNoGap proves that a player lost no frame, waited for none, and is still connected.
func (p *player) checkNoGap(t *testing.T) {
	t.Helper()
	s := p.seen()
	if s.err != nil {
		t.Errorf("%s was disconnected after %d frames: %v", p.name, s.frames, s.err)
	}
	if len(s.missing) > 0 {
		t.Errorf("%s: %d gaps in %d frames: %v", p.name, len(s.missing), s.frames, s.missing[:min(5, len(s.missing))])
	}
	if s.late > gapless {
		t.Errorf("%s: a frame came %s late", p.name, s.late)
	}
}

// openFLV asks for an HTTP-FLV stream on a connection and reads the answer's head.
func openFLV(conn net.Conn, host, path string, header http.Header) (*flvReader, error) {
	resp, err := exchange(conn, http.MethodGet, host, path, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("HTTP status " + resp.Status)
	}
	return newFLVReader(resp.Body), nil
}
