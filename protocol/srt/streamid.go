package srt

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"srs-proxy/protocol/streamurl"
)

// Defaults of SRS's srt_server: what an empty stream id means, and the app of one that
// has only a name (vMix).
const (
	DefaultStreamID = "#!::r=live/livestream,m=publish"
	DefaultApp      = "live"
)

// Errors of stream ids.
var (
	ErrStreamIDMode = errors.New("SRT stream id has a mode other than publish and request")
	ErrStreamIDName = errors.New("SRT stream id names no stream")
)

// Request is what a stream id asks for.
type Request struct {
	// Stream is not folded to the vhosts that the origins know. An id without a host
	// has the default vhost.
	Stream  streamurl.Stream
	Publish bool
	// Params are the other keys, as SRS gives them to hooks: "vhost=a&key=value".
	// They may hold secrets.
	Params string
}

// ParseStreamID reads a stream id as SRS does (srs_srt_streamid_to_request). The forms:
//
//	#!::r=app/name,m=publish         #!::h=vhost,r=app/name,key=value
//	#!::h=app/name                   #!::h=vhost/app/name,m=request
//	app/name?key=value               name (of defaultApp)
//
// Without m it is a play. An empty id is an error: the caller has its own default.
func ParseStreamID(id, defaultApp string) (Request, error) {
	if len(id) > MaxStreamID {
		return Request{}, ErrStreamIDLength
	}
	r := Request{Stream: streamurl.Stream{Vhost: streamurl.DefaultVhost}}
	path := id
	if keyed, ok := strings.CutPrefix(id, "#!::"); ok {
		var err error
		if path, err = r.readKeys(keyed); err != nil {
			return Request{}, err
		}
	}
	app, name, ok := strings.Cut(path, "/")
	if !ok {
		app, name = defaultApp, path
	}
	name, params, ok := strings.Cut(name, "?")
	if ok {
		r.Params = params
	}
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		name = name[:i] // as srs_generate_stream_url: "name" and "name.flv" are one
	}
	// SRS joins app and name to the key of its source, so where the one ends does not
	// matter. An RTMP URL of more than two parts has them all but the last in the app.
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		app, name = app+"/"+name[:i], name[i+1:]
	}
	if app == "" || name == "" {
		return Request{}, ErrStreamIDName
	}
	r.Stream.App, r.Stream.Name = app, name
	return r, nil
}

// readKeys takes the keys of "h=vhost,r=app/name,m=publish", in the order in which SRS
// does, and returns the path that they name with the params behind a "?".
func (r *Request) readKeys(keyed string) (path string, err error) {
	var params []string
	keys := splitKeys(strings.ReplaceAll(keyed, "?", ","))
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		v := keys[k]
		switch k {
		case "h":
			vhost, below, ok := strings.Cut(v, "/")
			if ok {
				path = below
				if !strings.Contains(below, "/") { // app/name, and no vhost
					path = v
					break
				}
			}
			params = append(params, "vhost="+vhost)
			if vhost != "" {
				r.Stream.Vhost = vhost
			}
		case "r":
			path = v
		case "m":
			switch strings.ToLower(v) {
			case "publish":
				r.Publish = true
			case "request":
			default:
				return "", ErrStreamIDMode
			}
		default:
			params = append(params, k+"="+v)
		}
	}
	if path == "" {
		return "", ErrStreamIDName
	}
	if len(params) > 0 {
		path += "?" + strings.Join(params, "&")
	}
	return path, nil
}

// splitKeys is srs_parse_query_string: "=", ",", "&&", "&" and ";" all separate, keys
// and values alternate, and the last of two equal keys counts. (So a key without a
// value, or a value that contains a "=", shifts what follows. It does in SRS.)
func splitKeys(s string) map[string]string {
	var fields []string
	for s != "" {
		i := strings.IndexAny(s, "=,&;")
		if i < 0 {
			fields = append(fields, s)
			break
		}
		fields = append(fields, s[:i])
		if strings.HasPrefix(s[i:], "&&") {
			i++
		}
		s = s[i+1:]
	}
	keys := make(map[string]string, len(fields)/2+1)
	for i := 0; i < len(fields); i += 2 {
		keys[fields[i]] = ""
		if i+1 < len(fields) {
			keys[fields[i]] = fields[i+1]
		}
	}
	return keys
}
