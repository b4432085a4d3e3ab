package webrtc

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// maxUfrag is the longest ice-ufrag that there is (RFC 8839, section 5.4).
const maxUfrag = 256

// Add makes a session known: datagrams of its client are served from now on. It ends
// by itself if none comes.
func (s *Server) Add(se Session) error {
	if err := se.validate(); err != nil {
		return err
	}
	now := time.Now()
	n := &session{Session: se, server: s, username: se.Username(), password: []byte(se.LocalPwd), added: now}
	n.LocalUfrag, n.LocalPwd, n.RemoteUfrag = "", "", ""
	n.heard.Store(s.since(now))
	n.answered.Store(s.since(now))
	ip := se.Client.Addr().Unmap()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return ErrStopped
	case s.sessions[n.username] != nil:
		return ErrExists
	case len(s.sessions) >= s.cfg.MaxSessions:
		return ErrTooMany
	case s.perIP > 0 && ip.IsValid() && s.byIP[ip] >= s.perIP:
		return ErrTooManyPerIP
	}
	s.sessions[n.username] = n
	s.byIP[ip]++
	s.added.Add(1)
	return nil
}

func (s *Session) validate() error {
	for _, u := range []string{s.LocalUfrag, s.RemoteUfrag} {
		if u == "" || len(u) > maxUfrag || strings.Contains(u, ":") {
			return fmt.Errorf("%w: an ufrag of %d characters", ErrInvalid, len(u))
		}
	}
	switch {
	case s.LocalPwd == "":
		return fmt.Errorf("%w: no password", ErrInvalid)
	case !s.UDP.IsValid() || s.UDP.Port() == 0:
		return fmt.Errorf("%w: no RTC endpoint of the origin", ErrInvalid)
	}
	return nil
}

// find returns the session of a username, or nil.
func (s *Server) find(username []byte) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.sessions[string(username)]
}

// Remove ends a session at once. It says false if there is none of that username.
func (s *Server) Remove(username string) bool {
	se := s.find([]byte(username))
	return se != nil && s.end(se, ErrRemoved)
}

// Lookup tells of a session.
func (s *Server) Lookup(username string) (Info, bool) {
	se := s.find([]byte(username))
	if se == nil {
		return Info{}, false
	}
	return se.info(), true
}

// Sessions lists all sessions, in no order.
func (s *Server) Sessions() []Info {
	all := s.all()
	infos := make([]Info, len(all))
	for i, se := range all {
		infos[i] = se.info()
	}
	return infos
}

func (s *Server) all() []*session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*session, 0, len(s.sessions))
	for _, se := range s.sessions {
		all = append(all, se)
	}
	return all
}

// SetPerIP changes the limit of a Config. Sessions that are open stay.
func (s *Server) SetPerIP(n int) {
	if n == 0 {
		n = DefaultPerIP
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.perIP = n
}

// end takes a session out of every table and tells its owner. It says false if
// somebody else did so before.
func (s *Server) end(se *session, cause error) bool {
	se.mu.Lock()
	if se.ended {
		se.mu.Unlock()
		return false
	}
	se.ended = true
	paths, tcp := se.paths, se.tcp
	se.paths = nil
	se.mu.Unlock()

	info := se.info()
	se.client.Store(nil)
	s.bury(se.username, cause)
	s.drop(se)
	for _, p := range paths {
		s.forget(se, p)
	}
	if flow := se.flow.Load(); flow != nil {
		flow.Close()
	}
	if tcp != nil {
		tcp.end(cause)
	}
	s.ended.Add(1)
	s.log.Info("session closed", se.attrs("client", clientOf(se, info), "cause", cause, "duration", time.Since(se.added).Round(time.Millisecond),
		"bytes_in", info.BytesIn, "bytes_out", info.BytesOut)...)
	if se.OnEnd != nil {
		se.OnEnd(End{Cause: cause, Info: info})
	}
	return true
}

func (s *Server) drop(se *session) {
	ip := se.Client.Addr().Unmap()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, se.username)
	if s.byIP[ip]--; s.byIP[ip] <= 0 {
		delete(s.byIP, ip)
	}
}

func (se *session) attrs(more ...any) []any {
	se.mu.Lock()
	role, stream := se.Role.String(), se.Stream.String()
	if se.Stream.Name == "" {
		role, stream = "unknown", "unknown" // as yet, see Describe
	}
	se.mu.Unlock()
	return append([]any{"session", se.username, "role", role, "stream", stream, "origin", se.OriginID}, more...)
}

// clientOf is the client's address for a log: where it is, else who signalled.
func clientOf(se *session, in Info) netip.AddrPort {
	if in.Media.IsValid() {
		return in.Media
	}
	return se.Client
}

// sweep ends idle sessions until ctx is cancelled, and then all.
func (s *Server) sweep(ctx context.Context) error {
	ticks := time.NewTicker(min(time.Second, s.cfg.Idle/4))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			s.stopped = true
			s.mu.Unlock()
			for _, se := range s.all() {
				s.end(se, ErrStopped)
			}
			return nil
		case now := <-ticks.C:
			for _, se := range s.all() {
				s.look(se, now)
			}
			s.exhume(now)
		}
	}
}

// look ends a session that has been idle for too long, and logs what its shard had no
// time to log.
func (s *Server) look(se *session, now time.Time) {
	se.mu.Lock()
	tcp := se.tcp != nil
	came := !se.announced && (tcp || se.flow.Load() != nil) && (se.Stream.Name != "" || now.Sub(se.added) > describeTime)
	se.announced = se.announced || came
	var flowErr error
	if !se.told {
		flowErr, se.told = se.flowErr, se.flowErr != nil
	}
	se.mu.Unlock()
	if came {
		in := se.info()
		s.log.Info("session open", se.attrs("client", clientOf(se, in), "tcp", in.TCP)...)
	}
	if flowErr != nil {
		s.log.Warn("no way to the origin", se.attrs("cause", flowErr)...)
	}
	if tcp {
		return // keepalive and the origin watch over it
	}
	since := s.since(now) - int64(s.cfg.Idle)
	switch {
	case se.heard.Load() < since:
		s.end(se, ErrIdle)
	case se.flow.Load() != nil && se.answered.Load() < since:
		s.end(se, ErrSilent)
	}
}
