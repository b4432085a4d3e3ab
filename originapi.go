package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/originapi"
	"srs-proxy/supervisor"
)

// originAPI asks origins' HTTP APIs (srs_app_http_api.cpp), each on connections of
// its own that do not outlive the question: SRS waits for open ones when it stops.
type originAPI struct {
	client *originapi.Client
	within time.Duration
	where  whereAPI
}

// whereAPI is the address of an origin's API, "" where it has none.
type whereAPI func(o supervisor.OriginStatus) string

// loopbackAPI is where origins of ours listen: setup leaves supervisor.Config.Listen at
// its default.
func loopbackAPI(o supervisor.OriginStatus) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Ports.API))
}

const (
	// apiTimeout is what an origin has for all that is asked of it at once.
	apiTimeout = time.Second
	// apiKickTimeout is for the end of many clients, one by one: ten thousand take SRS
	// about a second.
	apiKickTimeout = 3 * time.Second
	// apiReply bounds one reply: 1 KB a stream or client.
	apiReply = 64 << 20
	// apiAll as count lists everything; without it SRS lists ten.
	apiAll = 1_000_000
)

func newOriginAPI(within time.Duration, where whereAPI) *originAPI {
	cfg := originapi.DefaultConfig()
	cfg.PerOrigin, cfg.MaxReply = 1, apiReply
	return &originAPI{originapi.New(cfg), within, where}
}

// Close ends the connections.
func (a *originAPI) Close() { a.client.Close() }

// apiStream is a stream as an origin has it.
type apiStream struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	App     string `json:"app"`
	URL     string `json:"url"` // [vhost]/app/name, without the default vhost
	Clients int    `json:"clients"`
	Recv    int64  `json:"recv_bytes"`
	Send    int64  `json:"send_bytes"`
	Kbps    struct {
		Recv float64 `json:"recv_30s"`
		Send float64 `json:"send_30s"`
	} `json:"kbps"`
	Publish struct {
		Active bool   `json:"active"`
		CID    string `json:"cid"`
	} `json:"publish"`
	Video *struct {
		Codec  string `json:"codec"`
		Width  int    `json:"width"`
		Height int    `json:"height"`
	} `json:"video"`
	Audio *struct {
		Codec string `json:"codec"`
	} `json:"audio"`
}

// key is the name by which the stream is routed. It is in the URL, without an
// extension (srs_generate_stream_url); the field name has that of whoever came first,
// name.flv after a player of HTTP-FLV (SrsStatistic::create_stream).
func (s apiStream) key() balancer.Stream {
	vhost, path, _ := strings.Cut(s.URL, "/")
	if vhost == "" {
		vhost = balancer.DefaultVhost
	}
	key := balancer.Stream{Vhost: vhost, App: s.App, Name: s.Name}
	if name, ok := strings.CutPrefix(path, s.App+"/"); ok && name != "" {
		key.Name = name
	}
	return key
}

// apiClient is a client as an origin has it; SRS calls a publisher one too.
type apiClient struct {
	ID      string  `json:"id"`
	Stream  string  `json:"stream"` // its ID
	URL     string  `json:"url"`
	IP      string  `json:"ip"`
	Type    string  `json:"type"` // rtmp-play, flv-play, fmle-publish...
	Publish bool    `json:"publish"`
	Alive   float64 `json:"alive"` // seconds
}

// errNoClient says that an origin has no such client.
var errNoClient = errors.New("no such client")

func (a *originAPI) streams(ctx context.Context, o supervisor.OriginStatus) ([]apiStream, error) {
	return listOf[apiStream](ctx, a, o, "streams")
}

func (a *originAPI) clients(ctx context.Context, o supervisor.OriginStatus) ([]apiClient, error) {
	return listOf[apiClient](ctx, a, o, "clients")
}

// listOf is one of an origin's lists.
func listOf[T any](ctx context.Context, a *originAPI, o supervisor.OriginStatus, name string) ([]T, error) {
	// The slash before the query saves SRS's redirect.
	path := "/api/v1/" + name + "/?count=" + strconv.Itoa(apiAll)
	answer, err := a.ask(ctx, o, originapi.Question{Path: path, List: name, Most: apiAll})
	if err != nil {
		return nil, err
	}
	list := make([]T, len(answer.Items))
	for i, item := range answer.Items {
		if err := json.Unmarshal(item, &list[i]); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", o.ID, path, err)
		}
	}
	return list, nil
}

func (a *originAPI) one(ctx context.Context, o supervisor.OriginStatus, id string) (apiClient, error) {
	var c apiClient
	path := clientPath(id)
	answer, err := a.ask(ctx, o, originapi.Question{Path: path})
	if err != nil {
		return c, err
	}
	one, _ := answer.Body.Get("client")
	if err := json.Unmarshal(one, &c); err != nil {
		return c, fmt.Errorf("%s: %s: %w", o.ID, path, err)
	}
	return c, nil
}

// end ends a client. SRS needs no setting for that: http_api.raw_api, which is off,
// is about its config only.
func (a *originAPI) end(ctx context.Context, o supervisor.OriginStatus, id string) error {
	_, err := a.ask(ctx, o, originapi.Question{Method: http.MethodDelete, Path: clientPath(id)})
	return err
}

func clientPath(id string) string { return "/api/v1/clients/" + url.PathEscape(id) }

// clientNotFound is SRS's code of that (ERROR_RTMP_CLIENT_NOT_FOUND).
const clientNotFound = 2049

func (a *originAPI) ask(ctx context.Context, o supervisor.OriginStatus, q originapi.Question) (originapi.Answer, error) {
	answer, err := a.client.Ask(ctx, a.where(o), q)
	switch method := cmp.Or(q.Method, http.MethodGet); {
	case errors.Is(err, originapi.ErrNoAnswer):
		return answer, fmt.Errorf("%s does not answer within %s", o.ID, a.within)
	case err != nil:
		return answer, fmt.Errorf("%s: %s %s: %w", o.ID, method, q.Path, err)
	case answer.Code == clientNotFound:
		return answer, fmt.Errorf("%s: %w", o.ID, errNoClient)
	case answer.Code != 0 || answer.Status != http.StatusOK:
		return answer, fmt.Errorf("%s: %s %s: status %d, code %d", o.ID, method, q.Path, answer.Status, answer.Code)
	}
	return answer, nil
}

// askAll asks all origins that have a process which was ready once, at the same
// time. What ask does with the answer of one is locked against the others.
func askAll(ctx context.Context, within time.Duration, origins []supervisor.OriginStatus, where whereAPI, ask func(ctx context.Context, api *originAPI, o supervisor.OriginStatus) (keep func(), err error)) []error {
	var mu sync.Mutex // guards errs, and what keep touches
	var errs []error
	var wg sync.WaitGroup
	for _, o := range origins {
		if o.PID == 0 || o.ServiceID == "" || where(o) == "" {
			continue
		}
		wg.Go(func() {
			api := newOriginAPI(within, where)
			defer api.Close()
			ctx, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			keep, err := ask(ctx, api, o)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
			if keep != nil {
				keep()
			}
		})
	}
	wg.Wait()
	return errs
}
