package httpserver

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/testkit"
)

const segmentsConf = `
listen 127.0.0.1:RTMP;
max_connections 200;
http_server { enabled on; listen 127.0.0.1:HTTP; dir DIR/html; }
vhost __defaultVhost__ {
    hls { enabled on; hls_path DIR/html; hls_fragment 1; hls_window 40; hls_dispose 0; }
    http_hooks { enabled on; on_play HOOK; }
}
`

// startSegmentsSRS starts an SRS whose streams begin with segment 0 when they are published
// anew, over the files of the time before.
func startSegmentsSRS(t *testing.T, hook string) (o srs, dir string) {
	t.Helper()
	testkit.NeedTools(t, "ffmpeg")
	o = srs{rtmp: testkit.FreeAddr(t), http: testkit.FreeAddr(t)}
	dir = testkit.SRS(t, strings.NewReplacer("127.0.0.1:RTMP", o.rtmp, "127.0.0.1:HTTP", o.http, "HOOK", hook).Replace(segmentsConf))
	eventually(t, "SRS listens", func() bool { return testkit.Listens(o.rtmp) && testkit.Listens(o.http) })
	return o, dir
}

// segmentRequests is how often SRS was asked for each segment of stream a.
func segmentRequests(dir string) map[int]int {
	asked := make(map[int]int)
	for _, m := range regexp.MustCompile(`http match file=\S*/a-(\d+)\.ts,`).FindAllStringSubmatch(testkit.SRSLog(dir), -1) {
		n, _ := strconv.Atoi(m[1])
		asked[n]++
	}
	return asked
}

// viewer is a player of stream a that keeps up.
type viewer struct {
	e     *env
	list  string // the path of its own playlist
	seen  map[string]bool
	fetch func(path string)
}

func newViewer(e *env) *viewer {
	_, master := e.get("/live/a.m3u8")
	return &viewer{e: e, list: lastLine(master), seen: make(map[string]bool)}
}

// poll reads the playlist and fetches what is new in it.
func (v *viewer) poll() {
	resp, list := v.e.get(v.list)
	if resp.StatusCode != 200 {
		return // SRS forgets who has not come for a while
	}
	lines := strings.Split(strings.TrimSpace(list), "\n")
	for _, line := range lines[max(0, len(lines)-12):] { // the newest half dozen: SRS deletes the oldest
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "#") && !v.seen[line] {
			v.seen[line] = true
			v.fetch("/live/" + line)
		}
	}
}

// SRS is asked once for each segment, by viewers of which some are ffmpeg; and it counts and
// admits each of them.
func TestSRSSegments(t *testing.T) {
	const viewers, players = 12, 3
	var mu sync.Mutex
	admitted := make(map[string]int)
	hook := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := regexp.MustCompile(`"client_id":"([^"]*)"`).FindSubmatch(body)
		mu.Lock()
		admitted[string(id[1])]++
		mu.Unlock()
		io.WriteString(w, "0")
	})
	o, dir := startSegmentsSRS(t, "http://"+hook+"/")
	e := start(t, nil, o.http)
	file := media(t, "aac")
	// A minute of it at once, so that the sequence is one that a busy machine can tell from another.
	if out, err := exec.Command("ffmpeg", "-v", "error", "-stream_loop", "5", "-i", file, "-c", "copy", "-f", "flv", "rtmp://"+o.rtmp+"/live/a").CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	publish(t, e, o, file, balancer.DefaultVhost, "a")
	const from = 62
	eventually(t, "it goes on", func() bool {
		resp, _ := (&env{t: t, addr: o.http}).do(http.MethodHead, fmt.Sprintf("/live/a-%d.ts", from-1))
		return resp.StatusCode == 200
	})

	var wg sync.WaitGroup
	over := time.Now().Add(8 * time.Second)
	for range viewers {
		wg.Go(func() {
			v := newViewer(e)
			v.fetch = func(path string) {
				if resp, body := e.get(path); resp.StatusCode != 200 || len(body)%188 != 0 || body == "" {
					t.Errorf("%s: %d, %d bytes", path, resp.StatusCode, len(body))
				}
			}
			for ; time.Now().Before(over); time.Sleep(200 * time.Millisecond) {
				v.poll()
			}
		})
	}
	for range players {
		wg.Go(func() {
			out, err := exec.Command("ffmpeg", "-v", "error", "-i", "http://"+e.addr+"/live/a.m3u8", "-t", "6", "-c", "copy", "-f", "null", "-").CombinedOutput()
			if err != nil {
				t.Errorf("ffmpeg: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()

	st := e.Stats().Segments
	asked := segmentRequests(dir)
	t.Logf("%+v; requests by segment %v", st, asked)
	once := 0
	for n, count := range asked {
		if n >= from && count != 1 {
			t.Errorf("SRS was asked for segment %d %d times", n, count)
		} else if n >= from {
			once++
		}
	}
	if once < 5 || st.Hits+st.Shared < int64(once-1)*viewers {
		t.Errorf("%d segments were asked for once, %+v", once, st)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(admitted) != viewers+players {
		t.Errorf("SRS admitted %d viewers: %v", len(admitted), admitted)
	}
}

// SRS forgets a stream 3 s after its end and numbers the next publish of its name from 0: other files
// of the same names, while viewers of the first poll on.
func TestSRSPublishesAnew(t *testing.T) {
	hook := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "0") })
	o, dir := startSegmentsSRS(t, "http://"+hook+"/")
	e := start(t, nil, o.http)
	direct := &env{t: t, addr: o.http}

	var wg sync.WaitGroup
	over := make(chan struct{})
	defer wg.Wait()
	defer close(over)
	watch := func() {
		v := newViewer(e)
		v.fetch = func(path string) {
			name, _, _ := strings.Cut(path, "?")
			_, before := direct.get(name)
			_, got := e.get(path)
			_, after := direct.get(name)
			if got != before && got != after {
				t.Errorf("%s is neither what SRS has before, %d bytes, nor after, %d, but %d", name, len(before), len(after), len(got))
			}
		}
		for {
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
				v.poll()
				clear(v.seen) // all of it again and again
			}
		}
	}
	for i, source := range []string{"testsrc=size=160x120:rate=25", "smptebars=size=320x240:rate=25"} {
		file := filepath.Join(t.TempDir(), "a.flv")
		if out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-t", "6", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "25", "-y", file).CombinedOutput(); err != nil {
			t.Fatalf("ffmpeg: %v\n%s", err, out)
		}
		publisher := testkit.Start(t, t.TempDir(), "ffmpeg", "-v", "error", "-re", "-i", file, "-c", "copy", "-f", "flv", fmt.Sprintf("rtmp://%s/live/a", o.rtmp))
		if i == 0 {
			eventually(t, "a segment is there", func() bool { resp, _ := direct.get("/live/a-0.ts"); return resp.StatusCode == 200 })
			for range 4 {
				wg.Go(watch)
			}
		}
		publisher.Wait()
		if i == 0 {
			eventually(t, "SRS forgets the stream", func() bool { return strings.Contains(testkit.SRSLog(dir), "cleanup die source") })
		}
	}
	if st := e.Stats().Segments; st.Hits < 100 {
		t.Errorf("%+v: this has shown nothing", st)
	}
}
