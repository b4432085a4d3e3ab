package originapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// says is an origin that gives one answer to all questions.
func says(t *testing.T, answer http.HandlerFunc) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: answer}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func client(t *testing.T, tune func(*Config)) *Client {
	cfg := DefaultConfig()
	if tune != nil {
		tune(&cfg)
	}
	c := New(cfg)
	t.Cleanup(c.Close)
	return c
}

func TestAsk(t *testing.T) {
	c := client(t, nil)
	addr := says(t, text(`{"code":0,"server":"vid-1","streams":[{"id":"a"},{"id":"b"},{"id":"c"}],"more":{"x":[1.50]}}`))
	a, err := c.Ask(context.Background(), addr, Question{Path: "/api/v1/streams/", List: "streams", Most: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Items) != 2 || string(a.Items[1]) != `{"id":"b"}` {
		t.Errorf("items %q, want the first two", a.Items)
	}
	if got := string(a.Body.Append(nil)); got != `{"code":0,"server":"vid-1","more":{"x":[1.50]}}` {
		t.Errorf("body %s", got)
	}
}

// What an origin can do wrong is an error in the words of this package, and never
// more than that.
func TestAskOfBrokenOrigins(t *testing.T) {
	endless := func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"code":0,"streams":[`)
		for {
			if _, err := io.WriteString(w, `{"id":"`+strings.Repeat("a", 1000)+`"},`); err != nil {
				return
			}
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	halfway := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"code":0,"streams":[{"id":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	hangsUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	short := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, `{"code":0`)
	}
	status := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) }
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   error // nil for any other
	}{
		{"nothing", text(""), ErrNotJSON},
		{"HTML", text("<html>"), ErrNotJSON},
		{"a list", text("[1,2]"), ErrNotJSON},
		{"a number", text("7"), ErrNotJSON},
		{"no code", text(`{"a":1}`), ErrNotJSON},
		{"code of another kind", text(`{"code":"zero"}`), ErrNotJSON},
		{"list of another kind", text(`{"code":0,"streams":{"id":"a"}}`), ErrNotJSON},
		{"not closed", text(`{"code":0,"streams":[`), ErrNotJSON},
		{"deep", text(`{"code":0,"a":` + strings.Repeat("[", 100_000)), ErrNotJSON},
		{"502", status, ErrNotJSON},
		{"endless", endless, ErrTooLarge},
		{"one huge word", text(`{"code":0,"a":"` + strings.Repeat("x", 2<<20) + `"}`), ErrTooLarge},
		{"silent", silent, ErrNoAnswer},
		{"half an answer", halfway, ErrNoAnswer},
		{"hangs up", hangsUp, nil},
		{"shorter than it says", short, nil},
	}
	c := client(t, func(cfg *Config) { cfg.MaxReply = 1 << 20 })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			within := 10 * time.Second
			if tt.want == ErrNoAnswer {
				within = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			a, err := c.Ask(ctx, says(t, tt.answer), Question{Path: "/", List: "streams", Most: 10})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("answer %+v, error %v, want %v", a, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("the error tells an address: %v", err)
			}
		})
	}
	if held := c.inFlight.used.Load(); held != 0 {
		t.Errorf("%d bytes are still counted as being read", held)
	}
}

// All answers together are bounded too.
func TestAnswersInFlight(t *testing.T) {
	c := client(t, func(cfg *Config) { cfg.MaxInFlight = 100 << 10 })
	release := make(chan struct{})
	big := says(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"code":0,"a":"%s`, strings.Repeat("x", 90<<10))
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, `"}`)
	})
	small := says(t, text(`{"code":0,"a":"`+strings.Repeat("y", 20<<10)+`"}`))
	first := make(chan error, 1)
	go func() {
		_, err := c.Ask(context.Background(), big, Question{Path: "/"})
		first <- err
	}()
	for c.inFlight.used.Load() < 90<<10 {
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Ask(context.Background(), small, Question{Path: "/"}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v with too much in flight, want %v", err, ErrTooLarge)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := c.Ask(context.Background(), small, Question{Path: "/"}); err != nil {
		t.Errorf("error %v when there is room again", err)
	}
}

func TestAuthorization(t *testing.T) {
	addr := says(t, func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "admin" || password != "secret" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, `{"code":0}`)
	})
	c := client(t, nil)
	a, err := c.Ask(context.Background(), addr, Question{Path: "/"})
	if err != nil || a.Status != http.StatusUnauthorized || a.Challenge != "Basic" {
		t.Errorf("without a password: %+v, %v", a, err)
	}
	a, err = c.Ask(context.Background(), addr, Question{Path: "/", Authorization: "Basic YWRtaW46c2VjcmV0"})
	if err != nil || a.Status != http.StatusOK {
		t.Errorf("with the password: %+v, %v", a, err)
	}
}

// A redirect is an answer: nobody is sent elsewhere.
func TestNoRedirects(t *testing.T) {
	c := client(t, nil)
	addr := says(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	if _, err := c.Ask(context.Background(), addr, Question{Path: "/"}); !errors.Is(err, ErrNotJSON) {
		t.Errorf("error %v, want %v", err, ErrNotJSON)
	}
}
