package srsconf

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

type golden struct {
	name   string
	params Params
}

// goldens are configs over versions, slots, protocols and overlays.
func goldens(t testing.TB) []golden {
	overlay, err := LoadOverlay("testdata/overlay.conf")
	if err != nil {
		t.Fatal(err)
	}
	with := func(slot int, v Version, change func(*Params)) golden {
		p := params(slot, v)
		change(&p)
		return golden{v.String() + "-slot" + itoa(slot), p}
	}
	plain := func(*Params) {}
	all := func(p *Params) {
		p.RTC, p.RTCTCP, p.RTMPToRTC, p.SRT, p.Exporter, p.AsProcess = true, true, true, true, true, true
		p.Candidate = "203.0.113.7"
		p.MaxConnections = 5000
		p.HeartbeatURL = "http://127.0.0.1:12025/api/v1/srs/register"
	}
	media := func(p *Params) { p.RTC, p.RTMPToRTC, p.SRT = true, true, true }
	user := func(p *Params) { p.Overlay = overlay.For(p.Slot) }
	both := func(p *Params) { all(p); user(p) }
	list := []golden{
		with(0, Version{5, 0, 213}, plain),
		with(7, Version{5, 0, 213}, all),
		with(7, Version{6, 0, 157}, all),
		with(127, Version{6, 0, 157}, user),
		with(0, Version{7, 0, 18}, user),
		with(7, Version{7, 0, 18}, plain),
		with(127, Version{7, 0, 18}, both),
		with(127, Version{7, 0, 63}, media),
		with(0, Version{7, 0, 64}, plain),
		with(7, Version{7, 0, 64}, media),
		with(127, Version{7, 0, 64}, user),
		with(0, Version{7, 0, 70}, both),
		with(127, Version{7, 0, 70}, media),
	}
	odd := params(0, Version{7, 0, 18})
	odd.WorkDir, odd.Listen, odd.ID = "/srv/my streams;/{0}", "::1", "box 1 #0"
	list = append(list, golden{"7.0.18-odd-names", odd})
	for i := range list {
		if p := list[i].params; p.Overlay != "" {
			list[i].name += "-overlay"
		}
		if p := list[i].params; p.Exporter {
			list[i].name += "-all"
		} else if p.RTC {
			list[i].name += "-media"
		}
	}
	return list
}

func (g golden) file() string { return filepath.Join("testdata", "golden", g.name+".conf") }

func TestGolden(t *testing.T) {
	tmpl := builtin(t)
	var files []string
	for _, g := range goldens(t) {
		files = append(files, g.file())
		t.Run(g.name, func(t *testing.T) {
			got, err := tmpl.Render(g.params)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(g.file(), got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(g.file())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from what is rendered now (go test -update writes it):\n%s", g.file(), got)
			}
		})
	}
	there, err := filepath.Glob("testdata/golden/*")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	if !slices.Equal(there, slices.Compact(files)) {
		t.Errorf("testdata/golden has %v", there)
	}
}

// TestGoldenPassesRealSRS checks each golden that this SRS can read.
func TestGoldenPassesRealSRS(t *testing.T) {
	binary, v := srs(t)
	checked := 0
	for _, g := range goldens(t) {
		if !canRead(v, g.params) {
			continue
		}
		checked++
		if err := Check(t.Context(), []string{binary}, g.file()); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
	}
	if checked == 0 {
		t.Fatalf("SRS %s could read none of the goldens", v)
	}
	t.Logf("SRS %s takes %d goldens", v, checked)
}

// canRead reports whether a binary knows all the forms that another version's
// config uses.
func canRead(binary Version, p Params) bool {
	block, udpAddr := Version{7, 0, 64}, Version{7, 0, 67}
	if binary.Since(block) != p.Version.Since(block) {
		return false
	}
	if (p.RTC || p.SRT) && p.Version.Since(udpAddr) && !binary.Since(udpAddr) {
		return false
	}
	return p.HeartbeatURL == "" || binary.Since(Version{5, 0, 215}, Version{6, 0, 156}, Version{7, 0, 15})
}
