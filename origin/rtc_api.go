package origin

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"srs-proxy/protocol/streamurl"
)

// Bounds of requests: an SDP with every codec of a browser is below 20 KiB. The
// JSON has one in it.
const (
	maxSDP  = 256 << 10
	maxJSON = maxSDP + 64<<10
)

// codeBadRequest is all that SRS says of a legacy request that failed.
const codeBadRequest = 400

// rtcRoutes adds WHIP, WHEP and the JSON API of before (SRS: srs_app_rtc_api.cpp)
// to the API. SRS redirects paths without the last slash; here both are answered.
func (o *Origin) rtcRoutes(mux *http.ServeMux) {
	mux.HandleFunc("/rtc/", o.apiURLs(map[string]any{
		"api": "the api root",
		"rtc": map[string]any{"v1": map[string]any{"play": "Play stream", "publish": "Publish stream", "nack": "Simulate the NACK"}},
	}))
	for path, h := range map[string]http.HandlerFunc{
		"/rtc/v1/whip":      o.serveWHIP,
		"/rtc/v1/whep":      o.serveWHIP,
		"/rtc/v1/whip-play": o.serveWHIP,
		"/rtc/v1/publish":   func(w http.ResponseWriter, r *http.Request) { o.serveRTCJSON(w, r, true) },
		"/rtc/v1/play":      func(w http.ResponseWriter, r *http.Request) { o.serveRTCJSON(w, r, false) },
	} {
		mux.HandleFunc(path, h)
		mux.HandleFunc(path+"/", h)
	}
}

// serveWHIP is RFC 9725 and its sibling for players. Where SRS hangs up on a
// request that it refuses, this says why.
func (o *Origin) serveWHIP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "Close") // SRS: one connection each
	switch r.Method {
	case http.MethodPost:
	case http.MethodDelete:
		o.deleteWHIP(w, r)
		return
	default: // a PATCH too: candidates of the client are not needed, see rtcServer
		w.Header().Set("Allow", "POST, DELETE, OPTIONS")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSDP))
	if err != nil {
		refuseWHIP(w, fmt.Errorf("%w: %w", errOffer, err))
		return
	}
	req, err := o.whipRequest(r, string(body))
	if err != nil {
		refuseWHIP(w, err)
		return
	}
	sess, answer, err := o.rtc.open(req)
	if err != nil {
		o.log.Warn("rtc refused", "stream", streamOf(req.key), "client", req.ip, "err", err)
		refuseWHIP(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/sdp")
	h.Set("Location", "/rtc/v1/whip/?action=delete&token="+queryValue(sess.token)+"&app="+queryValue(req.key.App)+
		"&stream="+queryValue(req.key.Name)+"&session="+queryValue(sess.id))
	h.Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer) // a client that is gone expires
}

// queryValue escapes what a session's id has, but the colon, which SRS does not.
func queryValue(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "%3A", ":") }

func streamOf(k streamurl.Stream) string { return k.Vhost + "/" + k.App + "/" + k.Name }

// whipRequest reads the query as SRS does. The vhost is the query's, else the
// host's.
func (o *Origin) whipRequest(r *http.Request, offer string) (rtcRequest, error) {
	q, err := streamurl.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return rtcRequest{}, fmt.Errorf("%w: %w", errOffer, err)
	}
	key, err := streamurl.ParseWHIP(r.Host, q)
	if err != nil {
		return rtcRequest{}, fmt.Errorf("%w: %w", errOffer, err)
	}
	req := rtcRequest{
		publish: strings.TrimSuffix(r.URL.Path, "/") == "/rtc/v1/whip" && (q["action"] == "" || q["action"] == "publish"),
		ip:      clientIP(r), pageURL: withoutSecrets(r.Referer()), offer: offer,
		eip: eipOf(q), codec: q["codec"], ufrag: unescaped(q["ice-ufrag"]), pwd: unescaped(q["ice-pwd"]),
	}
	if n := len(req.ufrag); n != 0 && (n < 4 || n > 32) || !iceChars(req.ufrag) {
		return req, fmt.Errorf("%w: ice-ufrag", errOffer)
	}
	if n := len(req.pwd); n != 0 && (n < 22 || n > 32) || !iceChars(req.pwd) {
		return req, fmt.Errorf("%w: ice-pwd", errOffer)
	}
	o.rtcStream(&req, key)
	return req, nil
}

// unescaped undoes %2B and its like, which SRS does not, but leaves a bare plus,
// which is an ice-char, as SRS does.
func unescaped(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

func eipOf(q streamurl.Query) string {
	eip := unescaped(cmp.Or(q["eip"], q["candidate"]))
	if !validEIP(eip) {
		return ""
	}
	return eip
}

// iceChars: RFC 8839 section 5.4.
func iceChars(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '+' && r != '/'
	})
}

func (o *Origin) rtcStream(req *rtcRequest, key streamurl.Stream) {
	req.tcURL = "webrtc://" + key.Vhost + "/" + key.App
	key.Vhost = o.hub.vhost.Fold(key.Vhost)
	req.key = key
}

func refuseWHIP(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errOffer), errors.Is(err, errNoCodec):
		status = http.StatusBadRequest
	case errors.Is(err, ErrBusy):
		status = http.StatusConflict
	case errors.Is(err, errRTCOff), errors.Is(err, errRTMPToRTC):
		status = http.StatusNotFound
	case errors.Is(err, errFull), errors.Is(err, errStopping):
		status = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), status)
}

// deleteWHIP ends a session, whose token proves that the client has it. One that
// is gone already is no error.
func (o *Origin) deleteWHIP(w http.ResponseWriter, r *http.Request) {
	q, err := streamurl.ParseQuery(r.URL.RawQuery)
	token := unescaped(q["token"])
	if err != nil || token == "" {
		http.Error(w, "token is missing", http.StatusBadRequest)
		return
	}
	if sess := o.rtc.session(unescaped(q["session"])); sess != nil {
		if subtle.ConstantTimeCompare([]byte(token), []byte(sess.token)) != 1 {
			http.Error(w, "token does not match", http.StatusForbidden)
			return
		}
		sess.cancel(errRTCDeleted)
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}

// rtcJSON is the body of a legacy request.
type rtcJSON struct {
	SDP       string `json:"sdp"`
	StreamURL string `json:"streamurl"` // webrtc://host/app/stream?vhost=...
	ClientIP  string `json:"clientip"`
}

// serveRTCJSON answers as SRS does, in status 200 always.
func (o *Origin) serveRTCJSON(w http.ResponseWriter, r *http.Request, publish bool) {
	w.Header().Set("Connection", "Close")
	sess, answer, err := o.openRTCJSON(w, r, publish)
	if err != nil {
		o.log.Warn("rtc refused", "client", clientIP(r), "err", err)
		writeJSON(w, struct {
			Code int `json:"code"`
		}{codeBadRequest})
		return
	}
	writeJSON(w, struct {
		apiHead
		SDP     string `json:"sdp"`
		Session string `json:"sessionid"`
	}{o.head(), answer, sess.id})
}

func (o *Origin) openRTCJSON(w http.ResponseWriter, r *http.Request, publish bool) (*rtcSession, string, error) {
	var body rtcJSON
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSON)).Decode(&body); err != nil {
		return nil, "", fmt.Errorf("%w: body: %w", errOffer, err)
	}
	key, err := streamurl.ParseRTC(body.StreamURL)
	if err != nil {
		return nil, "", fmt.Errorf("%w: streamurl: %w", errOffer, err)
	}
	q, err := streamurl.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errOffer, err)
	}
	req := rtcRequest{
		publish: publish, ip: clientIP(r), pageURL: withoutSecrets(r.Referer()), offer: body.SDP, eip: eipOf(q), codec: q["codec"],
	}
	if ip, err := netip.ParseAddr(body.ClientIP); err == nil {
		req.ip = ip.String()
	}
	o.rtcStream(&req, key)
	return o.rtc.open(req)
}
