package listener

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// Set is the listeners of one server: a plain one and, where that is wanted, one with
// TLS. A server embeds it. Before Listen it is empty, which every method bears.
type Set struct {
	plain  *Listener
	secure *Listener // with TLS, or nil
}

// Listen binds both addresses, or none: addr plain and addrTLS, unless it is "", with
// TLS, whatever cfg.TLS is. Errors are those of net.Listen.
func (s *Set) Listen(addr, addrTLS string, secure *tls.Config, cfg Config) error {
	cfg.TLS = nil
	first, err := Listen(addr, cfg)
	if err != nil {
		return err
	}
	if addrTLS == "" {
		s.plain = first
		return nil
	}
	cfg.TLS = secure
	second, err := Listen(addrTLS, cfg)
	if err != nil {
		first.Close()
		return fmt.Errorf("with TLS: %w", err)
	}
	s.plain, s.secure = first, second
	return nil
}

// Listeners are those that there are.
func (s *Set) Listeners() []*Listener {
	switch {
	case s.plain == nil:
		return nil
	case s.secure == nil:
		return []*Listener{s.plain}
	}
	return []*Listener{s.plain, s.secure}
}

// Addr is where the plain one listens, nil before Listen.
func (s *Set) Addr() net.Addr { return addrOf(s.plain) }

// AddrTLS is where the one with TLS listens, nil for nowhere.
func (s *Set) AddrTLS() net.Addr { return addrOf(s.secure) }

func addrOf(l *Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// SetPerIP changes the limit of connections of one client address, see Config, which
// holds for each listener by itself.
func (s *Set) SetPerIP(n int) {
	for _, l := range s.Listeners() {
		l.SetPerIP(n)
	}
}

// Stats are the sums of the counters.
func (s *Set) Stats() Stats {
	var all Stats
	for _, l := range s.Listeners() {
		all = all.Plus(l.Stats())
	}
	return all
}

// Drain gives the addresses up while the server goes on, see Listener.Drain.
func (s *Set) Drain() error {
	var err error
	for _, l := range s.Listeners() {
		err = errors.Join(err, l.Drain())
	}
	return err
}

// Close frees the addresses; connections stay.
func (s *Set) Close() error {
	var err error
	for _, l := range s.Listeners() {
		err = errors.Join(err, l.Close())
	}
	return err
}
