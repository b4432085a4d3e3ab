package httpserver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"

	"srs-proxy/proxy/header"
)

// maxHead bounds the head of an origin's answer.
const maxHead = 64 << 10

// requestHead is the request for the origin: the client's own, on a connection
// that ends with it.
func requestHead(r *http.Request, t target) []byte {
	var b bytes.Buffer
	proto := "HTTP/1.1"
	if !r.ProtoAtLeast(1, 1) {
		proto = "HTTP/1.0" // the origin must not chunk (SRS does all the same: see unchunk)
	}
	fmt.Fprintf(&b, "%s %s %s\r\n", r.Method, t.uri(), proto)
	if r.Host != "" {
		fmt.Fprintf(&b, "Host: %s\r\n", r.Host)
	}
	_ = header.ForOrigin(r).Write(&b) // a Buffer takes everything
	b.WriteString("Connection: close\r\n\r\n")
	return b.Bytes()
}

// answerHead is the head of an origin's answer and what came in with it.
type answerHead struct {
	raw  []byte   // status line and headers, with the empty line
	rest []byte   // the first bytes of the body
	hop  []string // the headers that Connection names
	resp *http.Response
}

// readHead reads the head of the final answer to r; 1xx heads are passed over.
func readHead(src io.Reader, r *http.Request) (*answerHead, error) {
	buf := make([]byte, 0, 4096)
	for {
		n := headLen(buf)
		for n < 0 {
			if len(buf) >= maxHead {
				return nil, fmt.Errorf("%w: a head of more than %d bytes", errBadAnswer, maxHead)
			}
			if len(buf) == cap(buf) {
				buf = append(make([]byte, 0, 2*cap(buf)), buf...)
			}
			m, err := src.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+m]
			if n = headLen(buf); n >= 0 {
				break
			}
			if err == io.EOF {
				return nil, errHungUp
			}
			if err != nil {
				return nil, fmt.Errorf("read the answer: %w", err)
			}
		}
		h := &answerHead{raw: buf[:n:n], rest: buf[n:]}
		var err error
		h.resp, err = http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(h.raw), n), &http.Request{Method: r.Method})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadAnswer, err)
		}
		if h.resp.StatusCode >= 200 {
			h.hop = header.ConnectionNames(rawHeader(h.raw))
			return h, nil
		}
		buf = append(make([]byte, 0, 4096), h.rest...)
	}
}

// rawHeader is the header as it was sent: http.ReadResponse takes Connection out.
func rawHeader(head []byte) http.Header {
	tp := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	_, _ = tp.ReadLine()
	h, _ := tp.ReadMIMEHeader() // http.ReadResponse has found it in order
	return http.Header(h)
}

// headLen is the length of the head at the start of b, or -1 if it is not all there.
// It ends with the first empty line; a bare LF ends a line too (RFC 9112 section
// 2.2), as it does for http.ReadResponse.
func headLen(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1
		}
		at += i + 1
		switch {
		case bytes.HasPrefix(b[at:], []byte("\n")):
			return at + 1
		case bytes.HasPrefix(b[at:], []byte("\r\n")):
			return at + 2
		}
	}
}

// streams tells whether the answer's body is relayed as it comes.
func (h *answerHead) streams() bool {
	status := h.resp.StatusCode
	return h.resp.Request.Method == http.MethodGet && status < 300 && status != http.StatusNoContent
}

// chunked tells how the body is framed.
func (h *answerHead) chunked() bool {
	te := h.resp.TransferEncoding
	return len(te) > 0 && te[0] == "chunked"
}

// forClient is the head for the client: the origin's lines, byte for byte and in
// their order, without the hop-by-hop ones, and with ours at the end. The framing
// of the body (Transfer-Encoding) stays with the body, unless unchunked.
func (h *answerHead) forClient(unchunked bool) []byte {
	drop := map[string]bool{"connection": true, "keep-alive": true, "proxy-connection": true, "upgrade": true}
	for _, name := range h.hop {
		drop[strings.ToLower(name)] = true
	}
	// Not even a Connection header may take these away.
	delete(drop, "content-length")
	drop["transfer-encoding"] = unchunked

	out := make([]byte, 0, len(h.raw)+256)
	dropping := false
	first := true
	for line := range bytes.Lines(h.raw) {
		if line[0] == '\n' || line[0] == '\r' {
			break // the empty line
		}
		if first {
			first = false
		} else if line[0] != ' ' && line[0] != '\t' { // else it continues the line before
			name, _, _ := bytes.Cut(line, []byte(":"))
			dropping = drop[strings.ToLower(string(bytes.TrimSpace(name)))]
		}
		if !dropping {
			out = append(out, line...)
		}
	}
	if _, own := h.resp.Header["Access-Control-Allow-Origin"]; !own {
		for _, kv := range header.CORS() {
			out = append(out, kv[0]+": "+kv[1]+"\r\n"...)
		}
	}
	return append(out, "Connection: close\r\n\r\n"...)
}

// response is the whole answer, its body read from what came with the head and
// then from src.
func (h *answerHead) response(src io.Reader) (*http.Response, error) {
	whole := io.MultiReader(bytes.NewReader(h.raw), bytes.NewReader(h.rest), src)
	return http.ReadResponse(bufio.NewReader(whole), h.resp.Request)
}
