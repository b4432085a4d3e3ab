package origin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// rtmpClient is a client that tests drive message by message.
type rtmpClient struct {
	t    *testing.T
	conn *net.TCPConn
	r    *rtmp.Reader
	w    *rtmp.Writer
	tid  float64
}

// dial connects, up to and with connect's _result, which is returned.
func (o *testOrigin) dial(tcURL string) (*rtmpClient, rtmp.Command) {
	o.t.Helper()
	c := o.dialTCP()
	if err := rtmp.DialHandshake(c.conn, netip.Addr{}); err != nil {
		o.t.Fatal(err)
	}
	c.r, c.w = rtmp.NewReader(c.conn, rtmp.Limits{}), rtmp.NewWriter(c.conn)
	if err := c.w.SetChunkSize(60000); err != nil {
		o.t.Fatal(err)
	}
	c.call("connect", amf0.Object{{Key: "app", Value: "live"}, {Key: "tcUrl", Value: tcURL}, {Key: "objectEncoding", Value: 0.0}})
	return c, c.result()
}

func (o *testOrigin) dialTCP() *rtmpClient {
	o.t.Helper()
	conn, err := net.DialTimeout("tcp", o.RTMPAddrs()[0].String(), 5*time.Second)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		o.t.Fatal(err)
	}
	return &rtmpClient{t: o.t, conn: conn.(*net.TCPConn)}
}

func (c *rtmpClient) send(m rtmp.Message) {
	c.t.Helper()
	if err := c.w.WriteMessage(m); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rtmpClient) call(name string, object any, args ...any) {
	c.t.Helper()
	c.tid++
	m, err := rtmp.Command{Name: name, TransactionID: c.tid, Object: object, Args: args}.Message(3, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(m)
}

// command returns the next command with that name.
func (c *rtmpClient) command(name string) rtmp.Command {
	c.t.Helper()
	for {
		m, err := c.r.ReadMessage()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", name, err)
		}
		if !m.IsCommand() {
			continue
		}
		cmd, err := rtmp.ParseCommand(m)
		if err != nil {
			c.t.Fatal(err)
		}
		if cmd.Name == name {
			return cmd
		}
	}
}

func (c *rtmpClient) result() rtmp.Command {
	c.t.Helper()
	cmd := c.command("_result")
	if cmd.TransactionID != c.tid {
		c.t.Fatalf("_result of transaction %v, want %v", cmd.TransactionID, c.tid)
	}
	return cmd
}

// status returns the code of the next onStatus.
func (c *rtmpClient) status() string {
	c.t.Helper()
	return amf0.AsObject(c.command("onStatus").Arg(0)).Text("code")
}

func (c *rtmpClient) expectStatus(code string) {
	c.t.Helper()
	if got := c.status(); got != code {
		c.t.Fatalf("onStatus %s, want %s", got, code)
	}
}

func (c *rtmpClient) createStream() {
	c.t.Helper()
	c.call("createStream", nil)
	if id := c.result().Arg(0); id != 1.0 {
		c.t.Fatalf("createStream answered stream %v, want 1", id)
	}
}

// publish begins to publish as FMLE, OBS and ffmpeg do.
func (o *testOrigin) publisher(name string) *rtmpClient {
	o.t.Helper()
	c, _ := o.dial(o.rtmpURL("/live"))
	c.call("releaseStream", nil, name)
	c.result()
	c.call("FCPublish", nil, name)
	c.result()
	c.createStream()
	c.call("publish", nil, name, "live")
	c.expectStatus("NetStream.Publish.Start")
	return c
}

func (o *testOrigin) player(name string) *rtmpClient {
	o.t.Helper()
	c, _ := o.dial(o.rtmpURL("/live"))
	c.play(name)
	return c
}

func (c *rtmpClient) play(name string) {
	c.t.Helper()
	c.createStream()
	c.call("play", nil, name)
	c.expectStatus("NetStream.Play.Reset")
	c.expectStatus("NetStream.Play.Start")
}

// media returns the next n audio, video or metadata messages.
func (c *rtmpClient) media(n int) (out []rtmp.Message) {
	c.t.Helper()
	for len(out) < n {
		m, err := c.r.ReadMessage()
		if err != nil {
			c.t.Fatalf("after %d media messages: %v", len(out), err)
		}
		switch m.Type {
		case rtmp.TypeAudio, rtmp.TypeVideo:
			out = append(out, m)
		case rtmp.TypeDataAMF0:
			if isMetadata(m.Payload) {
				out = append(out, m)
			}
		}
	}
	return out
}

// closed waits until the origin has closed the connection.
func (c *rtmpClient) closed() {
	c.t.Helper()
	for {
		_, err := c.r.ReadMessage()
		var timeout net.Error
		switch {
		case err == nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			c.t.Fatal("the origin did not close the connection")
		default:
			return
		}
	}
}

func (c *rtmpClient) video(ms uint32, payload []byte) {
	c.t.Helper()
	c.send(rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: ms, Payload: payload})
}

func (c *rtmpClient) audio(ms uint32, payload []byte) {
	c.t.Helper()
	c.send(rtmp.Message{ChunkStreamID: 4, Type: rtmp.TypeAudio, StreamID: 1, Timestamp: ms, Payload: payload})
}

// Tags of a made-up stream. The parameter sets are real ones (640x360 High 3.0).
func avcConfig() []byte {
	sps := []byte{
		0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x61, 0x00, 0x00, 0x03, 0x00, 0x01,
		0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2d, 0x96,
	}
	pps := []byte{0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0}
	p := []byte{0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1e, 0xff, 0xe1, 0, byte(len(sps))}
	p = append(append(p, sps...), 1, 0, byte(len(pps)))
	return append(p, pps...)
}

// avcFrame is a frame of n bytes.
func avcFrame(key bool, n int) []byte {
	p := []byte{0x27, 1, 0, 0, 0, 0, 0, 0, 0, 0x41}
	if key {
		p[0], p[9] = 0x17, 0x65
	}
	body := n - 9
	p[5], p[6], p[7], p[8] = byte(body>>24), byte(body>>16), byte(body>>8), byte(body)
	return append(p, make([]byte, n-len(p))...)
}

func aacConfig() []byte { return []byte{0xaf, 0, 0x12, 0x10} } // LC, 44100 Hz, stereo

func aacFrame(n int) []byte { return append([]byte{0xaf, 1}, make([]byte, n)...) }

func metadata(t *testing.T) []byte {
	t.Helper()
	b, err := amf0.Append(nil, "onMetaData", amf0.ECMAArray{{Key: "videocodecid", Value: 7.0}, {Key: "audiocodecid", Value: 10.0}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kinds writes messages for comparison: "v:config@0 v:key@40 a@40 meta@0".
func kinds(messages []rtmp.Message) (out []string) {
	for _, m := range messages {
		var t tagInfo
		s := "meta"
		switch m.Type {
		case rtmp.TypeAudio:
			s, t = "a", parseAudioTag(m.Payload)
		case rtmp.TypeVideo:
			s, t = "v", parseVideoTag(m.Payload)
		}
		switch {
		case t.config:
			s += ":config"
		case t.key:
			s += ":key"
		}
		out = append(out, fmt.Sprintf("%s@%d", s, m.Timestamp))
	}
	return out
}
