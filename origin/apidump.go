package origin

import (
	"cmp"
	"slices"
	"time"
)

// The hub's contents as the API tells them, sorted by id so that pages hold still.

func (h *hub) apiVhosts(now time.Time) []apiVhost {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refreshLocked()
	byName := make(map[string]*apiVhost, len(h.vhosts))
	for name, v := range h.vhosts {
		a := &apiVhost{ID: v.id, Name: name, Enabled: true, HLS: apiHLS{Enabled: h.cfg.HLSEnabled}}
		if h.cfg.HLSEnabled {
			a.HLS.Fragment = h.cfg.HLSFragment.Seconds()
		}
		a.RecvBytes, a.SendBytes, a.Kbps = v.traffic.api(now)
		byName[name] = a
	}
	for key, s := range h.streams {
		a := byName[key.Vhost]
		a.Clients += s.clients
		if s.publisher != nil {
			a.Streams++
		}
	}
	out := make([]apiVhost, 0, len(byName))
	for _, a := range byName {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b apiVhost) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (h *hub) apiStreams(now time.Time) []apiStream {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refreshLocked()
	out := make([]apiStream, 0, len(h.streams))
	for _, s := range h.streams {
		if s.clients == 0 {
			continue // only its HLS segments are left
		}
		a := apiStream{
			ID: s.id, Name: s.key.Name, Vhost: h.vhostLocked(s.key.Vhost).id, App: s.key.App,
			TcURL: s.tcURL, URL: s.url(), LiveMs: now.UnixMilli(), Clients: s.clients,
		}
		a.RecvBytes, a.SendBytes, a.Kbps = s.traffic.api(now)
		if s.publisher != nil {
			a.Publish = apiPublish{Active: true, CID: s.publisher.id}
		}
		s.describe(&a)
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b apiStream) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// describe adds what the media says.
func (s *stream) describe(a *apiStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Frames = s.frames
	if v := s.videoInfo; v.codec != codecNone {
		a.Video = &apiVideo{Codec: v.codec, Profile: orOther(v.profile), Level: orOther(v.level), Width: v.width, Height: v.height}
	}
	if u := s.audioInfo; u.codec != codecNone {
		a.Audio = &apiAudio{Codec: u.codec, SampleRate: u.rate, Channel: u.channels, Profile: u.profile}
	}
}

func orOther(s string) string { return cmp.Or(s, codecOther) }

func (h *hub) apiClients(now time.Time) []apiClient {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refreshLocked()
	out := make([]apiClient, 0, len(h.clients))
	for _, c := range h.clients {
		a := apiClient{
			ID: c.id, Vhost: h.vhostLocked(c.key.Vhost).id, Stream: c.stream.id, IP: c.ip,
			PageURL: c.pageURL, SwfURL: c.swfURL, TcURL: c.tcURL, URL: c.stream.url(), Name: c.name,
			Type: c.typ, Publish: c.publishes(), Alive: now.Sub(c.created).Seconds(),
		}
		a.RecvBytes, a.SendBytes, a.Kbps = c.traffic.api(now)
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b apiClient) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// refreshLocked brings all sums up to now.
func (h *hub) refreshLocked() {
	for _, c := range h.clients {
		h.collectLocked(c)
	}
}

// counts are the summary's: clients, and bytes of all times.
func (h *hub) counts() (clients int, recv, send int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refreshLocked()
	return len(h.clients), h.total.recv, h.total.send
}

func (t *traffic) api(now time.Time) (recv, send int64, k apiKbps) {
	r, s := t.kbps(now)
	return t.recv, t.send, apiKbps{Recv30s: r, Send30s: s}
}
