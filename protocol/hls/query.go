package hls

import "strings"

// Context is the query parameter in which SRS keeps apart the viewers of a stream.
const Context = "hls_ctx"

// CutQuery takes every token parameter out of a raw query and returns the value
// of the first; the rest stays byte for byte as it was, order and escapes too,
// because origins and their hooks may sign or compare it.
func CutQuery(raw string) (rest, token string, found bool) { return cutParam(raw, Param) }

// CutContext takes out of a raw query what says which viewer asks.
func CutContext(raw string) string {
	rest, _, _ := cutParam(raw, Context)
	return rest
}

func cutParam(raw, name string) (rest, value string, found bool) {
	if !strings.Contains(raw, name) {
		return raw, "", false
	}
	if k, v, _ := strings.Cut(raw, "="); k == name && !strings.Contains(v, "&") {
		return "", v, true
	}
	kept := make([]string, 0, 4)
	for p := range strings.SplitSeq(raw, "&") {
		k, v, _ := strings.Cut(p, "=")
		if k != name {
			kept = append(kept, p)
			continue
		}
		if !found {
			value, found = v, true
		}
	}
	if !found {
		return raw, "", false
	}
	return strings.Join(kept, "&"), value, true
}

// withToken adds the token to the query of a URI reference, before the fragment,
// in place of any token that is there. The rest of the URI is not touched.
func withToken(uri, token string) string {
	uri, frag := cutFragment(uri)
	path, query, hasQuery := strings.Cut(uri, "?")
	if !hasQuery {
		return path + "?" + Param + "=" + token + frag
	}
	if query, _, _ = CutQuery(query); query != "" {
		query += "&"
	}
	return path + "?" + query + Param + "=" + token + frag
}

func cutFragment(uri string) (before, fragment string) {
	if i := strings.IndexByte(uri, '#'); i >= 0 {
		return uri[:i], uri[i:]
	}
	return uri, ""
}
