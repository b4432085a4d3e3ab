package sdp

import (
	"bytes"
	"fmt"
	"strconv"
)

// Candidate is an address at which media is taken: an ICE candidate of type host.
type Candidate struct {
	Host string // an IP address without brackets, or a domain name
	Port int
	TCP  bool // passive (RFC 6544), else UDP
}

// ReplaceCandidates puts the given candidates in the place of all that a description
// has, in each media section that has any. If none has any, the first gets them:
// without an address a peer has nowhere to send to. The order is that of preference.
// Lines of candidates of the origin are dropped whatever their type, as each of them
// would lead past the proxy.
func ReplaceCandidates(description []byte, candidates []Candidate) ([]byte, error) {
	if err := check(description); err != nil {
		return nil, err
	}
	s := scan(description)
	if s.media == 0 {
		return nil, fmt.Errorf("%w: no media", ErrNotSDP)
	}
	ours := appendCandidates(make([]byte, 0, 96*len(candidates)), candidates, s.end)
	out := make([]byte, 0, len(description)+max(s.sections, 1)*len(ours))
	media, replaced := 0, false
	for line := range bytes.Lines(description) {
		text := content(line)
		if bytes.HasPrefix(text, []byte("m=")) {
			if s.sections == 0 && media == 1 {
				out = append(terminated(out, s.end), ours...)
			}
			media++
			replaced = false
		}
		if !isCandidate(text) {
			out = append(out, line...)
			continue
		}
		if media > 0 && !replaced { // at the session level they mean nothing (RFC 8839 section 5.1)
			replaced = true
			out = append(out, ours...)
		}
	}
	if s.sections == 0 && media == 1 {
		out = append(terminated(out, s.end), ours...)
	}
	return out, nil
}

// outline is what a first look at a description tells.
type outline struct {
	media    int    // sections
	sections int    // those that have candidates
	end      string // of its lines
}

func scan(description []byte) outline {
	s := outline{end: "\r\n"}
	first, counted := true, false
	for line := range bytes.Lines(description) {
		text := content(line)
		if first && len(text) == len(line)-1 {
			s.end = "\n"
		}
		first = false
		switch {
		case bytes.HasPrefix(text, []byte("m=")):
			s.media++
			counted = false
		case s.media > 0 && !counted && isCandidate(text):
			s.sections++
			counted = true
		}
	}
	return s
}

func isCandidate(line []byte) bool { return bytes.HasPrefix(line, []byte("a=candidate:")) }

// terminated ends a last line that has no end.
func terminated(b []byte, end string) []byte {
	if bytes.HasSuffix(b, []byte("\n")) {
		return b
	}
	return append(b, end...)
}

// Priorities are those of RFC 8445 section 5.1.2.1: type preference 126 of host
// candidates, a local preference that falls with the order, component 1. UDP goes
// before TCP, whose head-of-line blocking costs a player its delay.
const (
	hostPreference = 126 << 24
	udpPreference  = 0xffff
	tcpPreference  = 0x7fff
)

func appendCandidates(b []byte, candidates []Candidate, end string) []byte {
	for i, c := range candidates {
		network, preference, tail := "udp", udpPreference-i, " typ host generation 0"
		if c.TCP {
			network, preference, tail = "tcp", tcpPreference-i, " typ host tcptype passive"
		}
		b = append(b, "a=candidate:"...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, " 1 "...)
		b = append(b, network...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(hostPreference|preference<<8|255), 10)
		b = append(b, ' ')
		b = append(b, c.Host...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(c.Port), 10)
		b = append(b, tail...)
		b = append(b, end...)
	}
	return b
}
