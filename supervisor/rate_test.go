package supervisor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRatesBetweenCounts(t *testing.T) {
	const start = 1_700_000_000 * time.Second
	at := func(s float64) time.Duration { return start + time.Duration(s*float64(time.Second)) }
	type want struct {
		in, out float64
		known   bool
	}
	tests := []struct {
		name   string
		counts []byteCount
		want   want
	}{
		{"the first count says nothing", []byteCount{{at(0), 5000, 100}}, want{}},
		{"bits by the origin's clock", []byteCount{{at(0), 0, 0}, {at(3), 3000, 6000}}, want{8000, 16000, true}},
		{"the same count again", []byteCount{{at(0), 0, 0}, {at(3), 3000, 0}, {at(3), 3000, 0}}, want{8000, 0, true}},
		{"looks between two counts", []byteCount{{at(0), 0, 0}, {at(0), 0, 0}, {at(0), 0, 0}, {at(3), 3000, 0}}, want{8000, 0, true}},
		{"too short for a rate", []byteCount{{at(0), 0, 0}, {at(2), 2000, 0}, {at(2.4), 900000, 0}}, want{8000, 0, true}},
		{"short looks add up", []byteCount{{at(0), 0, 0}, {at(.5), 500, 0}, {at(1), 1000, 0}}, want{8000, 0, true}},
		{"nothing moves any more", []byteCount{{at(0), 0, 0}, {at(3), 3000, 0}, {at(6), 3000, 0}}, want{0, 0, true}},
		{"half a minute is still a rate", []byteCount{{at(0), 0, 0}, {at(30), 30000, 0}}, want{8000, 0, true}},
		{"a longer time is not", []byteCount{{at(0), 0, 0}, {at(31), 31000, 0}}, want{}},
		{"counters that went back", []byteCount{{at(0), 9000, 0}, {at(3), 3000, 0}}, want{}},
		{"sent ones too", []byteCount{{at(0), 0, 9000}, {at(3), 3000, 8999}}, want{}},
		{"a clock that went back", []byteCount{{at(3), 0, 0}, {at(0), 3000, 0}}, want{}},
		{"a new beginning goes on", []byteCount{{at(0), 9000, 0}, {at(3), 3000, 0}, {at(6), 6000, 0}}, want{8000, 0, true}},
		{"no count", []byteCount{{at(0), 0, 0}, {at(3), 3000, 0}, {}}, want{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r rates
			for _, c := range tt.counts {
				r = r.after(c)
			}
			if got := (want{r.in, r.out, r.known}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// apiServer is an origin's API with one stream, whose counts a test moves.
type apiServer struct {
	*httptest.Server
	streams atomic.Int32
	time    atomic.Int64 // ms
	bytes   atomic.Int64
	asked   atomic.Int32 // for summaries
	broken  atomic.Bool
}

func newAPIServer(t *testing.T) (*apiServer, netip.AddrPort) {
	t.Helper()
	a := new(apiServer)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case a.broken.Load():
			http.Error(w, "broken", http.StatusInternalServerError)
		case strings.HasPrefix(r.URL.Path, "/api/v1/streams"):
			streams := make([]string, a.streams.Load())
			for i := range streams {
				streams[i] = `{"clients":3,"publish":{"active":true},"kbps":{"recv_30s":7,"send_30s":9}}`
			}
			fmt.Fprintf(w, `{"code":0,"streams":[%s]}`, strings.Join(streams, ","))
		case a.time.Load() == 0:
			http.NotFound(w, r)
		default:
			a.asked.Add(1)
			fmt.Fprintf(w, `{"code":0,"data":{"ok":true,"system":{"srs_sample_time":%d,"srs_recv_bytes":%d,"srs_send_bytes":%d}}}`,
				a.time.Load(), a.bytes.Load(), 2*a.bytes.Load())
		}
	}))
	t.Cleanup(a.Close)
	return a, netip.MustParseAddrPort(a.Listener.Addr().String())
}

func (s stats) wantRates(t *testing.T, in, out float64) {
	t.Helper()
	if s.err != nil || s.in != in || s.out != out {
		t.Errorf("in %v, out %v (%v), want %v and %v", s.in, s.out, s.err, in, out)
	}
}

func TestStatsTakeRatesFromByteCounts(t *testing.T) {
	a, addr := newAPIServer(t)
	const pid = 4711
	look := func(old stats) stats { return old.refreshed(t.Context(), pid, addr) }

	s := look(stats{})
	s.wantRates(t, 0, 0)
	if a.asked.Load() != 0 {
		t.Error("an idle origin was asked for its bytes")
	}
	// Without counts, and at the first one, what SRS averages is all there is.
	a.streams.Store(1)
	s = look(s)
	s.wantRates(t, 7000, 9000)
	a.time.Store(1_700_000_000_000)
	a.bytes.Store(1 << 20)
	s = look(s)
	s.wantRates(t, 7000, 9000)
	if s.clients != 3 || s.publishers != 1 || s.streams != 1 {
		t.Errorf("%+v", s)
	}
	a.time.Add(3000)
	a.bytes.Add(3000)
	s = look(s)
	s.wantRates(t, 8000, 16000)
	s = look(s) // before the next count
	s.wantRates(t, 8000, 16000)

	a.broken.Store(true)
	if s = look(s); s.err == nil || s.in != 8000 || s.streams != 1 {
		t.Errorf("a failed look: %+v", s)
	}
	a.broken.Store(false)
	a.streams.Store(0)
	s = look(s)
	s.wantRates(t, 0, 0)

	// Another process counts from the beginning.
	a.streams.Store(1)
	a.time.Add(3000)
	s = s.refreshed(t.Context(), pid+1, addr)
	s.wantRates(t, 7000, 9000)
}

func TestFiguresAreAskedForWhenTheyAreOld(t *testing.T) {
	const pid = 4711
	asked := time.Now()
	tests := []struct {
		name string
		s    stats
		age  time.Duration
		want bool
	}{
		{"never asked", stats{}, 0, true},
		{"young", stats{pid: pid, streams: 1, at: asked}, statsAge - 1, false},
		{"old", stats{pid: pid, streams: 1, at: asked}, statsAge, true},
		{"of another process", stats{pid: pid + 1, streams: 1, at: asked}, 0, true},
		{"idle", stats{pid: pid, at: asked}, idleAge - 1, false},
		{"idle for long", stats{pid: pid, at: asked}, idleAge, true},
		{"clients without a stream", stats{pid: pid, clients: 1, at: asked}, statsAge, true},
		{"failed", stats{pid: pid, err: ErrPortBusy, at: asked}, statsAge, true},
	}
	for _, tt := range tests {
		if got := tt.s.due(pid, asked.Add(tt.age)); got != tt.want {
			t.Errorf("%s: due is %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestSelfUsage(t *testing.T) {
	var m selfMeter
	now := time.Now()
	first := m.read(now)
	if first.RSS < 1<<20 || first.CPUs == "" || first.CPUPercent != 0 {
		t.Errorf("the first look: %+v", first)
	}
	if again := m.read(now.Add(time.Second / 2)); again != first {
		t.Errorf("half a second later: %+v, want what was", again)
	}
	// The clock of the test runs ten times faster than the work is done.
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		continue
	}
	if u := m.read(now.Add(time.Second)); u.CPUPercent <= 0 || u.CPUPercent > 1000 {
		t.Errorf("after work: %+v", u)
	}
}
