package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"srs-proxy/runtime"
)

func TestCgroupNames(t *testing.T) {
	for _, tt := range []struct{ cgroup, stateDir, want string }{
		{"media", "/a", "media"},
		{"off", "/a", "off"},
		{cgroupAuto, "/var/lib/srs-proxy", "srs-proxy"},
		{cgroupAuto, "/a", "srs-proxy-6a50dc85"},
	} {
		got := cgroupNameFor(tt.cgroup, tt.stateDir)
		if got != tt.want {
			t.Errorf("%s of %s is %q, want %q", tt.cgroup, tt.stateDir, got, tt.want)
		}
		if err := (runtime.CgroupConfig{Name: got}).Validate(); err != nil {
			t.Error(err)
		}
	}
	if a, b := cgroupNameFor(cgroupAuto, "/a"), cgroupNameFor(cgroupAuto, "/b"); a == b {
		t.Errorf("two state dirs have one name, %s", a)
	}
}

func TestExplainCgroups(t *testing.T) {
	var s setup
	if err := s.explainCgroups(fmt.Errorf("x: %w; choose another name", runtime.ErrCgroupTaken)); !errors.Is(err, runtime.ErrCgroupTaken) || !strings.HasSuffix(err.Error(), "choose another name with --cgroup, here or there") {
		t.Error(err)
	}
	if other := errors.New("other"); s.explainCgroups(other) != other { //nolint:errorlint // the very same
		t.Error("an error that is about something else has changed")
	}
}

// The origins' score is above ours, whatever that is, unless it is given.
func TestOOMScoreOfOrigins(t *testing.T) {
	own, err := runtime.OOMScore()
	if err != nil {
		t.Skip("no OOM score here: ", err)
	}
	s := &setup{cfg: &resolved{}}
	if err := s.choosePriorities(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := min(own+originsOOMScore, 1000); s.oomScore == nil || *s.oomScore != want || *s.oomScore <= own && own < 1000 {
		t.Errorf("score %v, want %d", s.oomScore, want)
	}
	s.cfg.OOMScore = level{true, 700}
	if err := errors.Join(s.choosePriorities(t.Context()), s.tryOOMScore(t.Context())); err != nil || *s.oomScore != 700 {
		t.Errorf("score %d, %v", *s.oomScore, err)
	}
	// check goes on after a failure: what can be decided is.
	s = &setup{cfg: &resolved{Config: Config{Nice: level{true, 99}, OOMScore: level{true, 701}}}}
	if err := s.choosePriorities(t.Context()); err == nil || s.oomScore == nil || *s.oomScore != 701 {
		t.Errorf("with a nice value that cannot be had: %v, score %v", err, s.oomScore)
	}
	if err := s.tryOOMScore(t.Context()); err != nil {
		t.Error(err)
	}
	if now, err := runtime.OOMScore(); err != nil || now != own {
		t.Errorf("our own score was %d and is %d (%v)", own, now, err)
	}
}

// Only where a layout keeps origins on their nodes is their memory bound to them.
func TestMemsFollowTheLayout(t *testing.T) {
	two := runtime.Topology{CPUs: []runtime.CPU{{ID: 0, Node: 0}, {ID: 1, Node: 0}, {ID: 2, Node: 1}, {ID: 3, Node: 1}}}
	one := runtime.Topology{CPUs: two.CPUs[:2]}
	for _, tt := range []struct {
		name   string
		host   runtime.Topology
		layout runtime.Layout
		cpus   runtime.CPUSet
		want   string
	}{
		{"numa", two, runtime.NUMA, runtime.CPUSet{2, 3}, "1"},
		{"over both nodes", two, runtime.NUMA, runtime.CPUSet{1, 2}, "0-1"},
		{"spread", two, runtime.Spread, runtime.CPUSet{2}, ""},
		{"one node", one, runtime.NUMA, runtime.CPUSet{0, 1}, ""},
	} {
		s := &setup{cfg: &resolved{Config: Config{CPULayout: tt.layout}}, host: tt.host}
		if got := s.memsFor(tt.cpus).String(); got != tt.want {
			t.Errorf("%s: nodes %q, want %q", tt.name, got, tt.want)
		}
		if got := s.supervisorConfig().Mems(tt.cpus).String(); got != tt.want {
			t.Errorf("%s: the supervisor gets %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestOriginRanges(t *testing.T) {
	s := sampleSnapshot()
	named := func(indexes ...int) string {
		list := s.Origins[:0:0]
		for _, i := range indexes {
			o := s.Origins[0]
			o.Index, o.ID = i, fmt.Sprintf("origin-%d", i)
			list = append(list, o)
		}
		return originRanges(list)
	}
	for want, got := range map[string]string{
		"origin-3":                        named(3),
		"origin-0, origin-1":              named(1, 0),
		"origin-0 to origin-2, origin-10": named(0, 1, 2, 10),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	retiring := s.Origins[0]
	retiring.ID = "origin-0.1"
	if got := originRanges(append(s.Origins[:2:2], retiring)); got != "origin-0, origin-0.1, origin-1" {
		t.Errorf("%q", got)
	}
}
