package origin

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

func TestConnectLooksLikeSRS(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	_, result := o.dial(o.rtmpURL("/live"))
	info := amf0.AsObject(result.Arg(0))
	if got := info.Text("code"); got != "NetConnection.Connect.Success" {
		t.Errorf("code %q", got)
	}
	data := amf0.AsObject(info.Get("data"))
	for _, key := range []string{"srs_sig", "srs_server", "srs_version", "srs_server_ip", "srs_id"} {
		if data.Text(key) == "" {
			t.Errorf("data has no %s: %v", key, data)
		}
	}
	if !strings.Contains(data.Text("srs_server"), "srs-proxy") {
		t.Errorf("srs_server %q does not name us", data.Text("srs_server"))
	}
	if pid, _ := data.Get("srs_pid").(float64); pid <= 0 {
		t.Errorf("srs_pid %v", data.Get("srs_pid"))
	}
}

func TestPlayBeforePublishAndRepublish(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	player := o.player("a")

	pub := o.publisher("a")
	setData, err := amf0.Append(nil, "@setDataFrame")
	if err != nil {
		t.Fatal(err)
	}
	pub.send(rtmp.Message{ChunkStreamID: 4, Type: rtmp.TypeDataAMF0, StreamID: 1, Payload: append(setData, metadata(t)...)})
	pub.video(0, avcConfig())
	pub.audio(0, aacConfig())
	pub.video(1000, avcFrame(true, 100))
	pub.audio(1010, aacFrame(20))
	pub.video(1040, avcFrame(false, 100))
	want := []string{"meta@0", "v:config@0", "a:config@0", "v:key@1000", "a@1010", "v@1040"}
	if got := kinds(player.media(6)); !slices.Equal(got, want) {
		t.Errorf("first player got %v, want %v", got, want)
	}
	if got := kinds(o.player("a").media(6)); !slices.Equal(got, want) {
		t.Errorf("a player that joined got %v, want %v", got, want)
	}

	// The same connection publishes again; the encoder's clock starts over, the
	// players' goes on.
	pub.call("FCUnpublish", nil, "a")
	pub.command("onFCUnpublish")
	pub.result()
	pub.expectStatus("NetStream.Unpublish.Success")
	pub.call("publish", nil, "a", "live")
	pub.expectStatus("NetStream.Publish.Start")
	pub.video(0, avcConfig())
	pub.video(0, avcFrame(true, 100))
	pub.video(40, avcFrame(false, 100))
	want = []string{"v:config@1080", "v:key@1080", "v@1120"}
	if got := kinds(player.media(3)); !slices.Equal(got, want) {
		t.Errorf("after the republish the player got %v, want %v", got, want)
	}

	// Another connection does, once the first is gone.
	_ = pub.conn.Close()
	var again *rtmpClient
	await(t, "stream is free", func() bool {
		c, _ := o.dial(o.rtmpURL("/live"))
		c.createStream()
		c.call("publish", nil, "a", "live")
		again = c
		return c.status() == "NetStream.Publish.Start"
	})
	again.video(0, avcFrame(true, 50))
	want = []string{"v:key@1160"}
	if got := kinds(player.media(1)); !slices.Equal(got, want) {
		t.Errorf("from the second publisher the player got %v, want %v", got, want)
	}
}

func TestBusyStreamIsBadName(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	first := o.publisher("a")
	second, _ := o.dial(o.rtmpURL("/live"))
	second.createStream()
	second.call("publish", nil, "a", "live")
	second.expectStatus("NetStream.Publish.BadName")
	second.closed()

	first.video(0, avcConfig())
	first.video(0, avcFrame(true, 10))
	if got := kinds(o.player("a").media(2)); !slices.Equal(got, []string{"v:config@0", "v:key@0"}) {
		t.Errorf("the first publisher's stream became %v", got)
	}
}

func TestTimestampsOfFiveHours(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	pub := o.publisher("a")
	const at = 18_000_000 // past 0xffffff: extended timestamps
	pub.video(at, avcConfig())
	pub.video(at, avcFrame(true, 150_000)) // several chunks, each with the timestamp
	pub.video(at+40, avcFrame(false, 100))
	got := o.player("a").media(3)
	if want := []string{"v:config@18000000", "v:key@18000000", "v@18000040"}; !slices.Equal(kinds(got), want) {
		t.Errorf("got %v, want %v", kinds(got), want)
	}
	if len(got[1].Payload) != 150_000 {
		t.Errorf("keyframe has %d bytes", len(got[1].Payload))
	}
}

func TestEnhancedRTMPPassesThrough(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	pub := o.publisher("a")
	config := append([]byte{0x80 | 1<<4 | 0}, "av01\x81\x00\x0c\x00"...)
	key := append([]byte{0x80 | 1<<4 | 1}, "av01frame"...)
	inter := append([]byte{0x80 | 2<<4 | 1}, "av01frame"...)
	pub.video(0, config)
	pub.video(0, key)
	pub.video(40, inter)
	o.awaitStream("/live/a", false, true)
	pub.video(80, key)
	pub.video(120, inter)
	got := o.player("a").media(3)
	if want := []string{"v:config@0", "v:key@80", "v@120"}; !slices.Equal(kinds(got), want) {
		t.Errorf("got %v, want %v: the GOP begins at the newest keyframe", kinds(got), want)
	}
	if s := o.awaitStream("/live/a", false, true); s.Video.Codec != "AV1" {
		t.Errorf("codec %q", s.Video.Codec)
	}
}

// TestNewSequenceHeader: frames of the last sequence can't be decoded with it.
func TestNewSequenceHeader(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	player := o.player("a")
	pub := o.publisher("a")
	other := append(avcConfig(), 0)
	pub.video(0, avcConfig())
	pub.video(0, avcFrame(true, 10))
	pub.video(40, avcConfig()) // some encoders repeat it: nothing changes
	pub.video(40, avcFrame(false, 10))
	player.media(4)
	if got, want := kinds(o.player("a").media(3)), []string{"v:config@40", "v:key@0", "v@40"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	pub.video(80, other)
	pub.video(80, avcFrame(true, 10))
	player.media(2)
	if got, want := kinds(o.player("a").media(2)), []string{"v:config@80", "v:key@80"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	pub.video(120, avcConfig())
	player.media(1)
	late := o.player("a")
	pub.video(120, avcFrame(true, 10))
	if got, want := kinds(late.media(2)), []string{"v:config@120", "v:key@120"}; !slices.Equal(got, want) {
		t.Errorf("between sequences got %v, want %v", got, want)
	}
}

func TestAggregateMessages(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	player := o.player("a")
	pub := o.publisher("a")
	tag := func(kind byte, ms uint32, p []byte) []byte {
		f := frame{kind: kind, time: ms, payload: p}
		f.seal()
		return slices.Concat(f.flvHead[:], p, f.flvTail[:])
	}
	pub.send(rtmp.Message{
		ChunkStreamID: 6, Type: rtmp.TypeAggregate, StreamID: 1, Timestamp: 1000,
		Payload: slices.Concat(tag(kindVideo, 500, avcFrame(true, 20)), tag(kindAudio, 520, aacFrame(5))),
	})
	if got, want := kinds(player.media(2)), []string{"v:key@1000", "a@1020"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPingAndAcknowledgement(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	c := o.publisher("a")
	c.send(rtmp.Message{ChunkStreamID: 2, Type: rtmp.TypeUserControl, Payload: []byte{0, 6, 1, 2, 3, 4}})
	m, err := c.r.ReadMessage()
	if err != nil || m.Type != rtmp.TypeUserControl || string(m.Payload) != "\x00\x07\x01\x02\x03\x04" {
		t.Fatalf("ping answered with %+v, %v", m, err)
	}
	c.send(rtmp.ControlMessage(rtmp.TypeWindowAckSize, 10_000))
	c.video(0, avcFrame(true, 20_000))
	if m, err = c.r.ReadMessage(); err != nil || m.Type != rtmp.TypeAcknowledgement {
		t.Fatalf("20,000 bytes in a window of 10,000 answered with %+v, %v", m, err)
	}
}

func TestPauseAndClose(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	pub := o.publisher("a")
	pub.video(0, avcConfig())
	pub.video(0, avcFrame(true, 10))
	player := o.player("a")
	player.media(2)
	player.call("pause", nil, true, 0.0)
	player.expectStatus("NetStream.Pause.Notify")
	pub.video(40, avcFrame(false, 10))
	player.call("pause", nil, false, 0.0)
	player.expectStatus("NetStream.Unpause.Notify")
	pub.video(80, avcFrame(false, 10)) // can't be decoded
	pub.video(120, avcFrame(true, 10))
	if got, want := kinds(player.media(2)), []string{"v:config@0", "v:key@120"}; !slices.Equal(got, want) {
		t.Errorf("after a pause got %v, want %v", got, want)
	}
	player.call("closeStream", nil)
	player.play("a") // the connection goes on
	if got, want := kinds(player.media(2)), []string{"v:config@0", "v:key@120"}; !slices.Equal(got, want) {
		t.Errorf("playing again got %v, want %v", got, want)
	}
}

func TestSilentPublisherIsClosed(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.PublishFirst, cfg.PublishNormal = 5*time.Second, 200*time.Millisecond
	o := start(t, cfg)
	pub := o.publisher("a")
	for i := range 4 { // slower than half the timeout, and yet alive
		pub.video(uint32(i*100), avcFrame(true, 10))
		time.Sleep(100 * time.Millisecond)
	}
	before := time.Now()
	pub.closed()
	if d := time.Since(before); d > 3*time.Second {
		t.Errorf("closed after %v of silence", d)
	}
	second := o.publisher("a")
	second.video(0, avcFrame(true, 10))
}

func TestRefusesBeyondMaxConnections(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.MaxConnections = 2
	o := start(t, cfg)
	first := o.publisher("a")
	o.player("a")
	third := o.dialTCP()
	_ = third.conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // sooner than the handshake's deadline
	if n, err := third.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a third connection was kept: %d bytes, %v", n, err)
	}
	var r clientsReply
	o.api("/api/v1/clients/", &r) // the API still answers
	if len(r.Clients) != 2 {
		t.Errorf("%d clients, want 2", len(r.Clients))
	}
	_ = first.conn.Close()
	await(t, "a slot is free", func() bool {
		c := o.dialTCP()
		defer func() { _ = c.conn.Close() }()
		if _, err := c.conn.Write([]byte{3}); err != nil {
			return false
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := c.conn.Read(make([]byte, 1))
		e, ok := err.(net.Error)
		return ok && e.Timeout() // kept open
	})
}

func TestBadInputEndsOnlyItsSession(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	pub := o.publisher("a")
	pub.video(0, avcConfig())
	pub.video(0, avcFrame(true, 10))
	for name, garbage := range map[string][]byte{
		"not RTMP":       []byte("GET / HTTP/1.1\r\n\r\n"),
		"zeros":          make([]byte, 10_000),
		"version then 0": append([]byte{3}, make([]byte, 10_000)...),
		"prefix":         {0xf3, 0xff, 0xff, 1},
	} {
		c := o.dialTCP()
		_, _ = c.conn.Write(garbage)
		_ = c.conn.CloseWrite()
		buf := make([]byte, 4096)
		for {
			if _, err := c.conn.Read(buf); err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() {
					t.Errorf("%s: not closed", name)
				}
				break
			}
		}
	}
	// Malformed media in a good session: relayed, and never a crash.
	for _, p := range [][]byte{{0x17}, {0x17, 0}, {0x17, 0, 0, 0, 0}, {0x17, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1}, {0x90}, {0x9f, 'h', 'v', 'c', '1'}} {
		pub.video(0, p)
	}
	pub.audio(0, []byte{0xaf})
	pub.audio(0, []byte{0xaf, 0})
	pub.video(40, avcFrame(true, 10))
	o.player("a").media(2)
	if strings.Contains(o.logs.String(), "panic") {
		t.Error("a session panicked")
	}
}
