package faults

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/protocol/rtmp"
)

// Clients that were cut come back at once, and then a little slower each time.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = 200 * time.Millisecond
)

// reopen is how long an encoder takes that is restarted: time enough for its old session
// to be seen to end. One that is back sooner is the origin's to refuse, or, where that
// drains, waits at the proxy for that end.
const reopen = 300 * time.Millisecond

// sessions numbers the sessions of all publishers.
var sessions atomic.Uint64

// publisher keeps one name published, come what may.
type publisher struct {
	name string
	addr string
	rate int

	mu      sync.Mutex // guards the following
	peer    *peer      // nil between sessions
	cut     []time.Time
	starts  []start // since the mark
	refused []string
	leaving bool // the end of the session is our own doing
}

// start is the begin of a session: when, and its number.
type start struct {
	at      time.Time
	session uint64
}

func (p *publisher) run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		peer, err := openPublish(p.addr, p.name)
		if err != nil {
			p.mu.Lock()
			p.refused = append(p.refused, err.Error())
			p.mu.Unlock()
			pause(ctx, retry)
			retry = min(2*retry, lastRetry)
			continue
		}
		retry = firstRetry
		session := sessions.Add(1)
		p.mu.Lock()
		p.peer, p.leaving = peer, false
		p.starts = append(p.starts, start{time.Now(), session})
		p.mu.Unlock()
		p.feed(ctx, peer, session)
		p.mu.Lock()
		p.peer = nil
		leaving := p.leaving
		if !leaving && ctx.Err() == nil {
			p.cut = append(p.cut, time.Now())
		}
		p.mu.Unlock()
		if leaving {
			pause(ctx, reopen)
		}
	}
}

// feed sends frames until the connection or the context ends.
func (p *publisher) feed(ctx context.Context, peer *peer, session uint64) {
	ctx, cancel := context.WithCancel(ctx)
	closing := context.AfterFunc(ctx, func() { peer.conn.Close() })
	defer closing()
	defer cancel()
	go func() {
		defer cancel() // the server has closed
		for {
			if _, err := peer.r.ReadMessage(); err != nil {
				return
			}
		}
	}()
	begin := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(p.rate))
	defer tick.Stop()
	for seq := uint64(1); ; seq++ {
		err := peer.w.WriteMessage(rtmp.Message{
			ChunkStreamID: 4, Type: rtmp.TypeAudio, StreamID: 1,
			Timestamp: uint32(time.Since(begin).Milliseconds()), Payload: frame{session, seq}.payload(),
		})
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// again ends the session as an encoder does that is restarted.
func (p *publisher) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peer != nil {
		p.leaving = true
		p.peer.conn.Close()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
