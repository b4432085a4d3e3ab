// Package header makes the headers of a request and of an answer fit to pass on.
//
//	client's ─▶ less what is between two neighbours, ─▶ origin's
//	            with the client's true address
//	origin's ─▶ less what is between two neighbours, ─▶ client's
//	            with leave for pages of other sites
//
// It knows no protocol above HTTP.
package header

import (
	"net/http"
	"net/netip"
	"strings"
)

// hopByHop are the headers between two neighbours (RFC 9110 section 7.6.1), and
// those that a request without a body has no use for.
func hopByHop() []string {
	return []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}
}

// DropHopByHop deletes them from h, those that Connection names included.
func DropHopByHop(h http.Header) {
	for _, name := range ConnectionNames(h) {
		h.Del(name)
	}
	for _, name := range hopByHop() {
		h.Del(name)
	}
}

// ConnectionNames are the headers that Connection declares hop-by-hop.
func ConnectionNames(h http.Header) []string {
	var names []string
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// ForOrigin is the client's header as the origin gets it. SRS believes
// X-Forwarded-For and X-Real-IP, so what a client claims there is replaced.
func ForOrigin(r *http.Request) http.Header {
	h := r.Header.Clone()
	DropHopByHop(h)
	h.Del("Content-Length")
	h.Del("Expect")
	h.Del("Forwarded") // the standard's X-Forwarded-For, and as easily forged
	ip := ClientIP(r)
	h.Set("X-Forwarded-For", ip)
	h.Set("X-Real-Ip", ip)
	return h
}

// Client is the address and port of the TCP peer.
func Client(r *http.Request) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr) // net/http's own words
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// ClientIP is the address of the TCP peer.
func ClientIP(r *http.Request) string {
	if ap := Client(r); ap.IsValid() {
		return ap.Addr().String()
	}
	return r.RemoteAddr
}

// CORS is what SRS says to a request with an Origin header. We say it to every
// request, so that a cache in front can serve one answer to all pages.
func CORS() [][2]string {
	return [][2]string{
		{"Access-Control-Allow-Origin", "*"},
		{"Access-Control-Allow-Methods", "*"},
		{"Access-Control-Allow-Headers", "*"},
		{"Access-Control-Expose-Headers", "*"},
	}
}

// AddCORS adds the headers unless the origin has its own policy.
func AddCORS(h http.Header) {
	if _, own := h["Access-Control-Allow-Origin"]; own {
		return
	}
	for _, kv := range CORS() {
		h.Set(kv[0], kv[1])
	}
}
