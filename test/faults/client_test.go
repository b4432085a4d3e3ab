package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// openTimeout bounds the way from the dial to publish or play: an encoder does not
// wait longer either.
const openTimeout = 10 * time.Second

// peer is an RTMP client, cheap enough to have hundreds of.
type peer struct {
	conn net.Conn
	r    *rtmp.Reader
	w    *rtmp.Writer
	tid  float64
}

// openPublish and openPlay come to the server's yes.
func openPublish(addr, name string) (*peer, error) {
	return open(addr, func(p *peer) error {
		for _, call := range []string{"releaseStream", "FCPublish"} {
			if err := p.call(call, 0, nil, name); err != nil {
				return err
			}
		}
		if err := p.call("publish", 1, nil, name, "live"); err != nil {
			return err
		}
		return p.awaitStart("NetStream.Publish.Start")
	})
}

func openPlay(addr, name string) (*peer, error) {
	return open(addr, func(p *peer) error {
		if err := p.call("play", 1, nil, name, -2000.0); err != nil {
			return err
		}
		return p.awaitStart("NetStream.Play.Start")
	})
}

func open(addr string, begin func(*peer) error) (*peer, error) {
	conn, err := net.DialTimeout("tcp", addr, openTimeout)
	if err != nil {
		return nil, err
	}
	p := &peer{conn: conn}
	_ = conn.SetDeadline(time.Now().Add(openTimeout))
	if err := errors.Join(p.connect("rtmp://" + addr + "/live")); err != nil {
		conn.Close()
		return nil, err
	}
	if err := begin(p); err != nil {
		conn.Close()
		return nil, err
	}
	return p, conn.SetDeadline(time.Time{})
}

func (p *peer) connect(tcURL string) error {
	if err := rtmp.DialHandshake(p.conn, netip.Addr{}); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	p.r, p.w = rtmp.NewReader(p.conn, rtmp.Limits{}), rtmp.NewWriter(p.conn)
	if err := p.call("connect", 0, amf0.Object{
		{Key: "app", Value: "live"}, {Key: "type", Value: "nonprivate"}, {Key: "flashVer", Value: "FMLE/3.0 (compatible; faults)"},
		{Key: "tcUrl", Value: tcURL}, {Key: "objectEncoding", Value: 0.0},
	}); err != nil {
		return err
	}
	if _, err := p.await("_result"); err != nil {
		return err
	}
	if err := p.call("createStream", 0, nil); err != nil {
		return err
	}
	_, err := p.await("_result")
	return err
}

func (p *peer) call(name string, streamID uint32, object any, args ...any) error {
	p.tid++
	m, err := rtmp.Command{Name: name, TransactionID: p.tid, Object: object, Args: args}.Message(3, streamID)
	if err != nil {
		return err
	}
	return p.w.WriteMessage(m)
}

// await reads until an answer of that name: to the last call, or onStatus.
func (p *peer) await(name string) (rtmp.Command, error) {
	for {
		m, err := p.r.ReadMessage()
		if err != nil {
			return rtmp.Command{}, fmt.Errorf("waiting for %s: %w", name, err)
		}
		if !m.IsCommand() {
			continue
		}
		c, err := rtmp.ParseCommand(m)
		switch {
		case err != nil:
			return c, err
		case c.Name == "_error":
			return c, fmt.Errorf("waiting for %s: _error %v", name, c.Args)
		case c.Name == name && (name == "onStatus" || c.TransactionID == p.tid):
			return c, nil
		}
	}
}

func (p *peer) awaitStart(code string) error {
	for {
		c, err := p.await("onStatus")
		if err != nil {
			return err
		}
		info := amf0.AsObject(c.Arg(0))
		switch got := info.Text("code"); {
		case got == code:
			return nil
		case info.Text("level") == "error":
			return fmt.Errorf("%s: %s", got, info.Text("description"))
		}
	}
}

// frame is what the payload of a message says.
type frame struct {
	session uint64 // of the publisher, counted over all of them
	seq     uint64
}

// Frames are audio in MP3 (0x2F), into which no origin looks, and carry a mark. SRS
// drops other audio than MP3 and AAC.
const (
	frameHead = "\x2fFAULT"
	frameSize = len(frameHead) + 16 + 64
)

func (f frame) payload() []byte {
	b := append(make([]byte, 0, frameSize), frameHead...)
	b = binary.BigEndian.AppendUint64(b, f.session)
	b = binary.BigEndian.AppendUint64(b, f.seq)
	return b[:frameSize]
}

func parseFrame(b []byte) (frame, bool) {
	if len(b) != frameSize || string(b[:len(frameHead)]) != frameHead {
		return frame{}, false
	}
	b = b[len(frameHead):]
	return frame{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, true
}
