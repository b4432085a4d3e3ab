package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHerdOfViewers: a stream begins and everybody comes at once, over HTTP.
func TestHerdOfViewers(t *testing.T) {
	const viewers = 400 // of each protocol
	in := up(t, 4, "--max-connections-per-ip", "3000")
	pub := in.publish(t, "show")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	eventually(t, 20*time.Second, "a segment", func() (bool, string) {
		r, err := hlsSegment(ctx, in.stream("m3u8", "live/show"), nil)
		return err == nil && r.code == http.StatusOK, fmt.Sprintf("%d %v", r.code, err)
	})

	gate := make(chan struct{})
	var failures failures
	var all sync.WaitGroup
	for i := range viewers {
		all.Go(func() {
			<-gate
			r, err := hlsSegment(ctx, in.stream("m3u8", "live/show"), nil)
			if err == nil && r.code != http.StatusOK {
				err = fmt.Errorf("HTTP %d %s", r.code, strings.TrimSpace(string(r.body)))
			}
			failures.add(err, "HLS viewer %d", i)
		})
		all.Go(func() {
			<-gate
			failures.add(watchFLV(in, "show", pub.id), "FLV viewer %d", i)
		})
	}
	start := time.Now()
	close(gate)
	all.Wait()
	t.Logf("%d HLS and %d FLV viewers had media after %s", viewers, viewers, time.Since(start).Round(time.Millisecond))
	failures.report(t, 2*viewers)
	select {
	case <-pub.done:
		t.Errorf("the publisher was disconnected: %v", pub.err)
	default:
	}
}

func watchFLV(in *instance, name string, id uint32) error {
	conn, err := net.DialTimeout("tcp", in.http(), 20*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	flv, err := openFLV(conn, in.http(), "/live/"+name+".flv", nil)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return untilStamp(flv.next, id)
}
