package sdp

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// answer is of two bundled sections, as SRS writes it.
func answer(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "srs-answer.sdp"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func crlf(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n") }

func TestICE(t *testing.T) {
	c, err := ICE(answer(t))
	if err != nil || c.Ufrag != "7d53x096" || c.Pwd != "49l09w8i36o91d0a8l5n6j1g2m1z1508" {
		t.Errorf("got %+v, %v", c, err)
	}
	for name, tt := range map[string]struct {
		sdp  []byte
		want Credentials
		err  error
	}{
		"session level": {
			crlf("v=0", "a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", "m=audio 9 UDP/TLS/RTP/SAVPF 111"),
			Credentials{"abcd", "0123456789012345678901"}, nil,
		},
		"the section's own win": {
			crlf("v=0", "a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", "m=audio 9 X 1", "a=ice-ufrag:efgh", "a=ice-pwd:9999999999999999999999"),
			Credentials{"efgh", "9999999999999999999999"}, nil,
		},
		"the first section's": {
			crlf("v=0", "m=audio 9 X 1", "a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", "m=video 9 X 1", "a=ice-ufrag:efgh", "a=ice-pwd:9999999999999999999999"),
			Credentials{"abcd", "0123456789012345678901"}, nil,
		},
		"line feeds alone": {
			[]byte("v=0\nm=audio 9 X 1\na=ice-pwd:0123456789012345678901\na=ice-ufrag:a+/b"),
			Credentials{"a+/b", "0123456789012345678901"}, nil,
		},
		"none":              {crlf("v=0", "m=audio 9 X 1"), Credentials{}, ErrNoICE},
		"only in the other": {crlf("v=0", "m=audio 9 X 1", "m=video 9 X 1", "a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901"), Credentials{}, ErrNoICE},
		"no media":          {crlf("v=0", "a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901"), Credentials{}, ErrNotSDP},
		"not SDP":           {[]byte("{}"), Credentials{}, ErrNotSDP},
		"empty":             {nil, Credentials{}, ErrNotSDP},
		"too long":          {bytes.Repeat([]byte("v=0\n"), MaxSize/4+1), Credentials{}, ErrTooLong},
		"ufrag too short":   {crlf("v=0", "m=audio 9 X 1", "a=ice-ufrag:abc", "a=ice-pwd:0123456789012345678901"), Credentials{}, ErrNoICE},
		"ufrag with a colon, which would split the username": {
			crlf("v=0", "m=audio 9 X 1", "a=ice-ufrag:ab:cd", "a=ice-pwd:0123456789012345678901"), Credentials{}, ErrNoICE,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ICE(tt.sdp)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// All but the candidates stays byte for byte, and they stay where they were.
func TestReplaceCandidates(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "srs-answer.want.sdp"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReplaceCandidates(answer(t), []Candidate{
		{Host: "203.0.113.5", Port: 8000},
		{Host: "2001:db8::5", Port: 8000},
		{Host: "203.0.113.5", Port: 8000, TCP: true},
	})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestReplaceCandidatesForms(t *testing.T) {
	ours := []Candidate{{Host: "192.0.2.1", Port: 1}}
	const line = "a=candidate:0 1 udp 2130706431 192.0.2.1 1 typ host generation 0"
	for name, tt := range map[string]struct{ in, want []byte }{
		"none at all: the first section": {
			crlf("v=0", "m=audio 9 X 1", "a=mid:0", "m=video 9 X 1", "a=mid:1"),
			crlf("v=0", "m=audio 9 X 1", "a=mid:0", line, "m=video 9 X 1", "a=mid:1"),
		},
		"none at all, no end of line": {
			[]byte("v=0\r\nm=audio 9 X 1\r\na=mid:0"),
			crlf("v=0", "m=audio 9 X 1", "a=mid:0", line),
		},
		"only where there were some": {
			crlf("v=0", "m=audio 9 X 1", "a=candidate:1 1 udp 1 10.0.0.1 5 typ host", "a=end-of-candidates", "m=video 9 X 1", "a=mid:1"),
			crlf("v=0", "m=audio 9 X 1", line, "a=end-of-candidates", "m=video 9 X 1", "a=mid:1"),
		},
		"every type, apart from each other": {
			crlf("v=0", "m=audio 9 X 1", "a=candidate:1 1 udp 1 10.0.0.1 5 typ host", "a=mid:0", "a=candidate:2 1 udp 1 198.51.100.1 5 typ srflx raddr 10.0.0.1 rport 5", "a=candidate:3 1 tcp 1 10.0.0.1 5 typ host tcptype passive"),
			crlf("v=0", "m=audio 9 X 1", line, "a=mid:0"),
		},
		"a stray one before the media": {
			crlf("v=0", "a=candidate:1 1 udp 1 10.0.0.1 5 typ host", "m=audio 9 X 1"),
			crlf("v=0", "m=audio 9 X 1", line),
		},
		"line feeds alone": {
			[]byte("v=0\nm=audio 9 X 1\na=candidate:1 1 udp 1 10.0.0.1 5 typ host\n"),
			[]byte("v=0\nm=audio 9 X 1\n" + line + "\n"),
		},
		"what only looks like one": {
			crlf("v=0", "m=audio 9 X 1", "a=x-candidate:1", "a=candidate:1 1 udp 1 10.0.0.1 5 typ host", " a=candidate:"),
			crlf("v=0", "m=audio 9 X 1", "a=x-candidate:1", line, " a=candidate:"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReplaceCandidates(tt.in, ours)
			if err != nil || !bytes.Equal(got, tt.want) {
				t.Errorf("%v\n%q\nwant\n%q", err, got, tt.want)
			}
		})
	}
	for name, in := range map[string][]byte{"no media": crlf("v=0"), "not SDP": []byte("x")} {
		if _, err := ReplaceCandidates(in, ours); !errors.Is(err, ErrNotSDP) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The order of candidates is that of preference, and UDP goes before TCP.
func TestPriorities(t *testing.T) {
	got := strings.Split(strings.TrimSpace(string(appendCandidates(nil, []Candidate{
		{Host: "a", Port: 1}, {Host: "b", Port: 1}, {Host: "a", Port: 1, TCP: true}, {Host: "b", Port: 1, TCP: true},
	}, "\n"))), "\n")
	var priorities []string
	for _, line := range got {
		priorities = append(priorities, strings.Fields(line)[3])
	}
	if !slices.IsSortedFunc(priorities, func(a, b string) int { return -strings.Compare(a, b) }) || len(slices.Compact(priorities)) != 4 {
		t.Errorf("priorities are %v", priorities)
	}
}

func FuzzReplaceCandidates(f *testing.F) {
	f.Add(answer(f))
	f.Add([]byte("v=0\nm=a\na=candidate:"))
	f.Add([]byte("v=0\r\nm=a"))
	ours := []Candidate{{Host: "192.0.2.1", Port: 8000}, {Host: "192.0.2.1", Port: 8000, TCP: true}}
	f.Fuzz(func(t *testing.T, in []byte) {
		before, iceErr := ICE(in)
		out, err := ReplaceCandidates(in, ours)
		if err != nil {
			if iceErr == nil {
				t.Fatalf("has ICE credentials, and yet: %v", err)
			}
			return
		}
		if len(out) > MaxSize {
			return
		}
		if after, afterErr := ICE(out); after != before || !errors.Is(afterErr, iceErr) && (afterErr == nil) != (iceErr == nil) {
			t.Fatalf("credentials %+v (%v) became %+v (%v)", before, iceErr, after, afterErr)
		}
		if kept, want := without(out), without(in); !bytes.Equal(kept, want) {
			t.Fatalf("other lines changed:\n%q\nwant\n%q", kept, want)
		}
		for line := range bytes.Lines(out) {
			if isCandidate(line) && !bytes.Contains(line, []byte(" 192.0.2.1 8000 typ host ")) {
				t.Fatalf("a foreign candidate: %q", line)
			}
		}
		if !bytes.Contains(out, []byte("a=candidate:")) {
			t.Fatal("no candidate")
		}
		if again, err := ReplaceCandidates(out, ours); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("a second time it is\n%q (%v)\nafter\n%q", again, err, out)
		}
	})
}

// without is a description without its candidates and its last ends of lines.
func without(description []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(description) {
		if !isCandidate(content(line)) {
			kept = append(kept, line...)
		}
	}
	return bytes.TrimRight(kept, "\r\n")
}

func BenchmarkReplaceCandidates(b *testing.B) {
	in := answer(b)
	ours := []Candidate{{Host: "203.0.113.5", Port: 8000}}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReplaceCandidates(in, ours); err != nil {
			b.Fatal(err)
		}
	}
}
