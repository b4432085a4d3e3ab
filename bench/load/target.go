package load

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Protocol is how a session talks to the server.
type Protocol string

// The protocols, by their URLs:
//
//	rtmp://HOST/app/stream
//	http://HOST/app/stream.flv
//	http://HOST/app/stream.m3u8
//	srt://HOST?streamid=ID, or with app and stream as those above
//	webrtc://HOST/app/stream, HOST being that of the API
const (
	RTMP   Protocol = "rtmp"
	FLV    Protocol = "flv"
	HLS    Protocol = "hls"
	WebRTC Protocol = "webrtc"
	SRT    Protocol = "srt"
)

// target is a URL taken apart.
type target struct {
	protocol Protocol
	addr     netip.AddrPort
	host     string // as the URL has it
	path     string // with the query
	app      string
	stream   string // with the query
	tcURL    string
	streamID string // SRT's
	// media is where the media of WebRTC go, if the URL says so (?media=HOST:PORT).
	media netip.AddrPort
}

// ErrURL says that a URL is not of a form that the load can serve.
var ErrURL = errors.New("not a URL that the load can serve")

// ProtocolOf is the protocol of a URL, "" if it is none that the load can serve.
func ProtocolOf(raw string) Protocol {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	switch {
	case u.Scheme == "rtmp" || u.Scheme == "webrtc" || u.Scheme == "srt":
		return Protocol(u.Scheme)
	case u.Scheme == "http" && strings.HasSuffix(u.Path, ".flv"):
		return FLV
	case u.Scheme == "http" && strings.HasSuffix(u.Path, ".m3u8"):
		return HLS
	}
	return ""
}

// parseTarget reads a URL and resolves its host.
func parseTarget(raw string) (t target, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return t, fmt.Errorf("%w: it cannot be parsed", ErrURL) // the error would show the query
	}
	t.protocol = ProtocolOf(raw)
	port := map[Protocol]int{RTMP: 1935, FLV: 80, HLS: 80, WebRTC: 1985, SRT: 10080}[t.protocol]
	if port == 0 {
		return t, fmt.Errorf("%w: %s://%s%s", ErrURL, u.Scheme, u.Host, u.Path)
	}
	if t.streamID = u.Query().Get("streamid"); t.protocol == SRT && t.streamID != "" {
		t.host = u.Host
		t.addr, err = resolve(u.Host, port)
		return t, err
	}
	t.host, t.path = u.Host, u.RequestURI()
	cut := strings.LastIndexByte(u.Path, '/')
	if cut < 1 || cut == len(u.Path)-1 {
		return t, fmt.Errorf("%w: %s://%s%s has no app and stream", ErrURL, u.Scheme, u.Host, u.Path)
	}
	t.app, t.stream = u.Path[1:cut], u.Path[cut+1:]
	if u.RawQuery != "" {
		t.stream += "?" + u.RawQuery
	}
	if media := u.Query().Get("media"); media != "" && t.protocol == WebRTC {
		if t.media, err = resolve(media, 0); err != nil {
			return t, err
		}
	}
	t.tcURL = u.Scheme + "://" + u.Host + "/" + t.app
	t.addr, err = resolve(u.Host, port)
	return t, err
}
