package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srs-proxy/proxy/certs"
	"srs-proxy/proxy/certs/certstest"
)

func TestCheckCertificate(t *testing.T) {
	if got := checkCertificate(&facts{cfg: &resolved{}}); len(got) != 0 {
		t.Errorf("without one: %v", got)
	}
	day := 24 * time.Hour
	dir := t.TempDir()
	pair := certs.Pair{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for _, tt := range []struct {
		name        string
		from, until time.Duration
		verdict     verdict
		text        string
	}{
		{"good", -day, 100 * day, verdictOK, "is good until"},
		{"ends soon", -day, 13 * day, verdictWarn, "expires at"},
		{"over", -day, -time.Minute, verdictFail, "expired at"},
		{"not yet", day, 100 * day, verdictFail, "is valid from"},
	} {
		cert, key := certstest.PEM(t, "x", time.Now().Add(tt.from), time.Now().Add(tt.until))
		for file, text := range map[string][]byte{pair.CertFile: cert, pair.KeyFile: key} {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := checkCertificate(&facts{cfg: &resolved{Config: Config{TLS: pair}}})
		if len(got) != 1 || got[0].Verdict != tt.verdict || !strings.Contains(got[0].Text, tt.text) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	_, pair.KeyFile = certstest.Files(t, "another")
	for _, tt := range []struct {
		pair certs.Pair
		text string
	}{
		{pair, "does not match"},
		{certs.Pair{CertFile: pair.CertFile, KeyFile: dir + "/none.pem"}, "none.pem"},
	} {
		got := checkCertificate(&facts{cfg: &resolved{Config: Config{TLS: tt.pair}}})
		if len(got) != 1 || got[0].Verdict != verdictFail || !strings.Contains(got[0].Text, tt.text) {
			t.Errorf("%+v", got)
		}
	}
}

// One without the other is a mistake, and no port is taken without either.
func TestCertificateSettings(t *testing.T) {
	file := writeTemp(t, "f", "")
	for given, missing := range map[string]string{"tls-cert": "--tls-key", "tls-key": "--tls-cert"} {
		if _, err := resolve(fakeSources(map[string]string{given: file}, nil)); err == nil || !strings.Contains(err.Error(), "needs "+missing) {
			t.Errorf("%s alone: %v", given, err)
		}
	}
	cfg, err := resolve(fakeSources(map[string]string{"https": "1935"}, nil))
	if err != nil {
		t.Fatalf("an HTTPS port that is not used collides: %v", err)
	}
	without := len(cfg.listeners())
	if _, err = resolve(fakeSources(map[string]string{"https": "1935", "tls-cert": file, "tls-key": file}, nil)); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("HTTPS on RTMP's port: %v", err)
	}
	if cfg, err = resolve(fakeSources(map[string]string{"tls-cert": file, "tls-key": file}, nil)); err != nil || len(cfg.listeners()) != without+3 {
		t.Errorf("with a certificate: %v", err)
	}
}
