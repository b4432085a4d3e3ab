package api

import (
	"cmp"
	"net/http"
	"slices"

	"srs-proxy/proxy/originapi"
)

// serveVhosts serves the list of vhosts, and one of them. Every origin has the same
// ones, so those of a name are one.
func (s *Server) serveVhosts(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet) {
		return
	}
	id := r.PathValue("id")
	all, errs, ok := s.list(w, r, "vhosts", everything)
	if !ok {
		return
	}
	vhosts := vhostsOnce(all)
	if id == "" {
		list := make([]originapi.Object, len(vhosts))
		for i, v := range vhosts {
			list[i] = v.object
		}
		s.serveList(w, r, "vhosts", list, errs)
		return
	}
	i := slices.IndexFunc(vhosts, func(v vhost) bool { return v.id == id })
	if i < 0 {
		s.code(w, r, codeVhostNotFound, errs)
		return
	}
	o := s.head(codeOK)
	o.Set("vhost", vhosts[i].object)
	s.answer(w, r, o, errs)
}

type vhost struct {
	id     string
	object originapi.Object
}

func vhostRules() map[string]rule {
	return map[string]rule{"clients": sum, "streams": sum, "send_bytes": sum, "recv_bytes": sum}
}

// vhostsOnce joins those of a name, in the order of their ids.
func vhostsOnce(all []element) []vhost {
	byName := make(map[string][]originapi.Object)
	for _, e := range all {
		if o, err := originapi.Parse(e.text); err == nil {
			byName[e.key.Name] = append(byName[e.key.Name], o)
		}
	}
	vhosts := make([]vhost, 0, len(byName))
	for name, parts := range byName {
		v := vhost{vhostID(name), merge(parts, vhostRules())}
		v.object.Set("id", v.id)
		if kbps := inner(parts, "kbps"); len(kbps) > 0 {
			v.object.Set("kbps", merge(kbps, kbpsRules()))
		}
		vhosts = append(vhosts, v)
	}
	slices.SortFunc(vhosts, func(a, b vhost) int { return cmp.Compare(a.id, b.id) })
	return vhosts
}
