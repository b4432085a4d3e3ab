package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// flvPlayer plays over HTTP-FLV.
//
//	bytes ─▶ response header ─▶ chunked coding taken off ─▶ tags ─▶ Player
type flvPlayer struct {
	*Player
	conn    *conn
	target  target
	header  []byte // of the response, nil when it is whole
	chunked bool
	coding  chunkedCoding
	tags    tags
	now     int64
}

const maxResponseHeader = 16 << 10

// ErrHTTP says that a server did not answer a request with media.
var ErrHTTP = errors.New("http")

func newFLVPlayer(p *Player, t target) *flvPlayer {
	f := &flvPlayer{Player: p, target: t, header: []byte{}}
	f.tags.skip = flvHeader
	f.tags.got = func(kind uint8, head []byte, length int) { p.media(kind, head, length, f.now) }
	return f
}

func (f *flvPlayer) begin() {
	f.conn = f.load.playing.connect(f.target.addr, f)
	f.Player.close = f.conn.close
}

func (f *flvPlayer) opened() {
	f.conn.send([]byte("GET " + f.target.path + " HTTP/1.1\r\nHost: " + f.target.host + "\r\nUser-Agent: srs-proxy-bench\r\nAccept: */*\r\n\r\n"))
}

func (f *flvPlayer) received(b []byte, now int64) error {
	f.now = now
	if f.header != nil {
		f.header = append(f.header, b...)
		end := bytes.Index(f.header, []byte("\r\n\r\n"))
		if end < 0 {
			if len(f.header) > maxResponseHeader {
				return fmt.Errorf("%w: the header has no end", ErrHTTP)
			}
			return nil
		}
		b = f.header[end+4:]
		if err := f.answered(string(f.header[:end])); err != nil {
			return err
		}
		f.header = nil
	}
	if f.chunked {
		return f.coding.feed(b, f.tags.feed)
	}
	return f.tags.feed(b)
}

func (f *flvPlayer) answered(header string) error {
	lines := strings.Split(header, "\r\n")
	_, status, _ := strings.Cut(lines[0], " ")
	if !strings.HasPrefix(status, "200") {
		return fmt.Errorf("%w: status %q", ErrHTTP, status)
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Transfer-Encoding") && strings.Contains(strings.ToLower(value), "chunked") {
			f.chunked = true
		}
	}
	f.accepted(f.now)
	return nil
}

// chunkedCoding takes off HTTP/1.1's chunked coding (RFC 9112, section 7.1).
type chunkedCoding struct {
	line []byte // of a chunk's size, without its end
	left int    // bytes of the chunk
	tail int    // bytes of the line end behind a chunk
}

func (c *chunkedCoding) feed(b []byte, body func([]byte) error) error {
	for len(b) > 0 {
		switch {
		case c.left > 0:
			n := min(c.left, len(b))
			if err := body(b[:n]); err != nil {
				return err
			}
			b, c.left = b[n:], c.left-n
			if c.left == 0 {
				c.tail = 2
			}
		case c.tail > 0:
			n := min(c.tail, len(b))
			b, c.tail = b[n:], c.tail-n
		default:
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				c.line = append(c.line, b...)
				if len(c.line) > 64 {
					return fmt.Errorf("%w: chunk without a size", ErrHTTP)
				}
				return nil
			}
			c.line = append(c.line, b[:end]...)
			b = b[end+1:]
			text, _, _ := strings.Cut(strings.TrimSpace(string(c.line)), ";")
			n, err := strconv.ParseUint(text, 16, 31)
			if err != nil {
				return fmt.Errorf("%w: chunk of size %q", ErrHTTP, text)
			}
			if n == 0 {
				return fmt.Errorf("%w: the response has ended", ErrHTTP)
			}
			c.line, c.left = c.line[:0], int(n)
		}
	}
	return nil
}

// FLV's sizes: the file header with the size of no tag before it, a tag's header, and
// the size that stands behind a tag.
const (
	flvHeader  = 9 + 4
	flvTag     = 11
	flvBackRef = 4
)

// tags follows the tags of FLV as their bytes come, and keeps of each its beginning.
type tags struct {
	skip   int // bytes that nobody needs
	header []byte
	left   int // bytes of the tag's body
	head   []byte
	got    func(kind uint8, head []byte, length int)
}

func (t *tags) feed(b []byte) error {
	for len(b) > 0 {
		switch {
		case t.skip > 0:
			n := min(t.skip, len(b))
			b, t.skip = b[n:], t.skip-n
		case t.left > 0:
			n := min(t.left, len(b))
			if room := headSize - len(t.head); room > 0 {
				t.head = append(t.head, b[:min(room, n)]...)
			}
			b, t.left = b[n:], t.left-n
			if t.left == 0 {
				t.got(t.header[0], t.head, t.length())
				t.next()
			}
		default:
			n := min(flvTag-len(t.header), len(b))
			t.header = append(t.header, b[:n]...)
			b = b[n:]
			if len(t.header) < flvTag {
				continue
			}
			if kind := t.header[0]; kind != 8 && kind != 9 && kind != 18 {
				return fmt.Errorf("flv: tag of type %d", kind)
			}
			if t.left = t.length(); t.left == 0 {
				t.next()
			}
		}
	}
	return nil
}

func (t *tags) length() int {
	return int(t.header[1])<<16 | int(t.header[2])<<8 | int(t.header[3])
}

func (t *tags) next() { t.header, t.head, t.skip = t.header[:0], t.head[:0], flvBackRef }
