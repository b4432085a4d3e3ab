package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/proxy/webrtc/ticket"
)

// Each setting of Redis arrives in the balancer's Config.
func TestRedisSettings(t *testing.T) {
	password, ca := writeTemp(t, "password", "from a file\n"), writeTemp(t, "ca.pem", "x")
	flags := map[string]string{
		"balancer": "redis", "redis": "10.0.0.1:6379,[2001:db8::1]:6380,unix:/run/redis.sock", "redis-host": "elsewhere", "redis-port": "1",
		"redis-user": "u", "redis-password": "p", "redis-password-file": password, "redis-db": "3", "redis-prefix": "one-", "redis-tls": "on",
		"redis-ca": ca, "redis-sentinel-master": "m", "redis-cluster": "on", "redis-fallback": "local",
		"cluster-key": "sixteen letters!", "cluster-key-file": password,
	}
	for _, s := range redisSettings() {
		if _, ok := flags[s.name]; !ok {
			t.Errorf("setting %s is missing from this test", s.name)
		}
	}
	cfg, err := resolve(proxySources(flags, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := redisConfig{
		Balancer: "redis", Addrs: []string{"10.0.0.1:6379", "[2001:db8::1]:6380", "/run/redis.sock"}, Host: "elsewhere", Port: 1,
		User: "u", Password: "p", PasswordFile: password, DB: 3, Prefix: "one-", TLS: true, CA: ca,
		SentinelMaster: "m", Cluster: true, Fallback: redisbalancer.Local,
		Key: "sixteen letters!", KeyFile: password,
	}
	if !reflect.DeepEqual(cfg.Redis, want) {
		t.Errorf("got  %+v\nwant %+v", cfg.Redis, want)
	}
	want.CA = ""
	got, err := want.config()
	if err != nil || got.Password != "from a file" || got.TLS == nil || got.User != "u" || got.DB != 3 || len(got.Addrs) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What the existing proxy is told by its variables, this one takes too.
func TestRedisByTheExistingProxysVariables(t *testing.T) {
	cfg, err := resolve(proxySources(nil, map[string]string{
		"HOME": "/home/u", "PROXY_LOAD_BALANCER_TYPE": "redis", "PROXY_REDIS_HOST": "10.0.0.9", "PROXY_REDIS_PORT": "6390", "PROXY_REDIS_PASSWORD": "p w", "PROXY_REDIS_DB": "2",
	}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := cfg.Redis.config()
	if err != nil || cfg.Redis.Balancer != balancerRedis || !reflect.DeepEqual(got.Addrs, []string{"10.0.0.9:6390"}) || got.Password != "p w" || got.DB != 2 || got.Prefix != "" || got.TLS != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRedisSettingsThatCannotBe(t *testing.T) {
	for flag, value := range map[string]string{
		"redis": "10.0.0.1", "redis-port": "0", "redis-db": "-1", "redis-fallback": "hope", "redis-tls": "perhaps", "balancer": "etcd",
	} {
		_, err := resolve(proxySources(map[string]string{flag: value}, nil))
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), "flag --"+flag) {
			t.Errorf("--%s %s: %v", flag, value, err)
		}
	}
	for name, c := range map[string]redisConfig{
		"redis-ca":            {CA: writeTemp(t, "ca.pem", "no certificate")},
		"redis-password-file": {PasswordFile: filepath.Join(t.TempDir(), "none")},
	} {
		if _, err := c.config(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The password is nowhere to be seen, and a wrong one is told at the start.
func TestRedisPassword(t *testing.T) {
	const secret = "open-sesame-4711"
	s := redistest.Start(t, "--requirepass", secret)
	text := &strings.Builder{}
	log := slog.New(slog.NewTextHandler(text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	open := func(password string) (*resolved, error) {
		cfg, err := resolve(proxySources(map[string]string{"balancer": "redis", "redis": s.Addr, "redis-password": password}, map[string]string{"HOME": t.TempDir()}))
		if err != nil {
			t.Fatal(err)
		}
		bal, run, err := newBalancer(t.Context(), cfg, log)
		if err != nil {
			return cfg, err
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := bal.Update(t.Context(), balancer.Origin{ID: "a"}); err != nil {
			t.Error(err)
		}
		return cfg, run(ctx)
	}
	cfg, err := open(secret)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := configYAML(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, wrong := open("wrong-" + secret)
	if wrong == nil {
		t.Fatal("a wrong password is no error")
	}
	for _, where := range []string{string(shown), wrong.Error(), text.String()} {
		if strings.Contains(where, secret) {
			t.Errorf("the password is shown: %s", where)
		}
	}
	s.Kill()
	if _, run, err := newBalancer(t.Context(), cfg, log); err != nil {
		t.Errorf("a Redis that is away for now: %v", err)
	} else {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}
}

// The key is the file's, or what was given, never a short one, and never in an error.
func TestClusterKey(t *testing.T) {
	const secret = "open-sesame-4711-of-us-all"
	issued := func(c redisConfig, shared bool) ticket.Tag {
		t.Helper()
		k, is, err := c.tickets()
		if err != nil || is != shared {
			t.Fatalf("tickets() = %v, %v", is, err)
		}
		return k.Tag("o", "s")
	}
	given, random := issued(redisConfig{Key: secret}, true), issued(redisConfig{}, false)
	if other := issued(redisConfig{KeyFile: writeTemp(t, "key", secret+"\n")}, true); other != given || random == given {
		t.Errorf("given %x, of the file %x, of nobody else %x", given, other, random)
	}
	for name, c := range map[string]redisConfig{
		"short": {KeyFile: writeTemp(t, "short", "too-short-4711")}, "empty": {KeyFile: writeTemp(t, "empty", "\n")}, "missing": {KeyFile: "/nonexistent/key"},
	} {
		if _, _, err := c.tickets(); err == nil || strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := resolve(proxySources(map[string]string{"cluster-key": "too-short-4711"}, nil)); err == nil || strings.Contains(err.Error(), "4711") {
		t.Errorf("a short key: %v", err)
	}
}
