package webrtc

import (
	"bytes"
	"errors"
	"hash/maphash"
	"net/netip"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/stun"
	"srs-proxy/proxy/webrtc/ticket"
)

// A client's media may come to another proxy than its offer did: proxies behind one name
// or one address, a router that lost its mind, a proxy that was restarted.
//
//	first check ─▶ username of a session here? ───────────────────▶ verify, bind
//	                  │ no
//	                  ├▶ its ufrag is a ticket: the password follows, verify ─▶ open, bind
//	                  └▶ else somebody may know: Unknown, at most a few a second; the
//	                     client's next check finds the session, or nobody
//
// Until a check is verified nothing is kept but a few bytes of its username's hash, in
// tables of a fixed size.

// Elsewhere knows of sessions that were not signalled here. Its methods are called by
// who moves media, and must not block.
type Elsewhere interface {
	// Open adds the session of a ticket, whose client has been proved, if there is such
	// an origin.
	Open(t Ticket)
	// Unknown is told of a username that no session here has, and reports whether it is
	// being looked for. The bytes are valid until it returns.
	Unknown(username []byte) bool
}

// Ticket is what a session's username says of it.
type Ticket struct {
	Origin                            ticket.Tag
	LocalUfrag, LocalPwd, RemoteUfrag string
	Client                            netip.AddrPort // who proved to be the session's client
}

// SetElsewhere must be called before Run.
func (s *Server) SetElsewhere(e Elsewhere) { s.elsewhere = e }

const (
	// forgetAfter is for how long a username that nobody knew is not asked about again:
	// longer than the store takes to say so, shorter than clients keep trying.
	forgetAfter = 2 * time.Second
	// unknownSlots is how many usernames a shard remembers for that.
	unknownSlots = 4096
	// burialTime is for how long a session that was ended stays so: clients go on asking
	// until they notice.
	burialTime = 2 * time.Minute
	// describeTime is how long the log waits to know what a session is.
	describeTime = 5 * time.Second
	// askedTime is how long a client over TCP is kept waiting while its session is looked
	// for, askedPause how often it is looked whether it was found.
	askedTime  = 3 * time.Second
	askedPause = 20 * time.Millisecond
)

// Why a check proves nothing.
var (
	errUnknown   = errors.New("no session has the username")
	errAsked     = errors.New("no session here has the username; it is looked for")
	errIntegrity = errors.New("the integrity of the STUN request is wrong")
)

// prover is what it takes to prove a client, for one goroutine.
type prover struct {
	verifier *stun.Verifier
	tickets  *ticket.Reader // nil without Config.Tickets
	key      stun.Key
	seed     maphash.Seed
	unknown  []unknownName // by hash; nil without Config.Tickets
}

// unknownName is a username that was asked about.
type unknownName struct {
	hash  uint64
	until int64
}

func (s *Server) newProver() *prover {
	p := &prover{verifier: stun.NewVerifier()}
	if s.cfg.Tickets != nil {
		p.tickets, p.seed = s.cfg.Tickets.Reader(), maphash.MakeSeed()
	}
	return p
}

// prove returns the session whose password a check was made with.
func (s *Server) prove(p *prover, m *stun.Message, from netip.AddrPort, now time.Time) (*session, error) {
	se := s.find(m.Username())
	if se == nil {
		var err error
		if se, err = s.proveElsewhere(p, m, from, now); err != nil {
			return nil, err
		}
	}
	p.key.Set(se.password)
	if !p.verifier.Verify(m, &p.key) {
		return nil, errIntegrity
	}
	return se, nil
}

func (s *Server) proveElsewhere(p *prover, m *stun.Message, from netip.AddrPort, now time.Time) (*session, error) {
	if p.tickets == nil || s.elsewhere == nil {
		return nil, errUnknown
	}
	username := m.Username()
	origin, ok := p.tickets.Read(username)
	if !ok {
		if !plausible(username) || s.isBuried(username) {
			return nil, errUnknown
		}
		slot, asked := p.slot(username, s.since(now))
		if asked {
			return nil, errAsked
		}
		if !s.elsewhere.Unknown(username) {
			return nil, errUnknown
		}
		slot.until = s.since(now) + int64(forgetAfter)
		return nil, errAsked
	}
	pwd := p.tickets.Password(username)
	p.key.Set(pwd)
	if !p.verifier.Verify(m, &p.key) {
		return nil, errIntegrity
	}
	if s.isBuried(username) {
		return nil, errUnknown
	}
	local, remote, _ := bytes.Cut(username, []byte{':'})
	s.elsewhere.Open(Ticket{Origin: origin, LocalUfrag: string(local), LocalPwd: string(pwd), RemoteUfrag: string(remote), Client: from})
	if se := s.find(username); se != nil {
		return se, nil
	}
	return nil, errUnknown
}

// plausible says that a username may be a session's of ICE: two ufrags of at least four
// letters each (RFC 8839, section 5.4).
func plausible(username []byte) bool {
	local, remote, ok := bytes.Cut(username, []byte{':'})
	return ok && len(local) >= minUfrag && len(local) <= maxUfrag && len(remote) >= minUfrag && len(remote) <= maxUfrag && !bytes.ContainsRune(remote, ':')
}

const minUfrag = 4

// slot is where it is noted that a username was asked about, and whether it was just now.
func (p *prover) slot(username []byte, now int64) (slot *unknownName, asked bool) {
	if p.unknown == nil {
		p.unknown = make([]unknownName, unknownSlots)
	}
	hash := maphash.Bytes(p.seed, username)
	slot = &p.unknown[hash%unknownSlots]
	if slot.hash == hash && now < slot.until {
		return slot, true
	}
	*slot = unknownName{hash: hash}
	return slot, false
}

// Describe says what a session is that was added without its stream. It says false if
// there is none of that username.
func (s *Server) Describe(username string, stream balancer.Stream, role balancer.Role) bool {
	se := s.find([]byte(username))
	if se == nil {
		return false
	}
	se.mu.Lock()
	defer se.mu.Unlock()
	se.Stream, se.Role = stream, role
	return true
}

// Bury keeps a session from being opened here, whether it was or not: it has ended.
func (s *Server) Bury(username string) {
	s.bury(username, ErrRemoved)
}

// bury remembers a session that somebody ended, or that its origin does not know any
// more. Who is only idle may be back.
func (s *Server) bury(username string, cause error) {
	if s.cfg.Tickets == nil || !errors.Is(cause, ErrRemoved) && !errors.Is(cause, ErrSilent) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buried) < s.cfg.MaxSessions {
		s.buried[username] = time.Now().Add(burialTime)
	}
}

func (s *Server) isBuried(username []byte) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.buried[string(username)]
	return ok
}

// exhume forgets those that nobody asks for by now.
func (s *Server) exhume(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for username, until := range s.buried {
		if now.After(until) {
			delete(s.buried, username)
		}
	}
}
