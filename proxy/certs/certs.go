// Package certs has the certificate that the proxy shows its clients, which is another
// one when the files are.
//
//	handshake ─▶ Get ─▶ files as they were? ─yes─▶ the certificate
//	                            └ no ─▶ read both ─▶ good: the new one; bad: the old one, and a line
//
// Whoever renews certificates writes two files, one after the other, and tells nobody.
// A pair that does not fit is therefore no more than a moment between the two, or a
// mistake that must not turn clients away.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// lookPause bounds how often the files are looked at.
const lookPause = time.Second

// Soon is how long before its end a certificate is worth a warning.
const Soon = 14 * 24 * time.Hour

// Pair is a certificate and its key, as files in PEM.
type Pair struct{ CertFile, KeyFile string }

// Load reads a pair. A certificate whose time is over is one all the same; see Expiry.
func (p Pair) Load() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
	if err != nil {
		var path *os.PathError
		if !errors.As(err, &path) { // that names the file itself
			err = fmt.Errorf("%s and %s: %w", p.CertFile, p.KeyFile, err)
		}
		return nil, err
	}
	return &cert, nil
}

// Expiry is what is wrong with a certificate's time, nil for nothing: the error says
// that it is over, has not begun, or ends Soon, in which case soon is true.
func Expiry(leaf *x509.Certificate, now time.Time) (soon bool, err error) {
	day := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
	switch {
	case now.After(leaf.NotAfter):
		return false, fmt.Errorf("expired at %s", day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return false, fmt.Errorf("is valid from %s on", day(leaf.NotBefore))
	case leaf.NotAfter.Sub(now) < Soon:
		return true, fmt.Errorf("expires at %s", day(leaf.NotAfter))
	}
	return false, nil
}

// Store keeps the certificate of a pair of files. Many goroutines may use it at once.
type Store struct {
	pair Pair
	log  *slog.Logger

	mu     sync.Mutex // guards the following
	cert   *tls.Certificate
	seen   [2]version // of the files, when they were last read
	looked time.Time
}

// version tells a file from another one of its name, and from itself after a change.
type version struct {
	ino   uint64
	size  int64
	mtime time.Time
}

// Open reads the pair.
func Open(pair Pair, log *slog.Logger) (*Store, error) {
	s := &Store{pair: pair, log: log, seen: pair.versions(), looked: time.Now()}
	var err error
	if s.cert, err = pair.Load(); err != nil {
		return nil, err
	}
	s.tell("certificate")
	return s, nil
}

func (p Pair) versions() (v [2]version) {
	for i, name := range []string{p.CertFile, p.KeyFile} {
		if st, err := os.Stat(name); err == nil {
			v[i] = version{size: st.Size(), mtime: st.ModTime()}
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				v[i].ino = sys.Ino
			}
		}
	}
	return v
}

// Get is the certificate of now.
func (s *Store) Get() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.looked) >= lookPause {
		s.looked = now
		// Versions first: what changes while the files are read is seen the next time.
		if v := s.pair.versions(); v != s.seen {
			s.seen = v
			s.replaceLocked()
		}
	}
	return s.cert
}

func (s *Store) replaceLocked() {
	cert, err := s.pair.Load()
	if err != nil {
		s.log.Warn("the certificate's files have changed and cannot be used; the old certificate stays", "cause", err)
		return
	}
	s.cert = cert
	s.tell("new certificate")
}

func (s *Store) tell(what string) {
	leaf := s.cert.Leaf
	attrs := []any{"subject", leaf.Subject.String(), "names", leaf.DNSNames, "until", leaf.NotAfter.UTC()}
	if _, err := Expiry(leaf, time.Now()); err != nil {
		s.log.Warn(what, append(attrs, "but", err)...)
		return
	}
	s.log.Info(what, attrs...)
}

// Server is the TLS of a listener that speaks protocol (RFC 7301): "http/1.1", or none.
func (s *Store) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Get(), nil },
	}
}
