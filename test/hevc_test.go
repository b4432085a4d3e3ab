package e2e

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"srs-proxy/protocol/rtmp"
)

// enhancedHEVC: messages of "Enhanced RTMP v1" arrive byte by byte as they were
// sent, after a sequence header that a real encoder made.
func enhancedHEVC(t *testing.T, in *instance) {
	p := openWaiting(t, in, "hevc")
	var sent []rtmp.Message
	video := func(ms uint32, head byte, body []byte) {
		sent = append(sent, rtmp.Message{
			ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: ms,
			Payload: append(append([]byte{head}, "hvc1"...), body...),
		})
	}
	const frames = 60
	video(0, 0x90, hevcConfig(t)) // a keyframe of packet type 0: the sequence's start
	for i := range uint32(frames) {
		unit := bytes.Repeat([]byte{byte(i + 1)}, 2000)
		unit[0], unit[1] = 0x02, 0x01 // TRAIL_R
		head := byte(0xa1)            // inter, packet type 1: with composition time
		if i%15 == 0 {
			unit[0], head = 0x26, 0x91 // IDR_W_RADL, a keyframe
		}
		body := append([]byte{0, 0, 40}, binary.BigEndian.AppendUint32(nil, uint32(len(unit)))...)
		video(i*40, head, append(body, unit...))
	}
	pub, err := openPublish(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "hevc")
	if err != nil {
		t.Fatal(err)
	}
	defer pub.conn.Close()
	if err := pub.w.WriteMessages(sent...); err != nil {
		t.Fatal(err)
	}
	_ = p.conn.SetDeadline(time.Now().Add(20 * time.Second))
	// SRS holds the last ones back until more come.
	for i, want := range sent[:frames-15] {
		got, err := p.media()
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", i, len(sent), err)
		}
		if got.Type != want.Type || !bytes.Equal(got.Payload, want.Payload) {
			t.Fatalf("message %d: type %d, %d bytes beginning % x; want type %d, %d bytes beginning % x",
				i, got.Type, len(got.Payload), got.Payload[:min(12, len(got.Payload))], want.Type, len(want.Payload), want.Payload[:12])
		}
	}
}

// hevcConfig is the decoder configuration record of an encoder, out of the hvcC
// box of an MP4 (ISO 14496-15, 8.3.2).
func hevcConfig(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hevc.mp4")
	if err := command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15",
		"-t", "0.5", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1", path); err != nil {
		t.Skipf("ffmpeg has no encoder of HEVC: %v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte("hvcC"))
	if i < 4 {
		t.Fatal("no hvcC box")
	}
	return b[i+4 : i-4+int(binary.BigEndian.Uint32(b[i-4:]))]
}
