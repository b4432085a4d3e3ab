package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"srs-proxy/balancer"
	"srs-proxy/proxy/originapi"
)

// everything as count of an origin's list.
const everything = 1_000_000

// element is one of an origin's list, with what tells where it belongs.
type element struct {
	origin string
	text   []byte
	key    listKey
}

type listKey struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	URL     string `json:"url"` // [vhost]/app/name, without the default vhost
	Clients int64  `json:"clients"`
	Publish any    `json:"publish"`
}

// publishes: a stream has an object there, a client a bool.
func (k listKey) publishes() bool {
	o, ok := k.Publish.(map[string]any)
	return ok && o["active"] == true
}

// vhost is the name of the vhost that a URL is of.
func (k listKey) vhost() string {
	name, _, _ := strings.Cut(k.URL, "/")
	return cmp.Or(name, balancer.DefaultVhost)
}

// elements are those of all answers, in the order of their ids, which is that of SRS:
// they are random, so that it holds still while others come and go.
func elements(answers []answer) ([]element, []originError) {
	var all []element
	var errs []originError
	for _, a := range answers {
		if !a.ok() {
			continue
		}
		for _, text := range a.Items {
			e := element{origin: a.origin, text: text}
			if json.Unmarshal(text, &e.key) != nil || e.key.ID == "" {
				errs = append(errs, originError{a.origin, "the list has something else in it"})
				break
			}
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b element) int { return cmp.Compare(a.key.ID, b.key.ID) })
	return all, errs
}

// page is the part of a list that was asked for. SRS: start is at least 0, count at
// least 10.
func page(r *http.Request) (start, count int) {
	q := r.URL.Query()
	return max(0, atoi(q.Get("start"))), max(10, atoi(q.Get("count")))
}

// atoi is C's: what comes before something else, and 0 for nothing.
func atoi(text string) int {
	text = strings.TrimLeft(text, " \t\n\v\f\r")
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || end == 0 && (text[0] == '-' || text[0] == '+')) {
		end++
	}
	n, err := strconv.ParseInt(text[:end], 10, 64)
	if err != nil && end > 3 { // out of range
		n = math.MaxInt32
	}
	return int(min(max(n, math.MinInt32), math.MaxInt32))
}

func cut[T any](all []T, start, count int) []T {
	all = all[min(start, len(all)):]
	return all[:min(count, len(all))]
}

// vhostID is the id of a vhost of the whole: each origin has its own, at random. It
// comes of the name, so that it stays over restarts.
func vhostID(name string) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	h := sha256.Sum256([]byte("vhost " + name))
	id := []byte("vid-")
	for _, b := range h[:7] {
		id = append(id, digits[int(b)%len(digits)])
	}
	return string(id)
}

// serveStreams serves the list of streams, and one of them.
func (s *Server) serveStreams(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet) {
		return
	}
	if id := r.PathValue("id"); id != "" {
		s.serveOne(w, r, "stream", "/api/v1/streams/"+url.PathEscape(id), codeStreamNotFound)
		return
	}
	all, errs, ok := s.list(w, r, "streams", everything)
	if !ok {
		return
	}
	start, count := page(r)
	s.serveList(w, r, "streams", shown(s, cut(streamsOnce(all), start, count)), errs)
}

// stream is what several origins have of one stream. That is rare: one that drains
// still has players of a stream that another one has by now.
type stream struct {
	element
	others []element
}

// streamsOnce joins what has one URL. The publisher's origin is the one that counts,
// else the one with more clients.
func streamsOnce(all []element) []stream {
	at := make(map[string]int, len(all))
	once := make([]stream, 0, len(all))
	for _, e := range all {
		i, known := at[e.key.URL]
		if !known || e.key.URL == "" {
			at[e.key.URL] = len(once)
			once = append(once, stream{element: e})
			continue
		}
		was := &once[i]
		if better(e, was.element) {
			e, was.element = was.element, e
		}
		was.others = append(was.others, e)
	}
	slices.SortStableFunc(once, func(a, b stream) int { return cmp.Compare(a.key.ID, b.key.ID) })
	return once
}

func better(a, b element) bool {
	if p, q := a.key.publishes(), b.key.publishes(); p != q {
		return p
	}
	return a.key.Clients > b.key.Clients
}

func streamRules() map[string]rule {
	return map[string]rule{"clients": sum, "send_bytes": sum, "recv_bytes": sum}
}

func kbpsRules() map[string]rule {
	return map[string]rule{"recv_30s": sum, "send_30s": sum}
}

// object is the stream as it is shown.
func (m stream) object(s *Server) (originapi.Object, error) {
	o, err := originapi.Parse(m.text)
	if err != nil {
		return nil, err
	}
	if len(m.others) > 0 {
		parts := []originapi.Object{o}
		for _, other := range m.others {
			if p, err := originapi.Parse(other.text); err == nil {
				parts = append(parts, p)
			}
		}
		o = merge(parts, streamRules())
		o.Set("kbps", merge(inner(parts, "kbps"), kbpsRules()))
	}
	s.dress(&o, m.element)
	return o, nil
}

// object is a client as it is shown.
func (e element) object(s *Server) (originapi.Object, error) {
	o, err := originapi.Parse(e.text)
	if err == nil {
		s.dress(&o, e)
	}
	return o, err
}

// dress makes an origin's stream or client one of the whole.
func (s *Server) dress(o *originapi.Object, e element) {
	o.Set("vhost", vhostID(e.key.vhost()))
	if raw, ok := o.Get("ip"); ok {
		o.Set("ip", s.clientIP(raw))
	}
	o.Set("origin", e.origin)
}

// clientIP is the client's own address, where it is known: an origin on this machine
// sees one that the proxy lent to the session.
func (s *Server) clientIP(raw json.RawMessage) json.RawMessage {
	var text string
	if s.deps.Client == nil || json.Unmarshal(raw, &text) != nil {
		return raw
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return raw
	}
	client, ok := s.deps.Client(ip)
	if !ok {
		return raw
	}
	return json.RawMessage(strconv.Quote(client.Addr().Unmap().WithZone("").String()))
}

// shown are the objects of a page.
func shown[T interface {
	object(*Server) (originapi.Object, error)
}](s *Server, items []T) []originapi.Object {
	list := make([]originapi.Object, 0, len(items))
	for _, item := range items {
		if o, err := item.object(s); err == nil { // it was JSON a moment ago
			list = append(list, o)
		}
	}
	return list
}

func (s *Server) serveList(w http.ResponseWriter, r *http.Request, name string, list []originapi.Object, errs []originError) {
	o := s.head(codeOK)
	o.Set(name, list)
	s.answer(w, r, o, errs)
}

// list asks all origins for the first most of a list. Without any answer it has
// answered the client, and says false.
func (s *Server) list(w http.ResponseWriter, r *http.Request, name string, most int) ([]element, []originError, bool) {
	answers, errs := s.askAll(r, originapi.Question{Path: "/api/v1/" + name + "/?count=" + strconv.Itoa(most), List: name, Most: most})
	if s.challenged(w, answers) {
		return nil, nil, false
	}
	all, broken := elements(answers)
	errs = append(errs, broken...)
	if !slices.ContainsFunc(answers, answer.ok) {
		o := s.head(codeNoAnswer)
		o.Set(name, []any{})
		s.answer(w, r, o, orNone(errs))
		return nil, nil, false
	}
	return all, errs, true
}

// serveOne serves the stream or client that one origin has.
func (s *Server) serveOne(w http.ResponseWriter, r *http.Request, name, path string, notFound int) {
	found, answers, errs := s.askOwner(r, originapi.Question{Path: path})
	if !found.ok() {
		if !s.challenged(w, answers) {
			s.code(w, r, notFound, errs)
		}
		return
	}
	inner, _ := found.Body.Get(name)
	e := element{origin: found.origin, text: inner}
	if json.Unmarshal(inner, &e.key) != nil {
		s.code(w, r, notFound, append(errs, originError{found.origin, originapi.ErrNotJSON.Error()}))
		return
	}
	object, err := e.object(s)
	if err != nil {
		s.code(w, r, notFound, append(errs, originError{found.origin, originapi.ErrNotJSON.Error()}))
		return
	}
	o := s.head(codeOK)
	o.Set(name, object)
	s.answer(w, r, o, nil)
}

// serveClients serves the list of clients, and one of them, whom it can also end.
func (s *Server) serveClients(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet, http.MethodDelete) {
		return
	}
	id := r.PathValue("id")
	path := "/api/v1/clients/" + url.PathEscape(id)
	switch {
	case methodOf(r) == http.MethodDelete:
		s.kick(w, r, id, path)
	case id != "":
		s.serveOne(w, r, "client", path, codeClientNotFound)
	default:
		// An origin has its own in order too, so its first ones are enough.
		start, count := page(r)
		all, errs, ok := s.list(w, r, "clients", min(start+count, everything))
		if ok {
			s.serveList(w, r, "clients", shown(s, cut(all, start, count)), errs)
		}
	}
}

// kick ends a client at the origin that has it. Ids are random, so that asking them
// all to is the same as asking the one; and it needs not be known before.
func (s *Server) kick(w http.ResponseWriter, r *http.Request, id, path string) {
	if id == "" {
		s.code(w, r, codeClientNotFound, nil)
		return
	}
	found, answers, errs := s.askOwner(r, originapi.Question{Method: http.MethodDelete, Path: path})
	if !found.ok() {
		if !s.challenged(w, answers) {
			s.code(w, r, codeClientNotFound, errs)
		}
		return
	}
	s.shares.reset()
	s.log.Info("client ended by the API", "origin", found.origin, "id", id, "by", r.RemoteAddr)
	o := s.head(codeOK)
	o.Set("origin", found.origin)
	s.answer(w, r, o, nil)
}
