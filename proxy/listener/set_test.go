package listener

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/certs/certstest"
)

func listenSet(t *testing.T, addrTLS string, cfg Config) *Set {
	t.Helper()
	var s Set
	if err := s.Listen("127.0.0.1:0", addrTLS, certstest.Server(t), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &s
}

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		name, addrTLS string
		n             int
	}{
		{"plain", "", 1},
		{"plain and TLS", "127.0.0.1:0", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// TLS in the Config is not for the plain one.
			s := listenSet(t, tt.addrTLS, Config{PerIP: 1, TLS: certstest.Server(t)})
			all := s.Listeners()
			if len(all) != tt.n {
				t.Fatalf("%d listeners, want %d", len(all), tt.n)
			}
			if s.Addr().String() != all[0].Addr().String() || (s.AddrTLS() != nil) != (tt.n == 2) {
				t.Errorf("addresses %v and %v", s.Addr(), s.AddrTLS())
			}
			if tt.n == 2 && s.AddrTLS().String() != all[1].Addr().String() {
				t.Errorf("with TLS %v, want %v", s.AddrTLS(), all[1].Addr())
			}
			for i, l := range all {
				dialFrom(t, "127.0.0.1", l.Addr())
				if c := accept(t, l); (c.TLS() != nil) != (i == 1) {
					t.Errorf("listener %d: TLS %v", i, c.TLS() != nil)
				}
			}
			s.SetPerIP(2)
			for i, l := range all {
				if l.perIP != 2 {
					t.Fatalf("listener %d: limit %d", i, l.perIP)
				}
				dialFrom(t, "127.0.0.1", l.Addr())
				accept(t, l)
			}
			n := int64(2 * tt.n)
			if got, want := s.Stats(), (Stats{Accepted: n, Active: n}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			for i, l := range all {
				if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("listener %d after Close: %v", i, err)
				}
			}
		})
	}
}

// Either address that is taken leaves the other one free.
func TestSetBindsAllOrNone(t *testing.T) {
	taken := listen(t, "127.0.0.1:0", Config{}).Addr().String()
	var s Set
	if err := s.Listen(taken, "127.0.0.1:0", certstest.Server(t), Config{}); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), taken) {
		t.Errorf("the plain one: %v", err)
	}
	free := listen(t, "127.0.0.1:0", Config{})
	free.Close()
	err := s.Listen(free.Addr().String(), taken, certstest.Server(t), Config{})
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "with TLS") || !strings.Contains(err.Error(), taken) {
		t.Errorf("the one with TLS: %v", err)
	}
	listen(t, free.Addr().String(), Config{})
	if len(s.Listeners()) != 0 {
		t.Errorf("left: %v", s.Listeners())
	}
}

func TestSetEmpty(t *testing.T) {
	var s Set
	s.SetPerIP(1)
	if s.Addr() != nil || s.AddrTLS() != nil || s.Stats() != (Stats{}) || s.Close() != nil {
		t.Errorf("%+v: %v, %v, %+v", s, s.Addr(), s.AddrTLS(), s.Stats())
	}
}
