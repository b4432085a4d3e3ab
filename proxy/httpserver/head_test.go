package httpserver

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// An origin may send its head in any pieces; what follows it must come through
// in order.
func TestReadHeadInPieces(t *testing.T) {
	const answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: 1\r\n\r\nbody \r\n\r\n more"
	long := strings.Replace(answer, "X: 1", "X: "+strings.Repeat("x", 9000), 1)
	for _, text := range []string{answer, long} {
		for name, src := range map[string]io.Reader{
			"whole": strings.NewReader(text), "by the byte": iotest.OneByteReader(strings.NewReader(text)), "halves": iotest.HalfReader(strings.NewReader(text)),
			"with the end": iotest.DataErrReader(strings.NewReader(text)),
		} {
			h, err := readHead(src, &http.Request{Method: "GET"})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			tail, _ := io.ReadAll(src)
			if got := string(h.raw) + string(h.rest) + string(tail); got != text[strings.Index(text, "HTTP/1.1 200"):] {
				t.Errorf("%s: got %q", name, got)
			}
			if h.resp.StatusCode != 200 || !bytes.HasSuffix(h.raw, []byte("\r\n\r\n")) {
				t.Errorf("%s: %d, head %q", name, h.resp.StatusCode, h.raw)
			}
		}
	}
}

// FuzzAnswerHead: whatever an origin says, the head for the client is one that
// net/http reads the same status from, that closes, and that keeps the framing.
func FuzzAnswerHead(f *testing.F) {
	for _, s := range []string{
		flvHead + "3\r\nFLV\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
		"HTTP/1.0 200\r\nConnection: Close, X-Hop\r\nx-hop: 1\r\n folded\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: \r\n\r\n", "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: x\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, unchunked bool) {
		h, err := readHead(bytes.NewReader(answer), &http.Request{Method: "GET"})
		if err != nil {
			return
		}
		if !bytes.HasSuffix(answer, append(append([]byte(nil), h.raw...), h.rest...)) {
			t.Fatalf("head %q and rest %q are not what came", h.raw, h.rest)
		}
		unchunked = unchunked && h.chunked()
		out := h.forClient(unchunked)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), h.resp.Request)
		if err != nil {
			t.Fatalf("%q became %q: %v", h.raw, out, err)
		}
		if _, cors := resp.Header["Access-Control-Allow-Origin"]; resp.StatusCode != h.resp.StatusCode || !resp.Close || !cors {
			t.Fatalf("%q became %q", h.raw, out)
		}
		if !unchunked && (resp.ContentLength != h.resp.ContentLength || len(resp.TransferEncoding) != len(h.resp.TransferEncoding)) {
			t.Fatalf("the framing changed: %q became %q", h.raw, out)
		}
	})
}
