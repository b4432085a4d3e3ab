package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/testkit"
)

// edgeConf is the cluster of deploy/srs/edge.conf, quick enough for a test.
const edgeConf = `listen RTMP; max_connections 500;
vhost __defaultVhost__ {
    cluster { mode remote; origin ORIGINS; }
    play { mw_latency 20; }
}
`

// startEdge is the address of an SRS edge in front of proxies.
func startEdge(t *testing.T, proxies ...*instance) string {
	t.Helper()
	addr := testkit.FreeAddr(t)
	var origins []string
	for _, p := range proxies {
		origins = append(origins, p.rtmp())
	}
	testkit.SRS(t, strings.NewReplacer("RTMP", addr, "ORIGINS", strings.Join(origins, " ")).Replace(edgeConf))
	eventually(t, readyWithin, "the edge listens", func() (bool, string) { return testkit.Listens(addr), addr })
	return addr
}

// SRS edges in front of two proxies: what is published through one edge plays through
// another. The proxy that both use is killed: the edges go to the other one, viewers stay
// connected to their edge and see the stream again.
func TestEdgesInFrontOfProxies(t *testing.T) {
	t.Parallel()
	testkit.SRSBinary(t)
	_, _, proxy := sharing(t)
	a, b := proxy(2), proxy(1)
	newOutside(a, 0, "URL", "http://"+b.system()+"/api/v1/srs/register").run() // b survives, and so do its origins
	newOutside(a, 1, "URL", "http://"+b.system()+"/api/v1/srs/register").run()
	b.waitOrigins(2, 2, readyWithin)
	a.waitAnyOrigin()
	in, out := startEdge(t, a, b), startEdge(t, a, b)

	publish := func(name string) (pub *publisher, took time.Duration) {
		t.Helper()
		took = eventually(t, 20*time.Second, "published through the edge", func() (bool, string) {
			p, err := startPublisher(in, "rtmp://"+in+"/live", name)
			if err != nil {
				return false, err.Error()
			}
			// An edge says yes before it has asked: who is refused is disconnected.
			select {
			case <-p.done:
				p.stop()
				return false, "disconnected"
			case <-time.After(time.Second):
			}
			pub = p
			return true, ""
		})
		t.Cleanup(func() { pub.stop() })
		return pub, took
	}
	first, _ := publish("edge")
	player := playAt(t, out, "edge")
	player.awaitFrames(t, 30, 20*time.Second)

	if s, other := a.ask(t, "GET", "/api/v1/streams/?count=100"), b.ask(t, "GET", "/api/v1/streams/?count=100"); len(s.Streams) != len(other.Streams) {
		t.Errorf("the proxies show %d and %d streams", len(s.Streams), len(other.Streams))
	}
	a.signal(syscall.SIGKILL)
	killed := time.Now()
	<-a.ended
	_ = os.Remove(filepath.Join(a.stateDir, "control.sock")) // which the next one would have taken over
	select {
	case <-first.done:
		t.Logf("the publisher was disconnected by its edge after %s", time.Since(killed).Round(time.Millisecond))
	case <-time.After(15 * time.Second):
		t.Fatal("the edge keeps a publisher whose stream goes nowhere")
	}
	second, took := publish("edge")
	t.Logf("published through the edge again %s after that", took.Round(time.Millisecond))
	eventually(t, edgeRecovers, "the viewer sees the stream again", func() (bool, string) {
		s := player.seen()
		if s.err != nil {
			t.Fatalf("the viewer was disconnected: %v", s.err)
		}
		return s.last.stream == second.id, fmt.Sprintf("frames of %d, want %d", s.last.stream, second.id)
	})
	t.Logf("the viewer saw the stream again %s after the death of the proxy", time.Since(killed).Round(time.Millisecond))
	if took := time.Since(killed); took > edgeRecovers {
		t.Errorf("the viewer saw the stream again after %s, want %s", took, edgeRecovers)
	}
	player.awaitFrames(t, 30, 20*time.Second)
}

// edgeRecovers bounds the time without frames: an edge waits for 3 s before it asks the next
// proxy (SRS_EDGE_INGESTER_CIMS), and the encoder's new session through its edge begins meanwhile.
const edgeRecovers = 10 * time.Second

func playAt(t *testing.T, addr, name string) *player {
	t.Helper()
	p, err := openPlay(addr, "rtmp://"+addr+"/live", name)
	if err != nil {
		t.Fatalf("play %s at %s: %v", name, addr, err)
	}
	return watch(t, "edge "+name, p.conn, p.media)
}
