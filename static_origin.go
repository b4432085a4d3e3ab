package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"srs-proxy/balancer"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/health"
	"srs-proxy/proxy/register"
)

// staticOrigin is an origin that the operator lists, because it cannot register:
// nginx-rtmp, MediaMTX, an SRS without heartbeat.
type staticOrigin struct {
	name string // may be empty
	// endpoints have IP addresses, or all of them one host name.
	endpoints balancer.Endpoints
}

// listings are static origins as they are looked after.
func listings(all []staticOrigin) []health.Listing {
	list := make([]health.Listing, len(all))
	for i, o := range all {
		list[i] = health.Listing{Name: o.name, Endpoints: o.endpoints}
	}
	return list
}

// parseStaticOrigins reads origins that are parted by semicolons or lines.
func parseStaticOrigins(v string) ([]staticOrigin, error) {
	var all []staticOrigin
	for text := range strings.FieldsFuncSeq(v, func(c rune) bool { return c == ';' || c == '\n' }) {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		o, err := parseStaticOrigin(text)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if other.endpoints.RTMP == o.endpoints.RTMP || o.name != "" && other.name == o.name {
				return nil, fmt.Errorf("has the origin %s twice", cmp.Or(o.name, o.endpoints.RTMP))
			}
		}
		all = append(all, o)
	}
	return all, nil
}

func parseStaticOrigin(text string) (staticOrigin, error) {
	var o staticOrigin
	for pair := range strings.SplitSeq(text, ",") {
		key, v, ok := strings.Cut(strings.TrimSpace(pair), "=")
		into := map[string]*string{
			"name": &o.name, "rtmp": &o.endpoints.RTMP, "http": &o.endpoints.HTTP, "api": &o.endpoints.API, "srt": &o.endpoints.SRT, "rtc": &o.endpoints.RTC,
		}[key]
		switch {
		case !ok || into == nil:
			return o, fmt.Errorf("has %q where rtmp=HOST:PORT, http=, api=, srt=, rtc= or name= belongs", pair)
		case *into != "":
			return o, fmt.Errorf("has %s= twice for one origin; part origins by ; or give --origin again", key)
		case key == "name":
			if !isOriginName(v) {
				return o, fmt.Errorf("has the name %q; give up to 64 letters, digits, dots, dashes and underscores", v)
			}
			*into = v
		default:
			host, port, err := net.SplitHostPort(v)
			if err == nil {
				*into, err = originAddress(host, port)
			}
			if err != nil {
				return o, fmt.Errorf("has %q where the address and port of an origin belong, such as rtmp=10.0.0.1:1935 or rtmp=origin.example.com:1935", v)
			}
		}
	}
	if o.endpoints.RTMP == "" {
		return o, fmt.Errorf("has an origin without rtmp=HOST:PORT: %q", text)
	}
	return o, checkOneHost(o.endpoints)
}

var errNoOriginAddress = errors.New("is no address of an origin")

// originAddress is host:port of an origin, in one way of writing.
func originAddress(host, port string) (string, error) {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errNoOriginAddress
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && (ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != ""):
		return "", errNoOriginAddress
	case err == nil:
		host = ip.Unmap().String()
	case !isHostName(host):
		return "", errNoOriginAddress
	}
	return net.JoinHostPort(strings.ToLower(host), strings.TrimLeft(port, "0")), nil
}

// isHostName takes names of DNS (RFC 1123, section 2.1), with underscores, which names of
// containers have. A name whose last part is a number is a mistyped address.
func isHostName(v string) bool {
	if len(v) > 253 {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(v, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || !isOriginName(l) {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// isHost says that an origin can be there.
func isHost(v string) bool {
	_, err := originAddress(v, "1")
	return err == nil
}

// checkOneHost: a name may have several addresses, of which each is an origin, so what
// belongs to one origin must be at one name.
func checkOneHost(e balancer.Endpoints) error {
	want := health.HostName(e.RTMP)
	for _, addr := range []string{e.HTTP, e.API, e.SRT, e.RTC} {
		if addr != "" && health.HostName(addr) != want {
			return fmt.Errorf("has %s and %s for one origin; all its addresses need the same host name, or be IP addresses", e.RTMP, addr)
		}
	}
	return nil
}

func isOriginName(v string) bool {
	for _, c := range []byte(v) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("-_.", rune(c)) {
			return false
		}
	}
	return v != "" && len(v) <= 64
}

// backendVariable is one of those by which the existing proxy is told of an origin
// that does not register.
type backendVariable struct {
	env, def string
	at       func(*balancer.Endpoints) *string
}

const (
	backendEnabled = "PROXY_DEFAULT_BACKEND_ENABLED"
	backendIP      = "PROXY_DEFAULT_BACKEND_IP"
	// backendName is its ID, or only its name where it is listed by a host name.
	backendName = "default-backend"
)

func defaultBackend() []backendVariable {
	return []backendVariable{
		{backendEnabled, "off", nil},
		{backendIP, "127.0.0.1", nil},
		{"PROXY_DEFAULT_BACKEND_RTMP", "1935", func(e *balancer.Endpoints) *string { return &e.RTMP }},
		{"PROXY_DEFAULT_BACKEND_HTTP", "8080", func(e *balancer.Endpoints) *string { return &e.HTTP }},
		{"PROXY_DEFAULT_BACKEND_API", "1985", func(e *balancer.Endpoints) *string { return &e.API }},
		{"PROXY_DEFAULT_BACKEND_RTC", "8000", func(e *balancer.Endpoints) *string { return &e.RTC }},
		{"PROXY_DEFAULT_BACKEND_SRT", "10080", func(e *balancer.Endpoints) *string { return &e.SRT }},
	}
}

// readDefaultBackend reads them; ok is false if there is none.
func readDefaultBackend(env func(string) (string, bool)) (o staticOrigin, ok bool, err error) {
	value := func(b backendVariable) string {
		v, _ := env(b.env)
		return cmp.Or(v, b.def)
	}
	o.name = backendName
	host := ""
	for _, b := range defaultBackend() {
		v := value(b)
		switch b.env {
		case backendEnabled:
			if v != "on" {
				return o, false, nil
			}
		case backendIP:
			if host = v; !isHost(host) {
				return o, false, usageErrorf("variable %s: %q is neither an IP address nor a host name", b.env, v)
			}
		default:
			addr, err := originAddress(host, v)
			if err != nil {
				return o, false, usageErrorf("variable %s: %q is not a port", b.env, v)
			}
			*b.at(&o.endpoints) = addr
		}
	}
	return o, true, nil
}

// parseSystemAPI takes an address whose bare port means the loopback, because who may
// register gets the streams; the path of a unix socket; and off.
func parseSystemAPI(v string) (string, error) {
	if path, ok := strings.CutPrefix(v, "unix:"); ok || strings.HasPrefix(v, "/") {
		path, err := parsePath(path)
		if err == nil && (path == "" || len(path) > maxSocketPath) {
			err = fmt.Errorf("is no path of a unix socket; give one of at most %d characters", maxSocketPath)
		}
		return path, err
	}
	if v == "off" {
		return "", nil
	}
	if !strings.Contains(v, ":") {
		v = "127.0.0.1:" + v
	}
	return parseAddress(v)
}

// parseTokens reads tokens, or the file that has them.
func parseTokens(v string) (register.Tokens, error) {
	if path, ok := strings.CutPrefix(v, "file:"); ok {
		path, err := parseFile(path)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot be read: %w", withoutPath(err))
		}
		t, err := register.ParseTokens(string(text))
		if err == nil && len(t) == 0 {
			err = errors.New("is a file without a token")
		}
		return t, err
	}
	return register.ParseTokens(v)
}

// networks are addresses and networks.
type networks []netip.Prefix

func parseNetworks(v string) (networks, error) {
	list, err := access.ParseNetworks(v)
	return list, err
}
