package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/rtmp"
	"srs-proxy/proxy/originapi"
)

// finding is what a check found out.
type finding struct {
	err error // nil when the origin serves
	// gone says that nobody listens there any more: the kernel itself said so, and
	// there is nothing to wait for.
	gone bool
	// summary is what the origin's API said, nil if it said nothing.
	summary *summary
}

// summary is what is read of /api/v1/summaries.
type summary struct {
	Service string
	PID     int
	Version string
	// CPU is the share of one core, Recv and Send the bytes so far, and Sampled when
	// the origin counted them, in milliseconds.
	CPU        float64
	RSS        uint64 // bytes
	Recv, Send int64
	Sampled    int64
}

// checker looks at one origin once.
type checker struct {
	timeout time.Duration
	dialer  net.Dialer
	api     *originapi.Client
}

func newChecker(timeout time.Duration) *checker {
	c := &checker{timeout: timeout, dialer: net.Dialer{KeepAlive: -1}, api: originapi.New(originapi.DefaultConfig())}
	c.dialer.SetMultipathTCP(false)
	return c
}

func (c *checker) Close() { c.api.Close() }

// again is after how long a refused connection is tried once more: a listener that is
// being opened anew refuses for a moment.
const again = 100 * time.Millisecond

// check asks the API, where there is one: its answer says all. Without, and where it
// does not answer soon, an RTMP handshake does: an origin whose API is broken or busy still
// serves, and one that is stopped accepts connections (its kernel does) and says nothing.
// withRTMP asks for the port of RTMP although the API is there.
func (c *checker) check(ctx context.Context, e balancer.Endpoints, withRTMP bool) finding {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if e.API == "" {
		return c.media(ctx, e.RTMP)
	}
	asked := make(chan finding, 1)
	go func() { asked <- c.askAPI(ctx, e.API) }()
	var api finding
	answered := false
	if !withRTMP {
		select {
		case api = <-asked:
			if api.err == nil {
				return api
			}
			answered = true
		case <-time.After(c.timeout / 3):
		}
	}
	found := c.media(ctx, e.RTMP)
	if found.err == nil && !withRTMP {
		cancel() // enough is known
	}
	if !answered {
		api = <-asked
	}
	found.summary = api.summary
	if found.err != nil && api.err != nil {
		found.err = fmt.Errorf("%w; %w", found.err, api.err)
	}
	return found
}

// media does the RTMP handshake, once more if it was refused.
func (c *checker) media(ctx context.Context, addr string) (found finding) {
	if found.err, found.gone = c.shake(ctx, addr); found.gone {
		select {
		case <-ctx.Done():
		case <-time.After(again):
			found.err, found.gone = c.shake(ctx, addr)
		}
	}
	return found
}

// askAPI takes any answer for life: it may want a password, or be another server's.
func (c *checker) askAPI(ctx context.Context, addr string) finding {
	a, err := c.api.Ask(ctx, addr, originapi.Question{Path: "/api/v1/summaries"})
	switch {
	case err == nil:
		return finding{summary: readSummary(a.Body)}
	case errors.Is(err, originapi.ErrNotJSON), errors.Is(err, originapi.ErrTooLarge):
		return finding{}
	}
	return finding{err: fmt.Errorf("API: %w", err)}
}

// readSummary returns nil if there is nothing in it.
func readSummary(o originapi.Object) *summary {
	text := func(name string) (s string) {
		raw, _ := o.Get(name)
		_ = json.Unmarshal(raw, &s) // a wrong one is as good as none
		return s
	}
	var data struct {
		Self struct {
			PID     int     `json:"pid"`
			Version string  `json:"version"`
			CPU     float64 `json:"cpu_percent"` // SRS calls the share so
			RSS     uint64  `json:"mem_kbyte"`
		} `json:"self"`
		System struct {
			Recv    int64 `json:"srs_recv_bytes"`
			Send    int64 `json:"srs_send_bytes"`
			Sampled int64 `json:"srs_sample_time"`
		} `json:"system"`
	}
	raw, ok := o.Get("data")
	if !ok || json.Unmarshal(raw, &data) != nil {
		return nil
	}
	return &summary{
		Service: text("service"), PID: data.Self.PID, Version: data.Self.Version,
		CPU: max(0, data.Self.CPU), RSS: data.Self.RSS << 10, Recv: data.System.Recv, Send: data.System.Send, Sampled: data.System.Sampled,
	}
}

// shake does the RTMP handshake.
func (c *checker) shake(ctx context.Context, addr string) (err error, gone bool) { //nolint:revive // the second explains the first
	conn, err := c.dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("RTMP: %w", plain(ctx, err)), errors.Is(err, syscall.ECONNREFUSED)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := rtmp.DialHandshake(conn, netip.Addr{}); err != nil {
		return fmt.Errorf("RTMP handshake: %w", plain(ctx, err)), false
	}
	return nil, false
}

var errNoAnswer = errors.New("no answer in time")

// plain leaves the addresses out of a network's error: they are beside it already.
func plain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errNoAnswer
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
