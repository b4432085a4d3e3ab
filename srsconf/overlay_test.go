package srsconf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes files of a fresh folder, by name, and returns the folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOverlayFor(t *testing.T) {
	o, err := LoadOverlay("testdata/overlay.conf")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := o.Vhosts(), []string{"live.example.com", DefaultVhost}; !slices.Equal(got, want) {
		t.Errorf("vhosts %v", got)
	}
	for _, slot := range []int{0, 1, 127} {
		d, err := Parse("overlay", []byte(o.For(slot)))
		if err != nil {
			t.Fatal(err)
		}
		wantOnce := 0
		if slot == 0 {
			wantOnce = 1
		}
		if got := len(d.All("stream_caster")); got != wantOnce {
			t.Errorf("slot %d has %d stream_casters", slot, got)
		}
		for _, vhost := range []string{DefaultVhost, "live.example.com"} {
			if got := len(d.Vhost(vhost).All("ingest")); got != wantOnce {
				t.Errorf("slot %d has %d ingests in %s", slot, got, vhost)
			}
		}
		if got := d.Vhost(DefaultVhost).Value("http_hooks", "on_publish"); got != "http://127.0.0.1:8085/publish?a=1;b=2" {
			t.Errorf("slot %d: on_publish %q", slot, got)
		}
		if d.Vhost("live.example.com").Get("transcode") == nil || d.Vhost("closed.example.com") == nil || d.Get("circuit_breaker") == nil {
			t.Errorf("slot %d lacks something:\n%s", slot, o.For(slot))
		}
	}
	// The copies for other slots must not have changed what slot 0 gets.
	if !strings.Contains(o.For(0), "ingest camera") {
		t.Error("slot 0 lost its ingest")
	}
}

func TestOverlayEmpty(t *testing.T) {
	for name, o := range map[string]*Overlay{"nil": nil, "zero": {}} {
		if o.For(0) != "" || o.For(3) != "" || o.Vhosts() != nil {
			t.Errorf("%s: %q", name, o.For(0))
		}
	}
	o, err := LoadOverlay("")
	if err != nil || o.For(0) != "" {
		t.Error(o, err)
	}
	o, err = LoadOverlay(filepath.Join(write(t, map[string]string{"o.conf": "# nothing yet\n"}), "o.conf"))
	if err != nil || o.For(0) != "" {
		t.Error(o, err)
	}
}

func TestOverlayErrors(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"missing", nil, []string{"o.conf", "no such file"}},
		{"syntax", map[string]string{"o.conf": "vhost a {\n hls { enabled on\n }\n}"}, []string{"o.conf:2: ", "unexpected end of line"}},
		{"listener", map[string]string{"o.conf": "\nrtsp_server { enabled on; listen 554; }"}, []string{"o.conf:2: rtsp_server cannot be in an overlay", "stream_caster", "template"}},
		{"the template's", map[string]string{"o.conf": "max_connections 10;"}, []string{"o.conf:1: max_connections cannot"}},
		{"twice", map[string]string{"o.conf": "vhost a { }\nvhost a { }"}, []string{"o.conf:2: the vhost a is given a second time", "o.conf:1"}},
		{"twice by include", map[string]string{"o.conf": "vhost a { }\ninclude sub/b.conf;", "sub/b.conf": "\nvhost a { }"}, []string{"sub/b.conf:2: the vhost a", "o.conf:1"}},
		{"nameless", map[string]string{"o.conf": "vhost { }"}, []string{"o.conf:1: a vhost has no name"}},
		{"include of nothing", map[string]string{"o.conf": "include ;"}, []string{"o.conf:1: include takes file names"}},
		{"include block", map[string]string{"o.conf": "include a { b; }"}, []string{"o.conf:1: include takes file names"}},
		{"include of a missing file", map[string]string{"o.conf": "\n\ninclude b.conf;"}, []string{"o.conf:3: include: ", "b.conf: no such file"}},
		{"error in an include", map[string]string{"o.conf": "include b.conf;", "b.conf": "a\nb;"}, []string{"o.conf:1: include: ", "b.conf:1: "}},
		{"include of itself", map[string]string{"o.conf": "include o.conf;"}, []string{"include each other more than 8 deep"}},
		{"many includes", map[string]string{"o.conf": strings.Repeat("include b.conf;\n", 300), "b.conf": "\n"}, []string{"more than 256 files"}},
		{"include bomb", map[string]string{"o.conf": strings.Repeat("include b.conf;\n", 9), "b.conf": strings.Repeat("#", maxSize/8)}, []string{"o.conf:8: include: ", "has more than"}},
		{"too large", map[string]string{"o.conf": strings.Repeat("#", maxSize+1)}, []string{"o.conf has more than"}},
		{"folder", map[string]string{"o.conf/x": ""}, []string{"o.conf", "is a directory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadOverlay(filepath.Join(write(t, tt.files), "o.conf"))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range append(tt.want, "vhost overlay: ") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
		})
	}
}

func TestParseFileIncludes(t *testing.T) {
	dir := write(t, map[string]string{
		"main.conf":  "a 1;\nvhost v {\n include sub/v.conf;\n z;\n}\ninclude empty.conf sub/b.conf;\nc 3;",
		"sub/v.conf": "hls { enabled on; }",
		"sub/b.conf": "b 2;\ninclude more.conf;", // beside itself, not beside main.conf
		"empty.conf": "",
	})
	more := filepath.Join(dir, "sub", "more.conf")
	if err := os.WriteFile(more, []byte("m;"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := ParseFile(filepath.Join(dir, "main.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree(d), "[a|1] [vhost|v [hls [enabled|on]] [z]] [b|2] [m] [c|3]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := d.Get("m").Pos(); got != more+":1" {
		t.Errorf("m is at %s", got)
	}
}
