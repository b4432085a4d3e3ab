package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A small comparison, from the bringing up to the files, on the built-in origin and,
// with SRS_BINARY, on SRS.
func TestCompare(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "srs-proxy")
	if out, err := exec.Command("go", "build", "-o", binary, "srs-proxy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	origins := map[string]string{"built-in": ""}
	if srs := os.Getenv("SRS_BINARY"); srs != "" {
		origins["SRS"] = srs
	} else {
		t.Log("SRS_BINARY is not set: without SRS")
	}
	for name, srs := range origins {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			out := filepath.Join(dir, name)
			// A machine that does something else may let an origin look dead: that is no
			// comparison, and a reason to try again.
			var stdout, stderr bytes.Buffer
			var res results
			for range 3 {
				stdout.Reset()
				res = results{}
				if err := run(t.Context(), []string{"-binary", binary, "-srs", srs, "-cases", "rtmp,webrtc", "-peers", "direct,srs-proxy", "-rounds", "1", "-seconds", "1s",
					"-scale", "0.1", "-out", out}, &stdout, &stderr); err != nil {
					t.Fatalf("%v\n%s", err, &stderr)
				}
				b, err := os.ReadFile(filepath.Join(out, "results.json"))
				if err == nil {
					err = json.Unmarshal(b, &res)
				}
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(res.Legs, func(l *leg) bool { return l.Disturbed || len(l.Errors) > 0 }) {
					break
				}
			}
			if len(res.Legs) != 4 || len(res.Medians) != 4 || !strings.Contains(res.Origin, map[bool]string{true: "SRS", false: "built-in"}[srs != ""]) {
				t.Errorf("%d legs, %d medians, origin %q", len(res.Legs), len(res.Medians), res.Origin)
			}
			for _, l := range res.Legs {
				if l.DeliveredFrames != l.ExpectedFrames || l.DeliveredFrames == 0 || len(l.Errors) > 0 || l.Damaged > 0 || l.OriginCPU <= 0 || l.LoadCPU <= 0 || l.MachineCPU < l.OriginCPU {
					t.Errorf("%+v\n%s", l, &stderr)
				}
				if ours := l.Peer == peerOurs; (l.ProxyCPU > 0) != ours || (l.RSS > 0) != ours || (l.Goroutines > 0) != ours || (l.Descriptors > 0) != ours {
					t.Errorf("what the proxy used: %+v", l)
				}
			}
			for _, want := range []string{"RTMP play", "WebRTC", "direct", "srs-proxy", "scaled to 0.1"} {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("the table lacks %q:\n%s", want, &stdout)
				}
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// An interrupt ends all that was started.
func TestInterrupt(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := start(tmp, "sleeper", nil, "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{dir: filepath.Join(tmp, "dir"), children: []*child{c}}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := c.until(ctx, "never", func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("until: %v", err)
	}
	s.close()
	select {
	case <-c.done:
	default:
		t.Error("the child lives")
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
	if err := c.until(t.Context(), "it ended", func() bool { return false }); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("a child that has ended: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range []string{"-cases x", "-peers x", "-rounds 0", "-seconds 1ms", "-scale 0", "-scale 2", "word", "-binary /no/such", "-nosuch"} {
		if err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	got, err := choose("case", "flv, rtmp", caseNames())
	if err != nil || strings.Join(got, ",") != "flv,rtmp" {
		t.Errorf("%v, %v", got, err)
	}
}

// three rounds of two peers, in which the second one lost something once.
func sample() *results {
	r := newResults(options{rounds: 3, scale: 1})
	for round := 1; round <= 3; round++ {
		r.add(&leg{Case: "rtmp", Peer: peerDirect, Round: round, BothCost: 4, LatencyP50: 1, LatencyP99: 2, DeliveredBytes: 1e6})
		r.add(&leg{Case: "rtmp", Peer: peerHAProxy, Round: round, ProxyCost: 2, BothCost: 6, DeliveredBytes: 1e6})
		l := &leg{Case: "rtmp", Peer: peerOurs, Round: round, ProxyCost: float64(round), BothCost: 5, LatencyP50: 1.5, LatencyP99: 9, DeliveredBytes: 1e6, Threads: 10 * round}
		if round == 2 {
			l.LostFrames = 7
			l.fail("a <b> & c")
		}
		r.add(l)
	}
	r.summarize()
	return r
}

func TestMediansAndRatios(t *testing.T) {
	r := sample()
	m := r.median("rtmp", peerOurs)
	if m == nil || m.ProxyCost != 2 || m.Threads != 20 || m.LostFrames != 7 || m.AddedP50 != .5 || m.AddedP99 != 7 || m.DeliveredBytes != 3e6 || sum(m.Errors) != 1 {
		t.Errorf("%+v", m)
	}
	c := cases()[0]
	if got := []string{r.ratio(c, m, peerHAProxy), r.ratio(c, m, peerNginx), r.ratio(c, m, peerDirect), r.ratio(c, r.median("rtmp", peerDirect), peerHAProxy)}; strings.Join(got, " ") != "1.00 - 1.25 -" {
		t.Errorf("ratios %v", got)
	}
	if median([]float64{4, 1, 3, 2}) != 2.5 {
		t.Error("the median of four")
	}
	for _, as := range []style{textStyle, markdownStyle} {
		text := r.table(as)
		if !strings.Contains(text, "srs-proxy: 1 x a <b> & c") || strings.Count(text, "direct") < 2 {
			t.Errorf("%s", text)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	dec := xml.NewDecoder(strings.NewReader(sample().plot()))
	bars := 0
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 1+2*3 {
		t.Errorf("%d rectangles", bars)
	}
}

func TestCases(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.name] || c.title == "" || c.unit == "" || c.streams < 1 || !c.has(peerOurs) {
			t.Errorf("%+v", c)
		}
		seen[c.name] = true
		small := c.scaled(.01)
		if small.streams < 1 || small.players > c.players || c.players > 0 && small.players < 1 {
			t.Errorf("scaled %+v", small)
		}
		if on := strings.Contains(c.vhost(), "min_latency     on"); on != (c.merge == 0) {
			t.Errorf("%s: min_latency %v with mw_latency %d", c.name, on, c.merge)
		}
	}
}

// Sessions that descriptors do not allow are not tried, and that is said.
func TestAffordable(t *testing.T) {
	c, note := benchCase{name: "few", kind: holding, players: 1}.affordable()
	if c.players != 1 || note != "" {
		t.Errorf("%d, %q", c.players, note)
	}
	c, note = benchCase{name: "many", kind: churning, players: 1e9, rate: 10}.affordable()
	if c.players != max(1, holdable()*9/10-15) || !strings.Contains(note, "instead of 1000000000") {
		t.Errorf("%d, %q", c.players, note)
	}
	if c, note = (benchCase{kind: playing, players: 1e9}).affordable(); c.players != 1e9 || note != "" {
		t.Errorf("%d, %q", c.players, note)
	}
}

// A segment is counted each time that its file has been read, and nothing else is.
func TestFetches(t *testing.T) {
	dir := t.TempDir()
	if f, err := watchFetches(dir); f != nil || err != nil {
		t.Fatalf("%v, %v", f, err)
	}
	write := func(name string) {
		t.Helper()
		made := filepath.Join(dir, name+".tmp") // as SRS does
		if err := errors.Join(os.WriteFile(made, []byte("x"), 0o600), os.Rename(made, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	write("a-1.ts")
	f, err := watchFetches(dir)
	if err != nil {
		t.Fatal(err)
	}
	write("a-2.ts")
	write("a.m3u8")
	for _, name := range []string{"a-1.ts", "a-2.ts", "a-2.ts", "a.m3u8"} {
		if _, err := os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.end(); got != 1.5 {
		t.Errorf("%v fetches a segment", got)
	}
}

func TestHeapValue(t *testing.T) {
	profile := []byte("heap profile: 1: 2 [3: 4] @ heap/8\n# HeapAlloc = 123\n# Stack = 7 / 9\n")
	if a, s, none := heapValue(profile, "HeapAlloc"), heapValue(profile, "Stack"), heapValue(profile, "Heap"); a != 123 || s != 7 || none != 0 {
		t.Errorf("%d, %d, %d", a, s, none)
	}
}

// The documents get what lies between their marks, and keep the rest.
func TestPublish(t *testing.T) {
	root := t.TempDir()
	document := "before\n" + docBegin + "old\n" + docEnd + "after\n"
	readme, doc := filepath.Join(root, "README.md"), filepath.Join(root, "docs", "BENCH.md")
	if err := os.Mkdir(filepath.Dir(doc), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{readme, doc} {
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	srs, more, builtin := sample(), sample(), sample()
	srs.Origin, more.Origin, builtin.Origin = "SRS 7.0.18", "SRS 7.0.18", "built-in origin"
	for _, l := range more.Legs {
		l.Case, l.ProxyCost = "publish", 2*l.ProxyCost
	}
	var files []string
	for i, r := range []*results{builtin, srs, more} {
		if err := r.write(filepath.Join(root, fmt.Sprint(i)), io.Discard); err != nil {
			t.Fatal(err)
		}
		files = append(files, filepath.Join(root, fmt.Sprint(i), "results.json"))
	}
	for range 2 { // a second time, the marks are still there
		if err := run(t.Context(), append([]string{"-docs", root}, files...), io.Discard, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string) string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, want := range []string{
		"before\n", "after\n", "SRS 7.0.18", "built-in origin", "(bench-srs.svg)", "(bench-builtin.svg)",
		"| RTMP play, 10 streams x 10 players x 2 Mb/s, a write per frame | CPU s/GB | 2.00 | haproxy | 1.00 | yes | 2.00 | - | - | 4.00 |",
		"| RTMP publish, 100 streams x 2 Mb/s | CPU s/GB | 4.00 | haproxy | 1.00 | yes | 4.00 | - | - | 4.00 |",
		"| RTMP play, 10 streams x 10 players x 2 Mb/s, a write per frame | added p50, ms | 0.50 | 0.20 | 2.50 | **no** |",
	} {
		if text := read(doc); !strings.Contains(text, want) || strings.Contains(text, "old") {
			t.Errorf("docs/BENCH.md lacks %q:\n%s", want, text)
		}
	}
	if text := read(readme); !strings.Contains(text, "CPU s/GB") || strings.Contains(text, "added") || strings.Contains(text, "built-in") {
		t.Errorf("README.md:\n%s", text)
	}
	if text := read(filepath.Join(root, "docs", "bench-srs.svg")); !strings.Contains(text, "</svg>") {
		t.Error(text)
	}
	if err := publish(root, nil); !errors.Is(err, errDocs) {
		t.Errorf("without files: %v", err)
	}
	if err := os.WriteFile(readme, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := publish(root, files); !errors.Is(err, errDocs) {
		t.Errorf("without marks: %v", err)
	}
}

func TestFreePorts(t *testing.T) {
	a, err := freePorts()
	if err != nil || a < lowestPort || a%portStride != 0 {
		t.Fatal(a, err)
	}
	e := endpointsFrom(a)
	if p := portsOf(e); p.RTMP == "" || "127.0.0.1:"+p.SRT != e.SRT {
		t.Errorf("%+v", p)
	}
}
