package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srs-proxy/srsconf"
	"srs-proxy/supervisor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with go test . -update)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs\n got:\n%s\nwant:\n%s", path, got, want)
	}
}

// sampleSnapshot has one origin of each kind that looks different.
func sampleSnapshot() supervisor.Snapshot {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := supervisor.Snapshot{
		Time: now, Software: "SRS 7.0.18", PID: 4242, Cgroups: "v2: memory v2, cpuset v2, kill v2, birth v2; no cpu: not among the controllers of /sys/fs/cgroup/x",
		Origins: []supervisor.OriginStatus{
			{
				ID: "origin-0", Index: 0, Desired: supervisor.Run, State: supervisor.Ready, PID: 4300, CPUs: "1",
				Ports: srsconf.Ports{RTMP: 20000, HTTP: 20001, API: 20002}, Since: now.Add(-26 * time.Hour),
				CPUPercent: 42.25, RSS: 31 << 20, Streams: 3, Publishers: 3, Players: 1200, InBps: 7.5e6, OutBps: 3.1e9, Version: "7.0.18",
			},
			{
				ID: "origin-1", Index: 1, Desired: supervisor.Run, State: supervisor.Starting, PID: 4301, CPUs: "2",
				Ports: srsconf.Ports{RTMP: 20010, HTTP: 20011, API: 20012}, Since: now.Add(-900 * time.Millisecond), RSS: 9 << 20,
				Reason: "waiting for the API", Version: "7.0.18",
			},
			{
				ID: "origin-2", Index: 2, Desired: supervisor.Run, State: supervisor.Backoff, CPUs: "3", Restarts: 17,
				Ports: srsconf.Ports{RTMP: 20020, HTTP: 20021, API: 20022}, LastExit: "exit code 1: bind: address in use",
			},
			{
				ID: "origin-10", Index: 10, Desired: supervisor.Stop, State: supervisor.Stopped, CPUs: "0-3",
				Ports: srsconf.Ports{RTMP: 20100, HTTP: 20101, API: 20102},
			},
		},
	}
	for i := range s.Origins {
		s.Origins[i].Limits = "v2: memory 512M; OOM score 200"
		s.Origins[i].NotInForce = []string{"CPU quota 0.5: not among the controllers of /sys/fs/cgroup/x"}
	}
	s.Origins[2].Limits, s.Origins[3].Limits, s.Origins[3].NotInForce = "", "", nil
	return s
}

func TestStatusTableGoldens(t *testing.T) {
	tests := []struct {
		golden       string
		wide, colors bool
	}{
		{"status.txt", false, false},
		{"status-wide.txt", true, false},
		{"status-color.txt", false, true},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			var out strings.Builder
			if err := writeStatus(&out, sampleSnapshot(), tt.wide, tt.colors); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.golden, out.String())
			if !tt.colors && strings.Contains(out.String(), "\x1b") {
				t.Error("escape codes without colors")
			}
			for line := range strings.Lines(out.String()) {
				if strings.HasSuffix(strings.TrimRight(line, "\n"), " ") {
					t.Errorf("line ends in a space: %q", line)
				}
			}
		})
	}
}

// Colors never move a column.
func TestColorsKeepColumns(t *testing.T) {
	var plain, colored strings.Builder
	if err := writeStatus(&plain, sampleSnapshot(), true, false); err != nil {
		t.Fatal(err)
	}
	if err := writeStatus(&colored, sampleSnapshot(), true, true); err != nil {
		t.Fatal(err)
	}
	if got := stripColors(colored.String()); got != plain.String() {
		t.Errorf("without its colors\n%s\nis not\n%s", got, plain.String())
	}
}

func stripColors(s string) string {
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return s
		}
		j := strings.IndexByte(s[i:], 'm')
		s = s[:i] + s[i+j+1:]
	}
}

func TestUnits(t *testing.T) {
	bytes := map[uint64]string{0: "0B", 999: "999B", 1023: "1.0K", 1536: "1.5K", 31 << 20: "31M", 10240: "10K", 3 << 30: "3.0G", 1 << 50: "1024T"}
	for n, want := range bytes {
		if got := formatBytes(n); got != want {
			t.Errorf("formatBytes(%d) = %s, want %s", n, got, want)
		}
	}
	bits := map[float64]string{0: "0", 0.4: "0", 999: "999", 1000: "1.0k", 9960: "10k", 812345: "812k", 999600: "1.0M", 2.5e6: "2.5M", 1.2e9: "1.2G"}
	for n, want := range bits {
		if got := formatBits(n); got != want {
			t.Errorf("formatBits(%v) = %s, want %s", n, got, want)
		}
	}
	times := map[time.Duration]string{0: "0s", 59 * time.Second: "59s", 190 * time.Second: "3m10s", 125 * time.Minute: "2h05m", 99 * time.Hour: "4d03h"}
	for d, want := range times {
		if got := formatUptime(d); got != want {
			t.Errorf("formatUptime(%s) = %s, want %s", d, got, want)
		}
	}
}

// What a child printed cannot drive the terminal.
func TestTableEscapesControls(t *testing.T) {
	s := sampleSnapshot()
	s.Origins[2].LastExit = "exit\x1b[2J\r\nfake line\u0085"
	for _, wide := range []bool{false, true} {
		var out strings.Builder
		if err := writeStatus(&out, s, wide, false); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\r\u0085") || strings.Contains(out.String(), "\nfake") {
			t.Errorf("control characters pass: %q", out.String())
		}
	}
}
