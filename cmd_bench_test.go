package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// Load on a running instance, through its public ports: all arrives, and the figures
// are there for people and programs.
func TestBenchCommand(t *testing.T) {
	r := startUp(t, 1)
	rep, _ := r.status(t)
	urls := []string{"rtmp://" + rep.RTMP + "/live/bench", "http://" + rep.HTTP + "/live/bench.flv", "rtmp://" + rep.RTMP + "/live/bench"}
	args := append([]string{"bench"}, urls...)
	args = append(args, "--players", "2", "--duration", "2s", "--bitrate", "500k", "--ramp-up", "100")
	out, errs, code := run(t, command(t, t.TempDir(), args...))
	if code != exitOK || !strings.Contains(out, "1 of 1 publishers, 4 of 4 players") || !strings.Contains(out, "loss         0 of ") || !strings.Contains(out, "latency      p50 ") {
		t.Errorf("code %d\n%s%s", code, out, errs)
	}
	out, errs, code = run(t, command(t, t.TempDir(), append(args, "-o", "json")...))
	var got benchReport
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || got.Failed || got.Players != 4 || got.ExpectedFrames == 0 || got.OutBps < 1e6 {
		t.Errorf("code %d, %v: %+v\n%s", code, err, got, errs)
	}
}

func TestBenchCommandFails(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"bench", exitUsage, "no URL"},
		{"bench rtmp://127.0.0.1/live/a --bitrate fast", exitUsage, "800k"},
		{"bench rtmp://127.0.0.1/live/a --duration 2h", exitUsage, "duration"},
		{"bench ftp://127.0.0.1/live/a", exitUsage, "published to"},
		{"bench rtmp://127.0.0.1:1/live/a --duration 1s --players 1", exitFailure, "2 x"},
	} {
		out, errs, code := run(t, command(t, dir, strings.Fields(tt.args)...))
		if tt.want == "2 x" {
			tt.want = "connection refused"
		}
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%s: code %d\n%s%s", tt.args, code, out, errs)
		}
	}
}

func TestParseBits(t *testing.T) {
	for text, want := range map[string]int{"1M": 1e6, "800k": 800_000, "2.5M": 2_500_000, "64000": 64_000} {
		if got, err := parseBits(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "M", "-1M", "1G", "NaN", "1e300M"} {
		if _, err := parseBits(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
