package api

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/originapi"
)

// Slot is a supervisor's place for an origin, with the process that is there now.
type Slot struct {
	// ID is the origin's, as the balancer has it too.
	ID string
	// State is the supervisor's word: starting, ready, draining, backoff...
	State   string
	PID     int
	Version string
	// Serves is false for one that is not meant to, such as one that was stopped.
	Serves bool
}

// originsWait is how long whoever knows the origins may take to say so.
const originsWait = 500 * time.Millisecond

// origins are those that can be asked, with complaints about those that cannot: a
// slot whose process is not there has no streams to show, but its absence is news.
func (s *Server) origins(ctx context.Context) ([]balancer.Origin, []originError) {
	ctx, cancel := context.WithTimeout(ctx, originsWait)
	defer cancel()
	all, err := s.deps.Origins.Origins(ctx)
	if err != nil {
		s.log.Warn("the origins are not known", "proto", "api", "cause", err)
		return nil, []originError{{Error: "the origins are not known"}}
	}
	origins := make([]balancer.Origin, len(all))
	for i, o := range all {
		origins[i] = o.Origin
	}
	s.asker.times.keep(origins)
	var errs []originError
	for _, slot := range s.slots() {
		if slot.Serves && !slices.ContainsFunc(origins, func(o balancer.Origin) bool { return o.ID == slot.ID }) {
			errs = append(errs, originError{slot.ID, "the origin is " + slot.State})
		}
	}
	return origins, errs
}

func (s *Server) slots() []Slot {
	if s.deps.Slots == nil {
		return nil
	}
	return s.deps.Slots()
}

// askAll asks all origins, or takes the answers that somebody else just got.
func (s *Server) askAll(r *http.Request, q originapi.Question) ([]answer, []originError) {
	q.Authorization = r.Header.Get("Authorization")
	origins, errs := s.origins(r.Context())
	answers := s.shares.do(q.Path+"\n"+q.Authorization, func() []answer {
		return s.asker.all(r.Context(), origins, q, nil)
	})
	return answers, sorted(append(errs, failures(answers)...))
}

// askOwner asks all origins for what one of them has, and does not wait for the
// others when it has answered.
func (s *Server) askOwner(r *http.Request, q originapi.Question) (answer, []answer, []originError) {
	q.Authorization = r.Header.Get("Authorization")
	origins, errs := s.origins(r.Context())
	answers := s.asker.all(r.Context(), origins, q, answer.ok)
	if i := slices.IndexFunc(answers, answer.ok); i >= 0 {
		return answers[i], answers, nil
	}
	for _, a := range answers {
		if a.err != nil { // the others have said no
			errs = append(errs, originError{a.origin, a.err.Error()})
		}
	}
	return answer{}, answers, sorted(errs)
}

// askAny asks for what all origins say alike, or of the machine that they are on.
func (s *Server) askAny(r *http.Request, q originapi.Question) (answer, []originError, bool) {
	q.Authorization = r.Header.Get("Authorization")
	origins, errs := s.origins(r.Context())
	a, answers, ok := s.asker.any(r.Context(), origins, q)
	if ok {
		return a, nil, true
	}
	return a, sorted(append(errs, failures(answers)...)), false
}

func sorted(errs []originError) []originError {
	slices.SortStableFunc(errs, func(a, b originError) int { return cmp.Compare(a.Origin, b.Origin) })
	return errs
}

// originInfo is an origin as /api/v1/origins shows it. Why one is not ready is not told
// here: that may be a line of its log, and the API is public.
type originInfo struct {
	ID        string             `json:"id"`
	State     string             `json:"state"`
	PID       int                `json:"pid,omitempty"`
	Version   string             `json:"version,omitempty"`
	Endpoints balancer.Endpoints `json:"endpoints"`
	Load      balancer.Load      `json:"load"`
	// Streams are those placed there, idle ones included; Pub and Play are sessions.
	Streams int `json:"streams"`
	Pub     int `json:"pub"`
	Play    int `json:"play"`
	// Ejected is until when failed connections keep new streams away.
	Ejected time.Time `json:"ejected_until,omitzero"`
}

// serveOrigins serves what is known of the origins without asking them.
func (s *Server) serveOrigins(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet) || !s.admitted(w, r) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), originsWait)
	defer cancel()
	known, err := s.deps.Origins.Origins(ctx)
	var errs []originError
	if err != nil {
		s.log.Warn("the origins are not known", "proto", "api", "cause", err)
		errs = []originError{{Error: "the balancer does not answer"}}
	}
	infos := describeOrigins(known, s.slots())
	id := r.PathValue("id")
	if id == "" {
		o := s.head(codeOK)
		o.Set("origins", infos)
		s.answer(w, r, o, errs)
		return
	}
	i := slices.IndexFunc(infos, func(i originInfo) bool { return i.ID == originID(id) })
	if i < 0 {
		s.noOrigin(w, r, id)
		return
	}
	o := s.head(codeOK)
	o.Set("origin", infos[i])
	s.answer(w, r, o, errs)
}

// describeOrigins joins what the balancer and the supervisor know.
func describeOrigins(known []balancer.Status, slots []Slot) []originInfo {
	infos := make([]originInfo, 0, max(len(known), len(slots)))
	for _, o := range known {
		info := originInfo{
			ID: o.ID, State: "ready", Endpoints: o.Endpoints, Load: o.Load,
			Streams: o.Streams, Pub: o.Publishers, Play: o.Players, Ejected: o.EjectedUntil,
		}
		if o.State == balancer.Draining {
			info.State = "draining"
		}
		infos = append(infos, info)
	}
	for _, slot := range slots {
		i := slices.IndexFunc(infos, func(i originInfo) bool { return i.ID == slot.ID })
		if i < 0 {
			i = len(infos)
			infos = append(infos, originInfo{ID: slot.ID})
		}
		infos[i].State, infos[i].PID, infos[i].Version = slot.State, slot.PID, slot.Version
	}
	// By number: origin-2 comes before origin-10.
	slices.SortFunc(infos, func(a, b originInfo) int {
		return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return infos
}

// originID: 3 is origin-3, as on the command line.
func originID(name string) string {
	if name != "" && strings.Trim(name, "0123456789.") == "" {
		return "origin-" + name
	}
	return name
}

// serveOrigin passes a request on to one origin's API, as it is. Only the API: WebRTC's
// signalling would lead past the proxy.
func (s *Server) serveOrigin(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(r.PathValue("rest"), "api/v1/")
	if rest == "" {
		s.serveOrigins(w, r)
		return
	}
	if !only(w, r, http.MethodGet, http.MethodDelete) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.AskTimeout)
	defer cancel()
	origins, _ := s.origins(ctx)
	i := slices.IndexFunc(origins, func(o balancer.Origin) bool { return o.ID == originID(r.PathValue("id")) })
	if i < 0 {
		s.noOrigin(w, r, r.PathValue("id"))
		return
	}
	s.pass(ctx, w, r, origins[i], "/api/v1/"+rest)
}

func (s *Server) noOrigin(w http.ResponseWriter, r *http.Request, id string) {
	s.answerStatus(w, r, http.StatusNotFound, s.head(http.StatusNotFound), []originError{{originID(id), "there is no such origin, or it is not there now"}})
}

// pass answers with what one origin answers.
func (s *Server) pass(ctx context.Context, w http.ResponseWriter, r *http.Request, o balancer.Origin, path string) {
	switch path {
	case "/api/v1/streams", "/api/v1/clients", "/api/v1/vhosts":
		path += "/" // where SRS would redirect to
	}
	u := *r.URL
	u.Path, u.RawPath = path, ""
	q := originapi.Question{Method: r.Method, Path: u.RequestURI(), Authorization: r.Header.Get("Authorization")}
	resp, err := s.client.Do(ctx, o.Endpoints.API, q)
	if err != nil {
		s.answer(w, r, s.head(codeNoAnswer), []originError{{o.ID, err.Error()}})
		return
	}
	defer func() { _ = resp.Body.Close() }()
	for _, name := range []string{"Content-Type", "Content-Length", "WWW-Authenticate", "Allow", "Last-Modified"} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	// What is cut off is shorter than its length says.
	_, _ = io.Copy(w, io.LimitReader(resp.Body, s.cfg.Ask.MaxReply))
}
