package origin

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends one request and returns the connection with the response's header read.
func (o *testOrigin) raw(request string) (*net.TCPConn, *bufio.Reader, *http.Response) {
	o.t.Helper()
	c, err := net.Dial("tcp", o.HTTPAddrs()[0].String())
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		o.t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		o.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return c.(*net.TCPConn), r, resp
}

func TestHTTPFLV(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	pub := o.publisher("a")
	pub.video(0, avcConfig())
	pub.audio(0, aacConfig())
	pub.video(0x01020304, avcFrame(true, 300))
	o.awaitStream("/live/a", true, true)

	for _, proto := range []string{"1.1", "1.0"} {
		_, _, resp := o.raw("GET /live/a.flv?token=x HTTP/" + proto + "\r\nHost: example.com\r\nOrigin: http://page\r\nX-Forwarded-For: 192.0.2.7, 10.0.0.1\r\nX-Real-IP: 192.0.2.8\r\n\r\n")
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "video/x-flv" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Fatalf("HTTP/%s: %v", proto, resp)
		}
		if chunked := len(resp.TransferEncoding) > 0; chunked != (proto == "1.1") {
			t.Errorf("HTTP/%s: transfer encoding %v", proto, resp.TransferEncoding)
		}
		head := make([]byte, 13)
		if _, err := io.ReadFull(resp.Body, head); err != nil || string(head) != "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00" {
			t.Fatalf("FLV header %x, %v", head, err)
		}
		var tags []string
		for range 3 {
			h := make([]byte, 11)
			if _, err := io.ReadFull(resp.Body, h); err != nil {
				t.Fatal(err)
			}
			size := int(h[1])<<16 | int(h[2])<<8 | int(h[3])
			body := make([]byte, size+4)
			if _, err := io.ReadFull(resp.Body, body); err != nil {
				t.Fatal(err)
			}
			ms := uint32(h[7])<<24 | uint32(h[4])<<16 | uint32(h[5])<<8 | uint32(h[6])
			tags = append(tags, fmt.Sprintf("%d@%x+%d", h[0], ms, size))
			if prev := binary.BigEndian.Uint32(body[size:]); int(prev) != size+11 {
				t.Errorf("PreviousTagSize %d of a tag of %d", prev, size)
			}
		}
		if got, want := strings.Join(tags, " "), fmt.Sprintf("9@0+%d 8@0+4 9@1020304+300", len(avcConfig())); got != want {
			t.Errorf("tags %s, want %s", got, want)
		}
	}
	var r clientsReply
	o.api("/api/v1/clients/", &r)
	found := false
	for _, c := range r.Clients {
		found = found || c.Type == typeFLVPlay && c.IP == "192.0.2.7" && c.Name == "a.flv" && c.TcURL == "http://example.com/live"
	}
	if !found {
		t.Errorf("no such player in %+v", r.Clients)
	}

	// The end of the publication is the end of the response, a complete one.
	_, _, resp := o.raw("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = pub.conn.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("response ended with %v", err)
	}
	o.await("players are gone", func() bool {
		var r clientsReply
		o.api("/api/v1/clients/", &r)
		return len(r.Clients) == 0
	})
}

func TestHTTPClientGoneIsSeen(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.PublishNormal = time.Minute
	o := start(t, cfg)
	pub := o.publisher("a")
	pub.video(0, avcConfig())
	pub.video(0, avcFrame(true, 300))
	o.awaitStream("/live/a", false, true)
	c, _, _ := o.raw("GET /live/a.ts HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = c.Close() // and nothing is ever written to it again
	o.await("only the publisher is left", func() bool {
		var r clientsReply
		o.api("/api/v1/clients/", &r)
		return len(r.Clients) == 1
	})
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	pub := o.publisher("a")
	pub.audio(0, aacConfig())
	pub.audio(0, aacFrame(5))
	o.awaitStream("/live/a", true, false)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/live/none.flv", 404},
		{"GET", "/live/none.ts", 404},
		{"GET", "/live/none.m3u8", 404},
		{"GET", "/live/a.mp3", 404}, // its audio is AAC
		{"GET", "/live/a.mp4", 404},
		{"GET", "/", 404},
		{"GET", "/live/", 404},
		{"HEAD", "/live/a.flv", 200},
		{"HEAD", "/live/none.flv", 404},
		{"OPTIONS", "/live/a.flv", 200},
		{"OPTIONS", "/anything", 200},
		{"POST", "/live/a.flv", 405},
	} {
		req, err := http.NewRequest(tt.method, o.httpURL(tt.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "http://page")
		resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %s: %d, want %d; %v", tt.method, tt.path, resp.StatusCode, tt.status, resp.Header)
		}
	}
}

func TestAudioOnlyOverHTTP(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	aac, mp3 := o.publisher("aac"), o.publisher("mp3")
	aac.audio(0, aacConfig())
	frame := []byte{0x2f, 0xff, 0xfb, 0x90, 0x00, 1, 2, 3, 4}
	aac.audio(0, aacFrame(9))
	mp3.audio(0, frame)
	o.awaitStream("/live/aac", true, false)
	if s := o.awaitStream("/live/mp3", true, false); s.Audio.Codec != "MP3" || s.Audio.SampleRate != 44100 {
		t.Errorf("audio %+v", s.Audio)
	}
	_, _, aacResp := o.raw("GET /live/aac.aac HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _, mp3Resp := o.raw("GET /live/mp3.mp3 HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _, tsResp := o.raw("GET /live/aac.ts HTTP/1.1\r\nHost: x\r\n\r\n")
	aac.audio(600, aacFrame(9))
	mp3.audio(30, frame)
	got := make([]byte, 16)
	if _, err := io.ReadFull(aacResp.Body, got); err != nil || !bytes.Equal(got, append([]byte{0xff, 0xf1, 0x50, 0x80, 0x02, 0x1f, 0xfc}, make([]byte, 9)...)) {
		t.Errorf("ADTS % x, %v", got, err)
	}
	if _, err := io.ReadFull(mp3Resp.Body, got[:8]); err != nil || !bytes.Equal(got[:8], frame[1:]) {
		t.Errorf("MP3 % x, %v", got[:8], err)
	}
	packets := make([]byte, 3*tsPacketSize)
	if _, err := io.ReadFull(tsResp.Body, packets); err != nil || packets[0] != 0x47 || packets[tsPacketSize+1] != 0x50 {
		t.Errorf("TS % x, %v", packets[:8], err)
	}
}

func TestSlowPlayer(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.HLSEnabled = false
	o := start(t, cfg)
	slow := o.player("a")
	quick := o.player("a")
	pub := o.publisher("a")
	pub.video(0, avcConfig())
	pub.audio(0, aacConfig())
	quick.media(2)

	// 40 s of 100 KB frames: far more than socket buffers and the queue hold.
	const n = 1000
	began := time.Now()
	for i := range uint32(n) {
		pub.video(i*40, avcFrame(i%50 == 0, 100_000))
		quick.media(1)
	}
	took := time.Since(began)
	t.Logf("%d frames, with a player that reads nothing, took %v", n, took)

	var last uint32
	var dropped, config bool
	for last != (n-1)*40 {
		m := slow.media(1)[0]
		t2 := parseVideoTag(m.Payload)
		switch {
		case t2.config:
			config = true
			continue
		case m.Type != 9:
			continue
		}
		if last != 0 && m.Timestamp != last+40 {
			dropped = true
			if !t2.key || !config {
				t.Errorf("after a gap the frame of %d ms came (keyframe %v, after its sequence header %v)", m.Timestamp, t2.key, config)
			}
		}
		config = false
		last = m.Timestamp
		if last >= (n-50)*40 && !dropped {
			t.Fatal("nothing was dropped")
		}
		if dropped {
			return
		}
	}
}

func TestStalledPlayerIsClosed(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	o := New(cfg, discard())
	o.stall = 300 * time.Millisecond
	to := run(t, o)
	stalled := to.player("a")
	if err := stalled.conn.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	pub := to.publisher("a")
	pub.video(0, avcConfig())
	await(t, "only the publisher is left", func() bool {
		for i := range uint32(20) {
			pub.video(i*40, avcFrame(i == 0, 200_000))
		}
		var r clientsReply
		to.api("/api/v1/clients/", &r)
		return len(r.Clients) == 1 && r.Clients[0].Publish
	})
}

func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"rtmp://h/live":              "rtmp://h/live",
		"rtmp://h:1935/live?token=x": "rtmp://h:1935/live",
		"rtmp://u:p@h/live/a@b":      "rtmp://h/live/a@b",
		"live?x":                     "live",
		"":                           "",
	} {
		if got := withoutSecrets(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestFLVHeaderWaitsForATrack(t *testing.T) {
	t.Parallel()
	script := &frame{kind: kindScript, payload: []byte("x")}
	f := &flvFraming{}
	var scratch []byte
	for i := range flvPatience - 1 {
		if bufs := f.append(nil, &scratch, []*frame{script}); len(bufs) > 0 {
			t.Fatalf("%d script tags began the file", i+1)
		}
	}
	bufs := f.append(nil, &scratch, []*frame{script})
	if len(bufs) != 1+3*flvPatience || bufs[0][4] != flvAudio|flvVideo {
		t.Errorf("after %d tags: %d buffers", flvPatience, len(bufs))
	}
}
