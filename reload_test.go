package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"srs-proxy/srsconf"
	"srs-proxy/supervisor"
)

// Of every setting it is decided how far a reload can change it.
func TestEverySettingHasAReach(t *testing.T) {
	want := map[string]reach{
		"tls-cert": reachNever, "tls-key": reachNever, "rtmps": reachNever, "https": reachNever, "https-api": reachNever,
		"rtmp": reachNever, "http": reachNever, "api": reachNever, "srt": reachNever, "webrtc": reachNever, "state-dir": reachNever, "control": reachNever, "hook-relay": reachNever, "cgroup": reachNever,
		"origins": reachOrigins, "srs": reachOrigins, "template": reachOrigins, "vhosts": reachOrigins, "port-base": reachOrigins,
		"max-connections": reachOrigins, "origin-cpus": reachOrigins, "cpu-layout": reachOrigins, "nofile": reachOrigins,
		"die-with-parent": reachOrigins, "rtmp-to-rtc": reachOrigins, "cpu-quota": reachOrigins, "memory-max": reachOrigins, "nice": reachOrigins, "oom-score": reachOrigins,
		"drain-deadline": reachLive, "proxy-cpus": reachLive, "real-ip-prefix": reachLive, "max-connections-per-ip": reachLive, "max-udp-sessions-per-ip": reachLive, "max-handshaking": reachLive, "hls-cache": reachLive,
		"allow": reachLive, "candidate": reachLive, "deny": reachLive,
		"log-level": reachLive, "log-max-size": reachLive, "log-keep": reachLive,
		"dial-timeout": reachRestart, "relay": reachRestart, "lease-idle": reachRestart, "log-format": reachRestart, "ready-quorum": reachRestart, "pprof": reachRestart,
	}
	ofProxy := map[string]reach{
		"system-api": reachNever,
		"origin":     reachLive, "max-origins": reachLive, "register-token": reachLive, "register-allow": reachLive, "static-files": reachLive,
		"shutdown-delay": reachLive, "drain-timeout": reachLive, "quit-timeout": reachLive,
		"register-ttl": reachRestart, "go-pprof": reachRestart,
	}
	for _, s := range redisSettings() {
		ofProxy[s.name] = reachRestart
	}
	maps.Copy(want, ofProxy)
	for _, s := range everySetting("/x") {
		r, ok := want[s.name]
		if !ok {
			t.Errorf("setting %s: decide in reachOf what a reload does with it, and say so here", s.name)
		} else if got := reachOf(s.name); got != r {
			t.Errorf("setting %s has reach %d, want %d", s.name, got, r)
		}
	}
}

func TestChangedSettings(t *testing.T) {
	resolved := func(file string) *resolved {
		t.Helper()
		r, err := resolve(fakeSources(map[string]string{"config": writeTemp(t, "c.yaml", file)}, map[string]string{"HOME": "/home/u"}))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const base = "rtmp: 1935\norigins: 4\nlease-idle: 60s\n"
	old := resolved(base)
	tests := []struct {
		name, file string
		want       string
		refused    []string
	}{
		{"the same", base, "", nil},
		{"the same in other words", "# hello\nrtmp: \":1935\"\norigins: 4\nlease-idle: 1m\n", "", nil},
		{"another number", "rtmp: 1935\norigins: 5\n", "origins: 4 -> 5", nil},
		{"gone from the file", "rtmp: 1935\n", "origins: 4 -> auto", nil},
		{"of the proxy", base + "log-level: debug\n", "log-level: info -> debug", nil},
		{"too late", base + "dial-timeout: 3s\n", "dial-timeout: 1s -> 3s (takes effect when srs-proxy is restarted)", nil},
		{"an address", "origins: 5\nrtmp: 1936\n", "", []string{"c.yaml:2: rtmp: is 1935 and would become 1936", "cannot change while srs-proxy runs"}},
		{"two of them", "rtmp: 1936\nstate-dir: /elsewhere\n", "", []string{"c.yaml:1: rtmp", "c.yaml:2: state-dir", "would become /elsewhere", "control"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changes, err := changedSettings(old, resolved(tt.file))
			if len(tt.refused) > 0 {
				for _, w := range tt.refused {
					if err == nil || !strings.Contains(err.Error(), w) {
						t.Errorf("error %v lacks %q", err, w)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want == "" {
				want = "nothing has changed"
			}
			if got := strings.Join(reloadReport{Changes: changes}.lines(false), "|"); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// What waits for a restart is told of at each reload.
func TestKeepWhatIsInForce(t *testing.T) {
	read := func(flags map[string]string) *resolved {
		t.Helper()
		r, err := resolve(fakeSources(flags, map[string]string{"HOME": "/home/u"}))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	old := read(nil)
	flags := map[string]string{"dial-timeout": "3s", "log-level": "warn"}
	next := read(flags)
	changes, err := changedSettings(old, next)
	if err != nil || len(changes) != 2 {
		t.Fatalf("changes %+v, %v", changes, err)
	}
	next.keep(old, changes)
	again, err := changedSettings(next, read(flags))
	if err != nil || len(again) != 1 || again[0].What != "dial-timeout" || again[0].From != "1s" {
		t.Errorf("the second time %+v, %v", again, err)
	}
}

// A number of origins for which there are no ports is refused before anything is done.
func TestRoomFor(t *testing.T) {
	s := &setup{cfg: &resolved{}, ports: srsconf.PortPlan{Base: 30000}}
	for n, want := range map[int]string{1: "", 4: "", 0: "1 to 1024", 1025: "1 to 1024", 1024: "no ports for 1024 origins"} {
		if err := s.roomFor(n); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d origins: %v, want %q", n, err, want)
		}
	}
}

func TestReloadLines(t *testing.T) {
	r := reloadReport{
		Changes: []settingChange{{What: "vhosts", From: "", To: "/etc/v.conf"}, {What: "template /etc/t"}},
		Origins: supervisor.ReloadResult{Unchanged: []string{"origin-0"}, Restarted: []string{"origin-1", "origin-2"}, Added: []string{"origin-3"}, Removed: []string{"origin-4"}},
	}
	want := `vhosts: "" -> /etc/v.conf|template /etc/t: changed|would add origin-3|would restart origin-1, origin-2|would remove origin-4|1 origin untouched`
	if got := strings.Join(r.lines(true), "|"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProgramIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "srs")
	install := func(text string) string {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return programIdentity(path)
	}
	first := install("one")
	if first == "" || programIdentity(path) != first {
		t.Errorf("identity %q, then %q", first, programIdentity(path))
	}
	if again := install("one"); again == first {
		t.Error("a file that was replaced has the same identity")
	}
	if got := programIdentity(path + ".none"); got != "" {
		t.Errorf("no file, but %q", got)
	}
}
