package relay

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"

	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/certs/certstest"
)

// secured is a session whose client speaks TLS.
func secured(t *testing.T, r *Relay, prepare func(*session)) (*session, *tls.Conn) {
	t.Helper()
	var client *tls.Conn
	s := start(t, r, func(s *session) {
		s.pair.TLS = tls.Server(s.pair.client, certstest.Server(t))
		client = tls.Client(s.client, certstest.Client())
		shaken := make(chan error, 1)
		go func() { shaken <- s.pair.TLS.Handshake() }()
		if err := errors.Join(client.Handshake(), <-shaken); err != nil {
			t.Fatal(err)
		}
		if prepare != nil {
			prepare(s)
		}
	})
	return s, client
}

// Every byte arrives, in order, both ways at once, and the ends are passed on.
func TestEncryptedBytesAreExact(t *testing.T) {
	const size = 4 << 20
	s, client := secured(t, New(Config{}), nil)
	var all sync.WaitGroup
	var sent, received [2][32]byte
	all.Go(func() { sent[0] = sendRandom(t, client, size, 0); _ = client.CloseWrite(); _ = s.client.CloseWrite() })
	all.Go(func() { received[0] = hashOf(t, s.origin, size) })
	all.Go(func() { sent[1] = sendRandom(t, s.origin, size, 1); _ = s.origin.CloseWrite() })
	all.Go(func() { received[1] = hashOf(t, client, size) })
	all.Wait()
	if sent != received {
		t.Error("what arrived is not what was sent")
	}
	if _, err := s.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got, want := s.pair.Bytes(), (Result{FromClient: size, FromOrigin: size}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestEncryptedPrologue(t *testing.T) {
	s, client := secured(t, New(Config{}), func(s *session) {
		s.pair.Prologue = func() error {
			b := make([]byte, 5)
			if _, err := io.ReadFull(s.pair.origin, b); err != nil {
				return err
			}
			_, err := s.pair.TLS.Write([]byte("FIRST"))
			return err
		}
	})
	if _, err := client.Write([]byte("the client's bytes flow")); err != nil {
		t.Fatal(err)
	}
	expect(t, s.origin, "the client's bytes flow")
	write(t, s.origin, []byte("first, then the rest"))
	b := make([]byte, 20)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "FIRST, then the rest" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestEncryptedCancel(t *testing.T) {
	for name, prepare := range map[string]func(*session, *tls.Conn, *sync.WaitGroup){
		"idle": func(*session, *tls.Conn, *sync.WaitGroup) {},
		"stalled both ways": func(s *session, c *tls.Conn, load *sync.WaitGroup) {
			feed(load, s.origin)
			load.Go(func() {
				for {
					if _, err := c.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			})
			s.stalled(&s.pair.up)
			s.stalled(&s.pair.down)
		},
		"in the prologue": func(s *session, _ *tls.Conn, _ *sync.WaitGroup) {
			s.pair.Prologue = func() error { _, err := s.pair.origin.Read(make([]byte, 1)); return err }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := secured(t, New(Config{}), func(s *session) {
				smallBuffers(t, s.client, s.origin, s.pair.client, s.pair.origin)
				if name == "in the prologue" {
					prepare(s, nil, nil)
				}
			})
			var load sync.WaitGroup
			defer load.Wait()
			if name != "in the prologue" {
				prepare(s, client, &load)
			}
			why := errors.New("kicked")
			s.cancel(why)
			if took, err := s.wait(); err != why || took > linger/2 {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}

// Whoever is gone ends the session at once, and not when somebody loses patience.
func TestEncryptedReset(t *testing.T) {
	s, _ := secured(t, patient(), nil)
	reset(t, s.client)
	if took, err := s.wait(); took > linger/2 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("client: after %v: %v", took, err)
	}
	s, client := secured(t, patient(), nil)
	var load sync.WaitGroup
	defer load.Wait()
	load.Go(func() {
		for {
			if _, err := client.Write(make([]byte, 1000)); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	expect(t, s.origin, string(make([]byte, 5000)))
	s.origin.Close()
	if took, err := s.wait(); took > linger/5 || err == nil {
		t.Errorf("origin: after %v: %v", took, err)
	}
}

// The kernel's limit for a viewer that takes nothing holds with TLS too.
func TestEncryptedZeroWindow(t *testing.T) {
	s, _ := secured(t, New(Config{}), func(s *session) {
		smallBuffers(t, s.client, s.pair.client)
		rc, err := s.pair.client.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		cerr := rc.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500)
		})
		if err := errors.Join(cerr, err); err != nil {
			t.Fatal(err)
		}
	})
	var load sync.WaitGroup
	defer load.Wait()
	feed(&load, s.origin)
	if _, err := s.wait(); !errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("Run: %v, want %v", err, unix.ETIMEDOUT)
	}
}

// Closed without close_notify, as many clients do, is an end and no error.
func TestEncryptedCloseWithoutNotify(t *testing.T) {
	s, client := secured(t, New(Config{}), nil)
	if _, err := client.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	expect(t, s.origin, "bye")
	_ = s.client.CloseWrite()
	expectEnd(t, s.origin)
	s.origin.Close()
	if _, err := s.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func hashOf(t *testing.T, r io.Reader, size int) [32]byte {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil || n != int64(size) {
		t.Errorf("received %d bytes, %v", n, err)
	}
	return [32]byte(h.Sum(nil))
}
