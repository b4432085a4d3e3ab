package rtmp

import (
	"bytes"
	"math"
	"reflect"
	"testing"

	peeramf "github.com/yutopp/go-amf0"

	"srs-proxy/protocol/amf0"
)

// encoded is AMF0 as go-amf0, an independent implementation, writes it.
func encoded(t *testing.T, values ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := peeramf.NewEncoder(&b)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

type fields = map[string]any

// What clients send, as far as a proxy reads it.
func TestParseCommandOfClients(t *testing.T) {
	tests := []struct {
		name    string
		typ     uint8
		payload []byte
		want    Command
		object  map[string]any
	}{
		{
			"connect of OBS with enhanced RTMP", TypeCommandAMF0,
			encoded(t, "connect", 1.0, fields{
				"app": "live", "type": "nonprivate", "flashVer": "FMLE/3.0 (compatible; FMSc/1.0)",
				"swfUrl": "rtmp://host:1935/live", "tcUrl": "rtmp://host:1935/live",
				"fourCcList": []any{"av01", "hvc1"},
			}),
			Command{Name: "connect", TransactionID: 1, Args: []any{}},
			map[string]any{"app": "live", "tcUrl": "rtmp://host:1935/live", "fourCcList": []any{"av01", "hvc1"}},
		},
		{
			"connect of Flash Player", TypeCommandAMF0,
			encoded(t, "connect", 1.0, fields{
				"app": "live?vhost=a.example", "flashVer": "WIN 32,0,0,465", "swfUrl": "http://a/b.swf",
				"tcUrl": "rtmp://host/live?vhost=a.example", "fpad": false, "capabilities": 239.0, "audioCodecs": 3575.0,
				"videoCodecs": 252.0, "videoFunction": 1.0, "pageUrl": "http://a/", "objectEncoding": 3.0,
			}),
			Command{Name: "connect", TransactionID: 1, Args: []any{}},
			map[string]any{"fpad": false, "objectEncoding": 3.0, "pageUrl": "http://a/"},
		},
		{
			"connect with arguments after the object", TypeCommandAMF0,
			encoded(t, "connect", 1.0, fields{"app": "live"}, "user", "password"),
			Command{Name: "connect", TransactionID: 1, Args: []any{"user", "password"}},
			map[string]any{"app": "live"},
		},
		{
			"publish", TypeCommandAMF0, encoded(t, "publish", 5.0, nil, "livestream?token=x", "live"),
			Command{Name: "publish", TransactionID: 5, Args: []any{"livestream?token=x", "live"}}, nil,
		},
		{
			"play with start, duration and reset", TypeCommandAMF0, encoded(t, "play", 0.0, nil, "livestream", -2000.0, -1.0, true),
			Command{Name: "play", Args: []any{"livestream", -2000.0, -1.0, true}}, nil,
		},
		{
			"createStream in AMF3's usual form", TypeCommandAMF3, cat([]byte{0}, encoded(t, "createStream", 4.0, nil)),
			Command{Name: "createStream", TransactionID: 4, Args: []any{}}, nil,
		},
		{
			"an AMF3 command without the byte", TypeCommandAMF3, encoded(t, "createStream", 4.0, nil),
			Command{Name: "createStream", TransactionID: 4, Args: []any{}}, nil,
		},
		{
			"name and transaction alone", TypeCommandAMF0, encoded(t, "createStream", 2.0),
			Command{Name: "createStream", TransactionID: 2}, nil,
		},
		{
			// An AMF3 value (marker 0x11) after the name: play works all the same.
			"an argument that can't be decoded", TypeCommandAMF0, cat(encoded(t, "play", 0.0, nil, "livestream"), []byte{0x11, 1, 2, 3}),
			Command{Name: "play", Args: []any{"livestream"}}, nil,
		},
		{
			"an argument cut short", TypeCommandAMF0, cat(encoded(t, "publish", 0.0, nil, "livestream"), []byte{0x02, 0, 9, 'l'}),
			Command{Name: "publish", Args: []any{"livestream"}}, nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseCommand(Message{Type: tt.typ, Payload: tt.payload})
			if err != nil {
				t.Fatal(err)
			}
			o := amf0.AsObject(c.Object)
			for k, v := range tt.object {
				if !reflect.DeepEqual(o.Get(k), v) {
					t.Errorf("%s is %#v, want %#v", k, o.Get(k), v)
				}
			}
			if c.Object = nil; !reflect.DeepEqual(c, tt.want) {
				t.Errorf("%#v, want %#v", c, tt.want)
			}
		})
	}
}

func TestParseCommandRefuses(t *testing.T) {
	for name, payload := range map[string][]byte{
		"empty":                       nil,
		"AMF3's byte alone":           {0},
		"a name alone":                encoded(t, "connect"),
		"a name cut short":            {2, 0, 7, 'c', 'o'},
		"a transaction cut short":     cat(encoded(t, "connect"), []byte{0, 0x3f}),
		"a number for a name":         encoded(t, 1.0, 1.0),
		"null for a name":             encoded(t, nil, 1.0),
		"a string for a transaction":  encoded(t, "connect", "1"),
		"an unknown marker":           cat(encoded(t, "connect"), []byte{0x7f}),
		"a transaction nested deeply": cat(encoded(t, "connect"), bytes.Repeat([]byte{3, 0, 1, 'a'}, 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, typ := range []uint8{TypeCommandAMF0, TypeCommandAMF3} {
				c, err := ParseCommand(Message{Type: typ, Payload: payload})
				if err == nil {
					t.Fatalf("taken: %+v", c)
				}
				wantError(t, err, ErrCommand)
			}
		})
	}
}

// The byte before AMF0 belongs to AMF3 commands alone.
func TestParseCommandAMF0WithoutTheByte(t *testing.T) {
	payload := cat([]byte{0}, encoded(t, "createStream", 4.0, nil))
	_, err := ParseCommand(Message{Type: TypeCommandAMF0, Payload: payload})
	wantError(t, err, ErrCommand)
}

// AMF0 nested without limit crashed the existing proxy.
func TestDefect5_DeepCommandIsRefused(t *testing.T) {
	deep := cat(encoded(t, "connect", 1.0), bytes.Repeat([]byte{3, 0, 1, 'a'}, 16000))
	c, err := ParseCommand(Message{Type: TypeCommandAMF0, Payload: deep})
	if err != nil || c.Name != "connect" || c.Object != nil {
		t.Errorf("%+v, %v: want the command without its object", c, err)
	}
}

func TestCommandArguments(t *testing.T) {
	c := Command{Name: "play", Args: []any{"name", 3.0, nil}}
	for i, want := range []any{"name", 3.0, nil, nil, nil} {
		if got := c.Arg(i); got != want {
			t.Errorf("argument %d is %v", i, got)
		}
	}
	if s, ok := c.Text(0); s != "name" || !ok {
		t.Error("argument 0 is a string")
	}
	for i := 1; i < 5; i++ {
		if s, ok := c.Text(i); s != "" || ok {
			t.Errorf("argument %d is no string", i)
		}
	}
	if _, ok := (Command{}).Text(0); ok {
		t.Error("a command without arguments has one")
	}
}

func TestCommandMessage(t *testing.T) {
	c := Command{Name: "_result", TransactionID: 4, Args: []any{1}}
	m, err := c.Message(3, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := Message{ChunkStreamID: 3, Type: TypeCommandAMF0, StreamID: 7, Payload: encoded(t, "_result", 4.0, nil, 1.0)}
	if !same(m, want) {
		t.Errorf("%+v, want %+v", m, want)
	}
	if !m.IsCommand() || (Message{Type: TypeVideo}).IsCommand() || !(Message{Type: TypeCommandAMF3}).IsCommand() {
		t.Error("IsCommand")
	}
	if _, err := (Command{Name: "x", Args: []any{struct{}{}}}).Message(3, 0); err == nil {
		t.Error("a Go struct was encoded")
	}
}

func TestStatusMessage(t *testing.T) {
	m := StatusMessage(1, "error", "NetStream.Publish.BadName", "busy")
	c, err := ParseCommand(m)
	if err != nil {
		t.Fatal(err)
	}
	info := amf0.AsObject(c.Arg(0))
	if m.StreamID != 1 || c.Name != "onStatus" || c.TransactionID != 0 || c.Object != nil ||
		info.Text("level") != "error" || info.Text("code") != "NetStream.Publish.BadName" || info.Text("description") != "busy" {
		t.Errorf("%+v: %+v", m, c)
	}
}

func TestMessageUint32(t *testing.T) {
	if n, err := (Message{Payload: []byte{0xff, 0, 0, 1, 2}}).Uint32(); n != 0xff000001 || err != nil {
		t.Errorf("%x, %v", n, err)
	}
	if n, err := ControlMessage(TypeAcknowledgement, math.MaxUint32).Uint32(); n != math.MaxUint32 || err != nil {
		t.Errorf("%x, %v", n, err)
	}
	for n := range 4 {
		_, err := (Message{Payload: make([]byte, n)}).Uint32()
		wantError(t, err, ErrControlMessage)
	}
}
