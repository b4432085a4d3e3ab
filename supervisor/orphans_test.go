package supervisor

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"srs-proxy/balancer"
)

func TestIdleStreams(t *testing.T) {
	start := time.Unix(1000, 0)
	idle := make(idleStreams)
	stream := func(id string, clients int, active bool) apiStream {
		s := apiStream{ID: id, Clients: clients}
		s.Publish.Active = active
		return s
	}
	steps := []struct {
		at      time.Duration
		streams []apiStream
		want    string
	}{
		{0, []apiStream{stream("live", 3, true), stream("ended", 2, false), stream("empty", 0, false)}, ""},
		{time.Second, []apiStream{stream("live", 3, true), stream("ended", 2, false)}, ""},
		{2 * time.Second, []apiStream{stream("live", 3, true), stream("ended", 2, false)}, "ended"},
		{3 * time.Second, []apiStream{stream("live", 3, false), stream("ended", 2, true)}, ""},
		// The one that is published again begins anew when it ends.
		{4 * time.Second, []apiStream{stream("live", 3, false), stream("ended", 2, false)}, ""},
		{5 * time.Second, []apiStream{stream("live", 3, false), stream("ended", 2, false)}, "live"},
		{6 * time.Second, []apiStream{stream("ended", 2, false)}, "ended"},
		{7 * time.Second, nil, ""},
	}
	for _, s := range steps {
		got := ""
		for id := range idle.look(s.streams, start.Add(s.at)) {
			got += id
		}
		if got != s.want {
			t.Errorf("at %s: %q, want %q", s.at, got, s.want)
		}
	}
	if len(idle) != 0 {
		t.Errorf("left: %v", idle)
	}
}

// A real player stays on a draining SRS as long as its stream is published there,
// and is disconnected when that has ended.
func TestSRSPlayerFollowsItsStream(t *testing.T) {
	cfg := srsConfig(t, 2)
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Skip("no ffmpeg")
	}
	f := newFleet(t, cfg).up()
	lease := f.publish("stream", "origin-0")
	player, err := f.bal.Pick(t.Context(), balancer.Request{Stream: lease.Stream})
	if err != nil {
		t.Fatal(err)
	}
	url := "rtmp://" + lease.Origin.Endpoints.RTMP + "/live/" + lease.Stream.Name
	ctx, stopPublisher := context.WithCancel(t.Context())
	defer stopPublisher()
	publisher := exec.CommandContext(ctx, "ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "sine", "-c:a", "aac", "-f", "flv", url)
	plays := exec.CommandContext(t.Context(), "ffmpeg", "-loglevel", "error", "-i", url, "-c", "copy", "-f", "null", "-")
	if err := publisher.Start(); err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() { published <- publisher.Wait() }()
	api := f.cfg.dialAddr(f.row("origin-0").Ports.API)
	clients := func(n int) func() bool {
		return func() bool {
			streams, err := listStreams(t.Context(), api)
			return err == nil && len(streams) == 1 && streams[0].Clients == n && streams[0].Publish.Active
		}
	}
	eventually(t, "a publisher", clients(1))
	if err := plays.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- plays.Wait() }()
	eventually(t, "a player", clients(2))
	if err := f.Restart(t.Context(), "origin-0"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatal("the player is cut while its stream lives:", err)
	case err := <-published:
		t.Fatal("the publisher is cut:", err)
	case <-time.After(orphanGrace + 2*orphanPeriod):
	}
	stopPublisher()
	<-published
	f.release(lease)
	start := time.Now()
	select {
	case <-ended:
		t.Logf("the player is disconnected %s after its publisher has gone", time.Since(start).Round(time.Millisecond))
	case <-time.After(patient):
		t.Fatal("the player waits for nothing")
	}
	f.release(player)
	f.settled("origin-0.1", "origin-1")
}
