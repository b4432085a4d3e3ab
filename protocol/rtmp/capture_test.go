package rtmp

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"srs-proxy/protocol/amf0"
)

// testdata/ffmpeg-5h.rtmp is what ffmpeg 5.1 sent after the handshake when it
// published a second of H.264 and AAC whose timestamps begin at five hours
// (-output_ts_offset 18000), ffmpeg-5h.flv the file that it wrote of the same:
//
//	ffmpeg -f lavfi -i testsrc=size=64x48:rate=10 -f lavfi -i sine=sample_rate=22050 -t 1 \
//	  -c:v libx264 -g 5 -c:a aac -output_ts_offset 18000 -f tee "[f=flv]rtmp://...|[f=flv]ffmpeg-5h.flv"
func captured(t *testing.T) (wire []byte, tags []Message) {
	t.Helper()
	wire, err := os.ReadFile("testdata/ffmpeg-5h.rtmp")
	if err != nil {
		t.Fatal(err)
	}
	flv, err := os.ReadFile("testdata/ffmpeg-5h.flv")
	if err != nil {
		t.Fatal(err)
	}
	for flv = flv[13:]; len(flv) > 11; { // past the header and the first tag size
		n := uint24(flv[1:])
		tags = append(tags, Message{
			Type: flv[0], Timestamp: uint24(flv[4:]) | uint32(flv[7])<<24, Payload: flv[11 : 11+n],
		})
		flv = flv[11+n+4:]
	}
	return wire, tags
}

// Every tag of the file came over the wire, byte for byte and with its time.
func TestCaptureOfFFmpegAtFiveHours(t *testing.T) {
	wire, tags := captured(t)
	messages := mustReadAll(t, wire)
	var media []Message
	var names []string
	formats := map[uint8]int{}
	for _, m := range messages {
		formats[m.Format]++
		switch m.Type {
		case TypeAudio, TypeVideo:
			media = append(media, m)
		case TypeCommandAMF0:
			c, err := ParseCommand(m)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, c.Name)
		}
	}
	if formats[0] == 0 || formats[1] == 0 {
		t.Errorf("fmt counts %v: the capture does not show what it is for", formats)
	}
	if got, want := names, "[connect releaseStream FCPublish createStream publish FCUnpublish deleteStream]"; fmt.Sprint(got) != want {
		t.Errorf("commands %v, want %v", got, want)
	}
	if tags[0].Type != TypeDataAMF0 {
		t.Fatalf("the file begins with a tag of type %d", tags[0].Type)
	}
	tags = tags[1:] // onMetaData: a @setDataFrame on the wire
	if len(media) != len(tags) {
		t.Fatalf("%d media messages, %d tags", len(media), len(tags))
	}
	beyond := 0
	for i, m := range media {
		if m.Type != tags[i].Type || m.Timestamp != tags[i].Timestamp || m.StreamID != 1 || !bytes.Equal(m.Payload, tags[i].Payload) {
			t.Errorf("message %d: type %d at %d, %d bytes; tag: type %d at %d, %d bytes", i,
				m.Type, m.Timestamp, len(m.Payload), tags[i].Type, tags[i].Timestamp, len(tags[i].Payload))
		}
		if m.Timestamp > 0xffffff {
			beyond++
		}
	}
	if beyond < 10 {
		t.Errorf("only %d messages beyond 2^24 ms", beyond)
	}
}

func TestCaptureTruncatedAnywhere(t *testing.T) {
	wire, _ := captured(t)
	all := mustReadAll(t, wire)
	for n := 0; n < len(wire); n += 7 {
		ms, _ := readAll(NewReader(bytes.NewReader(wire[:n]), Limits{}))
		if len(ms) > len(all) {
			t.Fatalf("%d messages of %d bytes", len(ms), n)
		}
		for i := range ms {
			if !same(ms[i], all[i]) {
				t.Fatalf("%d bytes: message %d is %+v", n, i, heads(ms[i:i+1]))
			}
		}
	}
}

func TestCaptureConnect(t *testing.T) {
	wire, _ := captured(t)
	c, err := ParseCommand(mustReadAll(t, wire)[0])
	if err != nil {
		t.Fatal(err)
	}
	o := amf0.AsObject(c.Object)
	if c.TransactionID != 1 || o.Text("app") != "live" || o.Text("flashVer") != "FMLE/3.0 (compatible; Lavf59.27.100)" || len(c.Args) != 0 {
		t.Errorf("%+v", c)
	}
}
