package srt

import (
	"fmt"
	"net/netip"
	"testing"

	"srs-proxy/balancer"
	"srs-proxy/proxy/route"
	"srs-proxy/testkit"
)

// startSRS runs a real SRS and returns its SRT address.
func startSRS(t *testing.T, server string) netip.AddrPort {
	t.Helper()
	rtmp, port := testkit.FreePort(t), testkit.FreePort(t)
	testkit.SRS(t, fmt.Sprintf(`listen 127.0.0.1:%d; max_connections 100;
srt_server { enabled on; listen %d; %s }
vhost __defaultVhost__ { srt { enabled on; srt_to_rtmp on; } }
vhost v.example.com { srt { enabled on; srt_to_rtmp on; } }
`, rtmp, port, server))
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	listens(t, addr)
	return addr
}

// ffmpeg with and without a passphrase, at a real SRS.
func TestSRS(t *testing.T) {
	for _, passphrase := range []string{"", "0123456789abcdef"} {
		t.Run("passphrase "+passphrase, func(t *testing.T) {
			e := start(t, Config{}, route.Config{})
			var server string
			var options []string
			if passphrase != "" {
				server = "passphrase " + passphrase + "; pbkeylen 16;"
				options = []string{"passphrase=" + passphrase}
			}
			e.register("srs", startSRS(t, server))
			publishH264(t, url(e.addr(), "#!::r=live/x,m=publish", options...))
			if err := plays(t, url(e.addr(), "#!::r=live/x,m=request", options...), 25); err != nil {
				t.Errorf("play: %v", err)
			}
			if passphrase == "" {
				return
			}
			if err := plays(t, url(e.addr(), "#!::r=live/x,m=request", "passphrase=wrong-wrong-wrong"), 1); err == nil {
				t.Error("a play with a wrong passphrase")
			}
			if n := e.server.Stats().Refused[10]; n == 0 {
				t.Errorf("no refusal for a bad secret: %v", e.server.Stats().Refused)
			}
		})
	}
}

// What SRS makes of a stream id is what the proxy makes of it: who publishes by one
// form is played by all others that mean the same stream.
func TestSRSReadsStreamIDs(t *testing.T) {
	e := start(t, Config{}, route.Config{Vhosts: []string{balancer.DefaultVhost, "v.example.com"}})
	e.register("a", startSRS(t, ""))
	e.register("b", startSRS(t, ""))
	publishH264(t, url(e.addr(), "#!::h=v.example.com,r=live/x,m=publish"))
	publishH264(t, url(e.addr(), "#!::h=elsewhere.example.com/live/y,m=publish"))
	publishH264(t, url(e.addr(), "#!::m=publish,author=no/no,r=a/b/z"))
	eventually(t, "three publishers", func() bool {
		n := 0
		origins, _ := e.bal.Origins(t.Context())
		for _, o := range origins {
			n += o.Publishers
		}
		return n == 3
	})
	for _, id := range []string{
		"#!::h=v.example.com/live/x,m=request",
		"#!::r=live/x,h=v.example.com",
		"live/y",
		"y",
		"#!::h=live/y",
		"a/b/z",
		"#!::r=live/y,m=request,user=publish",
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			if err := plays(t, url(e.addr(), id), 5); err != nil {
				t.Errorf("play: %v", err)
			}
		})
	}
}

// publishH264 has ffmpeg publish what SRS knows.
func publishH264(t *testing.T, to string) {
	t.Helper()
	run(t, "ffmpeg", "-hide_banner", "-loglevel", "warning", "-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "10", "-f", "mpegts", to)
}
