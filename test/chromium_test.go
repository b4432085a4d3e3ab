package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pageReport is what testdata/webrtc.html tells.
type pageReport struct {
	Frames   int
	Location string
	Deleted  int
	Error    string
	States   []string
}

// TestChromium: a browser publishes its camera by WHIP over HTTPS and plays it by WHEP;
// frames are decoded, and DELETE ends the session at the origin.
func TestChromium(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t)
	secure := "127.0.0.1:" + httpsPort(t)
	in := up(t, 3, "--tls-cert", cert, "--tls-key", key, "--https", "127.0.0.1:0", "--rtmps", "127.0.0.1:0", "--https-api", secure)
	api := "https://" + secure

	reports := make(chan pageReport, 100)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.ServeFile(w, r, filepath.Join("testdata", "webrtc.html"))
			return
		}
		var report pageReport
		if err := json.NewDecoder(r.Body).Decode(&report); err == nil {
			reports <- report
		}
	}))
	t.Cleanup(page.Close)
	// A folder of its own each time, or a second browser would only tell the first
	// to open a window.
	startTool(t, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
		"--ignore-certificate-errors", "--autoplay-policy=no-user-gesture-required", "--allow-loopback-in-peer-connection",
		"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--user-data-dir="+browserDir(t), "--remote-debugging-port=0",
		page.URL+"/?"+url.Values{"api": {api}, "stream": {"camera"}}.Encode())

	frames := 0
	var last pageReport
	deadline := time.After(90 * time.Second)
	for done := false; !done; {
		select {
		case r := <-reports:
			switch {
			case r.Error != "":
				t.Fatalf("the page failed: %s", r.Error)
			case r.Frames > 0:
				frames = r.Frames
				if !strings.HasPrefix(r.Location, api+"/rtc/v1/") {
					t.Errorf("Location is %s", r.Location)
				}
			case r.Deleted > 0:
				if done = true; r.Deleted != http.StatusOK {
					t.Errorf("DELETE: %d", r.Deleted)
				}
			default:
				last = r
			}
		case <-deadline:
			t.Fatalf("the page came to %d frames, its connections are %v", frames, last.States)
		}
	}
	t.Logf("%d frames decoded", frames)
	eventually(t, 10*time.Second, "the origins have no publisher", func() (bool, string) {
		clients := in.clientsOf(t)
		for _, c := range clients {
			if c.Publish {
				return false, fmt.Sprintf("%+v", clients)
			}
		}
		return true, ""
	})
}

// browserDir is removed when the browser's last process has let go of it.
func browserDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "srs-proxy-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, 10*time.Second, "the browser's folder is removed", func() (bool, string) {
			err := os.RemoveAll(dir)
			return err == nil, fmt.Sprint(err)
		})
	})
	return dir
}

// httpsPort is free; another process may take it before it is used, as with any.
func httpsPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// selfSigned makes a certificate for loopback.
func selfSigned(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
