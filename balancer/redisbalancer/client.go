package redisbalancer

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"srs-proxy/balancer"
)

// Validate says what can't be.
func (c Config) Validate() error {
	switch {
	case len(c.Addrs) == 0:
		return errors.New("no address of a Redis")
	case c.cluster() && c.DB != 0:
		return errors.New("a Redis Cluster has no databases but 0")
	case c.cluster() && strings.ContainsAny(c.Prefix, "{}"):
		return errors.New("the key prefix can't have braces in a Redis Cluster")
	case strings.ContainsFunc(c.Prefix, func(r rune) bool { return r <= ' ' }):
		return errors.New("the key prefix can't have spaces or control characters")
	case c.Fallback != Fail && c.Fallback != Local:
		return fmt.Errorf("fallback %q is unknown", c.Fallback)
	}
	return nil
}

func (c Config) cluster() bool { return c.SentinelMaster == "" && (c.Cluster || len(c.Addrs) > 1) }

// keyspace makes keys.
type keyspace struct{ prefix string }

// keyspace of a Cluster has all keys in one slot: what braces enclose is what is hashed.
// Nobody has to be compatible there: the existing proxy doesn't know Clusters.
func (c Config) keyspace() keyspace {
	if c.cluster() {
		return keyspace{"{" + c.Prefix + "srs-proxy}:"}
	}
	return keyspace{c.Prefix}
}

func (k keyspace) key(name string) string { return k.prefix + "srs-proxy-" + name }

// connect makes the client. It dials when it is first used.
func (r *Redis) connect() redis.UniversalClient {
	c := r.cfg
	o := &redis.UniversalOptions{
		Username: c.User, Password: c.Password, SentinelUsername: c.User, SentinelPassword: c.Password,
		DB: c.DB, MasterName: c.SentinelMaster, IsClusterMode: c.cluster(),
		ClientName:  "srs-proxy",
		ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, PoolTimeout: c.Timeout,
		ContextTimeoutEnabled: true,
		// A connection that had ended unseen costs one more call, within the same time. What
		// is done twice thereby is the same: proxies tell all that they hold, not changes.
		MaxRetries: 1,
		// Two tries to connect, since the kernel repeats a SYN that was lost only after a second:
		// who begins just before a network is mended would learn of it when that is over.
		DialTimeout: c.Timeout / 2, DialerRetries: 2, DialerRetryTimeout: time.Millisecond,
		PoolSize: 32, MinIdleConns: 2,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, a := range c.Addrs {
		o.Addrs = append(o.Addrs, strings.TrimPrefix(a, "unix:"))
	}
	if c.TLS != nil {
		o.TLSConfig = c.TLS.Clone()
	}
	if c.cluster() {
		o.MaxRedirects = 3
	} else {
		o.OnConnect = r.checkServer
	}
	return redis.NewUniversalClient(o)
}

// checkServer sees whether the server that we were connected to is the one that has the
// epoch. A server that was restarted, or a replica that was promoted, may have an old state
// with a valid epoch; nobody must use it before all proxies have written back what they hold.
func (r *Redis) checkServer(ctx context.Context, cn *redis.Conn) error {
	return r.checkEpoch(ctx, cn)
}

func (r *Redis) checkEpoch(ctx context.Context, cn redis.Cmdable) error {
	id, err := runID(ctx, cn)
	if err != nil || id == "" {
		return nil // not allowed to ask, or the call that follows fails as well
	}
	epoch, err := cn.Get(ctx, r.keys.key("epoch")).Result()
	if err != nil || strings.HasPrefix(epoch, id) {
		return nil
	}
	const drop = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`
	return ignoreNil(cn.Eval(ctx, drop, []string{r.keys.key("epoch")}, epoch).Err())
}

func ignoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// runID names the run of the server's process.
func runID(ctx context.Context, c redis.Cmdable) (string, error) {
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(info, "run_id:")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id, nil
}

// serverRun names the run of the server that has our keys, after the epoch in it was
// checked: connections to a node of a Cluster may be older than its promotion.
func (r *Redis) serverRun(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	home, err := r.home(ctx)
	if err != nil {
		return "", err
	}
	if r.cfg.cluster() {
		if err := r.checkEpoch(ctx, home); err != nil {
			return "", err
		}
	}
	return runID(ctx, home)
}

// home is the server that has our keys. A Cluster's client asks all masters what has no
// key, and one that is dead and none of our business would fail it.
func (r *Redis) home(ctx context.Context) (redis.Cmdable, error) {
	if c, ok := r.rdb.(*redis.ClusterClient); ok {
		return c.MasterForKey(ctx, r.keys.key("epoch"))
	}
	return r.rdb, nil
}

// seekHome has a Cluster's client find out who has our keys now. By itself it asks every
// minute, or when a node sends it to another one, which a dead one does not.
func (r *Redis) seekHome(ctx context.Context) {
	if c, ok := r.rdb.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
}

// loadHold has the server know the script that is called by its hash.
func (r *Redis) loadHold(ctx context.Context) error {
	home, err := r.home(ctx)
	if err == nil {
		err = r.lua.hold.Load(ctx, home).Err()
	}
	if err != nil {
		return fmt.Errorf("load a script: %w", err)
	}
	return nil
}

//go:embed lua
var sources embed.FS

// scripts are read once; their text is part of the program.
type scripts struct{ begin, pick, hold, lookup, update, remove, poll, stats, sync, route *redis.Script }

func loadScripts() scripts {
	part := func(name string) string {
		b, err := sources.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return "error('script " + name + " is missing')"
		}
		return string(b)
	}
	common := part("common")
	guarded := func(name string) *redis.Script {
		return redis.NewScript(common + part("guard") + part(name))
	}
	return scripts{
		begin: redis.NewScript(common + part("begin")), pick: guarded("pick"), hold: guarded("hold"), lookup: guarded("lookup"),
		update: guarded("update"), remove: guarded("remove"), poll: guarded("poll"), stats: guarded("stats"), sync: guarded("sync"), route: guarded("route"),
	}
}

// reply is what a script says: a word, then what belongs to it.
type reply []any

func (p reply) word() string { return p.text(0) }

func (p reply) text(i int) string {
	if i >= len(p) {
		return ""
	}
	switch v := p[i].(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

func (p reply) number(i int) int64 {
	n, _ := strconv.ParseInt(p.text(i), 10, 64)
	return n
}

func (p reply) list(i int) reply {
	if i >= len(p) {
		return nil
	}
	l, _ := p[i].([]any)
	return l
}

// call runs a script. Its error means that Redis is away, and this proxy takes note of
// that. The caller's end does not end the call: what it did must be known.
func (r *Redis) call(ctx context.Context, s *redis.Script, args ...any) (reply, error) {
	if r.isAway() {
		return nil, balancer.ErrUnavailable
	}
	p, err := r.callIn(ctx, r.currentEpoch(), s, args...)
	if err != nil {
		r.lose(err)
		return nil, fmt.Errorf("%w: %w", balancer.ErrUnavailable, err)
	}
	return p, nil
}

// callIn asks even a Redis that is away, as one who knows of an epoch.
func (r *Redis) callIn(ctx context.Context, epoch string, s *redis.Script, args ...any) (reply, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	l, err := s.Run(ctx, r.rdb, r.scriptKeys(), r.scriptArgs(epoch, args)...).Slice()
	return l, err
}

// scriptKeys name one key, by which a Cluster knows the slot.
func (r *Redis) scriptKeys() []string { return []string{r.keys.key("epoch")} }

func (r *Redis) scriptArgs(epoch string, args []any) []any {
	return append([]any{r.keys.prefix, epoch, r.cfg.LeaseIdle.Milliseconds()}, args...)
}

func (r *Redis) currentEpoch() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch
}

// Quiet keeps the client's library from writing to standard error, which it does on each
// failed dial. It changes the whole process; call it before New.
func Quiet() { logging.Disable() }

// isAnswer tells an error that Redis itself gave from not reaching it.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// refused tells an error that an operator has to mend from one that may pass.
func refused(err error) bool {
	for _, word := range []string{"NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR invalid password", "ERR DB index", "ERR Client sent AUTH"} {
		if redis.HasErrorPrefix(err, word) {
			return true
		}
	}
	return false
}

func (r *Redis) isAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

// lose notes that Redis does not answer.
func (r *Redis) lose(err error) {
	r.mu.Lock()
	before := r.away
	if !before {
		r.away, r.since = true, time.Now()
	}
	r.mu.Unlock()
	if !before {
		r.log.Warn("Redis can't be reached: sessions and known streams go on, new streams are "+r.cfg.Fallback.means(), "cause", err)
	}
}

func (f Fallback) means() string {
	if f == Local {
		return "placed by this proxy alone"
	}
	return "refused"
}
