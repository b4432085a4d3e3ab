package origin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

var (
	errOffer   = errors.New("unacceptable offer")
	errNoCodec = errors.New("no codec in common")
)

// rtcOffer is what an SDP offer says, as far as it decides something here.
type rtcOffer struct {
	sdp          string // without candidates: see parseOffer
	ufrag        string
	passive      bool // the client wants to be the server of DTLS
	audio, video []webrtc.RTPCodecParameters
	hasVideo     bool
}

// parseOffer checks an offer as SRS's check_remote_sdp does. Candidates are left
// out: a lite agent answers whoever checks it, and must not send to what a
// stranger names.
func parseOffer(text string, publish bool) (*rtcOffer, error) {
	var desc sdp.SessionDescription
	if desc.UnmarshalString(text) != nil { // whose error may quote a secret
		return nil, fmt.Errorf("%w: not SDP", errOffer)
	}
	group, _ := desc.Attribute("group")
	if !strings.HasPrefix(group, "BUNDLE") {
		return nil, fmt.Errorf("%w: not BUNDLE", errOffer)
	}
	if len(desc.MediaDescriptions) == 0 {
		return nil, fmt.Errorf("%w: no media", errOffer)
	}
	o := &rtcOffer{}
	o.ufrag, _ = desc.Attribute("ice-ufrag")
	for _, m := range desc.MediaDescriptions {
		kind := m.MediaName.Media
		_, mux := m.Attribute("rtcp-mux")
		_, sendOnly := m.Attribute("sendonly")
		_, recvOnly := m.Attribute("recvonly")
		switch {
		case kind != "audio" && kind != "video":
			return nil, fmt.Errorf("%w: media other than audio and video", errOffer)
		case !mux:
			return nil, fmt.Errorf("%w: not rtcp-mux", errOffer)
		case publish && recvOnly:
			return nil, fmt.Errorf("%w: recvonly to publish", errOffer)
		case !publish && sendOnly:
			return nil, fmt.Errorf("%w: sendonly to play", errOffer)
		}
		if kind == "video" {
			o.hasVideo = true
			o.video = append(o.video, codecsOf(m)...)
		} else {
			o.audio = append(o.audio, codecsOf(m)...)
		}
		if o.ufrag == "" {
			o.ufrag, _ = m.Attribute("ice-ufrag")
		}
		if setup, _ := m.Attribute("setup"); setup == "passive" {
			o.passive = true
		}
	}
	o.sdp = withoutCandidates(text)
	return o, nil
}

// codecsOf lists what a media section offers, most wanted first.
func codecsOf(m *sdp.MediaDescription) (out []webrtc.RTPCodecParameters) {
	maps, params := make(map[string]string), make(map[string]string)
	for _, a := range m.Attributes {
		pt, value, ok := strings.Cut(a.Value, " ")
		switch {
		case !ok:
		case a.Key == "rtpmap":
			maps[pt] = value
		case a.Key == "fmtp":
			params[pt] = value
		}
	}
	for _, pt := range m.MediaName.Formats {
		number, err := strconv.ParseUint(pt, 10, 7)
		if err != nil {
			continue
		}
		f := strings.Split(maps[pt], "/")
		if len(f) < 2 {
			continue
		}
		clock, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil || clock == 0 {
			continue
		}
		c := webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(number)}
		c.MimeType, c.ClockRate, c.SDPFmtpLine = m.MediaName.Media+"/"+f[0], uint32(clock), params[pt]
		if len(f) > 2 {
			channels, err := strconv.ParseUint(f[2], 10, 8)
			if err != nil {
				continue
			}
			c.Channels = uint16(channels)
		}
		out = append(out, c)
	}
	return out
}

// pick returns the first codec with that name. Of H.264 it prefers what everybody
// decodes, Constrained Baseline, and takes packetization-mode 1 alone: frames
// do not fit into one packet (RFC 6184 section 6.3).
func pick(offered []webrtc.RTPCodecParameters, mime string) *webrtc.RTPCodecParameters {
	var found *webrtc.RTPCodecParameters
	for i, c := range offered {
		if !strings.EqualFold(c.MimeType, mime) {
			continue
		}
		if !strings.EqualFold(mime, webrtc.MimeTypeH264) {
			return &offered[i]
		}
		line := strings.ToLower(c.SDPFmtpLine)
		if !strings.Contains(line, "packetization-mode=1") {
			continue
		}
		if strings.Contains(line, "profile-level-id=42e0") {
			return &offered[i]
		}
		if found == nil {
			found = &offered[i]
		}
	}
	return found
}

// videoCodecs are what can be published, in the order of preference: others than
// WebRTC players can have H.264 alone. first is the client's wish (SRS: codec).
func videoCodecs(first string) []string {
	all := []string{webrtc.MimeTypeH264, webrtc.MimeTypeVP8, webrtc.MimeTypeVP9, webrtc.MimeTypeAV1, webrtc.MimeTypeH265}
	if strings.EqualFold(first, "hevc") {
		first = "h265"
	}
	for i, mime := range all {
		if strings.EqualFold(mime, "video/"+first) {
			return append([]string{mime}, slices.Delete(all, i, i+1)...)
		}
	}
	return all
}

func withoutCandidates(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "a=candidate:") && !strings.HasPrefix(line, "a=end-of-candidates") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// answerWith puts candidates into every media section of an answer that is not
// refused, as SRS does.
func answerWith(answer string, candidates []string) string {
	var b strings.Builder
	media := false
	finish := func() {
		for _, c := range candidates {
			if media {
				b.WriteString(c + "\r\n")
			}
		}
	}
	for line := range strings.Lines(withoutCandidates(answer)) {
		if strings.HasPrefix(line, "m=") {
			finish()
			f := strings.Fields(line)
			media = len(f) > 1 && f[1] != "0"
		}
		b.WriteString(line)
	}
	finish()
	return b.String()
}

// candidates are the lines of an answer (SRS: discover_candidates): what the
// request asks for as eip, and what the config says; each may have a port.
func (s *rtcServer) candidates(eip string) (lines []string) {
	hosts := []string{}
	if eip != "" {
		hosts = append(hosts, eip)
	}
	switch s.cfg.Candidate {
	case "", "*", "0.0.0.0":
		hosts = append(hosts, localAddresses()...)
	default:
		if s.cfg.Candidate != eip {
			hosts = append(hosts, s.cfg.Candidate)
		}
	}
	// RFC 8445 section 5.1.2.1: host, the only address, component RTP.
	const priority = 126<<24 | 65535<<8 | 255
	add := func(protocol, host string, port int, more string) {
		lines = append(lines, fmt.Sprintf("a=candidate:%d 1 %s %d %s %d typ host %s", len(lines), protocol, priority, host, port, more))
	}
	for _, h := range hosts {
		if s.cfg.Protocol != "tcp" || s.tcp == nil {
			host, port := hostPort(h, portOf(s.udp.LocalAddr()))
			add("udp", host, port, "generation 0")
		}
		if s.cfg.Protocol != "udp" && s.tcp != nil {
			host, port := hostPort(h, portOf(s.tcp.Addr()))
			add("tcp", host, port, "tcptype passive")
		}
	}
	return lines
}

func hostPort(s string, def int) (host string, port int) {
	h, p, err := net.SplitHostPort(s)
	if err != nil {
		return strings.Trim(s, "[]"), def
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return h, def
	}
	return h, int(n)
}

// validEIP tells whether an eip can be put into an SDP: a host name or an address,
// perhaps with a port.
func validEIP(s string) bool {
	return len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(".-:[]", r)
	})
}

func portOf(a net.Addr) int {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return 0
	}
	return int(ap.Port())
}

// localAddresses are the IPv4 addresses of this host that others may reach, or
// that of loopback where there is none.
func localAddresses() (out []string) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return []string{"127.0.0.1"}
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			out = append(out, p.Addr().String())
		}
	}
	if len(out) == 0 {
		return []string{"127.0.0.1"}
	}
	return out
}
