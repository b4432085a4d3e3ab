package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"
	"github.com/pion/webrtc/v4"

	"srs-proxy/protocol/rtmp"
)

// matrixVhosts declares ownVhost with every protocol.
const matrixVhosts = `
vhost media.example.org {
    play { gop_cache on; mw_latency 100; }
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    hls { enabled on; hls_path ./objs/nginx/html; hls_fragment 2; hls_window 30; }
    rtc { enabled on; rtmp_to_rtc on; rtc_to_rtmp on; }
    srt { enabled on; srt_to_rtmp on; }
}
`

// TestEveryProtocolToEveryOther publishes by RTMP, SRT and WHIP and plays each by
// RTMP, HTTP-FLV, HLS, SRT and WHEP (over UDP and TCP): on the default vhost and on one of its own, by
// its domain, by its domain with port 80, and by ?vhost=. Publisher and player never
// write the address the same way, so each pair shows that all protocols mean the same
// stream by it, and so the same origin.
func TestEveryProtocolToEveryOther(t *testing.T) {
	t.Parallel()
	in := up(t, 3, "--candidate", "127.0.0.1", "--vhosts", writeFile(t, "vhosts.conf", matrixVhosts))
	for _, vhost := range []string{"", ownVhost} {
		all, on := addresses(in, vhost), " of the default vhost"
		if vhost != "" {
			on = " of its own vhost"
		}
		for i, publish := range []string{"rtmp", "srt", "whip"} {
			name := "from-" + publish
			if vhost != "" {
				name += "-of-a-vhost"
			}
			from := all[i%len(all)]
			in.publishBy(t, publish, vhost, from, name)
			for k, play := range []string{"rtmp", "flv", "hls", "srt", "whep", "whep over TCP"} {
				others := []address{all[(i+k+1)%len(all)]}
				if vhost != "" { // each of the others
					others = slices.DeleteFunc(slices.Clone(all), func(a address) bool { return a == from })
				}
				for _, to := range others {
					t.Run(fmt.Sprintf("%s by %s to %s by %s%s", publish, from.name, play, to.name, on), func(t *testing.T) {
						t.Parallel()
						if why := unsupported(publish, play); why != "" {
							t.Skip(why)
						}
						eventually(t, time.Minute, "media", func() (bool, string) {
							ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
							defer cancel()
							err := in.playBy(ctx, play, vhost, to, name)
							return err == nil, fmt.Sprint(err)
						})
					})
				}
			}
		}
	}
}

// unsupported says why the origin itself can't do it.
func unsupported(publish, play string) string {
	if suite.srs != "" && play == "srt" && publish != "srt" {
		return "SRS gives SRT players what came over SRT, and nothing else"
	}
	return ""
}

func (in *instance) publishBy(t *testing.T, proto, vhost string, a address, name string) {
	t.Helper()
	switch proto {
	case "rtmp":
		in.publishAs(t, a.tcURL, name)
	case "srt":
		srtPublish(t, in.srtURL(srtID(vhost, name)+",m=publish"))
	case "whip":
		whip(t, in.rtcURL("whip", a, name), a.host)
	}
}

// playBy returns nil when a second of video, or what comes in one, has come.
func (in *instance) playBy(ctx context.Context, proto, vhost string, a address, name string) error {
	switch proto {
	case "rtmp":
		p, err := openPlay(in.rtmp(), a.tcURL, name)
		if err != nil {
			return err
		}
		defer p.conn.Close()
		return countVideo(ctx, p.conn, p.media)
	case "flv":
		conn, err := net.Dial("tcp", in.http())
		if err != nil {
			return err
		}
		defer conn.Close()
		body, err := openFLV(conn, a.host, "/live/"+name+".flv"+a.query, nil)
		if err != nil {
			return err
		}
		return countVideo(ctx, conn, body.next)
	case "hls":
		r, err := hlsSegment(ctx, in.stream("m3u8", "live/"+name)+a.query, http.Header{"Host": {a.host}})
		if err == nil && (r.code != http.StatusOK || len(r.body) < 188 || r.body[0] != 0x47) {
			err = fmt.Errorf("HTTP %d, %d bytes that are no segment", r.code, len(r.body))
		}
		return err
	case "srt":
		return in.readSRT(ctx, srtID(vhost, name)+",m=request")
	case "whep over TCP":
		return whep(ctx, in.rtcURL("whep", a, name), a.host, webrtc.NetworkTypeTCP4, 15)
	default:
		return whep(ctx, in.rtcURL("whep", a, name), a.host, webrtc.NetworkTypeUDP4, 15)
	}
}

func (in *instance) rtcURL(proto string, a address, name string) string {
	return "http://" + in.api() + "/rtc/v1/" + proto + "/?app=live&stream=" + name + strings.Replace(a.query, "?", "&", 1)
}

// srtID has the one way in which a stream id names a vhost.
func srtID(vhost, name string) string {
	id := "#!::r=live/" + name
	if vhost != "" {
		id = "#!::h=" + vhost + ",r=live/" + name
	}
	return id
}

func countVideo(ctx context.Context, conn net.Conn, next func() (rtmp.Message, error)) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for frames, keys := 0, 0; frames < 15 || keys == 0; {
		m, err := next()
		if err != nil {
			return fmt.Errorf("after %d frames: %w", frames, err)
		}
		if m.Type != rtmp.TypeVideo || isHeader(m) || len(m.Payload) == 0 {
			continue
		}
		frames++
		if m.Payload[0]>>4 == 1 {
			keys++
		}
	}
	return nil
}

// readSRT reads a transport stream until a video PES packet of each of ten frames
// began.
func (in *instance) readSRT(ctx context.Context, id string) error {
	c := gosrt.DefaultConfig()
	c.StreamId = id
	conn, err := gosrt.Dial("srt", in.srt(), c)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	buf := make([]byte, 1500)
	for frames := 0; frames < 10; {
		n, err := conn.Read(buf)
		if err != nil {
			if errors.Is(err, io.EOF) && ctx.Err() != nil {
				err = ctx.Err()
			}
			return fmt.Errorf("after %d frames: %w", frames, err)
		}
		for p := buf[:n]; len(p) >= 188; p = p[188:] {
			if p[0] == 0x47 && p[1]&0x40 != 0 && strings.Contains(string(p[4:188]), "\x00\x00\x01\xe0") {
				frames++
			}
		}
	}
	return nil
}
