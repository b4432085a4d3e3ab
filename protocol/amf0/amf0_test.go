package amf0

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	goamf0 "github.com/yutopp/go-amf0"
)

func sample() []any {
	return []any{
		"connect", 1.0,
		Object{{"app", "live"}, {"fpad", false}, {"nested", Object{{"a", nil}, {"u", Undefined{}}}}},
		ECMAArray{{"k", "v"}}, []any{1.0, "x"}, Date(1000), string(bytes.Repeat([]byte("l"), 70000)),
	}
}

func TestRoundTrip(t *testing.T) {
	b, err := Append(nil, sample()...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Fatalf("Decode = %v, %v", got, err)
	}
}

// An independent implementation reads what we write and the reverse.
func TestAgainstGoAMF0(t *testing.T) {
	b, err := Append(nil, "onStatus", Object{{"level", "status"}, {"n", 2.5}, {"ok", true}})
	if err != nil {
		t.Fatal(err)
	}
	d := goamf0.NewDecoder(bytes.NewReader(b))
	var name string
	var obj map[string]any
	if err := d.Decode(&name); err != nil || name != "onStatus" {
		t.Fatalf("name %q, %v", name, err)
	}
	if err := d.Decode(&obj); err != nil || obj["level"] != "status" || obj["n"] != 2.5 || obj["ok"] != true {
		t.Fatalf("object %v, %v", obj, err)
	}
	var buf bytes.Buffer
	e := goamf0.NewEncoder(&buf)
	for _, v := range []any{"publish", 5.0, nil, map[string]any{"a": "b"}} {
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Decode(buf.Bytes())
	want := []any{"publish", 5.0, nil, Object{{"a", "b"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Decode = %v, %v", got, err)
	}
}

// Recursion and counts come from a stranger: 16 MiB for 28 bytes, a stack of any
// depth (defect 5 of the existing proxy).
func TestDefect5_BoundsOfAMF0(t *testing.T) {
	deep := bytes.Repeat([]byte{markerObject, 0, 1, 'a'}, MaxDepth+2)
	if _, err := Decode(deep); !errors.Is(err, ErrTooDeep) {
		t.Errorf("deep: %v", err)
	}
	if _, err := Decode(bytes.Repeat([]byte{markerNull}, MaxNodes+1)); !errors.Is(err, ErrTooMany) {
		t.Errorf("many: %v", err)
	}
	huge := []byte{markerStrictArray, 0xff, 0xff, 0xff, 0xff}
	if n := testing.AllocsPerRun(10, func() { _, _ = Decode(huge) }); n > 5 {
		t.Errorf("an array of 4 G values without data: %v allocations", n)
	}
	if _, err := Decode([]byte{markerLongString, 0xff, 0xff, 0xff, 0xff, 'a'}); !errors.Is(err, ErrShort) {
		t.Errorf("long string: %v", err)
	}
}

func TestDecodeKeepsWhatCameBeforeTheError(t *testing.T) {
	b, _ := Append(nil, "play", 4.0)
	got, err := Decode(append(b, 0x99))
	if !errors.Is(err, ErrMarker) || len(got) != 2 || got[0] != "play" {
		t.Fatalf("%v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	b, _ := Append(nil, sample()[:6]...)
	f.Add(b)
	f.Add([]byte{markerTypedObject, 0, 1, 'c', 0, 0, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Append(nil, values...)
		if err != nil {
			t.Fatalf("what was decoded can't be encoded: %v", err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("second decode: %v", err)
		}
	})
}

func BenchmarkDecodeConnect(b *testing.B) {
	data, _ := Append(nil, sample()[:3]...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendConnect(b *testing.B) {
	values, buf := sample()[:3], []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = Append(buf[:0], values...); err != nil {
			b.Fatal(err)
		}
	}
}
