package originapi

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzAnswer: whatever an origin says, it is read without a panic, and what was taken
// of it is JSON again.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		``, `{}`, `{"code":0}`, `{"code":0,"streams":[{"id":"a"},7,null]}`, `{"code":0,"streams":[`, `{"streams":[[[[]]]],"code":-1}`,
		`{"code":0,"data":{"a":1.50,"a":2}}`, `[{"code":0}]`, `{"code":1e999}`, `{"co\u0064e":0,"\u0000":"<&>"}`, "{\"code\":0,\"\xff\":\"\xff\"}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var a Answer
		if a.Read(bytes.NewReader(text), Question{List: "streams", Most: 3}) != nil {
			return
		}
		if len(a.Items) > 3 {
			t.Errorf("%d items, want at most 3", len(a.Items))
		}
		out := a.Body.Append(nil)
		if !json.Valid(out) {
			t.Fatalf("not JSON: %q", out)
		}
		again, err := Parse(out)
		if err != nil || !bytes.Equal(again.Append(nil), out) {
			t.Errorf("%q is not the same when it was read again: %q, %v", out, again.Append(nil), err)
		}
		for _, item := range a.Items {
			if !json.Valid(item) {
				t.Errorf("not JSON: %q", item)
			}
		}
	})
}
