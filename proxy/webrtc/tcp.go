package webrtc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"srs-proxy/protocol/stun"
	"srs-proxy/proxy/listener"
)

// WebRTC over TCP is the same traffic, each datagram behind its length in two bytes
// (RFC 4571; ICE over TCP, RFC 6544). The first frame is a STUN request that proves
// whose session it is; the origin gets it as it came, and from there on no code of
// ours looks at a byte.

const lengthSize = 2

// Why TCP clients are turned away.
var (
	errHandshaking = errors.New("too many TCP clients that have not proved their session")
	errNotCheck    = errors.New("the first frame is no STUN request")
	errNoTCP       = errors.New("the origin does not serve WebRTC over TCP")
	errEnded       = errors.New("the session has ended")
	errSecondTCP   = errors.New("the session has a TCP connection")
)

// runTCP accepts clients until ctx is cancelled, and waits for the end of their sessions.
func (s *Server) runTCP(ctx context.Context) error {
	defer s.tcpSessions.Wait()
	sessions, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(ErrStopped)
	stop := context.AfterFunc(ctx, func() {
		end(ErrStopped)
		s.tcp.Close()
	})
	defer stop()
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.tcpSessions.Add(1)
		go s.serveTCP(sessions, c.(*listener.Conn))
	}
}

// serveTCP is the goroutine of one TCP client.
func (s *Server) serveTCP(ctx context.Context, c *listener.Conn) {
	defer s.tcpSessions.Done()
	defer c.Close()
	defer s.recoverTCP()
	if err := s.relayTCP(ctx, c); err != nil {
		s.log.Debug("TCP client ended", "client", c.RemoteAddr().String(), "cause", err)
	}
}

// recoverTCP is a seat belt: a bug ends one client's session, loudly, and no more.
func (s *Server) recoverTCP() {
	if r := recover(); r != nil {
		s.panics.Add(1)
		s.log.Error("panic in a session over TCP: please report it", "panic", r)
	}
}

func (s *Server) relayTCP(ctx context.Context, c *listener.Conn) error {
	peer := c.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	se, frame, err := s.identify(ctx, c, peer)
	if err != nil {
		return err
	}
	if !se.TCP.IsValid() {
		return errNoTCP
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	t := &tcpClient{peer: peer, end: end}
	if err := se.attach(t); err != nil {
		return err
	}
	defer se.detach(t)
	up, err := s.router.DialRTC(ctx, peer, se.TCP.String())
	if err != nil {
		return fmt.Errorf("dial origin %s: %w", se.OriginID, err)
	}
	defer up.Close()
	pair := s.relay.Pair(c.TCPConn, up.TCPConn)
	t.pair.Store(pair)
	// It fits the buffer of a new socket, so that this waits for nobody.
	if _, err := up.Write(frame); err != nil {
		return fmt.Errorf("origin %s: %w", se.OriginID, err)
	}
	return pair.Run(ctx)
}

// identify reads the first frame and returns it with the session that it proves.
func (s *Server) identify(ctx context.Context, c *listener.Conn, peer netip.AddrPort) (*session, []byte, error) {
	defer s.handshaking.Add(-1)
	if s.handshaking.Add(1) > int64(s.cfg.Handshaking) {
		return nil, nil, errHandshaking
	}
	if err := c.SetReadDeadline(time.Now().Add(s.cfg.HandshakeTimeout)); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) }) // fails only on a closed socket
	defer stop()
	frame, err := readFrame(c)
	if err != nil {
		s.shards[0].drops.malformed.Add(1)
		return nil, nil, fmt.Errorf("first frame: %w", err)
	}
	se, err := s.proveFirst(ctx, frame[lengthSize:], peer)
	return se, frame, err
}

// readFrame reads exactly one frame that may be STUN, and returns it with its length
// in front.
func readFrame(r io.Reader) ([]byte, error) {
	var size [lengthSize]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n == 0 || n > stun.MaxSize {
		return nil, errNotCheck
	}
	frame := make([]byte, lengthSize+n)
	copy(frame, size[:])
	_, err := io.ReadFull(r, frame[lengthSize:])
	return frame, err
}

// proveFirst returns the session whose password the request was made with. A client has
// no reason to ask again, so this waits where a datagram's sender would.
func (s *Server) proveFirst(ctx context.Context, request []byte, from netip.AddrPort) (*session, error) {
	drops := &s.shards[0].drops
	m, err := stun.Parse(request)
	if err != nil || !m.IsBindingRequest() {
		drops.malformed.Add(1)
		return nil, errors.Join(errNotCheck, err)
	}
	p := s.newProver()
	se, err := s.prove(p, &m, from, time.Now())
	for end := time.Now().Add(askedTime); errors.Is(err, errAsked) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(askedPause):
		}
		if known := s.find(m.Username()); known != nil {
			se, err = s.prove(p, &m, from, time.Now())
		}
	}
	if err != nil {
		drops.count(err)
	}
	return se, err
}

// attach makes a connection the session's, if it has none. A client with several
// interfaces connects from each of them while it tries which one works; the first that
// proves itself stays. SRS (seen with 7.0.18) takes the others too, and then uses freed
// memory when the session ends, with all that it serves.
func (se *session) attach(t *tcpClient) error {
	se.mu.Lock()
	defer se.mu.Unlock()
	switch {
	case se.ended:
		return errEnded
	case se.tcp != nil:
		return errSecondTCP
	}
	se.tcp = t
	return nil
}

// detach counts what a connection moved. From now on the session idles, until there
// is another.
func (se *session) detach(t *tcpClient) {
	moved := t.moved()
	now := se.server.since(time.Now())
	se.heard.Store(now)
	se.answered.Store(now)
	se.mu.Lock()
	defer se.mu.Unlock()
	se.bytesIn.Add(moved.FromClient)
	se.bytesOut.Add(moved.FromOrigin)
	se.tcp = nil
}
