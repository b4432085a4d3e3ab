package srsconf

import (
	"slices"
	"strings"
	"testing"
)

const hooked = `vhost hooked.example.com {
    http_hooks {
        enabled on;
        on_publish http://a.example/publish?token=x http://b.example/publish;
        on_hls_notify "http://a.example/[app]/[stream]";
    }
    forward {
        enabled on;
        destination 127.0.0.1:1936;
        backend http://a.example/forward;
    }
    hls { on_hls "not here"; }
}
vhost plain.example.com { hls; }
`

// relayed stands for a relay: it marks, and leaves alone what is marked.
func relayed(url string, variables bool) string {
	if strings.HasPrefix(url, "relay:") {
		return url
	}
	if variables {
		return "relay:v:" + url
	}
	return "relay:" + url
}

func TestHookURLs(t *testing.T) {
	root, err := Parse("c", []byte(hooked))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"http://a.example/publish?token=x", "http://b.example/publish", "http://a.example/[app]/[stream]", "http://a.example/forward"}
	if got := HookURLs(root); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := HookURLs(nil); got != nil {
		t.Errorf("of no config: %q", got)
	}
}

// Hooks of the overlay and of the template are called through the relay; all else is
// as without it.
func TestRenderRelaysHooks(t *testing.T) {
	text := builtinText(t)
	for _, tt := range []struct{ name, template, overlay string }{
		{"overlay", text, hooked},
		{"template", text + hooked, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := ParseTemplate("t", tt.template)
			if err != nil {
				t.Fatal(err)
			}
			p := params(3, Version{7, 0, 18})
			p.Overlay = tt.overlay
			plain, err := tmpl.Render(p)
			if err != nil {
				t.Fatal(err)
			}
			p.Hook = relayed
			got, err := tmpl.Render(p)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := tmpl.Render(p); err != nil || string(again) != string(got) {
				t.Errorf("another time it is another config: %v", err)
			}
			root, err := Parse("got", got)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"relay:http://a.example/publish?token=x", "relay:http://b.example/publish", "relay:v:http://a.example/[app]/[stream]", "relay:http://a.example/forward"}
			if urls := HookURLs(root); !slices.Equal(urls, want) {
				t.Errorf("hooks %q", urls)
			}
			back, err := Parse("plain", plain)
			if err != nil {
				t.Fatal(err)
			}
			if undone := strings.NewReplacer("relay:v:", "", "relay:", "").Replace(root.String()); undone != back.String() {
				t.Errorf("more than the hooks differs:\n%s\nwithout the relay:\n%s", undone, back)
			}
		})
	}
}

// A config without hooks is the same with a relay, comments and all.
func TestRenderWithoutHooks(t *testing.T) {
	p := params(0, Version{7, 0, 18})
	want, err := builtin(t).Render(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Hook = relayed
	if got, err := builtin(t).Render(p); err != nil || string(got) != string(want) {
		t.Errorf("%v\n%s", err, got)
	}
}
