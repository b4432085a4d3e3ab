package origin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// clientID is what SRS puts into onStatus (RTMP_SIG_CLIENT_ID).
const clientID = "ASAICiss"

// status is onStatus as SRS writes it.
func status(level, code, description string, more ...amf0.Property) rtmp.Message {
	return event("onStatus", append(amf0.Object{
		{Key: "level", Value: level},
		{Key: "code", Value: code},
		{Key: "description", Value: description},
	}, more...))
}

// event is a call without a transaction on the message stream.
func event(name string, info amf0.Object) rtmp.Message {
	// Short strings always encode.
	m, _ := rtmp.Command{Name: name, Args: []any{info}}.Message(5, streamID)
	return m
}

// publish takes media until the client unpublishes (nil: it may publish again) or
// goes.
func (s *rtmpSession) publish(ctx context.Context, name string) error {
	key, err := s.stream(name)
	if err != nil {
		_ = s.send(status("error", "NetStream.Publish.BadName", "Bad stream name."))
		return fmt.Errorf("publish: %w", err)
	}
	c := s.client(key, s.typ)
	st, err := s.o.hub.join(c, true)
	if err != nil {
		if errors.Is(err, ErrBusy) {
			_ = s.send(status("error", "NetStream.Publish.BadName", "Stream is busy."))
		}
		return fmt.Errorf("publish: %w", err)
	}
	defer s.o.hub.leave(c)
	p := st.begin()
	defer p.end()

	s.log.Info("publish", "stream", st.url(), "id", c.id)
	start := []rtmp.Message{status("status", "NetStream.Publish.Start", "Started publishing stream.",
		amf0.Property{Key: "clientid", Value: clientID})}
	if s.typ != typeFlashPublish {
		start = append([]rtmp.Message{event("onFCPublish", amf0.Object{
			{Key: "code", Value: "NetStream.Publish.Start"},
			{Key: "description", Value: "Started publishing stream."},
		})}, start...)
	}
	if err := s.send(start...); err != nil {
		return err
	}
	if err := s.expect(s.o.cfg.PublishFirst); err != nil {
		return err
	}
	for {
		m, err := s.read()
		if err != nil {
			return err
		}
		if err := s.stillPublishing(); err != nil {
			return err
		}
		switch m.Type {
		case rtmp.TypeAudio, rtmp.TypeVideo:
			p.write(m.Type, m.Timestamp, m.Payload)
		case rtmp.TypeDataAMF0:
			p.writeData(m.Timestamp, m.Payload)
		case rtmp.TypeDataAMF3:
			if len(m.Payload) > 0 && m.Payload[0] == 0 {
				p.writeData(m.Timestamp, m.Payload[1:])
			}
		case rtmp.TypeAggregate:
			if err := p.writeAggregate(m); err != nil {
				return err
			}
		case rtmp.TypeCommandAMF0, rtmp.TypeCommandAMF3:
			if ended, err := s.whilePublishing(m); ended || err != nil {
				return err
			}
		}
	}
}

// stillPublishing moves the deadline of reads, but not for every message: a timer
// costs more than a look at the clock.
func (s *rtmpSession) stillPublishing() error {
	now := time.Now()
	slack := min(time.Second, s.o.cfg.PublishNormal/2)
	if d := s.deadline.Sub(now); d > s.o.cfg.PublishNormal-slack && d <= s.o.cfg.PublishNormal {
		return nil
	}
	s.deadline = now.Add(s.o.cfg.PublishNormal)
	return s.conn.SetReadDeadline(s.deadline)
}

// whilePublishing answers a publisher's commands; ended tells that it stopped
// publishing and stays.
func (s *rtmpSession) whilePublishing(m rtmp.Message) (ended bool, err error) {
	c, err := rtmp.ParseCommand(m)
	if err != nil {
		return false, err
	}
	switch c.Name {
	case "FCUnpublish":
		ack, err := rtmp.Command{Name: "_result", TransactionID: c.TransactionID, Args: []any{amf0.Undefined{}}}.Message(3, streamID)
		if err != nil {
			return false, err
		}
		return true, s.send(
			event("onFCUnpublish", amf0.Object{
				{Key: "code", Value: "NetStream.Unpublish.Success"},
				{Key: "description", Value: "Stop publishing stream."},
			}),
			ack,
			status("status", "NetStream.Unpublish.Success", "Stream is now unpublished",
				amf0.Property{Key: "clientid", Value: clientID}),
		)
	case "deleteStream", "closeStream":
		return true, nil
	}
	return false, s.answer(c)
}

// writeData takes metadata and other script data, without @setDataFrame.
func (p *publication) writeData(timestamp uint32, payload []byte) {
	if rest, ok := cutPrefix(payload, setDataFrame); ok {
		payload = rest
	}
	p.write(kindScript, timestamp, payload)
}

func cutPrefix(p []byte, prefix string) ([]byte, bool) {
	if len(p) < len(prefix) || string(p[:len(prefix)]) != prefix {
		return p, false
	}
	return p[len(prefix):], true
}

var errAggregate = errors.New("malformed aggregate message")

// writeAggregate takes apart a message of several FLV tags (section 7.1.6). Their
// times are relative to the first one's.
func (p *publication) writeAggregate(m rtmp.Message) error {
	b := m.Payload
	var base uint32
	for first := true; len(b) > 0; first = false {
		if len(b) < 11 {
			return errAggregate
		}
		size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		t := uint32(b[7])<<24 | uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])
		if len(b) < 11+size+4 {
			return errAggregate
		}
		if first {
			base = t
		}
		kind, payload := b[0], b[11:11+size]
		b = b[11+size+4:]
		switch kind {
		case kindAudio, kindVideo:
			p.write(kind, m.Timestamp+t-base, payload)
		case kindScript:
			p.writeData(m.Timestamp+t-base, payload)
		}
	}
	return nil
}
