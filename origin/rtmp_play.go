package origin

import (
	"context"
	"fmt"
	"net"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// rtmpFraming sends the chunks that the publication made.
type rtmpFraming struct{}

func (rtmpFraming) append(bufs net.Buffers, _ *[]byte, frames []*frame) net.Buffers {
	for _, f := range frames {
		bufs = append(bufs, f.wire)
	}
	return bufs
}

// play sends the stream until the client closes it (nil: it may go on with
// something else) or goes. Nobody need publish: the player waits.
func (s *rtmpSession) play(ctx context.Context, name string) error {
	key, err := s.stream(name)
	if err != nil {
		_ = s.send(status("error", "NetStream.Play.Failed", "Bad stream name."))
		return fmt.Errorf("play: %w", err)
	}
	c := s.client(key, typePlay)
	st, err := s.o.hub.join(c, true)
	if err != nil {
		return fmt.Errorf("play: %w", err)
	}
	defer s.o.hub.leave(c)

	s.log.Info("play", "stream", st.url(), "id", c.id)
	if err := s.startPlay(); err != nil {
		return err
	}
	if err := s.expect(0); err != nil { // keepalive finds the dead
		return err
	}
	pl := &player{q: newQueue()}
	st.play(pl)
	defer st.leave(pl)

	sinkCtx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.survive()
		out := &sink{conn: s.conn, framing: rtmpFraming{}, merge: s.o.cfg.MergedWrite, stall: s.o.stall}
		if err := out.run(sinkCtx, pl.q); sinkCtx.Err() == nil {
			s.cancel(fmt.Errorf("write: %w", err))
		}
	}()
	defer func() {
		stop()
		<-done
		if n := pl.q.dropped(); n > 0 {
			s.log.Info("slow player", "stream", st.url(), "dropped", n)
		}
	}()
	if err := s.whilePlaying(pl); err != nil {
		_ = s.conn.Close() // the sink may be waiting for a client that is gone
		return err
	}
	return nil
}

// startPlay is what SRS's start_play sends.
func (s *rtmpSession) startPlay() error {
	more := []amf0.Property{{Key: "details", Value: "stream"}, {Key: "clientid", Value: clientID}}
	access, err := amf0.Append(nil, "|RtmpSampleAccess", true, true)
	if err != nil {
		return err
	}
	return s.send(
		rtmp.UserControlMessage(rtmp.EventStreamBegin, streamID),
		status("status", "NetStream.Play.Reset", "Playing and resetting stream.", more...),
		status("status", "NetStream.Play.Start", "Started playing stream.", more...),
		rtmp.Message{ChunkStreamID: 5, Type: rtmp.TypeDataAMF0, StreamID: streamID, Payload: access},
	)
}

// whilePlaying answers a player's commands until it closes the stream.
func (s *rtmpSession) whilePlaying(pl *player) error {
	for {
		m, err := s.read()
		if err != nil {
			return err
		}
		if !m.IsCommand() {
			continue
		}
		c, err := rtmp.ParseCommand(m)
		if err != nil {
			return err
		}
		switch c.Name {
		case "closeStream", "deleteStream":
			return nil
		case "pause":
			on, _ := c.Arg(0).(bool)
			err = s.pause(pl, on)
		default:
			err = s.answer(c)
		}
		if err != nil {
			return err
		}
	}
}

// pause is SRS's on_play_client_pause.
func (s *rtmpSession) pause(pl *player, on bool) error {
	pl.q.pause(on)
	if on {
		return s.send(
			status("status", "NetStream.Pause.Notify", "Paused stream."),
			rtmp.UserControlMessage(rtmp.EventStreamEOF, streamID),
		)
	}
	return s.send(
		status("status", "NetStream.Unpause.Notify", "Unpaused stream."),
		rtmp.UserControlMessage(rtmp.EventStreamBegin, streamID),
	)
}
