package redisbalancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"srs-proxy/balancer"
)

// What SRS's own Go proxy keeps in Redis, which its instances and ours share:
//
//	srs-proxy-all-servers      ["srs-proxy-server:ID", ...]
//	srs-proxy-server:ID        server, see below; ID is its server, service and process id
//	srs-proxy-url:VHOST/APP/S  the server's key; without expiry where that proxy picked

// server is a record of the existing proxy.
type server struct {
	IP       string   `json:"ip,omitempty"`
	DeviceID string   `json:"device_id,omitempty"`
	Server   string   `json:"server_id,omitempty"`
	Service  string   `json:"service_id,omitempty"`
	PID      string   `json:"pid,omitempty"`
	RTMP     []string `json:"rtmp,omitempty"`
	HTTP     []string `json:"http,omitempty"`
	API      []string `json:"api,omitempty"`
	SRT      []string `json:"srt,omitempty"`
	RTC      []string `json:"rtc,omitempty"`
	// UpdatedAt is RFC 3339.
	UpdatedAt time.Time `json:"update_at,omitempty"`
}

// serverKey of an origin: a process that follows another one in its place has another key.
func (r *Redis) serverKey(o balancer.Origin) string {
	return r.keys.key("server:" + o.ID + "-" + o.Service)
}

// recordOf is an origin as the existing proxy reads it: one address, and bare ports.
func recordOf(o balancer.Origin, now time.Time) server {
	s := server{Server: o.ID, Service: o.Service, UpdatedAt: now}
	for _, e := range []struct {
		addr string
		at   *[]string
	}{{o.Endpoints.RTMP, &s.RTMP}, {o.Endpoints.HTTP, &s.HTTP}, {o.Endpoints.API, &s.API}, {o.Endpoints.SRT, &s.SRT}, {o.Endpoints.RTC, &s.RTC}} {
		host, port, err := net.SplitHostPort(e.addr)
		if err != nil {
			continue
		}
		if s.IP == "" {
			s.IP = host
		}
		*e.at = []string{port}
	}
	return s
}

// origin is the record as we read it. Its ID is that of the process: two servers
// that were given one server id are two.
func (s server) origin(id string) (balancer.Origin, error) {
	o := balancer.Origin{ID: id, Service: s.Service}
	for _, e := range []struct {
		from []string
		at   *string
	}{{s.RTMP, &o.Endpoints.RTMP}, {s.HTTP, &o.Endpoints.HTTP}, {s.API, &o.Endpoints.API}, {s.SRT, &o.Endpoints.SRT}, {s.RTC, &o.Endpoints.RTC}} {
		if len(e.from) == 0 {
			continue
		}
		addr, err := endpoint(s.IP, e.from[0])
		if err != nil {
			return o, err
		}
		*e.at = addr
	}
	if o.Endpoints == (balancer.Endpoints{}) {
		return o, errors.New("it has no endpoint")
	}
	return o, nil
}

// endpoint reads what SRS registers: a port, ip:port, or proto://[ip]:port. A server that
// listens on all addresses is reached at the one that it gave.
func endpoint(ip, text string) (string, error) {
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		text = u.Host
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = "", text
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("endpoint %q has no port", text)
	}
	if a := net.ParseIP(host); a == nil || a.IsUnspecified() {
		host = ip
	}
	if host == "" {
		return "", fmt.Errorf("endpoint %q has no address", text)
	}
	return net.JoinHostPort(host, port), nil
}

// importEvery is how often servers are looked for that the existing proxy registered. A
// stream on one that is not known yet makes us look at once.
const importEvery = time.Second

func (r *Redis) importOn(ctx context.Context) {
	for sleep(ctx, importEvery) == nil {
		if !r.isAway() {
			_ = r.importServers(ctx) // that Redis is away is noted
		}
	}
}

// importServers makes origins of the servers that the existing proxy registered.
func (r *Redis) importServers(ctx context.Context) error { return r.importInto(ctx, r.currentEpoch()) }

func (r *Redis) importInto(ctx context.Context, epoch string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*r.cfg.Timeout)
	defer cancel()
	text, err := r.rdb.Get(ctx, r.keys.key("all-servers")).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		r.lose(err)
		return fmt.Errorf("%w: %w", balancer.ErrUnavailable, err)
	}
	var keys []string
	if err := json.Unmarshal(text, &keys); err != nil {
		r.log.Debug("the list of servers can't be read", "cause", err)
		return nil
	}
	for _, key := range keys {
		if id, ok := r.foreign(key); ok {
			if err := r.importServer(ctx, epoch, id, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// foreign is the ID of a server that we don't know.
func (r *Redis) foreign(key string) (id string, ok bool) {
	id, ok = strings.CutPrefix(key, r.keys.key("server:"))
	r.mu.Lock()
	defer r.mu.Unlock()
	return id, ok && id != "" && r.byKey[key] == ""
}

func (r *Redis) importServer(ctx context.Context, epoch, id, key string) error {
	text, err := r.rdb.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		r.lose(err)
		return fmt.Errorf("%w: %w", balancer.ErrUnavailable, err)
	}
	var s server
	if err := json.Unmarshal(text, &s); err != nil {
		r.log.Debug("a server is left out", "origin", id, "cause", err)
		return nil
	}
	o, err := s.origin(id)
	if err != nil {
		r.log.Debug("a server is left out", "origin", id, "cause", err)
		return nil
	}
	args, err := r.updateArgs(o, key, howAdopt)
	if err != nil {
		return err
	}
	if _, err := r.callIn(ctx, epoch, r.lua.update, args...); err != nil {
		r.lose(err)
		return fmt.Errorf("%w: %w", balancer.ErrUnavailable, err)
	}
	return nil // if the store lost its state: what follows sees that too
}
