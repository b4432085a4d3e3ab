package main

import (
	"slices"
	"strings"
	"testing"

	"srs-proxy/proxy/srt"
	"srs-proxy/srsconf"
)

// What the proxy routes by is what the origins' config says, with the user's template
// and overlay.
func TestServed(t *testing.T) {
	template := writeTemp(t, "t.conf", strings.Replace(defaultTemplate, "connect_timeout 4000;",
		`connect_timeout 4000; default_app studio; default_streamid "#!::r=studio/main,m=publish";`, 1))
	overlay := writeTemp(t, "vhosts.conf", "vhost v.example.com { srt { enabled on; } }\n")
	for name, tt := range map[string]struct {
		flags map[string]string
		want  served
	}{
		"as it is": {nil, served{vhosts: []string{srsconf.DefaultVhost}}},
		"user's": {map[string]string{"template": template, "vhosts": overlay}, served{
			vhosts:    []string{srsconf.DefaultVhost, "v.example.com"},
			streamIDs: srt.StreamIDs{Default: "#!::r=studio/main,m=publish", DefaultApp: "studio"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := hookSetup(t, tt.flags, false).served()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.vhosts, tt.want.vhosts) || got.streamIDs != tt.want.streamIDs {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
