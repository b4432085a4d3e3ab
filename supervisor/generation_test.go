package supervisor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"srs-proxy/runtime"
)

// Spare ports are nobody's, not even those of a place that just has no process, and
// none that the proxy or an outgoing connection might have.
func TestSparePorts(t *testing.T) {
	cfg := fakeConfig(t, 3, "ready")
	cfg.Ports = freePorts(t, 8)
	cfg.Reserved = []int{cfg.Ports.Ports(4).API}
	f := newFleet(t, cfg)
	slots := f.all()
	want := []int{3, 5, 6} // 4 has a port of the proxy's
	for i, k := range want {
		next, err := f.newGeneration(t.Context(), f.config(), i, 3, nil, slots)
		if err != nil {
			t.Fatal(err)
		}
		if next.params.Ports != cfg.Ports.Ports(k) {
			t.Errorf("%s gets %v, want %v", next.id, next.params.Ports, cfg.Ports.Ports(k))
		}
		if want := cfg.withDefaults().id(i, 1); next.id != want {
			t.Errorf("named %s, want %s", next.id, want)
		}
		slots = append(slots, next)
	}
	again, err := f.newGeneration(t.Context(), f.config(), 1, 3, nil, slots)
	if err != nil || again.id != "origin-1.2" || again.params.Ports != cfg.Ports.Ports(7) {
		t.Errorf("a third generation is %+v (%v)", again.params, err)
	}
	// Without the first one its name and its ports are free.
	slots = slices.DeleteFunc(slots, func(s *slot) bool { return s.id == "origin-1" })
	back, err := f.newGeneration(t.Context(), f.config(), 1, 3, nil, slots)
	if err != nil || back.id != "origin-1" || back.params.Ports != cfg.Ports.Ports(1) {
		t.Errorf("back in the place is %+v (%v)", back.params, err)
	}
}

func TestPortsAreNeverEphemeral(t *testing.T) {
	lo, hi, err := runtime.EphemeralRange()
	if err != nil {
		t.Fatal(err)
	}
	if hi > 65000 {
		t.Skip("no ports above the ephemeral range")
	}
	cfg := fakeConfig(t, 1, "ready")
	cfg.Ports.Base = lo - 10
	f := newFleet(t, cfg)
	next, err := f.newGeneration(t.Context(), f.config(), 0, 1, nil, f.all())
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range next.params.Ports.List() {
		if port <= hi {
			t.Errorf("port %d is within %d-%d", port, lo, hi)
		}
	}
}

func TestTidyKeepsLogsAndRecordings(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	cfg.Template = template(t, "vhost other { dash { enabled on; dash_path ./dash; } hls { hls_path /elsewhere; } }")
	f := newFleet(t, cfg)
	s := f.slots[0]
	if err := s.writeConfig(); err != nil {
		t.Fatal(err)
	}
	keep := []string{"srs.log", "srs.log.1", "recordings/a.flv", "recordings/by-exec.ts", "objs/nginx/html/live/b.mp4", "objs/nginx/html/player.html"}
	gone := []string{"srs.pid", "objs/nginx/html/live/a.m3u8", "objs/nginx/html/live/a-1.ts", "objs/nginx/html/live/b/init.mp4", "objs/nginx/html/live/b/b-2.m4s", "dash/x.mpd", "dash/x/1.m4s"}
	for _, name := range append(slices.Clone(keep), gone...) {
		path := filepath.Join(s.params.WorkDir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.tidy()
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(s.params.WorkDir, name))
		return err == nil
	}
	for _, name := range keep {
		if !there(name) {
			t.Errorf("%s is gone", name)
		}
	}
	for _, name := range append(gone, "srs.conf", "dash", "objs/nginx/html/live/b") {
		if there(name) {
			t.Errorf("%s is left", name)
		}
	}
}

func TestSecretsOfLastWords(t *testing.T) {
	for line, want := range map[string]string{
		`connect tcUrl=rtmp://h/live?token=abc, stream=x`: `connect tcUrl=rtmp://h/live?..., stream=x`,
		`pull rtmp://user:pw@10.0.0.1/live failed`:        `pull rtmp://...@10.0.0.1/live failed`,
		`why? nobody knows`:                               `why? nobody knows`,
		`GET /live/a.flv?vhost=v&secret=s HTTP/1.1`:       `GET /live/a.flv?... HTTP/1.1`,
	} {
		if got := withoutSecrets(line); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
