package load

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// rtmpClient is the way of an RTMP client to its first message, as encoders and
// players go it: each step waits for the answer to the one before.
//
//	C0 C1 ─▶ S0 S1 S2 ─▶ C2 connect ─▶ createStream ─▶ publish or play ─▶ onStatus
type rtmpClient struct {
	conn    *conn
	target  target
	publish bool
	// started is told that the server has accepted; message of what comes then.
	started func(now int64)
	message func(m message, now int64) error

	handshake []byte // S0 S1 S2 as far as they are there; nil when they are whole
	chunks    *chunks
	chunkSize int // of what is sent
	streamID  uint32
	running   bool
	taken     uint32 // bytes since the handshake, modulo 2^32
	window    uint32 // an Acknowledgement is due each so many bytes
	acked     uint32
	now       int64
}

const handshakeSize = 1536

// Transactions of the commands.
const (
	transactionConnect = iota + 1
	transactionCreate
	transactionStart
)

func (c *rtmpClient) opened() {
	hello := make([]byte, 1+handshakeSize)
	hello[0] = 3
	_, _ = rand.Read(hello[9:]) // never fails; any bytes would do
	c.handshake = make([]byte, 0, 1+2*handshakeSize)
	c.chunks, c.chunkSize = newChunks(), rtmp.DefaultChunkSize
	c.conn.send(hello)
}

func (c *rtmpClient) received(b []byte, now int64) error {
	c.now = now
	if c.handshake != nil {
		n := min(len(b), cap(c.handshake)-len(c.handshake))
		c.handshake = append(c.handshake, b[:n]...)
		b = b[n:]
		if len(c.handshake) < cap(c.handshake) {
			return nil
		}
		if c.handshake[0] != 3 {
			return fmt.Errorf("%w: S0 is %d", rtmp.ErrVersion, c.handshake[0])
		}
		hello := c.handshake[1 : 1+handshakeSize : 1+handshakeSize]
		if c.publish {
			// Before all else, as OBS does: a proxy that does not look at it later follows too.
			hello = rtmp.AppendMessage(hello, rtmp.ControlMessage(rtmp.TypeSetChunkSize, publishChunk), c.chunkSize)
			c.chunkSize = publishChunk
		}
		if err := c.sendCommand(hello, "connect", transactionConnect, amf0.Object{
			{Key: "app", Value: c.target.app}, {Key: "type", Value: "nonprivate"},
			{Key: "flashVer", Value: "FMLE/3.0 (compatible; srs-proxy bench)"}, {Key: "tcUrl", Value: c.target.tcURL},
		}); err != nil {
			return err
		}
		c.handshake = nil
	}
	c.taken += uint32(len(b))
	if err := c.chunks.feed(b, c.got); err != nil {
		return err
	}
	if c.window > 0 && c.taken-c.acked >= c.window {
		c.acked = c.taken
		c.conn.send(rtmp.AppendMessage(nil, rtmp.ControlMessage(rtmp.TypeAcknowledgement, c.acked), c.chunkSize))
	}
	return nil
}

// sendCommand writes a command behind some other bytes.
func (c *rtmpClient) sendCommand(before []byte, name string, transaction float64, object any, args ...any) error {
	csid, streamID := uint32(3), uint32(0)
	if transaction == transactionStart {
		csid, streamID = 8, c.streamID
	}
	m, err := rtmp.Command{Name: name, TransactionID: transaction, Object: object, Args: args}.Message(csid, streamID)
	if err != nil {
		return err
	}
	c.conn.send(rtmp.AppendMessage(before, m, c.chunkSize))
	return nil
}

func (c *rtmpClient) got(m message) error {
	switch m.kind {
	case rtmp.TypeWindowAckSize:
		if len(m.head) >= 4 {
			c.window = binary.BigEndian.Uint32(m.head)
		}
	case rtmp.TypeCommandAMF0, rtmp.TypeCommandAMF3:
		return c.command(m)
	case rtmp.TypeAudio, rtmp.TypeVideo:
		return c.message(m, c.now)
	}
	return nil
}

func (c *rtmpClient) command(m message) error {
	cmd, err := rtmp.ParseCommand(rtmp.Message{Type: m.kind, Payload: m.head})
	if err != nil {
		return err
	}
	switch {
	case cmd.Name == "_result" && cmd.TransactionID == transactionConnect:
		return c.sendCommand(nil, "createStream", transactionCreate, nil)
	case cmd.Name == "_result" && cmd.TransactionID == transactionCreate:
		id, ok := cmd.Arg(0).(float64)
		if !ok || id < 0 || id > math.MaxUint32 {
			return fmt.Errorf("rtmp: createStream gave no stream id")
		}
		c.streamID = uint32(id)
		if c.publish {
			return c.sendCommand(nil, "publish", transactionStart, nil, c.target.stream, "live")
		}
		return c.sendCommand(nil, "play", transactionStart, nil, c.target.stream)
	case cmd.Name == "_error":
		return fmt.Errorf("rtmp: command %v refused: %s", cmd.TransactionID, amf0.AsObject(cmd.Arg(0)).Text("description"))
	case cmd.Name == "close":
		return io.EOF
	case cmd.Name == "onStatus":
		return c.status(amf0.AsObject(cmd.Arg(0)))
	}
	return nil
}

func (c *rtmpClient) status(info amf0.Object) error {
	code := info.Text("code")
	if info.Text("level") == "error" || strings.HasSuffix(code, ".BadName") || strings.HasSuffix(code, ".StreamNotFound") {
		return fmt.Errorf("rtmp: refused with %s", code)
	}
	if c.running || code != "NetStream.Publish.Start" && code != "NetStream.Play.Start" {
		return nil
	}
	c.running = true
	c.started(c.now)
	return nil
}
