package rtmp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"srs-proxy/protocol/rtmp"
	"srs-proxy/proxy/relay"
)

// renumberPublish sends publish or play to an origin whose message stream has another
// id than the one the client was given.
func (u *upstream) renumberPublish() error {
	p := u.session.prelude
	if !p.in.AtBoundary() {
		return errors.New("publish or play came inside another message, and the origin numbers its streams otherwise")
	}
	// The origin has the client's chunk size from the replay; told again, our
	// writer and it agree.
	u.out = rtmp.NewWriter(u.conn.TCPConn)
	if err := u.out.SetChunkSize(p.in.ChunkSize()); err != nil {
		return err
	}
	return u.out.WriteMessage(renumber(p.last, clientStreamID, u.streamID))
}

// relayMessages relays whole messages both ways after renumberPublish. No server
// known needs that for a first stream; it costs a copy and a decoder each way.
func (u *upstream) relayMessages(ctx context.Context) (relay.Result, error) {
	wake := func() {
		_ = u.session.client.SetDeadline(time.Unix(1, 0))
		_ = u.conn.SetDeadline(time.Unix(1, 0))
	}
	stop := context.AfterFunc(ctx, wake)
	defer stop()

	var fromClient, fromOrigin atomic.Int64
	up := make(chan error, 1)
	go u.copyUp(&fromClient, wake, up)
	err := u.copyDown(&fromOrigin)
	wake()
	upErr := <-up
	r := relay.Result{FromClient: fromClient.Load(), FromOrigin: fromOrigin.Load()}
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if isHangup(err) {
		err = nil
	}
	if err == nil && !isHangup(upErr) && !isTimeout(upErr) {
		err = upErr
	}
	return r, err
}

// copyUp is the goroutine of the client's messages.
func (u *upstream) copyUp(moved *atomic.Int64, wake func(), done chan<- error) {
	p := u.session.prelude
	for {
		m, err := p.in.ReadMessage()
		if err == nil {
			moved.Add(int64(len(m.Payload)))
			err = u.out.WriteMessage(renumber(m, clientStreamID, u.streamID))
		}
		if err != nil {
			wake()
			done <- fmt.Errorf("client to origin: %w", err)
			return
		}
	}
}

func (u *upstream) copyDown(moved *atomic.Int64) error {
	for {
		m, err := u.in.ReadMessage()
		if err == nil {
			moved.Add(int64(len(m.Payload)))
			err = u.pass(m)
		}
		if err != nil {
			return fmt.Errorf("origin to client: %w", err)
		}
	}
}

// renumber gives a message of stream id from the id to, in user control events too.
func renumber(m rtmp.Message, from, to uint32) rtmp.Message {
	if from == to {
		return m
	}
	if m.StreamID == from {
		m.StreamID = to
	}
	if m.Type == rtmp.TypeUserControl && len(m.Payload) >= 6 &&
		binary.BigEndian.Uint16(m.Payload) < 5 && // StreamBegin, EOF, Dry, SetBufferLength, IsRecorded
		binary.BigEndian.Uint32(m.Payload[2:]) == from {
		binary.BigEndian.PutUint32(m.Payload[2:], to)
	}
	return m
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
