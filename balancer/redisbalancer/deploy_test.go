package redisbalancer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// serves is the short of all that is asked of Redis.
func serves(t *testing.T, a, b *Redis) {
	t.Helper()
	addOrigins(t, 3, a, b)
	for i := range 20 {
		name := fmt.Sprint("s{", i, "}") // braces must not be a hash tag
		l := pick(t, a, name, balancer.Publish)
		if p := pick(t, b, name, balancer.Play); p.Origin.ID != l.Origin.ID {
			t.Errorf("%s is on %s and %s", name, l.Origin.ID, p.Origin.ID)
		}
	}
	want := balancer.Route{Stream: stream("a"), Origin: "o001"}
	if err := a.StoreRoute(ctx, balancer.RouteWebRTC, "{u}", want, time.Minute); err != nil {
		t.Error(err)
	}
	if got, err := b.LoadRoute(ctx, balancer.RouteWebRTC, "{u}"); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if err := a.Remove(ctx, "o001"); err != nil {
		t.Error(err)
	}
	testkit.Within(t, limit, "the removed origin unknown", func() bool { return b.knows() == 2 })
}

// A Cluster takes calls for keys of one slot only; this one has a node, which sees to that
// as well as many.
func TestCluster(t *testing.T) {
	t.Parallel()
	addr := testkit.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := redistest.Start(t, "--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", port2(t))
	c := s.Client()
	defer c.Close()
	if err := c.ClusterAddSlotsRange(ctx, 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Within(t, limit, "the cluster serves", func() bool {
		info, err := c.ClusterInfo(ctx).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	cluster := func(c *Config) { c.Addrs, c.Cluster, c.Prefix = []string{addr}, true, "one-" }
	serves(t, open(t, s, cluster), open(t, s, func(c *Config) { c.Addrs, c.Prefix = []string{addr, addr}, "one-" }))
	keys, err := c.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if !strings.HasPrefix(k, "{one-srs-proxy}:") {
			t.Errorf("key %s is in a slot of its own", k)
		}
	}
}

func port2(t *testing.T) string {
	_, port, _ := net.SplitHostPort(testkit.FreeAddr(t))
	return port
}

// Sentinels tell who is the master now; when it dies another one is, with what it got in time.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	masterAddr, replicaAddr, sentinelAddr := testkit.FreeAddr(t), testkit.FreeAddr(t), testkit.FreeAddr(t)
	port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	master := redistest.Start(t, "--port", port(masterAddr), "--bind", "127.0.0.1")
	replica := redistest.Start(t, "--port", port(replicaAddr), "--bind", "127.0.0.1", "--replicaof", "127.0.0.1 "+port(masterAddr), "--repl-diskless-sync-delay", "0")
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor ours 127.0.0.1 %s 1\nsentinel down-after-milliseconds ours 1000\nsentinel failover-timeout ours 3000\n", port(masterAddr))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := redistest.StartSentinel(t, conf, "--port", port(sentinelAddr), "--bind", "127.0.0.1")
	rc := replica.Client()
	defer rc.Close()
	testkit.Within(t, limit, "the replica follows", func() bool {
		info, err := rc.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	sc := sentinel.Client()
	defer sc.Close()
	testkit.Within(t, limit, "the sentinel knows the replica", func() bool {
		info, err := sc.Info(ctx, "sentinel").Result()
		return err == nil && strings.Contains(info, "slaves=1")
	})
	cfg := func(c *Config) { c.Addrs, c.SentinelMaster, c.Settle = []string{sentinelAddr}, "ours", 2*time.Second }
	a, b := open(t, master, cfg), open(t, master, cfg)
	addOrigins(t, 4, a, b)
	var live []balancer.Lease
	for i := range 50 {
		live = append(live, pick(t, a, fmt.Sprint(i), balancer.Publish))
	}
	master.Kill()
	testkit.Within(t, limit, "the death noticed", func() bool { return a.isAway() && b.isAway() })
	testkit.Within(t, 3*limit, "the other one reached", func() bool { return !a.isAway() && !b.isAway() })
	for _, l := range live {
		if p := pick(t, b, l.Stream.Name, balancer.Play); p.Origin.ID != l.Origin.ID {
			t.Errorf("%s is on %s, players are sent to %s", l.Stream.Name, l.Origin.ID, p.Origin.ID)
		}
	}
	pick(t, b, "new", balancer.Publish)
}

// TLS, and a user who may touch nothing but our keys.
func TestTLSAndUser(t *testing.T) {
	pool, cert, key := certificate(t)
	addr := testkit.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := redistest.Start(t, "--tls-port", port, "--bind", "127.0.0.1", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	c := s.Client()
	defer c.Close()
	if err := c.Do(ctx, "ACL", "SETUSER", "proxy", "on", ">secret", "~srs-proxy-*", "+@all", "-@admin", "-@dangerous", "+info").Err(); err != nil {
		t.Fatal(err)
	}
	cfg := func(c *Config) {
		c.Addrs, c.User, c.Password, c.TLS = []string{addr}, "proxy", "secret", &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	serves(t, open(t, s, cfg), open(t, s, cfg))
	if r, err := New(ctx, Config{Addrs: []string{addr}, User: "proxy", Password: "guess", TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, slog.New(slog.DiscardHandler)); err == nil {
		r.Close()
		t.Error("a wrong password is no error")
	} else if strings.Contains(err.Error(), "guess") {
		t.Errorf("the password is in the error: %v", err)
	}
}

// certificate is one of 127.0.0.1, signed by itself.
func certificate(t *testing.T) (pool *x509.CertPool, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, text := range map[string][]byte{certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool, certFile, keyFile
}
