package srsconf

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// minimal is the least that verify takes.
const minimal = `listen {{.Addr .Ports.RTMP}};
http_api { enabled on; listen {{.Addr .Ports.API}}; }
daemon off;
work_dir {{.Path}};
pid {{word .PIDFile}};
`

func render(t *testing.T, text string, p Params) (string, error) {
	t.Helper()
	tmpl, err := ParseTemplate("my.conf", text)
	if err != nil {
		return "", err
	}
	out, err := tmpl.Render(p)
	return string(out), err
}

func TestTemplateErrors(t *testing.T) {
	good := params(3, Version{7, 0, 18})
	tests := []struct {
		name, text string
		change     func(*Params)
		want       []string
	}{
		{"open action", "a;\n{{if .RTC}}\nb;\n", nil, []string{"my.conf:4: unexpected EOF"}},
		{"unknown function", "a;\nb {{nothing 1}};", nil, []string{`my.conf:2: function "nothing" not defined`}},
		{"unknown field", "a;\n\nb {{.Prots.RTMP}};", nil, []string{"my.conf:3: ", "Prots"}},
		{"unknown port", minimal + "b {{.Ports.RTMPS}};", nil, []string{"my.conf:6: ", "RTMPS"}},
		{"odd version", minimal + `{{if .Since "seven"}}{{end}}`, nil, []string{"my.conf:6: ", "no SRS version"}},
		{"unwritable word", minimal + "server_id {{word .ID}};", func(p *Params) { p.ID = "a\nb" }, []string{"my.conf:6: ", "control character"}},
		{"brace", minimal + "vhost a {\n", nil, []string{"my.conf: as rendered for slot 3, line 7", `"}" expected for vhost of line 6`}},
		{"semicolon", "a;\nb\n" + minimal, nil, []string{"line 2", `"b"`, "unexpected end of line"}},
		{"empty", "", nil, []string{"my.conf: ", "daemon"}},
		{"daemon", strings.Replace(minimal, "daemon off", "daemon on", 1), nil, []string{`line 3 "daemon on;"`, "daemon off"}},
		{"no daemon", strings.Replace(minimal, "daemon off;", "", 1), nil, []string{"daemon off"}},
		{"fixed port", strings.Replace(minimal, "{{.Addr .Ports.RTMP}}", "1935", 1), nil, []string{"{{.Ports.RTMP}}, here 20030"}},
		{"fixed port too", minimal + "http_server { enabled on; listen 8080; }", nil, []string{"line 6", "http_server listens on 8080", "{{.Ports...}}"}},
		{"default port", minimal + "\nexporter { enabled on; }", nil, []string{"exporter listens on 9972"}},
		{"other slot's port", minimal + "srt_server { enabled on; listen 20044; }", nil, []string{"srt_server listens on 20044"}},
		{"no API", strings.Replace(minimal, "enabled on", "enabled off", 1), nil, []string{"{{.Ports.API}}, here 20032"}},
		{"odd endpoint", minimal + "http_server { enabled on; listen localhost:20031; }", nil, []string{"line 6", "http_server", "localhost"}},
		{"work dir as it is", strings.Replace(minimal, "{{.Path}}", "./", 1), nil, []string{"work_dir must be"}},
		{"other work dir", strings.Replace(minimal, "{{.Path}}", "/srv", 1), nil, []string{"work_dir must be"}},
		{"other pid", strings.Replace(minimal, "{{word .PIDFile}}", "./objs/srs.pid", 1), nil, []string{"pid must be", "origin-3/srs.pid"}},
		{"relative pid", strings.Replace(minimal, "{{word .PIDFile}}", "./srs.pid", 1), nil, nil},
		{"twice", minimal + "max_connections 1;\nmax_connections 2;", nil, []string{"line 7", "max_connections is given a second time, after my.conf:6"}},
		{"vhost twice", minimal + "vhost a { }\nvhost b { }\nvhost a { }", nil, []string{"line 8", "vhost a is given a second time"}},
		{"nameless vhost", minimal + "vhost { }", nil, []string{"line 6", "no name"}},
		{"overlay is left out", minimal, func(p *Params) { p.Overlay = "vhost a { }" }, []string{"leaves out {{.Overlay}}, which has vhost a"}},
		{"overlay is broken", minimal + "{{.Overlay}}", func(p *Params) { p.Overlay = "vhost a { } }" }, []string{"overlay:1: ", `unexpected "}"`}},
		{"default vhost twice", minimal + "vhost __defaultVhost__ { }\n{{.Overlay}}", func(p *Params) { p.Overlay = "vhost __defaultVhost__ { }" }, []string{"given a second time"}},
		{"default vhost once", minimal + "{{if not .HasDefaultVhost}}vhost __defaultVhost__ { }{{end}}\n{{.Overlay}}", func(p *Params) { p.Overlay = "vhost __defaultVhost__ { }" }, nil},
		{"relative work dir", minimal, func(p *Params) { p.WorkDir = "work" }, []string{"slot 3", `"work" is not absolute`}},
		{"relative log", minimal, func(p *Params) { p.LogFile = "a.log" }, []string{"must be absolute"}},
		{"no ports", minimal, func(p *Params) { p.Ports = Ports{} }, []string{"port 0"}},
		{"port beyond", minimal, func(p *Params) { p.Ports.SRT = 65536 }, []string{"port 65536"}},
		{"listen name", minimal, func(p *Params) { p.Listen = "localhost" }, []string{"listen address", "localhost"}},
		{"negative", minimal, func(p *Params) { p.MaxConnections = -1 }, []string{"negative"}},
		{"no port", "a {{.Addr 65536}};", nil, []string{"my.conf:1: ", "port 65536"}},
		{"token in a broken line", minimal + "heartbeat { url {{.HeartbeatURL}}\n}", func(p *Params) { p.HeartbeatURL = "http://h/s3cret?t=s3cret" }, []string{"line 6", "http://..."}},
		{"token in a word", minimal + "heartbeat { url {{word .HeartbeatURL}}; }", func(p *Params) { p.HeartbeatURL = "http://s3cret@h/\n" }, []string{"http://..."}},
		{"token in the overlay", minimal, func(p *Params) { p.Overlay = "on_play http://h/s3cret\n" }, []string{"overlay:1: ", "http://..."}},
		{"recursion", `{{define "a"}}xxxxxxxxxxxxxxxx{{template "a"}}{{end}}{{template "a"}}`, nil, []string{"my.conf:1: "}},
		{"endless", `{{range 1000000000}}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{end}}`, nil, []string{"grows beyond"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := good
			if tt.change != nil {
				tt.change(&p)
			}
			_, err := render(t, tt.text, p)
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("error %v", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%q tells a secret", err)
			}
		})
	}
}

func TestTemplateDefaults(t *testing.T) {
	got, err := render(t, minimal+`
server_id {{word .ID}};
srs_log_file {{word .LogFile}};
max_connections {{.MaxConnections}};
rtc_server { candidate {{word .Candidate}}; }
asprocess {{onoff .AsProcess}};
`, params(3, Version{}))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse("x", []byte(got))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"listen":               "127.0.0.1:20030",
		"server_id":            "origin-3",
		"srs_log_file":         "/var/lib/srs-proxy/origin-3/srs.log",
		"pid":                  "/var/lib/srs-proxy/origin-3/srs.pid",
		"max_connections":      "1000",
		"asprocess":            "off",
		"rtc_server candidate": "127.0.0.1",
	} {
		if got := d.Value(strings.Fields(path)...); got != want {
			t.Errorf("%s is %q, not %q", path, got, want)
		}
	}
}

// TestSlotsShareNothing renders 128 slots and looks for what two of them have
// in common, whatever directive it is in.
func TestSlotsShareNothing(t *testing.T) {
	tmpl := builtin(t)
	overlay, err := LoadOverlay("testdata/overlay.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []Version{{5, 0, 213}, {7, 0, 18}, {7, 0, 70}} {
		for _, o := range []*Overlay{nil, overlay} {
			ports, values := map[string]int{}, map[string]int{}
			for slot := range 128 {
				p := params(slot, v)
				p.RTC, p.RTCTCP, p.SRT, p.Exporter = true, true, true, true
				p.HeartbeatURL = "http://127.0.0.1:12025/register"
				p.Overlay = o.For(slot)
				out, err := tmpl.Render(p)
				if err != nil {
					t.Fatal(err)
				}
				root, err := Parse("x", out)
				if err != nil {
					t.Fatal(err)
				}
				listeners, err := Listeners(root)
				if err != nil {
					t.Fatal(err)
				}
				if len(listeners) < 7 {
					t.Fatalf("slot %d listens on %v only", slot, listeners)
				}
				for _, l := range listeners {
					claim(t, ports, l.Network+" "+itoa(int(l.Addr.Port())), slot)
					if bare := (l.Network == "udp" || l.Directive == "rtc_server.tcp") && !v.Since(Version{7, 0, 67}); bare || l.Directive == "stream_caster" {
						continue // this SRS takes no address there
					}
					if !l.Addr.Addr().IsLoopback() {
						t.Errorf("SRS %s: %s listens on %s", v, l.Directive, l.Addr)
					}
				}
				for _, path := range [][]string{{"server_id"}, {"pid"}, {"work_dir"}, {"srs_log_file"}, {"ff_log_dir"}, {"http_server", "dir"}, {"heartbeat", "device_id"}} {
					value := root.Value(path...)
					if value == "" {
						t.Fatalf("slot %d has no %v", slot, path)
					}
					claim(t, values, strings.Join(path, ".")+" "+value, slot)
				}
				unsharedPaths(t, root, p.WorkDir)
			}
		}
	}
}

func claim(t *testing.T, owners map[string]int, what string, slot int) {
	t.Helper()
	if other, taken := owners[what]; taken && other != slot {
		t.Errorf("slots %d and %d share %s", other, slot, what)
	}
	owners[what] = slot
}

// unsharedPaths finds absolute paths outside of the work dir.
func unsharedPaths(t *testing.T, d *Directive, work string) {
	t.Helper()
	for _, a := range d.Args {
		if strings.HasPrefix(a, "/") && d.Name != "ffmpeg" && a != work && !strings.HasPrefix(a, work+"/") {
			t.Errorf("%s is %s, outside of %s", d.Name, a, work)
		}
	}
	for _, c := range d.Children {
		unsharedPaths(t, c, work)
	}
}

func TestRenderConcurrently(t *testing.T) {
	tmpl := builtin(t)
	want, err := tmpl.Render(params(5, Version{7, 0, 18}))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := tmpl.Render(params(5, Version{7, 0, 18}))
			if err != nil || !bytes.Equal(got, want) {
				t.Error("another rendering of the same params differs", err)
			}
		})
	}
	wg.Wait()
}

// TestTemplateNamesItsFields keeps the list of fields in the template's head
// complete: it is all the documentation a custom template has.
func TestTemplateNamesItsFields(t *testing.T) {
	text, err := os.ReadFile("../srs.tmpl.conf")
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(text), "*/")
	if !found {
		t.Fatal("no head")
	}
	for _, field := range []string{
		".Slot", ".ID", ".Version", ".Since", ".Ports.RTMP .HTTP .API .RTC .SRT .Exporter", ".Listen", ".Addr", ".WorkDir", ".Path",
		".LogFile", ".PIDFile", ".MaxConnections", ".Candidate", ".HeartbeatURL", ".AsProcess", ".RTC ", ".RTCTCP", ".RTMPToRTC", ".SRT", ".Exporter",
		".Overlay", ".HasDefaultVhost", "word X", "onoff X",
	} {
		if !strings.Contains(head, field) {
			t.Errorf("the head of the template does not explain %s", field)
		}
	}
	// What it promises of Params must exist.
	if _, err := render(t, minimal+`a {{.Slot}} {{.ID}} {{.Version}} {{.Since "5.0.215" "6.0.156" "7.0.15"}} {{.Ports.RTMP}} {{.Ports.HTTP}} {{.Ports.API}} {{.Ports.RTC}}
		{{- .Ports.SRT}} {{.Ports.Exporter}} {{.Listen}} {{.Addr 1}} {{.WorkDir}} {{.Path "a"}} {{.LogFile}} {{.PIDFile}} {{.MaxConnections}} {{.Candidate}} {{.HeartbeatURL}}
		{{- .AsProcess}} {{.RTC}} {{.RTCTCP}} {{.RTMPToRTC}} {{.SRT}} {{.Exporter}} {{.Overlay}} {{.HasDefaultVhost}} {{word "X"}} {{onoff true}};`, params(0, Version{7, 0, 18})); err != nil {
		t.Error(err)
	}
}

func ExampleTemplate_Render() {
	tmpl, err := ParseTemplate("tiny.conf", `listen {{.Addr .Ports.RTMP}};
http_api { enabled on; listen {{.Addr .Ports.API}}; }
daemon off;
work_dir {{.Path}};
pid {{word .PIDFile}};
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	conf, err := tmpl.Render(Params{Slot: 7, WorkDir: "/run/srs/7", Ports: PortPlan{}.Ports(7)})
	fmt.Print(string(conf), err)
	// Output:
	// listen 127.0.0.1:20070;
	// http_api { enabled on; listen 127.0.0.1:20072; }
	// daemon off;
	// work_dir /run/srs/7;
	// pid /run/srs/7/srs.pid;
	// <nil>
}
