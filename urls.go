package main

import (
	"fmt"
	"io"
	"net"
)

// exampleStream is the stream of the commands that `up` shows.
const exampleStream = "live/livestream"

// writeCommands prints commands to publish a stream and to play it, ready to
// paste: the publish needs no input file, and the ports are the real ones.
// HTTP-TS is shown where the origins serve it beside HTTP-FLV: SRS has one of the
// two for a vhost, FLV in our template.
func writeCommands(w io.Writer, rtmp, http net.Addr, ts, colors bool) error {
	r := fmt.Sprintf("rtmp://%s/%s", reachable(rtmp), exampleStream)
	h := fmt.Sprintf("http://%s/%s", reachable(http), exampleStream)
	tsLine := ""
	if ts {
		tsLine = "  ffplay " + h + ".ts\n"
	}
	_, err := fmt.Fprintf(w, `
%[1]s
  ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=25 -f lavfi -i sine=frequency=440 -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 50 -c:a aac -f flv %[3]s
  ffmpeg -re -i input.mp4 -c copy -f flv %[3]s
%[2]s
  ffplay %[3]s
  vlc %[4]s.flv
%[5]s  vlc %[4]s.m3u8
  curl -o livestream.flv %[4]s.flv
`, paint("Publish:", bold, colors), paint("Play:", bold, colors), r, h, tsLine)
	if err != nil {
		return fmt.Errorf("write commands: %w", err)
	}
	return nil
}

// reachable is the address as a client on this machine writes it.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
