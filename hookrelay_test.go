package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"srs-proxy/srsconf"
)

// hookSetup is a setup with the flags and, if hooked, one hook.
func hookSetup(t *testing.T, flags map[string]string, hooked bool) *setup {
	t.Helper()
	all := map[string]string{"srs": builtinOrigin, "origins": "2", "state-dir": t.TempDir()}
	for k, v := range flags {
		all[k] = v
	}
	if hooked {
		all["vhosts"] = writeTemp(t, "v.conf", "vhost h.example { http_hooks { enabled on; on_play http://hook.example/play?k=secret; } }\n")
	}
	cfg, err := resolve(fakeSources(all, map[string]string{"HOME": "/home/u"}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSetup(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHookPort(t *testing.T) {
	for _, tt := range []struct {
		flags map[string]string
		want  int
	}{
		{nil, srsconf.DefaultPortBase - 1},
		{map[string]string{"port-base": "22000"}, 21999},
		{map[string]string{"port-base": "22000", "rtmp": "21999"}, 21998},
		{map[string]string{"hook-relay": "21000"}, 21000},
		{map[string]string{"hook-relay": "off"}, 0},
	} {
		s := hookSetup(t, tt.flags, true)
		if got := int(s.hooks.addr.Port()); got != tt.want || tt.want != 0 && s.hooks.addr.Addr() != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("%v: the relay is at %s, want port %d", tt.flags, s.hooks.addr, tt.want)
		}
		if (s.hooks.sealer != nil) != (tt.want != 0) {
			t.Errorf("%v: relayed %v", tt.flags, s.hooks.sealer != nil)
		}
	}
	if s := hookSetup(t, nil, false); s.hooks.sealer != nil || len(s.publicListeners()) != len(s.cfg.listeners()) {
		t.Error("without a hook there is a relay")
	}
}

// The relay's port is kept from origins, whether there are hooks already or not.
func TestHookPortIsReserved(t *testing.T) {
	for _, hooked := range []bool{true, false} {
		s := hookSetup(t, map[string]string{"port-base": "22000"}, hooked)
		n := 0
		for _, p := range s.supervisorConfig().Reserved {
			if p == 21999 {
				n++
			}
		}
		if n != 1 {
			t.Errorf("hooked %v: it is reserved %d times", hooked, n)
		}
	}
	_, err := newSetup(t.Context(), func() *resolved {
		cfg, err := resolve(fakeSources(map[string]string{"srs": builtinOrigin, "origins": "2", "hook-relay": "20003"}, map[string]string{"HOME": "/home/u"}))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}())
	if err == nil || !strings.Contains(err.Error(), "include 20003") {
		t.Errorf("a relay on an origin's port: %v", err)
	}
}

// The key is made once and stays, so that an origin's config does.
func TestHookKey(t *testing.T) {
	dir := t.TempDir()
	config := func(make bool) string {
		t.Helper()
		s := hookSetup(t, map[string]string{"state-dir": dir}, true)
		if make {
			if err := s.makeHookKey(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		text, err := s.originConfig(1)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "http://127.0.0.1:19999/") || strings.Contains(string(text), "secret") {
			t.Errorf("config:\n%s", text)
		}
		return string(text)
	}
	config(false)
	if _, err := os.Stat(hookKeyFile(dir)); err == nil {
		t.Error("a look at the config made a key")
	}
	first := config(true)
	if st, err := os.Stat(hookKeyFile(dir)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", st.Mode(), err)
	}
	if config(true) != first || config(false) != first {
		t.Error("the next start has another config")
	}
	if err := os.WriteFile(hookKeyFile(dir), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := hookSetupErr(t, dir); err == nil || !strings.Contains(err.Error(), "has 5 bytes") {
		t.Errorf("a damaged key: %v", err)
	}
}

func hookSetupErr(t *testing.T, dir string) error {
	t.Helper()
	vhosts := writeTemp(t, "v.conf", "vhost h.example { http_hooks { on_play http://hook.example/play; } }\n")
	cfg, err := resolve(fakeSources(map[string]string{"srs": builtinOrigin, "origins": "1", "state-dir": dir, "vhosts": vhosts}, nil))
	if err != nil {
		t.Fatal(err)
	}
	_, err = newSetup(t.Context(), cfg)
	return err
}

func TestCheckSecurity(t *testing.T) {
	for security, want := range map[string]int{"on": 1, "off": 0} {
		vhosts := writeTemp(t, "v.conf", fmt.Sprintf("vhost h.example { security { enabled %s; allow play all; } }\n", security))
		s := hookSetup(t, map[string]string{"vhosts": vhosts}, false)
		if got := checkSecurity(&facts{setup: s, secured: s.securedVhosts()}); len(got) != want || want > 0 && (got[0].Verdict != verdictWarn || !strings.Contains(got[0].Text, "h.example")) {
			t.Errorf("security %s: %v", security, got)
		}
	}
}
