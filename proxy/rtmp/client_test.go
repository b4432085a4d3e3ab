package rtmp

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// client is an RTMP client that decides about each byte.
type client struct {
	t    *testing.T
	conn *net.TCPConn
	in   *rtmp.Reader
	sent bytes.Buffer // after the handshake
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if err := rtmp.DialHandshake(c, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, conn: c.(*net.TCPConn), in: rtmp.NewReader(c, rtmp.Limits{})}
}

func (c *client) write(b []byte) {
	c.t.Helper()
	c.sent.Write(b)
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// command sends a command on a chunk stream, cut at chunkSize.
func (c *client) command(csid, streamID uint32, chunkSize int, name string, tid float64, object any, args ...any) {
	c.t.Helper()
	c.write(rtmp.AppendMessage(nil, command(c.t, csid, streamID, name, tid, object, args...), chunkSize))
}

func command(t *testing.T, csid, streamID uint32, name string, tid float64, object any, args ...any) rtmp.Message {
	t.Helper()
	m, err := rtmp.Command{Name: name, TransactionID: tid, Object: object, Args: args}.Message(csid, streamID)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (c *client) connect(chunkSize int) {
	c.t.Helper()
	c.command(3, 0, chunkSize, "connect", 1, amf0.Object{
		{Key: "app", Value: "live"}, {Key: "tcUrl", Value: "rtmp://127.0.0.1/live"}, {Key: "flashVer", Value: string(bytes.Repeat([]byte("x"), 300))},
	})
	c.await("_result", 1)
}

// await reads until a command of that name and transaction.
func (c *client) await(name string, tid float64) rtmp.Command {
	c.t.Helper()
	for {
		m, err := c.in.ReadMessage()
		if err != nil {
			c.t.Fatalf("waiting for %s %v: %v", name, tid, err)
		}
		if !m.IsCommand() {
			continue
		}
		got, err := rtmp.ParseCommand(m)
		if err != nil {
			c.t.Fatal(err)
		}
		if got.Name == name && got.TransactionID == tid {
			return got
		}
	}
}

// awaitStatus reads until onStatus and returns its code, description and stream.
func (c *client) awaitStatus() (code, description string, streamID uint32) {
	c.t.Helper()
	for {
		m, err := c.in.ReadMessage()
		if err != nil {
			c.t.Fatalf("waiting for onStatus: %v", err)
		}
		if !m.IsCommand() {
			continue
		}
		got, err := rtmp.ParseCommand(m)
		if err != nil {
			c.t.Fatal(err)
		}
		if got.Name == "onStatus" {
			info := amf0.AsObject(got.Arg(0))
			return info.Text("code"), info.Text("description"), m.StreamID
		}
	}
}

// publish goes the way of librtmp (OBS): releaseStream, FCPublish, createStream, publish.
func (c *client) publish(name string) {
	c.t.Helper()
	c.connect(128)
	c.command(3, 0, 128, "releaseStream", 2, nil, name)
	c.command(3, 0, 128, "FCPublish", 3, nil, name)
	c.command(3, 0, 128, "createStream", 4, nil)
	c.await("_result", 4)
	c.command(4, 1, 128, "publish", 5, nil, name, "live")
}

// origin is a server whose every answer the test decides.
type origin struct {
	t    *testing.T
	addr string
	ln   net.Listener
}

// newOrigin runs script for each connection after the handshake.
func newOrigin(t *testing.T, script func(o *originConn)) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	o := &origin{t: t, addr: ln.Addr().String(), ln: ln}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := rtmp.AcceptHandshake(c); err != nil {
					return
				}
				oc := &originConn{t: t, conn: c, w: rtmp.NewWriter(c)}
				oc.in = rtmp.NewReader(teeReader{c, &oc.received}, rtmp.Limits{})
				script(oc)
			}()
		}
	}()
	return o
}

type teeReader struct {
	net.Conn
	b *bytes.Buffer
}

func (r teeReader) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.b.Write(p[:n])
	return n, err
}

type originConn struct {
	t        *testing.T
	conn     net.Conn
	in       *rtmp.Reader
	w        *rtmp.Writer
	received bytes.Buffer
}

// await reads until a message of that type.
func (o *originConn) await(kind uint8) (rtmp.Message, error) {
	for {
		m, err := o.in.ReadMessage()
		if err != nil || m.Type == kind {
			return m, err
		}
	}
}

// next reads until a command.
func (o *originConn) next() (rtmp.Command, rtmp.Message, error) {
	for {
		m, err := o.in.ReadMessage()
		if err != nil {
			return rtmp.Command{}, m, err
		}
		if m.IsCommand() {
			c, err := rtmp.ParseCommand(m)
			return c, m, err
		}
	}
}

// answer answers commands, with that id for createStream, until publish or play.
func (o *originConn) answer(streamID float64, srs bool) (rtmp.Command, rtmp.Message, error) {
	for {
		c, m, err := o.next()
		if err != nil {
			return c, m, err
		}
		var arg any
		switch c.Name {
		case "publish", "play":
			return c, m, nil
		case "connect":
			info := amf0.Object{{Key: "code", Value: "NetConnection.Connect.Success"}}
			if srs {
				info = append(info, amf0.Property{Key: "data", Value: amf0.ECMAArray{{Key: "srs_version", Value: "7.0.18"}}})
			}
			arg = info
		case "createStream":
			arg = streamID
		}
		if err := o.w.WriteMessage(command(o.t, 3, 0, "_result", c.TransactionID, nil, arg)); err != nil {
			return c, m, err
		}
	}
}
