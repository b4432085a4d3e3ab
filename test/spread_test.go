package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"srs-proxy/protocol/rtmp"
)

// ownVhost is declared in an overlay: its streams are not those of the default vhost.
const ownVhost = "media.example.org"

const vhostOverlay = `
vhost media.example.org {
    play { gop_cache on; mw_latency 100; }
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    hls { enabled on; hls_path ./objs/nginx/html; hls_fragment 2; hls_window 30; }
}
`

// writeFile makes a file in a folder of the test.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// address is one way to write where a stream is.
type address struct {
	name  string
	tcURL string // for RTMP
	host  string // the Host header
	query string // of an HTTP request
}

// addresses are those of a vhost; host is how the default one is reached too.
func addresses(in *instance, vhost string) []address {
	if vhost == ownVhost {
		return []address{
			{"domain", "rtmp://" + ownVhost + "/live", ownVhost, ""},
			{"domain on port 80", "rtmp://" + ownVhost + ":80/live", ownVhost + ":80", ""},
			{"?vhost=", "rtmp://" + in.rtmp() + "/live?vhost=" + ownVhost, in.http(), "?vhost=" + ownVhost},
		}
	}
	return []address{
		{"IP", "rtmp://" + in.rtmp() + "/live", in.http(), ""},
		{"domain", "rtmp://example.com/live", "example.com", ""},
		{"domain on port 80", "rtmp://example.com:80/live", "example.com:80", ""},
		{"IPv6 host", "rtmp://[2001:db8::1]:1935/live", "[2001:db8::1]:8080", ""},
		{"?vhost=", "rtmp://" + in.rtmp() + "/live?vhost=example.com", in.http(), "?vhost=example.com"},
	}
}

// TestSixtyFourStreams publishes them at once over 8 origins, as whoever starts
// a show does, and plays each in every way there is to write its address.
func TestSixtyFourStreams(t *testing.T) {
	const streams, origins = 64, 8
	in := up(t, origins, "--vhosts", writeFile(t, "vhosts.conf", vhostOverlay))
	vhostOf := func(i int) string {
		if i%4 == 0 {
			return ownVhost
		}
		return ""
	}
	name := func(i int) string { return fmt.Sprintf("s%02d", i) }

	pubs := make([]*publisher, streams)
	var g errgroup.Group
	start := time.Now()
	for i := range streams {
		g.Go(func() (err error) {
			ways := addresses(in, vhostOf(i))
			pubs[i], err = startPublisher(in.rtmp(), ways[i/4%len(ways)].tcURL, name(i))
			return err
		})
	}
	err := g.Wait()
	t.Cleanup(func() {
		for _, p := range pubs {
			if p != nil {
				p.stop()
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d publishes took %s", streams, time.Since(start).Round(time.Millisecond))

	checkSpread(t, in, streams)
	ways := 0
	plays := errgroup.Group{}
	plays.SetLimit(12)
	var failures failures
	for i := range streams {
		for _, way := range addresses(in, vhostOf(i)) {
			for proto, play := range playOnce {
				ways++
				plays.Go(func() error {
					failures.add(tryPlay(play, in, way, name(i), pubs[i].id), "%s over %s by %s", name(i), proto, way.name)
					return nil
				})
			}
		}
	}
	_ = plays.Wait() // the failures are counted
	failures.report(t, ways)
	if t.Failed() {
		return
	}
	// A stream of one vhost is not found on the other: a play waits for a publisher.
	for i, way := range map[int]address{4: addresses(in, "")[0], 5: addresses(in, ownVhost)[0]} {
		p, err := openPlay(in.rtmp(), way.tcURL, name(i))
		if err != nil {
			t.Fatal(err)
		}
		_ = p.conn.SetDeadline(time.Now().Add(2 * time.Second))
		if m, err := p.media(); err == nil {
			t.Errorf("%s is found by %s, on a vhost that it was not published to: a message of type %d", name(i), way.name, m.Type)
		}
		p.conn.Close()
	}
	for i, p := range pubs {
		select {
		case <-p.done:
			t.Errorf("the publisher of %s was disconnected after %d frames: %v", name(i), p.sent.Load(), p.err)
		default:
		}
	}
}

// checkSpread waits until the origins have all streams, and looks at the fullest
// and the emptiest.
func checkSpread(t *testing.T, in *instance, streams int) {
	t.Helper()
	var s status
	eventually(t, 15*time.Second, "all streams in status", func() (bool, string) {
		s = in.status()
		return s.Totals.Streams == streams && s.Totals.Publishers == streams, fmt.Sprintf("%+v", s.Totals)
	})
	var counts []int
	for _, o := range s.Origins {
		counts = append(counts, o.Streams)
	}
	t.Logf("streams of each origin: %v", counts)
	if slices.Max(counts)-slices.Min(counts) > 2 {
		t.Errorf("from %d to %d streams on one origin, want no more than 2 between them: %v", slices.Min(counts), slices.Max(counts), counts)
	}
}

// failures collects what went wrong in many goroutines.
type failures struct {
	mu  sync.Mutex
	all []string
}

func (f *failures) add(err error, format string, args ...any) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fmt.Sprintf(format, args...)+": "+err.Error())
}

func (f *failures) report(t *testing.T, of int) {
	t.Helper()
	if n := len(f.all); n > 0 {
		t.Errorf("%d of %d failed:\n%s", n, of, strings.Join(f.all[:min(n, 12)], "\n"))
	}
}

// playOnce plays a stream until a frame of it was seen.
var playOnce = map[string]func(in *instance, way address, name string, id uint32) error{
	"rtmp": func(in *instance, way address, name string, id uint32) error {
		p, err := openPlay(in.rtmp(), way.tcURL, name)
		if err != nil {
			return err
		}
		defer p.conn.Close()
		_ = p.conn.SetDeadline(time.Now().Add(10 * time.Second))
		return untilStamp(p.media, id)
	},
	"flv": func(in *instance, way address, name string, id uint32) error {
		conn, err := net.Dial("tcp", in.http())
		if err != nil {
			return err
		}
		defer conn.Close()
		flv, err := openFLV(conn, way.host, "/live/"+name+".flv"+way.query, nil)
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return untilStamp(flv.next, id)
	},
	"hls": func(in *instance, way address, name string, id uint32) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		seg, err := hlsSegment(ctx, in.stream("m3u8", "live/"+name)+way.query, http.Header{"Host": {way.host}})
		if err != nil {
			return err
		}
		if seg.code != http.StatusOK {
			return fmt.Errorf("segment: HTTP %d %s", seg.code, seg.body)
		}
		payloads, err := transportPayloads(seg.body)
		if err != nil {
			return err
		}
		for _, p := range payloads {
			if s, ok := findStamp(p); ok {
				if s.stream != id {
					return fmt.Errorf("the segment is of stream %d, want %d", s.stream, id)
				}
				return nil
			}
		}
		return errors.New("no frame in the segment")
	},
}

// tryPlay gives a stream time to have its first frame or segment.
func tryPlay(play func(*instance, address, string, uint32) error, in *instance, way address, name string, id uint32) (err error) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = play(in, way, name, id); err == nil {
			return nil
		}
	}
	return err
}

// untilStamp reads until a frame, which has to be of that stream.
func untilStamp(next func() (rtmp.Message, error), id uint32) error {
	for {
		m, err := next()
		if err != nil {
			return fmt.Errorf("before the first frame: %w", err)
		}
		if m.Type != rtmp.TypeVideo || isHeader(m) {
			continue
		}
		s, ok := findStamp(m.Payload)
		if !ok || s.stream != id {
			return fmt.Errorf("a frame of stream %d, want %d", s.stream, id)
		}
		return nil
	}
}

// TestThousandAtOnce: first publishes and first plays of one name, from many
// clients at the same moment, meet on one origin.
func TestThousandAtOnce(t *testing.T) {
	const publishers, players, origins = 500, 500, 8
	in := up(t, origins, "--max-connections-per-ip", "3000")
	tcURL := "rtmp://" + in.rtmp() + "/live"
	const name = "first"

	// All come to createStream before the gate opens: what is raced is the pick.
	peers := make([]*peer, publishers+players)
	var dials errgroup.Group
	dials.SetLimit(64)
	for i := range peers {
		dials.Go(func() (err error) {
			peers[i], err = dialRTMP(in.rtmp(), tcURL)
			return err
		})
	}
	err := dials.Wait()
	defer func() {
		for _, p := range peers {
			if p != nil {
				p.conn.Close()
			}
		}
	}()
	if err != nil {
		t.Fatal(err)
	}

	gate := make(chan struct{})
	var failures failures
	var started sync.Map
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			<-gate
			_ = p.conn.SetDeadline(time.Now().Add(rtmpTimeout))
			if i >= publishers {
				failures.add(p.play(name), "play %d", i)
				return
			}
			// One is let in; the others are refused, or closed without a word.
			if err := p.publish(name); err == nil {
				started.Store(i, true)
			} else if !isHangup(err) {
				failures.add(err, "publish %d", i)
			}
		})
	}
	start := time.Now()
	close(gate)
	all.Wait()
	t.Logf("%d publishes and %d plays were answered after %s", publishers, players, time.Since(start).Round(time.Millisecond))
	failures.report(t, len(peers))

	// The origins' own word for it: who has the stream, who had a client for it.
	var home string
	eventually(t, 15*time.Second, "all players and one publisher on one origin", func() (bool, string) {
		s := in.status()
		var where []string
		for _, o := range s.Origins {
			if o.Streams > 0 || o.Players > 0 {
				where = append(where, fmt.Sprintf("%s has %d streams, %d players", o.ID, o.Streams, o.Players))
				home = o.ID
			}
		}
		return len(where) == 1 && s.Totals.Publishers == 1 && s.Totals.Players == players, fmt.Sprintf("%v of %+v", where, s.Totals)
	})
	for _, o := range in.status().Origins {
		log, err := os.ReadFile(o.LogFile)
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(string(log), name); has != (o.ID == home) {
			t.Errorf("the log of %s names the stream: %v; its home is %s", o.ID, has, home)
		}
	}
	// The one publisher's frames reach a player.
	n := 0
	started.Range(func(i, _ any) bool {
		p := peers[i.(int)]
		_ = p.conn.SetDeadline(time.Time{})
		pub := feed(p)
		defer pub.stop()
		last := peers[len(peers)-1]
		_ = last.conn.SetDeadline(time.Now().Add(10 * time.Second))
		if err := untilStamp(last.media, pub.id); err == nil {
			n++
		} else if !isHangup(err) {
			t.Logf("publisher %d: %v", i, err)
		}
		return n == 0
	})
	if n != 1 {
		t.Errorf("no publisher that was let in reaches a player")
	}
}
