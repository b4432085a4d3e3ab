package register

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"srs-proxy/balancer"
)

// Registration is an origin that says that it is there.
type Registration struct {
	// Server is the machine's or the place's id, which a restart does not change;
	// Service is the process's, which it does (SRS keeps the first in a file).
	Server, Service string
	PID             int
	// Device is the name that the operator gave it; it may be empty.
	Device    string
	Endpoints balancer.Endpoints
}

// Bounds of the fields: SRS's ids have 8 to 16 characters, and it has one listener
// of most protocols.
const (
	maxID        = 64
	maxDevice    = 128
	maxEndpoints = 16
)

// FieldError says which field of a body is wrong, and how. What it quotes is escaped
// and short.
type FieldError struct {
	Field  string
	reason string
}

func (e *FieldError) Error() string { return e.Field + " " + e.reason }

func wrong(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// body is what SRS posts (srs_app_heartbeat.cpp). It has more members (summaries),
// and other servers may add theirs: what is not known is skipped.
type body struct {
	IP       string   `json:"ip"`
	Server   string   `json:"server"`
	Service  string   `json:"service"`
	PID      string   `json:"pid"`
	DeviceID string   `json:"device_id"`
	RTMP     []string `json:"rtmp"`
	HTTP     []string `json:"http"`
	API      []string `json:"api"`
	SRT      []string `json:"srt"`
	RTC      []string `json:"rtc"`
}

// Parse reads the body of a registration. Its errors are for whoever sent it.
// An address of the loopback is an error unless the sender is on this machine, which
// local says.
func Parse(text []byte, local bool) (Registration, error) {
	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		return Registration{}, malformed(text, err)
	}
	for _, id := range []struct{ field, value string }{{"server", b.Server}, {"service", b.Service}} {
		if err := checkID(id.field, id.value); err != nil {
			return Registration{}, err
		}
	}
	pid, err := strconv.ParseUint(b.PID, 10, 31)
	if err != nil || pid == 0 || b.PID[0] == '+' {
		return Registration{}, wrong("pid", "is %s, not the number of a process", quote(b.PID))
	}
	if err := checkDevice(b.DeviceID); err != nil {
		return Registration{}, err
	}
	ip, err := parseIP(b.IP)
	if err != nil {
		return Registration{}, err
	}
	r := Registration{Server: b.Server, Service: b.Service, PID: int(pid), Device: b.DeviceID}
	if r.Endpoints, err = b.endpoints(ip, local); err != nil {
		return Registration{}, err
	}
	return r, nil
}

// malformed is the parser's complaint without Go's words for types.
func malformed(text []byte, err error) error {
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" {
		want := "a text"
		if te.Type.Kind().String() == "slice" {
			want = "a list of texts"
		}
		return wrong(te.Field, "is a JSON %s and should be %s", te.Value, want)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return errors.New("the body is empty; it should be a JSON object")
	}
	return errors.New("the body is not a JSON object")
}

// checkID takes the letters that are safe wherever an id ends up: a log, a path, a
// key of a database.
func checkID(field, v string) error {
	switch {
	case v == "":
		return wrong(field, "is missing")
	case len(v) > maxID:
		return wrong(field, "has %d characters; at most %d are taken", len(v), maxID)
	}
	for _, c := range []byte(v) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("-_.:@", rune(c)) {
			return wrong(field, "is %s; letters, digits and -_.:@ are taken", quote(v))
		}
	}
	return nil
}

func checkDevice(v string) error {
	if len(v) > maxDevice {
		return wrong("device_id", "has %d bytes; at most %d are taken", len(v), maxDevice)
	}
	if strings.ContainsFunc(v, func(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }) {
		return wrong("device_id", "is %s, which cannot be printed", quote(v))
	}
	return nil
}

func parseIP(v string) (netip.Addr, error) {
	if v == "" {
		return netip.Addr{}, wrong("ip", "is missing")
	}
	ip, err := netip.ParseAddr(v)
	if err != nil {
		return ip, wrong("ip", "is %s, not an IP address", quote(v))
	}
	ip = ip.Unmap()
	if err := checkIP(ip); err != nil {
		return ip, wrong("ip", "%s: %s", quote(v), err)
	}
	return ip, nil
}

// endpoints takes the first address of each protocol. rtc may name one of TCP besides
// that of UDP: both have the same port here, as in SRS's own default.
func (b *body) endpoints(ip netip.Addr, local bool) (balancer.Endpoints, error) {
	var e balancer.Endpoints
	for _, p := range []struct {
		field string
		list  []string
		over  network
		also  network // passed over
		into  *string
	}{
		{"rtmp", b.RTMP, tcp, "", &e.RTMP},
		{"http", b.HTTP, tcp, "", &e.HTTP},
		{"api", b.API, tcp, "", &e.API},
		{"srt", b.SRT, udp, "", &e.SRT},
		{"rtc", b.RTC, udp, tcp, &e.RTC},
	} {
		if len(p.list) > maxEndpoints {
			return e, wrong(p.field, "has %d addresses; at most %d are taken", len(p.list), maxEndpoints)
		}
		for _, text := range p.list {
			addr, net, err := parseEndpoint(text, ip)
			switch {
			case err != nil:
				return e, wrong(p.field, "has %s, which %s", quote(text), err)
			case addr.Addr().IsLoopback() && !local:
				return e, wrong(p.field, "has %s, which is %s, the loopback of another machine", quote(text), addr.Addr())
			case net == p.also && net != "":
			case net != "" && net != p.over:
				return e, wrong(p.field, "has %s, and goes over %s", quote(text), p.over)
			case *p.into == "":
				*p.into = addr.String()
			}
		}
	}
	if e.RTMP == "" {
		return e, wrong("rtmp", "is missing; SRS sends it with \"ports on\" in its heartbeat")
	}
	return e, nil
}

// quote is for a stranger's text in an answer and in a log.
func quote(v string) string {
	const most = 40
	if len(v) > most {
		return strconv.QuoteToASCII(v[:most]) + "..."
	}
	return strconv.QuoteToASCII(v)
}
