package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer"
	"srs-proxy/proxy/webrtc/ticket"
)

// Kinds of balancers.
const (
	balancerMemory = "memory"
	balancerRedis  = "redis"
)

// categoryRedis is of settings of proxies that share what they know.
const categoryRedis = "What several proxies share"

// redisConfig is where the balancer of `proxy` keeps what it knows.
type redisConfig struct {
	// Balancer is its kind; all else is for balancerRedis.
	Balancer string
	// Addrs replace Host and Port, which are the existing proxy's way.
	Addrs          []string
	Host           string
	Port           int
	User           string
	Password       string
	PasswordFile   string
	DB             int
	Prefix         string
	TLS            bool
	CA             string
	SentinelMaster string
	Cluster        bool
	Fallback       redisbalancer.Fallback
	// Key is the secret that all proxies share, KeyFile has it.
	Key     string
	KeyFile string
}

func redisSettings() []setting {
	return []setting{
		{
			name: "balancer", env: "PROXY_LOAD_BALANCER_TYPE", category: categoryRedis, def: balancerMemory,
			usage: "keep what is known of origins and streams in `WHERE`: memory, or redis, which several proxies share",
			apply: field(parseOneOf(balancerMemory, balancerRedis), func(c *Config) *string { return &c.Redis.Balancer }),
		},
		{
			name: "redis", env: "SRS_PROXY_REDIS", category: categoryRedis, isList: true,
			usage: "`ADDR` of Redis, host:port or the path of a socket; several of a Cluster's nodes, or of sentinels; empty is --redis-host and --redis-port",
			apply: field(parseRedisAddrs, func(c *Config) *[]string { return &c.Redis.Addrs }),
		},
		{
			name: "redis-host", env: "PROXY_REDIS_HOST", category: categoryRedis, def: "127.0.0.1",
			usage: "`HOST` of Redis, if there is no --redis",
			apply: field(parseText, func(c *Config) *string { return &c.Redis.Host }),
		},
		{
			name: "redis-port", env: "PROXY_REDIS_PORT", category: categoryRedis, def: "6379",
			usage: "`PORT` of Redis, if there is no --redis",
			apply: field(parseAnyPort, func(c *Config) *int { return &c.Redis.Port }),
		},
		{
			name: "redis-user", env: "SRS_PROXY_REDIS_USER", category: categoryRedis,
			usage: "`NAME` to log in to Redis with; empty is the default user",
			apply: field(parseText, func(c *Config) *string { return &c.Redis.User }),
		},
		{
			name: "redis-password", env: "PROXY_REDIS_PASSWORD", category: categoryRedis, secret: true,
			usage: "`PASSWORD` of Redis, and of its sentinels; others on this machine can see it, --redis-password-file hides it",
			apply: field(parseText, func(c *Config) *string { return &c.Redis.Password }),
		},
		{
			name: "redis-password-file", env: "SRS_PROXY_REDIS_PASSWORD_FILE", category: categoryRedis,
			usage: "read the password of Redis from `FILE`",
			apply: field(parseFile, func(c *Config) *string { return &c.Redis.PasswordFile }),
		},
		{
			name: "redis-db", env: "PROXY_REDIS_DB", category: categoryRedis, def: "0",
			usage: "use database `N` of Redis",
			apply: field(parseDB, func(c *Config) *int { return &c.Redis.DB }),
		},
		{
			name: "redis-prefix", env: "SRS_PROXY_REDIS_PREFIX", category: categoryRedis,
			usage: "begin all keys in Redis with `TEXT`, for several clusters of proxies in one database; the existing proxy has none",
			apply: field(parseText, func(c *Config) *string { return &c.Redis.Prefix }),
		},
		{
			name: "redis-tls", env: "SRS_PROXY_REDIS_TLS", category: categoryRedis, def: "off", isSwitch: true,
			usage: "speak TLS with Redis, whose certificate has to be valid for its address",
			apply: field(parseSwitch, func(c *Config) *bool { return &c.Redis.TLS }),
		},
		{
			name: "redis-ca", env: "SRS_PROXY_REDIS_CA", category: categoryRedis,
			usage: "trust the authorities in `FILE` (PEM) to certify Redis, instead of those that this machine trusts",
			apply: field(parseFile, func(c *Config) *string { return &c.Redis.CA }),
		},
		{
			name: "redis-sentinel-master", env: "SRS_PROXY_REDIS_SENTINEL_MASTER", category: categoryRedis,
			usage: "ask sentinels at --redis for the server that they call `NAME`",
			apply: field(parseText, func(c *Config) *string { return &c.Redis.SentinelMaster }),
		},
		{
			name: "redis-cluster", env: "SRS_PROXY_REDIS_CLUSTER", category: categoryRedis, def: "off", isSwitch: true,
			usage: "take a single --redis for a node of a Cluster",
			apply: field(parseSwitch, func(c *Config) *bool { return &c.Redis.Cluster }),
		},
		{
			name: "redis-fallback", env: "SRS_PROXY_REDIS_FALLBACK", category: categoryRedis, def: string(redisbalancer.Fail),
			usage: "while Redis is away, let new streams `fail|local`: be refused, or be placed by a rule that is the same on every proxy",
			apply: field(parseOneOf(redisbalancer.Fail, redisbalancer.Local), func(c *Config) *redisbalancer.Fallback { return &c.Redis.Fallback }),
		},
		{
			name: "cluster-key", env: "SRS_PROXY_CLUSTER_KEY", category: categoryRedis, secret: true,
			usage: "`SECRET` of all proxies that share a Redis, by which the media of a WebRTC session are known to each of them, 16 characters at least; others on this machine can see it, --cluster-key-file hides it",
			apply: field(parseClusterKey, func(c *Config) *string { return &c.Redis.Key }),
		},
		{
			name: "cluster-key-file", env: "SRS_PROXY_CLUSTER_KEY_FILE", category: categoryRedis,
			usage: "read the secret of --cluster-key from `FILE`",
			apply: field(parseFile, func(c *Config) *string { return &c.Redis.KeyFile }),
		},
	}
}

// parseClusterKey takes what is long enough not to be guessed.
func parseClusterKey(v string) (string, error) {
	if v != "" && len(v) < ticket.MinSecret {
		return "", ticket.ErrSecret
	}
	return v, nil
}

// tickets are the keys of WebRTC sessions. shared says that other proxies have ours too;
// otherwise they are this process' own.
func (c redisConfig) tickets() (keys *ticket.Keys, shared bool, err error) {
	secret := c.Key
	if c.KeyFile != "" {
		text, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return nil, false, fmt.Errorf("cluster-key-file %s: %w", c.KeyFile, withoutPath(err))
		}
		if secret = strings.TrimRight(string(text), "\r\n"); secret == "" {
			return nil, false, fmt.Errorf("cluster-key-file %s: is empty", c.KeyFile)
		}
	}
	if secret == "" {
		return ticket.Random(), false, nil
	}
	if keys, err = ticket.New([]byte(secret)); err != nil {
		return nil, false, fmt.Errorf("the cluster key: %w", err)
	}
	return keys, true, nil
}

func parseText(v string) (string, error) { return v, nil }

func parseAnyPort(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("is not a port; give 1 to 65535")
	}
	return int(n), nil
}

// parseDB bounds the number by nothing: servers are configured with some.
func parseDB(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, errors.New("is not a database's number; give a whole number from 0")
	}
	return int(n), nil
}

func parseRedisAddrs(v string) ([]string, error) {
	var all []string
	for addr := range strings.SplitSeq(v, ",") {
		addr = strings.TrimSpace(addr)
		if path := strings.TrimPrefix(addr, "unix:"); filepath.IsAbs(path) {
			all = append(all, path)
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" {
			return nil, errors.New("is not an address of Redis; give host:port, or the path of a socket")
		}
		if _, err := parseAnyPort(port); err != nil {
			return nil, fmt.Errorf("has the port %q, which %w", port, err)
		}
		all = append(all, addr)
	}
	return all, nil
}

// config is for the balancer.
func (c redisConfig) config() (redisbalancer.Config, error) {
	r := redisbalancer.Config{
		Addrs: c.Addrs, Cluster: c.Cluster, SentinelMaster: c.SentinelMaster, User: c.User, Password: c.Password,
		DB: c.DB, Prefix: c.Prefix, Fallback: c.Fallback,
	}
	if len(r.Addrs) == 0 {
		r.Addrs = []string{net.JoinHostPort(c.Host, strconv.Itoa(c.Port))}
	}
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return r, fmt.Errorf("redis-password-file %s: %w", c.PasswordFile, withoutPath(err))
		}
		r.Password = strings.TrimRight(string(text), "\r\n")
	}
	if c.TLS || c.CA != "" {
		r.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return r, fmt.Errorf("redis-ca %s: %w", c.CA, withoutPath(err))
		}
		r.TLS.RootCAs = x509.NewCertPool()
		if !r.TLS.RootCAs.AppendCertsFromPEM(text) {
			return r, fmt.Errorf("redis-ca %s: has no certificate in PEM", c.CA)
		}
	}
	return r, nil
}

// newBalancer is where the balancer of `proxy` is chosen. run keeps it going; it is nil where
// the balancer is this proxy's alone and needs nobody.
func newBalancer(ctx context.Context, cfg *resolved, log *slog.Logger) (bal balancer.Balancer, run func(context.Context) error, err error) {
	if cfg.Redis.Balancer != balancerRedis {
		return balancer.NewMemory(balancer.Config{LeaseIdle: cfg.LeaseIdle}), nil, nil
	}
	c, err := cfg.Redis.config()
	if err != nil {
		return nil, nil, err
	}
	c.LeaseIdle, c.OriginTTL = cfg.LeaseIdle, cfg.RegisterTTL
	redisbalancer.Quiet()
	r, err := redisbalancer.New(ctx, c, log)
	if err != nil {
		return nil, nil, err
	}
	return r, func(ctx context.Context) error { return errors.Join(r.Run(ctx), r.Close()) }, nil
}
