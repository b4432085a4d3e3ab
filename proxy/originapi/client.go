// Package originapi asks origins' HTTP APIs (SRS: srs_app_http_api.cpp).
//
//	Question ─▶ Client ─▶ GET http://ADDR/api/v1/streams/?count=1000
//	Answer  ◀─ one element of a list at a time, never more than allowed ◀─┘
//
// An answer is untrusted: it is read up to a limit, by a deadline that the caller
// sets, and what is not JSON is an error. The package knows neither which origins
// there are nor what is done with their answers.
package originapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Config of a Client. DefaultConfig has the defaults.
type Config struct {
	// PerOrigin bounds the connections to one origin; more questions wait.
	PerOrigin int
	// IdleTimeout is how long a connection is kept for the next question. SRS, when
	// it is asked to stop, waits for the ones that are open. (7.0.18 says Connection:
	// Close in every answer, so that there are none to keep.)
	IdleTimeout time.Duration
	// MaxReply bounds one answer, in bytes. A stream or a client takes 400 to 800.
	MaxReply int64
	// MaxInFlight bounds all answers that are being read at a time, in bytes.
	MaxInFlight int64
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{PerOrigin: 8, IdleTimeout: time.Second, MaxReply: 32 << 20, MaxInFlight: 512 << 20}
}

// Errors of Ask, besides those of the network.
var (
	// ErrNoAnswer says that the origin did not answer in time.
	ErrNoAnswer = errors.New("no answer in time")
	// ErrNotJSON says that the answer is not what SRS's API gives.
	ErrNotJSON = errors.New("the answer is not that of SRS's API")
	// ErrTooLarge says that the answer is over its limit, or that too many are
	// being read.
	ErrTooLarge = errors.New("the answer is too large")
)

// Client asks. It can be used by many goroutines at once.
type Client struct {
	cfg       Config
	transport *http.Transport
	inFlight  budget
}

// New returns a Client; it does nothing yet.
func New(cfg Config) *Client {
	d := &net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	return &Client{
		cfg: cfg,
		transport: &http.Transport{
			DialContext:            d.DialContext,
			DisableCompression:     true,
			MaxConnsPerHost:        cfg.PerOrigin,
			MaxIdleConnsPerHost:    cfg.PerOrigin,
			IdleConnTimeout:        cfg.IdleTimeout,
			MaxResponseHeaderBytes: 16 << 10,
			WriteBufferSize:        1 << 10,
		},
		inFlight: budget{most: cfg.MaxInFlight},
	}
}

// Close ends the connections that nobody uses.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Question is what an origin is asked.
type Question struct {
	// Method is GET if empty.
	Method string
	// Path begins with a slash and may have a query. For streams, clients and vhosts
	// a slash before the query saves SRS's redirect.
	Path string
	// Authorization is the header of who asks us, for origins with http_api.auth.
	Authorization string
	// List names the member of the answer that is a list; "" for none. Its first
	// Most elements are read.
	List string
	Most int
}

// Answer is what an origin said. Code is 0 if it could.
type Answer struct {
	Status int
	Code   int
	// Body has the answer's members, without the list.
	Body Object
	// Items are the elements of the list.
	Items [][]byte
	// Challenge is the WWW-Authenticate header of a status 401.
	Challenge string
}

// Ask asks the origin whose API is at addr ("ip:port"). The caller's context bounds
// the time. A code of SRS that says no is no error here; without a code there is one.
func (c *Client) Ask(ctx context.Context, addr string, q Question) (Answer, error) {
	resp, err := c.Do(ctx, addr, q)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := Answer{Status: resp.StatusCode}
	if resp.StatusCode == http.StatusUnauthorized {
		a.Challenge = resp.Header.Get("WWW-Authenticate")
		return a, nil
	}
	body := &limitedReader{r: resp.Body, left: c.cfg.MaxReply, all: &c.inFlight}
	defer body.release()
	if err := a.Read(body, q); err != nil {
		switch {
		case ctx.Err() != nil:
			return Answer{}, ErrNoAnswer
		case body.full:
			return Answer{}, ErrTooLarge
		case body.err != nil:
			return Answer{}, plain(body.err)
		case resp.StatusCode != http.StatusOK:
			return Answer{}, fmt.Errorf("%w: status %d", ErrNotJSON, resp.StatusCode)
		}
		return Answer{}, ErrNotJSON
	}
	return a, nil
}

// Do asks and gives the answer as it comes, for whoever passes it on; its body is
// the caller's to close. Redirects are not followed.
func (c *Client) Do(ctx context.Context, addr string, q Question) (*http.Response, error) {
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+q.Path, http.NoBody)
	if err != nil {
		return nil, errors.New("the request is not one that can be sent")
	}
	req.Header.Set("User-Agent", "srs-proxy")
	if q.Authorization != "" {
		req.Header.Set("Authorization", q.Authorization)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ErrNoAnswer
		}
		return nil, plain(err)
	}
	return resp, nil
}

// plain takes the addresses out of a network's error.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}
