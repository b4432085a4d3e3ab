package signal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/sdp"
	"srs-proxy/protocol/streamurl"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/proxy/webrtc/candidate"
)

// serveWHIP serves WHIP (RFC 9725) and WHEP as SRS has them: the endpoint and the
// resources of its sessions are one path.
func (s *Server) serveWHIP(ctx context.Context, w http.ResponseWriter, r *http.Request, path string) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	u, err := streamurl.ParseWHIP(r.Host, q)
	if err != nil {
		return badRequest(err)
	}
	stream := s.router.Stream(u)
	if r.Method != http.MethodPost {
		return s.serveSession(ctx, w, r, path, q["session"], stream)
	}
	body, err := s.readBody(w, r, maxSDP, errSDPTooLarge)
	if err != nil {
		return err
	}
	role := balancer.Publish
	if path != "/rtc/v1/whip/" || q["action"] != "" && q["action"] != "publish" {
		role = balancer.Play
	}
	return s.serveOffer(ctx, w, offer{
		request: forward(r, path, body), sdp: body, eip: eip(q), client: clientOf(r), stream: stream, role: role,
		takesICE: q["ice-ufrag"] == "" && q["ice-pwd"] == "",
		open: func(a answer) (description []byte, ok bool, err error) {
			return a.body, a.status == http.StatusCreated || a.status == http.StatusOK, nil
		},
		seal: func(a answer, description []byte) (answer, error) {
			a.body = description
			return a, nil
		},
	})
}

// serveSession passes DELETE and PATCH to the origin that has the session.
func (s *Server) serveSession(ctx context.Context, w http.ResponseWriter, r *http.Request, path, username string, stream balancer.Stream) error {
	body, err := s.readBody(w, r, maxSDP, errSDPTooLarge)
	if err != nil {
		return err
	}
	origin, known, err := s.originOf(ctx, username, stream)
	if err != nil {
		return err
	}
	ans, err := s.ask(ctx, origin, forward(r, path, body))
	if errors.Is(err, errHungUp) && r.Method == http.MethodPatch {
		// What an origin without trickle ICE and restarts has to say (RFC 9725 section 4.3).
		w.Header().Set("Allow", "DELETE, OPTIONS")
		return clientError{errors.New("the origin takes no PATCH"), http.StatusMethodNotAllowed}
	}
	if errors.Is(err, errHungUp) {
		return clientError{errors.New("the origin does not delete that: is the token the session's?"), http.StatusForbidden}
	}
	if err != nil {
		return err
	}
	if r.Method == http.MethodDelete && ans.status/100 == 2 {
		if known {
			s.deleted(ctx, username)
		} // else the origin, which says so of any session that it has not, may be another's
	}
	relocate(ans.header, origin)
	ans.write(w)
	return nil
}

// serveNACK passes SRS's simulation of lost packets to the origin of a session.
func (s *Server) serveNACK(ctx context.Context, w http.ResponseWriter, r *http.Request, path string) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	body, err := s.readBody(w, r, maxJSON, errJSONTooLarge)
	if err != nil {
		return err
	}
	// Without a session of that name any origin can say that there is none.
	origin, _, err := s.originOf(ctx, q["username"], balancer.Stream{Vhost: balancer.DefaultVhost, App: "-", Name: path})
	if err != nil {
		return err
	}
	ans, err := s.ask(ctx, origin, forward(r, path, body))
	if err != nil {
		return err
	}
	ans.write(w)
	return nil
}

// offer is a client's wish for a session, in WHIP or in JSON.
type offer struct {
	request request
	sdp     []byte
	eip     string
	client  netip.AddrPort
	stream  balancer.Stream
	role    balancer.Role
	// takesICE says that the origin may be told which ICE credentials to use.
	takesICE bool
	// open takes the description out of an answer and tells whether it accepts;
	// seal puts the edited one back.
	open func(answer) (description []byte, ok bool, err error)
	seal func(a answer, description []byte) (answer, error)
}

// refusal is an answer that says no: it is the client's, as it is.
type refusal struct{ answer }

func (refusal) Error() string { return "the origin refused" }

// serveOffer takes an offer to an origin and its answer back.
func (s *Server) serveOffer(ctx context.Context, w http.ResponseWriter, o offer) error {
	theirs, err := sdp.ICE(o.sdp)
	if err != nil {
		return badRequest(fmt.Errorf("offer: %w", err))
	}
	var ans answer
	var description []byte
	var issued sdp.Credentials
	req := route.Request{Stream: o.stream, Role: o.role, Proto: route.RTC, Client: o.client}
	held, err := s.router.Hold(ctx, req, func(ctx context.Context, lease balancer.Lease) (err error) {
		request := o.request
		if issued = s.issue(o, lease.Origin, theirs.Ufrag); issued.Ufrag != "" {
			request.query = withICE(request.query, issued)
		}
		if ans, err = s.ask(ctx, lease.Origin, request); err != nil {
			return err
		}
		var ok bool
		if description, ok, err = o.open(ans); err == nil && !ok {
			err = refusal{ans}
		}
		return err
	})
	if no, ok := errors.AsType[refusal](err); ok {
		no.write(w)
		return nil
	}
	if err != nil {
		return err
	}
	ans, err = s.accept(ctx, o, held, theirs, issued, ans, description)
	if err != nil {
		held.Close()
		s.discard(held.Lease.Origin, o.request, ans.header.Get("Location"))
		return err
	}
	ans.write(w)
	return nil
}

// issue makes the credentials that an origin is to use, where it may be told.
func (s *Server) issue(o offer, origin balancer.Origin, remote string) (c sdp.Credentials) {
	if s.cfg.Tickets == nil || !o.takesICE {
		return c
	}
	c.Ufrag, c.Pwd = s.cfg.Tickets.Issue(s.cfg.Tickets.Tag(origin.ID, origin.Service), remote)
	return c
}

// withICE adds credentials to a query as SRS takes them. Servers that don't know them use
// their own.
func withICE(query string, c sdp.Credentials) string {
	if query != "" {
		query += "&"
	}
	return query + "ice-ufrag=" + c.Ufrag + "&ice-pwd=" + c.Pwd
}

// accept makes an origin's answer the client's and the session one that has media.
func (s *Server) accept(ctx context.Context, o offer, held *route.Held, theirs, issued sdp.Credentials, ans answer, description []byte) (answer, error) {
	origin := &held.Lease.Origin
	ours, err := sdp.ICE(description)
	if err != nil {
		return ans, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	candidates := s.candidates.For(ctx, candidate.Request{Local: s.local(), EIP: o.eip, Host: o.request.host})
	edited, err := sdp.ReplaceCandidates(description, candidates)
	if err != nil {
		return ans, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	final, err := o.seal(ans, edited)
	if err != nil {
		return ans, err
	}
	media := webrtc.Session{
		LocalUfrag: ours.Ufrag, LocalPwd: ours.Pwd, RemoteUfrag: theirs.Ufrag,
		Stream: o.stream, Role: o.role, Client: o.client,
	}
	ses := &session{origin: origin, held: held}
	if ours != issued {
		ses.pwd = ours.Pwd
	}
	if err := s.open(ctx, ses, media); err != nil {
		return ans, err
	}
	relocate(final.header, *origin)
	return final, nil
}

// discardTimeout bounds the wait for an origin to forget what nobody wants.
const discardTimeout = 5 * time.Second

// discard deletes a session at its origin that got no client: otherwise a publisher's
// stream would be taken until the origin misses its media, 30 s later.
func (s *Server) discard(origin balancer.Origin, made request, location string) {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return
	}
	ctx, cancel := context.WithTimeout(s.life, discardTimeout)
	defer cancel()
	made.method, made.path, made.query, made.body = http.MethodDelete, u.EscapedPath(), u.RawQuery, nil
	made.header = made.header.Clone()
	made.header.Del("Content-Type")
	if _, err := s.ask(ctx, origin, made); err != nil {
		s.log.Debug("a session without a client is left to its origin", "proto", "rtc", "origin", origin.ID, "cause", err)
	}
}
