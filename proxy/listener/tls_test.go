package listener

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"srs-proxy/proxy/certs/certstest"
)

// accepted is a client's connection and the server's end of it.
func accepted(t *testing.T, cfg Config) (net.Conn, *Conn) {
	t.Helper()
	ln, err := Listen("127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	return c, s.(*Conn)
}

// Every way to move bytes goes through TLS where there is TLS, and through the socket
// where there is none.
func TestBytesGoThroughTLS(t *testing.T) {
	for _, secure := range []bool{false, true} {
		cfg := Config{}
		if secure {
			cfg.TLS = certstest.Server(t)
		}
		c, s := accepted(t, cfg)
		if secure {
			tc := tls.Client(c, certstest.Client())
			go func() { _ = tc.Handshake() }()
			c = tc
		}
		if err := s.Handshake(t.Context()); err != nil || (s.TLS() != nil) != secure {
			t.Fatalf("TLS %v: %v", s.TLS() != nil, err)
		}
		go func() {
			_, _ = s.Write([]byte("a"))
			_, _ = s.ReadFrom(io.LimitReader(strings.NewReader("b"), 1))
			_ = s.CloseWrite()
		}()
		if b, err := io.ReadAll(c); err != nil || string(b) != "ab" {
			t.Errorf("TLS %v: the client reads %q, %v", secure, b, err)
		}
		go func() {
			_, _ = c.Write([]byte("cde"))
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		b := make([]byte, 1)
		if _, err := io.ReadFull(s, b); err != nil || b[0] != 'c' {
			t.Errorf("TLS %v: Read %q, %v", secure, b, err)
		}
		var rest strings.Builder
		if _, err := io.Copy(&rest, s); err != nil || rest.String() != "de" { // WriteTo
			t.Errorf("TLS %v: the rest is %q, %v", secure, rest.String(), err)
		}
	}
}

// A client that connects and says nothing, or something else, is no client.
func TestTLSHandshakeEnds(t *testing.T) {
	_, s := accepted(t, Config{TLS: certstest.Server(t)})
	_ = s.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if err := s.Handshake(t.Context()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silent: %v", err)
	}
	c, s := accepted(t, Config{TLS: certstest.Server(t)})
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	var record tls.RecordHeaderError
	if err := s.Handshake(t.Context()); !errors.As(err, &record) {
		t.Errorf("plain HTTP: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if st := s.l.Stats(); st.Active != 0 || st.Closed != 1 {
		t.Errorf("%+v", st)
	}
}
