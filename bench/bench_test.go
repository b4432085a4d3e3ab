package bench

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/origin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newOrigin(t *testing.T) (rtmpAddr, httpAddr string) {
	t.Helper()
	cfg := origin.DefaultConfig()
	cfg.RTMPListen, cfg.HTTPListen = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	o := origin.New(cfg, slog.New(slog.DiscardHandler))
	if err := o.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return o.RTMPAddrs()[0].String(), o.HTTPAddrs()[0].String()
}

func config(urls ...string) Config {
	return Config{URLs: urls, Streams: 2, Players: 2, Bitrate: 200_000, Duration: time.Second, Rate: 100}
}

func TestRun(t *testing.T) {
	rtmpAddr, httpAddr := newOrigin(t)
	phases := map[string]int{}
	s, err := Run(t.Context(), config("rtmp://"+rtmpAddr+"/live/a", "http://"+httpAddr+"/live/a.flv"), func(p Progress) { phases[p.Phase]++ })
	if err != nil {
		t.Fatal(err)
	}
	if s.Failed() || s.RunningPublishers != 2 || s.RunningPlayers != 4 || s.Delivered != s.Expected || s.Delivered.Frames == 0 || s.In == 0 || s.Out != 2*s.In || phases["measuring"] == 0 {
		t.Errorf("%+v %v %v", s, s.Report, phases)
	}
}

// Who plays the streams of others counts bytes, and one that is not there is told.
func TestPlayOnly(t *testing.T) {
	rtmpAddr, httpAddr := newOrigin(t)
	ctx, cancel := context.WithCancel(t.Context())
	published := make(chan error, 1)
	go func() {
		c := config("rtmp://" + rtmpAddr + "/live/a")
		c.Streams, c.Players, c.Duration = 1, 0, time.Minute
		_, err := Run(ctx, c, func(Progress) {})
		published <- err
	}()
	c := config("http://" + httpAddr + "/live/a.flv")
	c.Streams = 0
	var s *Summary
	for deadline := time.Now().Add(20 * time.Second); ; {
		var err error
		if s, err = Run(t.Context(), c, func(Progress) {}); err != nil {
			t.Fatal(err)
		}
		if s.RunningPlayers == 2 || time.Now().After(deadline) {
			break
		}
	}
	if s.Failed() || s.Published || s.Out == 0 || s.Expected.Frames != 0 {
		t.Errorf("%+v %v", s, s.Report)
	}
	cancel()
	if err := <-published; err != nil {
		t.Errorf("the publisher that was interrupted: %v", err)
	}
}

// An interrupt while it measures gives a summary of what there was.
func TestInterrupted(t *testing.T) {
	rtmpAddr, _ := newOrigin(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := config("rtmp://" + rtmpAddr + "/live/a")
	c.Duration = time.Hour
	s, err := Run(ctx, c, func(p Progress) {
		if p.Phase == "measuring" && p.Report.Delivered.Frames > 20 {
			cancel()
		}
	})
	if err != nil || s == nil || s.Failed() || s.Elapsed > time.Minute || s.Delivered != s.Expected || s.Delivered.Frames < 20 {
		t.Errorf("%v: %+v", err, s)
	}
	if s, err := Run(ctx, c, func(Progress) {}); s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted before: %v, %v", s, err)
	}
}

func TestFailuresAreTold(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // nobody listens there
	s, err := Run(t.Context(), config("rtmp://"+ln.Addr().String()+"/live/a"), func(Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Failed() || s.Report.Failed() != 6 || s.RunningPlayers != 0 {
		t.Errorf("%+v %v", s, s.Report)
	}
}

func TestWrongConfigs(t *testing.T) {
	good := config("rtmp://127.0.0.1/live/a")
	for name, edit := range map[string]func(*Config){
		"no URL":                  func(c *Config) { c.URLs = nil },
		"a negative number":       func(c *Config) { c.Players = -1 },
		"too slow":                func(c *Config) { c.Bitrate = 1 },
		"no time":                 func(c *Config) { c.Duration = 0 },
		"too long":                func(c *Config) { c.Duration = 2 * time.Hour },
		"no rate":                 func(c *Config) { c.Rate = 0 },
		"too many":                func(c *Config) { c.Streams, c.Players = 1000, 1000 },
		"too many in one":         func(c *Config) { c.Players = 1 << 40 },
		"nothing to publish to":   func(c *Config) { c.URLs = []string{"http://127.0.0.1/live/a.flv"} },
		"an unknown scheme":       func(c *Config) { c.URLs, c.Streams = []string{"ftp://127.0.0.1/live/a?token=secret"}, 0 },
		"what cannot be parsed":   func(c *Config) { c.URLs = []string{"rtmp://%zz/secret"} },
		"no name to be numbered":  func(c *Config) { c.URLs = []string{"srt://127.0.0.1:1?streamid=secret"} },
		"a path without a stream": func(c *Config) { c.URLs, c.Streams = []string{"rtmp://127.0.0.1/live"}, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			edit(&c)
			_, err := Run(t.Context(), c, func(Progress) {})
			if _, ok := errors.AsType[ConfigError](err); !ok {
				t.Errorf("%v", err)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("it shows a secret: %v", err)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		urls          []string
		streams       int
		publish, play string
	}{
		{[]string{"rtmp://h/live/a"}, 1, "rtmp://h/live/a", "rtmp://h/live/a"},
		{[]string{"rtmp://h/live/a"}, 0, "", "rtmp://h/live/a"},
		{[]string{"http://h/live/a.flv?x=1", "whip://h/live/a"}, 2, "webrtc://h/live/a-1 webrtc://h/live/a-2", "http://h/live/a-1.flv?x=1; http://h/live/a-2.flv?x=1"},
		{[]string{"srt://h:1/live/a", "rtmp://h/live/a", "http://h/live/a.m3u8"}, 1, "srt://h:1/live/a", "rtmp://h/live/a http://h/live/a.m3u8"},
	} {
		p, err := newPlan(Config{URLs: tt.urls, Streams: tt.streams, Players: 3})
		if err != nil {
			t.Fatal(err)
		}
		var play []string
		n := len(p.publish)
		for _, urls := range p.play {
			play = append(play, strings.Join(urls, " "))
			n += 3 * len(urls)
		}
		if got := strings.Join(p.publish, " "); got != tt.publish || strings.Join(play, "; ") != tt.play || p.sessions() != n {
			t.Errorf("%v: publish %s, play %s, %d sessions", tt.urls, got, play, p.sessions())
		}
	}
}
