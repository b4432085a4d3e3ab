package certs

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"srs-proxy/proxy/certs/certstest"
)

func replace(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// look makes the next Get look at the files, without the pause.
func (s *Store) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked = time.Time{}
}

func (s *Store) name() string {
	s.look()
	return s.Get().Leaf.Subject.CommonName
}

// A renewed certificate is taken up; one that cannot be used is not, and is told once.
func TestFilesChange(t *testing.T) {
	var log bytes.Buffer
	certFile, keyFile := certstest.Files(t, "first")
	s, err := Open(Pair{certFile, keyFile}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := certstest.PEM(t, "second", time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour))
	steps := []struct {
		name       string
		change     func()
		want       string
		warn, info string
	}{
		{"nothing", func() {}, "first", "", ""},
		{"half of it", func() { replace(t, certFile, cert) }, "first", "does not match", ""},
		{"still half", func() {}, "first", "", ""},
		{"the other half", func() { replace(t, keyFile, key) }, "second", "", "new certificate"},
		{"rubbish", func() { replace(t, certFile, []byte("rubbish")) }, "second", "failed to find any PEM data", ""},
		{"gone", func() { _ = os.Remove(certFile) }, "second", "no such file", ""},
		{"back", func() { replace(t, certFile, cert) }, "second", "", "new certificate"},
	}
	for _, st := range steps {
		log.Reset()
		st.change()
		for range 3 {
			if got := s.name(); got != st.want {
				t.Errorf("%s: %s, want %s", st.name, got, st.want)
			}
		}
		got := log.String()
		if st.warn+st.info == "" && got != "" || strings.Count(got, "\n") > 1 || !strings.Contains(got, st.warn) || !strings.Contains(got, st.info) ||
			(st.warn != "") != strings.Contains(got, "WARN") {
			t.Errorf("%s: log %q", st.name, got)
		}
	}
}

// The files are not looked at for each of a thousand handshakes.
func TestFilesAreLookedAtOnceASecond(t *testing.T) {
	certFile, keyFile := certstest.Files(t, "first")
	s, err := Open(Pair{certFile, keyFile}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	before := s.looked
	for range 1000 {
		s.Get()
	}
	if s.looked != before && s.looked.Sub(before) < lookPause {
		t.Errorf("looked again after %s", s.looked.Sub(before))
	}
}

func TestOpenRefuses(t *testing.T) {
	certFile, keyFile := certstest.Files(t, "first")
	_, otherKey := certstest.Files(t, "second")
	for name, pair := range map[string]Pair{"not there": {certFile + "x", keyFile}, "no key": {certFile, keyFile + "x"}, "not its key": {certFile, otherKey}, "swapped": {keyFile, certFile}} {
		_, err := Open(pair, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), pair.CertFile) && !strings.Contains(err.Error(), pair.KeyFile) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "no") && name != "not its key" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name        string
		from, until time.Duration
		soon        bool
		want        string
	}{
		{"good", -time.Hour, Soon + time.Hour, false, ""},
		{"soon", -time.Hour, Soon - time.Hour, true, "expires at"},
		{"over", -2 * time.Hour, -time.Hour, false, "expired at"},
		{"not yet", time.Hour, 2 * Soon, false, "is valid from"},
	} {
		cert, err := tls.X509KeyPair(certstest.PEM(t, "x", now.Add(tt.from), now.Add(tt.until)))
		if err != nil {
			t.Fatal(err)
		}
		soon, err := Expiry(cert.Leaf, now)
		if soon != tt.soon || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v", tt.name, soon, err)
		}
	}
}

// What a client sees: the certificate of now, HTTP/1.1 alone, nothing below TLS 1.2.
func TestServer(t *testing.T) {
	certFile, keyFile := certstest.Files(t, "first")
	s, err := Open(Pair{certFile, keyFile}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	shake := func(client *tls.Config) (tls.ConnectionState, error) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		go func() { _ = tls.Server(b, s.Server("http/1.1")).Handshake() }()
		c := tls.Client(a, client)
		err := c.Handshake()
		return c.ConnectionState(), err
	}
	client := certstest.Client()
	client.NextProtos = []string{"h2", "http/1.1"}
	if st, err := shake(client); err != nil || st.NegotiatedProtocol != "http/1.1" || st.PeerCertificates[0].Subject.CommonName != "first" {
		t.Errorf("%+v, %v", st.NegotiatedProtocol, err)
	}
	old := certstest.Client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := shake(old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}
