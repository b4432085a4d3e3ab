package e2e

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// publisherReconnects: it finds its players where it left them, ten times.
func publisherReconnects(t *testing.T, in *instance) {
	pub := in.publish(t, "again")
	player := in.playRTMP(t, "again")
	player.awaitFrames(t, 3, 10*time.Second)
	home, _ := in.home(t, "again")
	for range 10 {
		pub.stop()
		var again *publisher
		took := eventually(t, 5*time.Second, "the name can be published again", func() (bool, string) {
			p, err := startPublisher(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "again")
			if err != nil {
				return false, err.Error()
			}
			again = p
			return true, ""
		})
		if took > time.Second {
			t.Errorf("a re-publish took %s", took)
		}
		pub = again
		t.Cleanup(again.stop)
		eventually(t, 10*time.Second, "the player sees the new publisher", func() (bool, string) {
			s := player.seen()
			if s.err != nil {
				t.Fatalf("the player was disconnected: %v", s.err)
			}
			return s.last.stream == again.id, fmt.Sprintf("frames of %d, want %d", s.last.stream, again.id)
		})
	}
	if now, n := in.home(t, "again"); now != home || n != 1 {
		t.Errorf("the stream moved from %s to %s, on %d origins", home, now, n)
	}
}

// playBeforePublish: the player waits where the publisher will come.
func playBeforePublish(t *testing.T, in *instance) {
	for i := range 6 {
		name := fmt.Sprintf("early%d", i)
		players := []*player{in.playRTMP(t, name), in.playRTMP(t, name)}
		in.publish(t, name)
		awaitFrames(t, 5, 10*time.Second, players...)
		for _, p := range players {
			p.checkNoGap(t)
		}
	}
}

// stolenName: while a stream is live nobody else can publish its name.
func stolenName(t *testing.T, in *instance) {
	in.publish(t, "mine")
	player := in.playRTMP(t, "mine")
	player.awaitFrames(t, 3, 10*time.Second)
	for range 5 {
		if thief, err := openPublish(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "mine"); err == nil {
			// SRS says yes before it looks; then it closes.
			thief.awaitHangup(t, 5*time.Second)
			thief.conn.Close()
		}
	}
	player.awaitFrames(t, 5, 10*time.Second)
	player.checkNoGap(t)
	if _, n := in.home(t, "mine"); n != 1 {
		t.Errorf("the stream is on %d origins", n)
	}
}

// TestIPv6: the same on ::1.
func TestIPv6(t *testing.T) {
	t.Parallel()
	if ln, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		ln.Close()
	}
	in := newInstance(t, 1)
	rtmpAddr, httpAddr := fmt.Sprintf("[::1]:%d", in.ports.RTMP), fmt.Sprintf("[::1]:%d", in.ports.HTTP)
	in.cmd.Args = append(in.cmd.Args, "--rtmp", rtmpAddr, "--http", httpAddr)
	in.start().waitReady(readyWithin)
	pub, err := startPublisher(rtmpAddr, "rtmp://"+rtmpAddr+"/live", "six")
	if err != nil {
		t.Fatal(err)
	}
	defer pub.stop()
	checkCodecs(t, "rtmp://"+rtmpAddr+"/live/six", "aac", "h264")
	checkCodecs(t, "http://"+httpAddr+"/live/six.flv", "aac", "h264")
}
