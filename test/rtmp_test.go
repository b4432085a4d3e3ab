package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// rtmpTimeout bounds the way from the dial to publish or play.
const rtmpTimeout = 20 * time.Second

// peer is an RTMP client, cheap enough to have hundreds of.
type peer struct {
	conn *net.TCPConn
	r    *rtmp.Reader
	w    *rtmp.Writer
	tid  float64
	kept []rtmp.Message // media that came while an answer was awaited
}

// dialRTMP comes to createStream's answer. tcURL may name another host than addr.
func dialRTMP(addr, tcURL string) (*peer, error) {
	conn, err := net.DialTimeout("tcp", addr, rtmpTimeout)
	if err != nil {
		return nil, err
	}
	p := &peer{conn: conn.(*net.TCPConn)}
	_ = conn.SetDeadline(time.Now().Add(rtmpTimeout))
	if err := p.connect(tcURL); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to %s as %s: %w", addr, tcURL, err)
	}
	return p, nil
}

func (p *peer) connect(tcURL string) error {
	if err := rtmp.DialHandshake(p.conn, netip.Addr{}); err != nil {
		return err
	}
	p.r, p.w = rtmp.NewReader(p.conn, rtmp.Limits{}), rtmp.NewWriter(p.conn)
	_, rest, _ := strings.Cut(tcURL, "://")
	_, app, _ := strings.Cut(rest, "/")
	if err := p.call("connect", 0, amf0.Object{
		{Key: "app", Value: app}, {Key: "type", Value: "nonprivate"}, {Key: "flashVer", Value: "FMLE/3.0 (compatible; e2e)"},
		{Key: "tcUrl", Value: tcURL}, {Key: "objectEncoding", Value: 0.0},
	}); err != nil {
		return err
	}
	if _, err := p.await("_result"); err != nil {
		return err
	}
	if err := p.w.SetChunkSize(60000); err != nil {
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
			if m.Type == rtmp.TypeVideo || m.Type == rtmp.TypeAudio {
				p.kept = append(p.kept, m)
			}
			continue
		}
		c, err := rtmp.ParseCommand(m)
		if err != nil {
			return c, err
		}
		if c.Name == "_error" || c.Name == name && (name == "onStatus" || c.TransactionID == p.tid) {
			if c.Name == "_error" {
				return c, fmt.Errorf("the answer to call %v is _error %v", c.TransactionID, c.Args)
			}
			return c, nil
		}
	}
}

// statusError is a refusal, as the server's onStatus says it.
type statusError struct{ code, description string }

func (e *statusError) Error() string { return e.code + ": " + e.description }

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
			return &statusError{got, info.Text("description")}
		}
	}
}

func (p *peer) publish(name string) error {
	for _, call := range []string{"releaseStream", "FCPublish"} {
		if err := p.call(call, 0, nil, name); err != nil {
			return err
		}
	}
	if err := p.call("publish", 1, nil, name, "live"); err != nil {
		return err
	}
	return p.awaitStart("NetStream.Publish.Start")
}

func (p *peer) play(name string) error {
	if err := p.call("play", 1, nil, name, -2000.0); err != nil {
		return err
	}
	return p.awaitStart("NetStream.Play.Start")
}

// media reads until a message of audio, video or data.
func (p *peer) media() (rtmp.Message, error) {
	if len(p.kept) > 0 {
		m := p.kept[0]
		p.kept = p.kept[1:]
		return m, nil
	}
	for {
		m, err := p.r.ReadMessage()
		if err != nil || m.Type == rtmp.TypeVideo || m.Type == rtmp.TypeAudio {
			return m, err
		}
	}
}

// openPublish and openPlay do all of it.
func openPublish(addr, tcURL, name string) (*peer, error) {
	return opened(addr, tcURL, func(p *peer) error { return p.publish(name) })
}

func openPlay(addr, tcURL, name string) (*peer, error) {
	return opened(addr, tcURL, func(p *peer) error { return p.play(name) })
}

func opened(addr, tcURL string, begin func(*peer) error) (*peer, error) {
	p, err := dialRTMP(addr, tcURL)
	if err != nil {
		return nil, err
	}
	if err := begin(p); err != nil {
		p.conn.Close()
		return nil, err
	}
	return p, p.conn.SetDeadline(time.Time{})
}

// isHangup says that the other side closed, in whatever way.
func isHangup(err error) bool {
	var timeout net.Error
	return err != nil && !(errors.As(err, &timeout) && timeout.Timeout())
}

// awaitHangup fails unless the server closes the connection in time.
func (p *peer) awaitHangup(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	_ = p.conn.SetDeadline(start.Add(within))
	for {
		if _, err := p.r.ReadMessage(); err != nil {
			if !isHangup(err) {
				t.Fatalf("the connection is still open after %s", within)
			}
			return time.Since(start)
		}
	}
}
