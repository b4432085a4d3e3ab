// Package streamurl finds the stream that a URL means, as SRS reads it.
//
//	rtmp://host/app?vhost=v + "name?token=t"  ─┐
//	http://host/app/name.flv?vhost=v          ─┼▶ {Vhost, App, Name}
//	vhost, app and name of other protocols    ─┘
//
// Pure code: no sockets, no state. SRS's rules are those of
// srs_discovery_tc_url, srs_guess_stream_by_app, SrsRequest::strip and
// srs_generate_stream_url; a proxy that read a URL otherwise would send the
// publisher and the player of one stream to two origins.
package streamurl

import (
	"errors"
	"strings"
)

// DefaultVhost serves every host that the origins have no vhost for.
const DefaultVhost = "__defaultVhost__"

// MaxURL bounds each input, in bytes. SRS has no bound; RTMP strings of AMF0
// short form end at 65,535, and no client comes near this.
const MaxURL = 8192

// Errors of parsing.
var (
	ErrTooLong = errors.New("stream URL is longer than 8192 bytes")
	ErrNoName  = errors.New("stream URL has no stream name")
	ErrNoHost  = errors.New("stream URL is not of the form scheme://host/app")
)

// Stream is what the URL names. Vhost is the host as the client gave it, without
// port and brackets; Vhosts.Fold maps it to what the origins know.
type Stream struct {
	Vhost, App, Name string
}

// ParseRTMP reads the tcUrl of connect and the name of publish or play (which may
// carry a query). SRS looks at tcUrl alone; app is used where a client sends none.
func ParseRTMP(tcURL, app, name string) (Stream, error) {
	if len(tcURL) > MaxURL || len(app) > MaxURL || len(name) > MaxURL {
		return Stream{}, ErrTooLong
	}
	if tcURL == "" {
		tcURL = "rtmp://" + DefaultVhost + "/" + strings.TrimPrefix(app, "/")
	}
	var d discovery
	d.discover(tcURL) // as SRS does at connect,
	d.name = name
	d.discover(tcURL) // and again at publish or play
	if d.name == "" {
		d.guess()
	}
	return d.stream()
}

// ParseHTTP reads the Host header, path and raw query of an HTTP request, such as
// /live/livestream.flv; ext is the extension with its dot, or empty.
func ParseHTTP(host, path, rawQuery string) (s Stream, ext string, err error) {
	if len(host) > MaxURL || len(path) > MaxURL || len(rawQuery) > MaxURL {
		return Stream{}, "", ErrTooLong
	}
	app, file := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		app, file = strings.Trim(path[:i], "/"), path[i+1:]
	}
	if i := strings.LastIndexByte(file, '.'); i >= 0 {
		file, ext = file[:i], file[i:]
	}
	vhost := hostOnly(host)
	if v := queryVhost(rawQuery); v != "" {
		vhost = v
	}
	d := discovery{name: file}
	if rawQuery != "" {
		d.param = "?" + rawQuery
	}
	if strings.Contains(vhost, ":") {
		vhost = "[" + vhost + "]"
	}
	if vhost == "" {
		vhost = DefaultVhost
	}
	d.discover("rtmp://" + vhost + "/" + app)
	s, err = d.stream()
	return s, ext, err
}

// discovery is the part of SrsRequest that srs_discovery_tc_url reads and writes.
type discovery struct {
	vhost, app, name, param string
}

func (d *discovery) discover(tcURL string) {
	full := strings.ReplaceAll(tcURL, "...vhost...", "?vhost=")
	full += "/" + strings.TrimPrefix(d.name, "/")
	if d.param != "" {
		full += "?" + strings.TrimPrefix(d.param, "?")
	}
	// FMLE puts the query before the name: rtmp://ip/app?k=v/name.
	query, slash := strings.IndexAny(full, "?#"), strings.LastIndexByte(full, '/')
	if query >= 0 && query < slash {
		full = full[:query] + full[slash:] + full[query:slash]
	}
	full = strings.ReplaceAll(full, "/_definst_", "")

	host, path, rawQuery, ok := split(full)
	if !ok {
		return // SRS ignores a URL that it can't parse and keeps what it had
	}
	dir, base := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, base = path[:i], path[i+1:]
	}
	d.name = base
	d.app = strings.TrimPrefix(dir, "/")
	if d.app == "" {
		d.app = "__defaultApp__"
	}
	d.param = ""
	if rawQuery != "" {
		d.param = "?" + rawQuery
	}
	if v := queryVhost(rawQuery); v != "" && v != DefaultVhost {
		d.vhost = v
	}
	if d.vhost == "" {
		d.vhost = host
	}
}

// guess finds the name in the app or the query (rtmp://host/app/name with an
// empty publish name), as srs_guess_stream_by_app.
func (d *discovery) guess() {
	if app, name, ok := strings.Cut(d.app, "/"); ok {
		d.app = app
		d.name, d.param, _ = strings.Cut(name, "?")
		return
	}
	if param, name, ok := strings.Cut(d.param, "/"); ok {
		d.param, d.name = param, name
	}
}

// stream strips what SrsRequest::strip strips and drops the name's extension as
// srs_generate_stream_url does: "name" and "name.flv" are one source in SRS.
func (d *discovery) stream() (Stream, error) {
	s := Stream{
		Vhost: remove(d.vhost, "/ \n\r\t"),
		App:   strings.Trim(remove(d.app, " \n\r\t"), "/"),
		Name:  strings.Trim(remove(d.name, " \n\r\t"), "/"),
	}
	if i := strings.LastIndexByte(s.Name, '.'); i > 0 {
		s.Name = s.Name[:i]
	}
	switch {
	case s.Vhost == "":
		return Stream{}, ErrNoHost
	case s.Name == "":
		return Stream{}, ErrNoName
	}
	return s, nil
}

// split takes scheme://[user@]host[:port]/path?query#fragment apart.
func split(u string) (host, path, query string, ok bool) {
	_, rest, found := strings.Cut(u, "://")
	if !found {
		return "", "", "", false
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ = strings.Cut(rest, "?")
	authority := rest
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	host = hostOnly(authority)
	return host, path, query, host != ""
}

// hostOnly drops the port and the brackets of an IPv6 address.
func hostOnly(hostport string) string {
	if strings.HasPrefix(hostport, "[") {
		host, _, _ := strings.Cut(hostport[1:], "]")
		return host
	}
	if i := strings.IndexByte(hostport, ':'); i >= 0 && strings.Count(hostport, ":") == 1 {
		return hostport[:i]
	}
	return hostport
}

// queryVhost is the value of vhost, else of domain, in a query. SRS splits at
// ",", "&" and ";" alike, and at "?" too: joining tcUrl's query to the name's
// gives two of them.
func queryVhost(query string) string {
	if query == "" {
		return ""
	}
	var vhost, domain string
	fields := strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune(",&;?", r) })
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "vhost":
			vhost = v
		case "domain":
			domain = v
		}
	}
	if vhost != "" {
		return vhost
	}
	return domain
}

func remove(s, chars string) string {
	if !strings.ContainsAny(s, chars) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(chars, r) {
			return -1
		}
		return r
	}, s)
}

// Vhosts are the vhosts that the origins have a config for.
type Vhosts map[string]struct{}

// NewVhosts makes a set of names.
func NewVhosts(names ...string) Vhosts {
	v := make(Vhosts, len(names))
	for _, n := range names {
		v[n] = struct{}{}
	}
	return v
}

// Fold returns the vhost that SRS serves host from: its own, else the default one.
func (v Vhosts) Fold(host string) string {
	if _, ok := v[host]; ok {
		return host
	}
	return DefaultVhost
}
