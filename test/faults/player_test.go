package faults

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"srs-proxy/protocol/rtmp"
)

// patience is after how long without a frame a player gives up and asks again.
const patience = 15 * time.Second

// player watches one name, come what may.
type player struct {
	name string
	addr string
	flv  bool

	mu      sync.Mutex // guards the following
	last    frame
	lastAt  time.Time
	joined  bool          // the first frame of this connection is still to come
	gap     time.Duration // the longest silence since the mark
	missing uint64        // frames since the mark
	cuts    []string      // since the mark: why
	refused int
	started []start // since the mark: when the first frame of a publisher's session came
}

// source is where frames come from.
type source interface {
	next() (frame, error)
	io.Closer
}

func (p *player) run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		src, err := p.open()
		if err != nil {
			p.mu.Lock()
			p.refused++
			p.mu.Unlock()
			pause(ctx, retry)
			retry = min(2*retry, lastRetry)
			continue
		}
		retry = firstRetry
		closing := context.AfterFunc(ctx, func() { src.Close() })
		err = p.watch(src)
		closing()
		src.Close()
		if ctx.Err() == nil {
			p.mu.Lock()
			p.cuts = append(p.cuts, err.Error())
			p.mu.Unlock()
		}
	}
}

func (p *player) open() (source, error) {
	if p.flv {
		return openFLV(p.addr, p.name)
	}
	peer, err := openPlay(p.addr, p.name)
	if err != nil {
		return nil, err
	}
	return &rtmpSource{peer}, nil
}

func (p *player) watch(src source) error {
	p.mu.Lock()
	p.joined = true
	p.mu.Unlock()
	for {
		f, err := src.next()
		if err != nil {
			return err
		}
		p.note(f, time.Now())
	}
}

func (p *player) note(f frame, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lastAt.IsZero() {
		p.gap = max(p.gap, now.Sub(p.lastAt))
	}
	switch {
	case f.session != p.last.session:
		p.started = append(p.started, start{now, f.session})
	case !p.joined && f.seq > p.last.seq:
		p.missing += f.seq - p.last.seq - 1
	case !p.joined:
		p.missing++ // out of order: as bad
	}
	// SRS takes the first frame for a header, with which it greets whoever joins.
	p.joined = p.joined && f.seq == 1
	p.last, p.lastAt = f, now
}

// mark forgets what was up to now.
func (p *player) mark(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap, p.missing, p.cuts, p.refused, p.started = 0, 0, nil, 0, nil
	p.lastAt = now
}

// suffered is what a player noticed since the mark.
type suffered struct {
	gap     time.Duration
	missing uint64
	cuts    []string
}

func (p *player) suffered(now time.Time) suffered {
	p.mu.Lock()
	defer p.mu.Unlock()
	return suffered{max(p.gap, now.Sub(p.lastAt)), p.missing, p.cuts}
}

func (p *player) kind() string {
	if p.flv {
		return "HTTP-FLV"
	}
	return "RTMP"
}

type rtmpSource struct{ *peer }

func (s *rtmpSource) next() (frame, error) {
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(patience))
		m, err := s.r.ReadMessage()
		if err != nil {
			return frame{}, err
		}
		if f, ok := parseFrame(m.Payload); ok && m.Type == rtmp.TypeAudio {
			return f, nil
		}
	}
}

func (s *rtmpSource) Close() error { return s.conn.Close() }

// flvSource reads the tags of an HTTP-FLV stream.
type flvSource struct {
	conn net.Conn
	body io.Reader
	buf  []byte
}

func openFLV(addr, name string) (source, error) {
	conn, err := net.DialTimeout("tcp", addr, openTimeout)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(openTimeout))
	s, err := askFLV(conn, addr, name)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, conn.SetDeadline(time.Time{})
}

func askFLV(conn net.Conn, addr, name string) (*flvSource, error) {
	if _, err := fmt.Fprintf(conn, "GET /live/%s.flv HTTP/1.1\r\nHost: %s\r\n\r\n", name, addr); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	s := &flvSource{conn: conn, body: resp.Body}
	_ = conn.SetDeadline(time.Now().Add(patience)) // SRS has no header before the first frame
	_, err = s.read(9 + 4)
	return s, err
}

func (s *flvSource) next() (frame, error) {
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(patience))
		head, err := s.read(11)
		if err != nil {
			return frame{}, err
		}
		size := int(binary.BigEndian.Uint32(head) & 0xffffff)
		body, err := s.read(size + 4)
		if err != nil {
			return frame{}, err
		}
		if f, ok := parseFrame(body[:size]); ok {
			return f, nil
		}
	}
}

func (s *flvSource) read(n int) ([]byte, error) {
	if cap(s.buf) < n {
		s.buf = make([]byte, n)
	}
	_, err := io.ReadFull(s.body, s.buf[:n])
	return s.buf[:n], err
}

func (s *flvSource) Close() error { return s.conn.Close() }
