package srsconf

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// shape is a tree without the places it was read from.
func shape(d *Directive) *Directive {
	c := &Directive{Name: d.Name, Args: append([]string{}, d.Args...)}
	for _, child := range d.Children {
		c.Children = append(c.Children, shape(child))
	}
	return c
}

// FuzzParse: no panic, every error has its place, and what was parsed is
// written back to text with the same meaning.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/golden/*.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(seeds, "testdata/overlay.conf") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, s := range []string{"", ";", "a \"b c\" 'd';", "a{b{c{d;}}}", "a\r;", `"";`, "a # b\n;", "a \x00;", "a}b;", `a b"c;`, "include a;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse("f.conf", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.conf:") {
				t.Errorf("no place in %q", err)
			}
			return
		}
		written := d.String()
		again, err := Parse("again", []byte(written))
		if err != nil {
			t.Fatalf("%q was written as %q: %v", text, written, err)
		}
		if !reflect.DeepEqual(shape(d), shape(again)) {
			t.Fatalf("%q was written as %q", text, written)
		}
		if twice := again.String(); twice != written {
			t.Errorf("written %q, then %q", written, twice)
		}
		// What reads a parsed config must take any.
		_, _ = Listeners(d)
		Dirs(d)
		Vhosts(d)
		_ = onlyOnce(d)
		o := Overlay{root: d}
		if got, err := Parse("slot 1", []byte(o.For(1))); err != nil || len(got.All("stream_caster")) > 0 {
			t.Errorf("slot 1 of %q: %q, %v", text, o.For(1), err)
		}
	})
}

// FuzzRender: whatever the params are, the built-in template either fails or
// gives a config that says exactly them. No value can add a directive.
func FuzzRender(f *testing.F) {
	f.Add(0, 7, 18, "origin-0", "/w", "/w/srs.log", "/w/srs.pid", "127.0.0.1", "", "", "", uint8(0))
	f.Add(7, 7, 70, "a b", "/w w;{}", "/l#", "/p'", "::1", "203.0.113.1", "http://127.0.0.1/a?b=c;d", "vhost a { }", uint8(255))
	f.Add(127, 5, 213, "x;daemon on", "/w\n", "/\"", "/p", "0.0.0.0", "*", "http://a'\"", "vhost __defaultVhost__ { }", uint8(7))
	tmpl := builtin(f)
	reference, err := tmpl.Render(params(0, Version{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(1, 7, 64, "{{.ID}}", "/{{.WorkDir}}", "", "", "127.0.0.1", "{{", "}}", string(reference), uint8(1))
	f.Fuzz(func(t *testing.T, slot, major, revision int, id, work, log, pid, listen, candidate, url, overlay string, on uint8) {
		p := Params{
			Slot: slot, ID: id, Version: Version{Major: major, Revision: revision}, Ports: PortPlan{}.Ports(slot % 1000), Listen: listen,
			WorkDir: work, LogFile: log, PIDFile: pid, Candidate: candidate, HeartbeatURL: url, Overlay: overlay,
			RTC: on&1 != 0, SRT: on&2 != 0, Exporter: on&4 != 0, RTCTCP: on&8 != 0, RTMPToRTC: on&16 != 0, AsProcess: on&16 != 0,
		}
		out, err := tmpl.Render(p)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an empty error")
			}
			return
		}
		p, err = p.normal()
		if err != nil {
			t.Fatal("rendered what is not valid:", err)
		}
		root, err := Parse("rendered", out)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			"server_id": p.ID, "work_dir": filepath.Clean(p.WorkDir), "pid": p.PIDFile, "srs_log_file": p.LogFile,
			"daemon": "off", "asprocess": onoff(p.AsProcess), "heartbeat url": p.HeartbeatURL,
		} {
			if got := root.Value(strings.Fields(path)...); got != want {
				t.Errorf("%s is %q, not %q", path, got, want)
			}
		}
		if p.RTC && root.Value("rtc_server", "candidate") != p.Candidate {
			t.Errorf("candidate is %q", root.Value("rtc_server", "candidate"))
		}
		// The overlay is there as it was, at the end.
		user, err := Parse("overlay", []byte(p.Overlay))
		if err != nil {
			t.Fatal("rendered a broken overlay:", err)
		}
		at := len(root.Children) - len(user.Children)
		if at < 0 || !reflect.DeepEqual(shape(&Directive{Children: root.Children[at:]}), shape(user)) {
			t.Errorf("the overlay %q became part of\n%s", p.Overlay, out)
		}
	})
}

// FuzzTemplate: a custom template never panics, and never renders what verify
// would not take.
func FuzzTemplate(f *testing.F) {
	text, err := os.ReadFile("../srs.tmpl.conf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	for _, s := range []string{minimal, "", "{{", "{{end}}", "{{.Nothing}}", "{{word .}}", "{{.Path 1}}", `{{.Since "a"}}`, "{{with .Ports}}{{.RTMP}}{{end}}", `{{template "x"}}`, "{{.Addr -1}}", "{{.Addr 70000}}", "{{onoff 1}}"} {
		f.Add(s)
	}
	p := params(3, Version{7, 0, 18})
	f.Fuzz(func(t *testing.T, text string) {
		// A template can be told to work for ever or to fill the memory; whoever
		// writes it owns the machine.
		if strings.Contains(text, "range") || strings.Contains(text, "template") || strings.Contains(text, "block") || strings.Contains(text, "printf") {
			t.Skip()
		}
		tmpl, err := ParseTemplate("f.conf", text)
		if err == nil {
			var out []byte
			if out, err = tmpl.Render(p); err == nil {
				root, err := Parse("rendered", out)
				if err != nil || root.Value("daemon") != "off" {
					t.Errorf("rendered %q: %v", out, err)
				}
			}
		}
		if err != nil && !strings.Contains(err.Error(), "f.conf") {
			t.Errorf("%q does not name the template", err)
		}
	})
}
