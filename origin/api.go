package origin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What this origin calls itself. The version is that of the SRS whose API this
// one follows, for whoever compares versions.
const (
	apiMajor    = 7
	apiMinor    = 0
	apiRevision = 18
	apiVersion  = "7.0.18"
	software    = "srs-proxy built-in origin"
)

func serverName(version string) string {
	if version == "" {
		return software
	}
	return "srs-proxy/" + version + " (built-in origin)"
}

// Error codes of SRS (srs_kernel_error.hpp).
const (
	codeVhostNotFound  = 2014
	codeStreamNotFound = 2048
	codeClientNotFound = 2049
)

// apiHead begins every reply.
type apiHead struct {
	Code    int    `json:"code"`
	Server  string `json:"server"`
	Service string `json:"service"`
	PID     string `json:"pid"`
}

type apiKbps struct {
	Recv30s int64 `json:"recv_30s"`
	Send30s int64 `json:"send_30s"`
}

type apiVhost struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	Enabled   bool    `json:"enabled"`
	Clients   int     `json:"clients"`
	Streams   int     `json:"streams"`
	SendBytes int64   `json:"send_bytes"`
	RecvBytes int64   `json:"recv_bytes"`
	Kbps      apiKbps `json:"kbps"`
	HLS       apiHLS  `json:"hls"`
}

type apiHLS struct {
	Enabled  bool    `json:"enabled"`
	Fragment float64 `json:"fragment,omitempty"`
}

type apiStream struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Vhost     string     `json:"vhost"` // its id
	App       string     `json:"app"`
	TcURL     string     `json:"tcUrl"`
	URL       string     `json:"url"`
	LiveMs    int64      `json:"live_ms"` // the time now, as in SRS
	Clients   int        `json:"clients"`
	Frames    int64      `json:"frames"`
	SendBytes int64      `json:"send_bytes"`
	RecvBytes int64      `json:"recv_bytes"`
	Kbps      apiKbps    `json:"kbps"`
	Publish   apiPublish `json:"publish"`
	Video     *apiVideo  `json:"video"`
	Audio     *apiAudio  `json:"audio"`
}

type apiPublish struct {
	Active bool   `json:"active"`
	CID    string `json:"cid,omitempty"`
}

type apiVideo struct {
	Codec   string `json:"codec"`
	Profile string `json:"profile"`
	Level   string `json:"level"`
	Width   int    `json:"width"`
	Height  int    `json:"height"`
}

type apiAudio struct {
	Codec      string `json:"codec"`
	SampleRate int    `json:"sample_rate"`
	Channel    int    `json:"channel"`
	Profile    string `json:"profile"`
}

type apiClient struct {
	ID        string  `json:"id"`
	Vhost     string  `json:"vhost"`
	Stream    string  `json:"stream"`
	IP        string  `json:"ip"`
	PageURL   string  `json:"pageUrl"`
	SwfURL    string  `json:"swfUrl"`
	TcURL     string  `json:"tcUrl"`
	URL       string  `json:"url"`
	Name      string  `json:"name"`
	Type      string  `json:"type"`
	Publish   bool    `json:"publish"`
	Alive     float64 `json:"alive"` // seconds
	SendBytes int64   `json:"send_bytes"`
	RecvBytes int64   `json:"recv_bytes"`
	Kbps      apiKbps `json:"kbps"`
}

// apiHandler serves SRS's HTTP API, as far as this origin has what it tells of.
// SRS redirects /api/v1/streams to /api/v1/streams/; here both are answered.
func (o *Origin) apiHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", o.apiURLs(map[string]any{"api": "the api root"}))
	mux.HandleFunc("/api/", o.apiURLs(map[string]any{"v1": "the api version 1.0"}))
	mux.HandleFunc("/api/v1/", o.apiURLs(map[string]any{
		"versions":  "the version of this origin",
		"summaries": "the summary(pid, argv, pwd, cpu, mem) of this origin",
		"vhosts":    "manage all vhosts or specified vhost",
		"streams":   "manage all streams or specified stream",
		"clients":   "manage all clients or specified client, default query top 10 clients",
	}))
	mux.HandleFunc("/api/v1/versions", o.apiVersions)
	mux.HandleFunc("/api/v1/summaries", o.apiSummaries)
	o.processRoutes(mux)
	o.rtcRoutes(mux)
	for _, p := range []string{"/api/v1/vhosts", "/api/v1/vhosts/"} {
		mux.HandleFunc(p, o.apiVhosts)
	}
	for _, p := range []string{"/api/v1/streams", "/api/v1/streams/"} {
		mux.HandleFunc(p, o.apiStreams)
	}
	for _, p := range []string{"/api/v1/clients", "/api/v1/clients/"} {
		mux.HandleFunc(p, o.apiClients)
	}
	return mux
}

func (o *Origin) head() apiHead {
	return apiHead{Server: o.serverID, Service: o.serviceID, PID: strconv.Itoa(o.procs.pid())}
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encode", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the client's going is its own business
}

// writeCode is SRS's error reply: status 200 and a code. Unlike SRS's it says who
// it is from.
func (o *Origin) writeCode(w http.ResponseWriter, code int) {
	h := o.head()
	h.Code = code
	writeJSON(w, h)
}

func (o *Origin) apiURLs(urls map[string]any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, struct {
			apiHead
			URLs map[string]any `json:"urls"`
		}{o.head(), urls})
	}
}

func (o *Origin) apiVersions(w http.ResponseWriter, _ *http.Request) {
	type data struct {
		Major           int    `json:"major"`
		Minor           int    `json:"minor"`
		Revision        int    `json:"revision"`
		Version         string `json:"version"`
		Software        string `json:"software"`
		SoftwareVersion string `json:"software_version"`
	}
	writeJSON(w, struct {
		apiHead
		Data data `json:"data"`
	}{o.head(), data{apiMajor, apiMinor, apiRevision, apiVersion, software, o.cfg.Version}})
}

// rest is what follows the collection's name in the path: an id, or nothing.
func rest(r *http.Request, collection string) string {
	return strings.Trim(strings.TrimPrefix(r.URL.Path, collection), "/")
}

// page applies start and count as SRS does: at least 10, at least from 0.
func page[T any](r *http.Request, all []T) []T {
	q := r.URL.Query()
	start, _ := strconv.Atoi(q.Get("start"))
	count, _ := strconv.Atoi(q.Get("count"))
	start, count = max(0, start), max(10, count)
	if start >= len(all) {
		return []T{}
	}
	all = all[start:]
	return all[:min(count, len(all))]
}

func (o *Origin) apiVhosts(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	all := o.hub.apiVhosts(time.Now())
	id := rest(r, "/api/v1/vhosts")
	if id == "" {
		writeJSON(w, struct {
			apiHead
			Vhosts []apiVhost `json:"vhosts"`
		}{o.head(), page(r, all)})
		return
	}
	i := slices.IndexFunc(all, func(v apiVhost) bool { return v.ID == id })
	if i < 0 {
		o.writeCode(w, codeVhostNotFound)
		return
	}
	writeJSON(w, struct {
		apiHead
		Vhost apiVhost `json:"vhost"`
	}{o.head(), all[i]})
}

func (o *Origin) apiStreams(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	all := o.hub.apiStreams(time.Now())
	id := rest(r, "/api/v1/streams")
	if id == "" {
		writeJSON(w, struct {
			apiHead
			Streams []apiStream `json:"streams"`
		}{o.head(), page(r, all)})
		return
	}
	i := slices.IndexFunc(all, func(s apiStream) bool { return s.ID == id })
	if i < 0 {
		o.writeCode(w, codeStreamNotFound)
		return
	}
	writeJSON(w, struct {
		apiHead
		Stream apiStream `json:"stream"`
	}{o.head(), all[i]})
}

func (o *Origin) apiClients(w http.ResponseWriter, r *http.Request) {
	id := rest(r, "/api/v1/clients")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		if !o.hub.kick(id) {
			o.writeCode(w, codeClientNotFound)
			return
		}
		o.log.Info("client ended by the API", "id", id)
		o.writeCode(w, 0)
		return
	default:
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	all := o.hub.apiClients(time.Now())
	if id == "" {
		writeJSON(w, struct {
			apiHead
			Clients []apiClient `json:"clients"`
		}{o.head(), page(r, all)})
		return
	}
	i := slices.IndexFunc(all, func(c apiClient) bool { return c.ID == id })
	if i < 0 {
		o.writeCode(w, codeClientNotFound)
		return
	}
	writeJSON(w, struct {
		apiHead
		Client apiClient `json:"client"`
	}{o.head(), all[i]})
}
