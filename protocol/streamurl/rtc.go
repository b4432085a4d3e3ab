package streamurl

import (
	"cmp"
	"strings"
)

// Query is the query of an HTTP request as SRS reads it (srs_parse_query_string).
type Query map[string]string

// ParseQuery splits a raw query at "=", ",", "&&", "&" and ";" alike and takes the
// pieces two by two, without decoding them. So does SRS, which means that a name
// without a value shifts what comes after it. Of two values the last one counts.
func ParseQuery(raw string) (Query, error) {
	if len(raw) > MaxURL {
		return nil, ErrTooLong
	}
	q := make(Query)
	raw = strings.ReplaceAll(raw, "&&", "&")
	for raw != "" {
		var key, value string
		key, raw = cutPiece(raw)
		value, raw = cutPiece(raw)
		q[key] = value
	}
	return q, nil
}

func cutPiece(s string) (piece, rest string) {
	i := strings.IndexAny(s, "=,&;")
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i+1:]
}

// ParseWHIP reads the Host header and the query of a request for WHIP or WHEP, where
// SRS takes app, stream and vhost from the query and has a default for each.
func ParseWHIP(host string, q Query) (Stream, error) {
	if len(host) > MaxURL {
		return Stream{}, ErrTooLong
	}
	d := discovery{
		vhost: cmp.Or(q["vhost"], q["domain"], hostOnly(host), DefaultVhost),
		app:   cmp.Or(q["app"], "live"),
		name:  cmp.Or(q["stream"], "livestream"),
	}
	return d.stream()
}

// ParseRTC reads the streamurl of SRS's JSON API for WebRTC, such as
// webrtc://host:1985/live/livestream?vhost=v.
func ParseRTC(url string) (Stream, error) {
	if len(url) > MaxURL {
		return Stream{}, ErrTooLong
	}
	// As srs_parse_rtmp_url: a slash in the query divides as well.
	i := strings.LastIndexByte(url, '/')
	if i < 0 {
		return Stream{}, ErrNoHost
	}
	d := discovery{name: url[i+1:]}
	d.discover(url[:i])
	return d.stream()
}
