package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"srs-proxy/srsconf"
	"srs-proxy/supervisor"
)

// sampleReport is sampleSnapshot as a running instance tells it.
func sampleReport() report {
	s := sampleSnapshot()
	s.Self = supervisor.SelfUsage{CPUs: "0", CPUPercent: 12.5, RSS: 60 << 20}
	return report{Snapshot: s, Totals: s.Totals(), Version: "1.2.3", Started: s.Time.Add(-26 * time.Hour)}
}

// largeReport is a machine with 128 CPUs, 16 of them the proxy's, and an origin
// on each other one; a few origins are in trouble.
func largeReport() report {
	const proxyCPUs, origins = 16, 112
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := supervisor.Snapshot{
		Time: now, Software: "SRS 7.0.18", PID: 4242,
		Self: supervisor.SelfUsage{CPUs: "0-15", CPUPercent: 480, RSS: 210 << 20},
	}
	for i := range origins {
		o := supervisor.OriginStatus{
			ID: fmt.Sprintf("origin-%d", i), Index: i, Desired: supervisor.Run, State: supervisor.Ready,
			PID: 5000 + 7*i%origins, CPUs: fmt.Sprint(proxyCPUs + i), Ports: srsconf.Ports{RTMP: 20000 + 10*i, HTTP: 20001 + 10*i, API: 20002 + 10*i},
			Since: now.Add(-time.Duration(1+i*i) * time.Minute), CPUPercent: float64(i * 37 % 101), RSS: uint64(30+i%9) << 20,
			Streams: i % 5, Publishers: i % 4, Players: i * 13 % 500, InBps: float64(i%5) * 2.5e6, OutBps: float64(i*13%500) * 2.5e6, Version: "7.0.18",
		}
		switch i {
		case 17:
			o = supervisor.OriginStatus{ID: o.ID, Index: i, Desired: supervisor.Run, State: supervisor.Backoff, CPUs: o.CPUs, Ports: o.Ports, Restarts: 12, LastExit: "signal killed (out of memory) after 3m2s"}
		case 40:
			o.State, o.Reason = supervisor.Degraded, "its API has not answered for 2.1 s; the process waits for the disk"
		case 41:
			o.State, o.Desired = supervisor.Draining, supervisor.Drain
		case 99:
			o.State, o.Reason, o.Restarts = supervisor.Starting, "waiting for the API", 3
		case 100, 101, 102:
			o.State, o.Reason, o.PID = supervisor.Fatal, "port 21000 is held by pid 77 (nginx)", 0
		}
		s.Origins = append(s.Origins, o)
	}
	return report{Snapshot: s, Totals: s.Totals(), Version: "1.2.3", Started: now.Add(-99 * time.Hour)}
}

// shows is a model that has received a report.
func shows(t *testing.T, r report, columns, rows int, sort string) *topModel {
	t.Helper()
	by, err := parseSorting(sort, false, false)
	if err != nil {
		t.Fatal(err)
	}
	m := &topModel{glyphs: newGlyphs(true), interval: time.Second, sort: by, columns: columns, rows: rows}
	m.received(r)
	return m
}

func TestTopGoldens(t *testing.T) {
	tests := []struct {
		golden        string
		report        func() report
		columns, rows int
		sort          string
		keys          []key
		colors        bool
		change        func(*topModel)
	}{
		{golden: "top-80x24.txt", report: sampleReport, columns: 80, rows: 24, sort: "cpu"},
		{golden: "top-color.txt", report: sampleReport, columns: 80, rows: 24, sort: "cpu", colors: true},
		{golden: "top-ascii.txt", report: largeReport, columns: 80, rows: 24, sort: "cpu", change: func(m *topModel) { m.glyphs = newGlyphs(false) }},
		{golden: "top-large-80x24.txt", report: largeReport, columns: 80, rows: 24, sort: "cpu"},
		{golden: "top-large-200x50.txt", report: largeReport, columns: 200, rows: 50, sort: "out"},
		{golden: "top-large-scrolled.txt", report: largeReport, columns: 100, rows: 30, sort: "id", keys: []key{keyPageDown, keyDown}},
		{golden: "top-large-end.txt", report: largeReport, columns: 100, rows: 30, sort: "id", keys: []key{keyEnd}},
		{golden: "top-troubled.txt", report: largeReport, columns: 120, rows: 30, sort: "state", keys: []key{"f"}},
		{golden: "top-wide.txt", report: largeReport, columns: 160, rows: 24, sort: "id", change: func(m *topModel) { m.wide = true }},
		{golden: "top-small.txt", report: sampleReport, columns: 40, rows: 9, sort: "play"},
		{golden: "top-help.txt", report: sampleReport, columns: 80, rows: 24, sort: "cpu", keys: []key{"?"}},
		{golden: "top-gone.txt", report: sampleReport, columns: 80, rows: 24, sort: "cpu", change: func(m *topModel) {
			m.failed(fmt.Errorf("%w: nobody answers on /run/control.sock", errNotRunning), m.report.Time)
		}},
		{golden: "watch-80x24.txt", report: sampleReport, columns: 80, rows: 24, sort: "id", change: func(m *topModel) { m.table = true }},
		{golden: "watch-wide.txt", report: sampleReport, columns: 160, rows: 12, sort: "id", change: func(m *topModel) { m.table, m.wide = true, true }},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			m := shows(t, tt.report(), tt.columns, tt.rows, tt.sort)
			if tt.change != nil {
				tt.change(m)
			}
			now := m.report.Time.Add(3 * time.Second)
			for _, k := range tt.keys {
				m.view(now)
				m.press(k)
			}
			got := strings.Join(rendered(m.view(now), m.columns, tt.colors), "\n") + "\n"
			golden(t, tt.golden, got)
			if strings.Contains(got, "\x1b") != tt.colors {
				t.Errorf("escape codes: %v, want %v", !tt.colors, tt.colors)
			}
		})
	}
}

func TestTopPlainGolden(t *testing.T) {
	for name, r := range map[string]report{"top-plain.txt": sampleReport(), "top-plain-large.txt": largeReport()} {
		m := shows(t, r, 0, 0, "cpu")
		m.glyphs = newGlyphs(false)
		var out strings.Builder
		if err := writeLines(&out, m.plain()); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
		for line := range strings.Lines(out.String()) {
			if strings.HasSuffix(strings.TrimRight(line, "\n"), " ") {
				t.Errorf("line ends in a space: %q", line)
			}
		}
	}
}

// Each size has a picture of exactly that size, of any report.
func TestTopFitsEverySize(t *testing.T) {
	empty := report{}
	one := sampleReport()
	one.Origins = one.Origins[:1]
	for name, r := range map[string]report{"none": empty, "one": one, "four": sampleReport(), "many": largeReport()} {
		for columns := 1; columns <= 230; columns += 11 {
			for _, rows := range []int{1, 2, 3, 5, 8, 9, 10, 11, 13, 24, 50} {
				for _, look := range []topModel{{}, {wide: true}, {table: true}, {help: true}, {trouble: errors.New("gone")}} {
					m := look
					m.glyphs, m.interval, m.columns, m.rows, m.report = newGlyphs(true), time.Second, columns, rows, r
					lines := rendered(m.view(r.Time), columns, false)
					if len(lines) != rows {
						t.Fatalf("%s at %dx%d: %d lines", name, columns, rows, len(lines))
					}
					for _, l := range lines {
						if n := utf8.RuneCountInString(l); n > columns {
							t.Fatalf("%s at %dx%d: a line of %d: %q", name, columns, rows, n, l)
						}
					}
				}
			}
		}
	}
}

// Colors change nothing but colors.
func TestTopColorsKeepColumns(t *testing.T) {
	m := shows(t, largeReport(), 120, 40, "cpu")
	lines := m.view(m.report.Time)
	plain := rendered(lines, 120, false)
	for i, l := range rendered(lines, 120, true) {
		if got := strings.TrimRight(stripColors(l), " "); got != plain[i] {
			t.Errorf("line %d without its colors\n%s\nis not\n%s", i, got, plain[i])
		}
	}
}

func TestTopSortsByEveryColumn(t *testing.T) {
	var out strings.Builder
	for _, wide := range []bool{false, true} {
		for i, c := range topColumns(wide) {
			for _, reverse := range []bool{false, true} {
				by, err := parseSorting(c.name, reverse, wide)
				if err != nil || by != (sorting{i, reverse}) {
					t.Fatalf("--sort %s: %v, %v", c.name, by, err)
				}
				s := sampleSnapshot()
				s.Origins[0].Version, s.Origins[1].LastExit = "7.0.9", "exit code 0"
				by.apply(s.Origins, topColumns(wide), s.Time)
				ids := make([]string, len(s.Origins))
				for j, o := range s.Origins {
					ids[j] = strings.TrimPrefix(o.ID, "origin-")
				}
				if wide == (i >= len(topColumns(false))) {
					fmt.Fprintf(&out, "%-9s reverse=%-5v %s\n", c.name, reverse, strings.Join(ids, " "))
				}
			}
		}
	}
	golden(t, "top-sort.txt", out.String())
}

func TestParseSorting(t *testing.T) {
	for name, want := range map[string]string{"CPU": "%CPU", "cpu": "%CPU", "%cpu": "%CPU", "cpus": "CPU", "Restarts": "RESTARTS", "out": "OUT"} {
		s, err := parseSorting(name, false, false)
		if err != nil || topColumns(false)[s.column].title != want {
			t.Errorf("--sort %s is %+v (%v), want %s", name, s, err, want)
		}
	}
	for _, name := range []string{"", "colour", "rtmp", "0"} {
		if _, err := parseSorting(name, false, false); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "restarts") {
			t.Errorf("--sort %q: %v", name, err)
		}
	}
}

func TestTopKeys(t *testing.T) {
	type state struct {
		offset  int
		column  string
		reverse bool
		filter  filter
		help    bool
	}
	tests := []struct {
		keys string // as a terminal sends them
		want state
		act  action // of the last key
	}{
		{"j", state{offset: 1, column: "cpu"}, actNone},
		{"jjk", state{offset: 1, column: "cpu"}, actNone},
		{"k", state{column: "cpu"}, actNone},
		{"\x1b[6~", state{offset: 13, column: "cpu"}, actNone},
		{"\x1b[6~\x1b[6~\x1b[5~", state{offset: 13, column: "cpu"}, actNone},
		{"\x1b[F", state{offset: 99, column: "cpu"}, actNone},
		{"Gj", state{offset: 99, column: "cpu"}, actNone},
		{"Gk", state{offset: 98, column: "cpu"}, actNone},
		{"\x1b[Fg", state{column: "cpu"}, actNone},
		{"\x1b[C", state{column: "mem"}, actNone},
		{"<", state{column: "cpus"}, actNone},
		{"<<<<", state{column: "id"}, actNone},
		{"<<<<<", state{column: "out"}, actNone},
		{"<<<<<\t", state{column: "id"}, actNone},
		{"r", state{column: "cpu", reverse: true}, actNone},
		{"rr", state{column: "cpu"}, actNone},
		{"r>", state{column: "mem"}, actNone},
		{"jjf", state{column: "cpu", filter: showTroubled}, actNone},
		{"fj", state{column: "cpu", filter: showTroubled}, actNone}, // all of them are seen
		{"fff", state{column: "cpu"}, actNone},
		{"?", state{column: "cpu", help: true}, actNone},
		{"?j", state{column: "cpu"}, actNone},
		{"?q", state{column: "cpu", help: true}, actQuit},
		{"xyz", state{column: "cpu"}, actNone},
		{" ", state{column: "cpu"}, actRefresh},
		{"\x0c", state{column: "cpu"}, actRepaint},
		{"\x1a", state{column: "cpu"}, actSuspend},
		{"q", state{column: "cpu"}, actQuit},
		{"\x03", state{column: "cpu"}, actQuit},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%q", tt.keys), func(t *testing.T) {
			m := shows(t, largeReport(), 80, 24, "cpu")
			var d keyDecoder
			var act action
			m.view(m.report.Time)
			for _, k := range d.feed([]byte(tt.keys)) {
				act = m.press(k)
				m.view(m.report.Time)
			}
			got := state{m.offset, topColumns(false)[m.sort.column].name, m.sort.reverse, m.filter, m.help}
			if got != tt.want || act != tt.act {
				t.Errorf("got %+v, %d, want %+v, %d", got, act, tt.want, tt.act)
			}
		})
	}
}

// Fewer origins or more room never leave the table scrolled into nothing.
func TestTopScrollFollowsTheReport(t *testing.T) {
	m := shows(t, largeReport(), 80, 24, "id")
	m.view(m.report.Time)
	m.press(keyEnd)
	small := largeReport()
	small.Origins = small.Origins[:20]
	m.received(small)
	lines := rendered(m.view(small.Time), 80, false)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "origin-19 ") }) {
		t.Errorf("the last origin is not seen:\n%s", strings.Join(lines, "\n"))
	}
	m.rows = 60
	m.view(small.Time)
	if m.offset != 0 {
		t.Errorf("offset %d where all fit", m.offset)
	}
}

func TestCores(t *testing.T) {
	r := report{Snapshot: supervisor.Snapshot{
		Self: supervisor.SelfUsage{CPUs: "0-1", CPUPercent: 50},
		Origins: []supervisor.OriginStatus{
			{CPUs: "1", CPUPercent: 30}, {CPUs: "2", CPUPercent: 10}, {CPUs: "2", CPUPercent: 15},
			{CPUs: "2-3", CPUPercent: 8}, {CPUs: "", CPUPercent: 4}, {CPUs: "rubbish", CPUPercent: 99},
		},
	}}
	want := []coreLoad{{0, 2, 25}, {1, 32, 25}, {2, 29, 0}, {3, 4, 0}}
	if got := coresOf(r); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := coresOf(report{}); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestBars(t *testing.T) {
	tests := []struct {
		origins, proxy float64
		want           string
	}{
		{0, 0, "[                0%]"},
		{0.4, 0, "[                0%]"},
		{1, 0, "[|               1%]"},
		{0, 1, "[#               1%]"},
		{50, 0, "[|||||||||      50%]"},
		{25, 25, "[|||||####      50%]"},
		{99, 0, "[|||||||||||||||99%]"},
		{60, 40, "[|||||||||||###100%]"},
		{140, 30, "[||||||||||||||170%]"},
	}
	for _, tt := range tests {
		var l line
		l.bar(coreLoad{0, tt.origins, tt.proxy}, 20, newGlyphs(false))
		if got := l.render(0, false); got != tt.want {
			t.Errorf("%v and %v: got %s, want %s", tt.origins, tt.proxy, got, tt.want)
		}
	}
}

// All cores are seen, as bars or as strips, where there is any room.
func TestCoreLinesShowEveryCore(t *testing.T) {
	for n := 1; n <= 256; n += 5 {
		cores := make([]coreLoad, n)
		for i := range cores {
			cores[i] = coreLoad{cpu: i, origins: 100}
		}
		for _, size := range [][2]int{{80, 5}, {100, 7}, {200, 14}} {
			lines := coreLines(cores, size[0], size[1], newGlyphs(true))
			text := strings.Join(rendered(lines, 0, false), "\n")
			bars, strips := strings.Count(text, "100%]"), strings.Count(text, "█")
			if bars != n && strips != n || len(lines) > size[1] {
				t.Errorf("%d cores at %v: %d bars, %d in strips, %d lines", n, size, bars, strips, len(lines))
			}
		}
	}
}

func TestSpeaksUTF8(t *testing.T) {
	tests := []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "en_US.UTF-8"}, true},
		{map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "C"}, false},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "UTF-8"}, true},
		{map[string]string{"LANG": "C.UTF-8", "LC_ALL": ""}, true},
	}
	for _, tt := range tests {
		env := func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }
		if got := speaksUTF8(env); got != tt.want {
			t.Errorf("%v: %v", tt.env, got)
		}
	}
}

// What a child printed cannot drive the terminal, here neither.
func TestTopEscapesControls(t *testing.T) {
	r := sampleReport()
	r.Origins[1].Reason, r.Origins[2].LastExit, r.Version = "a\x1b[2Jb", "exit\x1b]0;title\a\r\n", "1\x1b[31m"
	for _, columns := range []int{80, 200} {
		for _, wide := range []bool{false, true} {
			m := shows(t, r, columns, 30, "id")
			m.wide = wide
			if text := strings.Join(rendered(m.view(r.Time), columns, false), "\n"); strings.ContainsAny(text, "\x1b\a\r") {
				t.Errorf("control characters pass: %q", text)
			}
		}
	}
}

func TestParseInterval(t *testing.T) {
	for v, want := range map[string]time.Duration{"1": time.Second, "0.5": 500 * time.Millisecond, "250ms": 250 * time.Millisecond, "2m": 2 * time.Minute, "3600": time.Hour} {
		if got, err := parseInterval(v); err != nil || got != want {
			t.Errorf("%s: %s, %v", v, got, err)
		}
	}
	for _, v := range []string{"", "0", "-1", "99ms", "x", "1e9", "NaN", "Inf", "2h", "1s2"} {
		if got, err := parseInterval(v); err == nil {
			t.Errorf("%q is taken for %s", v, got)
		}
	}
}
