package origin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"srs-proxy/protocol/streamurl"
)

// httpServer is one listener and what it serves.
type httpServer struct {
	l   *listener
	srv *http.Server
}

func (o *Origin) httpServers() (out []httpServer) {
	media := o.cors(http.HandlerFunc(o.serveMedia))
	api := o.cors(o.apiHandler())
	both := http.NewServeMux()
	both.Handle("/", media)
	both.Handle("/api/", api)
	both.Handle("/rtc/", api)
	for i, l := range o.http {
		h := media
		for _, a := range o.cfg.APIListen {
			if sameAddress(a, o.cfg.HTTPListen[i]) {
				h = both
			}
		}
		out = append(out, httpServer{l, o.newHTTPServer(h)})
	}
	for _, l := range o.api {
		out = append(out, httpServer{l, o.newHTTPServer(api)})
	}
	return out
}

func (o *Origin) newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(o.log.Handler(), slog.LevelWarn), // panics, mostly
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
}

type connKey struct{}

// cors answers browsers as SRS's SrsHttpCorsMux does: with headers where the
// request has an Origin, and OPTIONS at once.
func (o *Origin) cors(next http.Handler) http.Handler {
	server := serverName(o.cfg.Version)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", server)
		if r.Header.Get("Origin") != "" {
			setCORS(h)
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func setCORS(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "*")
	h.Set("Access-Control-Allow-Methods", "*")
	h.Set("Access-Control-Expose-Headers", "*")
	h.Set("Access-Control-Allow-Credentials", "false")
	h.Set("Access-Control-Request-Private-Network", "true")
}

// serveMedia finds the stream and what of it is wanted by the path's extension.
func (o *Origin) serveMedia(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	key, ext, err := streamurl.ParseHTTP(r.Host, r.URL.Path, r.URL.RawQuery)
	if err != nil {
		notFound(w)
		return
	}
	key.Vhost = o.hub.vhost.Fold(key.Vhost)
	switch ext {
	case ".flv", ".aac", ".mp3":
		o.serveLive(w, r, key, ext)
	case ".ts":
		if !o.serveSegment(w, r, key) {
			o.serveLive(w, r, key, ext)
		}
	case ".m3u8":
		o.servePlaylist(w, r, key)
	default:
		notFound(w)
	}
}

func notFound(w http.ResponseWriter) { http.Error(w, "Not Found", http.StatusNotFound) }

// clientIP is the real client's where a proxy tells it. As in SRS, X-Forwarded-For
// and then X-Real-IP are believed; they only name clients in the API.
func clientIP(r *http.Request) string {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	for _, s := range []string{first, r.Header.Get("X-Real-IP")} {
		if ip, err := netip.ParseAddr(strings.TrimSpace(s)); err == nil {
			return ip.String()
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// withoutSecrets keeps what may be a token or a password out of the API: the query,
// and what is before the host.
func withoutSecrets(url string) string {
	url, _, _ = strings.Cut(url, "?")
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	authority, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		return scheme + "://" + authority[i+1:] + "/" + path
	}
	return url
}

// httpClient describes an HTTP player as SRS does: tcUrl is made of the host and
// the app, the name keeps its extension.
func httpClient(r *http.Request, key streamurl.Stream, typ, ext string) *client {
	return &client{
		key: key, typ: typ, ip: clientIP(r), name: key.Name + ext,
		pageURL: withoutSecrets(r.Referer()),
		tcURL:   "http://" + r.Host + "/" + key.App,
	}
}
