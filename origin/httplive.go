package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"srs-proxy/protocol/streamurl"
)

// serveLive sends a stream for as long as it is published and the client stays:
// HTTP-FLV, HTTP-TS, or the audio alone as AAC or MP3. A stream that nobody
// publishes is 404.
func (o *Origin) serveLive(w http.ResponseWriter, r *http.Request, key streamurl.Stream, ext string) {
	st := o.hub.find(key)
	if st == nil || !o.hub.publishing(st) {
		notFound(w)
		return
	}
	pl := &player{q: newQueue(), live: true}
	f, contentType, ok := st.framing(ext, pl)
	if !ok {
		notFound(w) // such as .mp3 of an AAC stream
		return
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", contentType)
		return
	}
	c := httpClient(r, key, typeFLVPlay, ext)
	if !o.sessions.enter() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	defer o.sessions.leave()

	// The connection is taken over: each batch is one writev of frames that all
	// players share, without a copy through net/http's buffer.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	conn, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		http.Error(w, "no such connection", http.StatusInternalServerError)
		return
	}
	c.meter = &conn.meter
	c.kill = cancel
	st, err := o.hub.join(c, false)
	if err != nil {
		notFound(w)
		return
	}
	defer o.hub.leave(c)
	header := w.Header().Clone()
	_, _, err = w.(http.Hijacker).Hijack()
	if err != nil {
		http.Error(w, "cannot stream", http.StatusInternalServerError)
		return
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	log := o.log.With("session", c.id, "proto", "http"+ext, "client", c.ip, "stream", st.url())
	log.Info("play")
	err = o.sendLive(ctx, cancel, conn, r, header, contentType, st, pl, f)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, errEnded) {
		err = cause
	}
	log.Info("play ended", "out", conn.meter.out.Load(), "dropped", pl.q.dropped(),
		"took", time.Since(c.created).Round(time.Millisecond), "cause", err)
}

func (o *Origin) sendLive(ctx context.Context, cancel context.CancelCauseFunc, conn *conn, r *http.Request,
	header http.Header, contentType string, st *stream, pl *player, f framing) error {
	if err := conn.SetDeadline(time.Time{}); err != nil { // of the request's header
		return err
	}
	st.play(pl)
	defer st.leave(pl)
	if !o.hub.publishing(st) {
		pl.q.close(errEnded) // it ended between the look and here
	}
	chunked := r.ProtoAtLeast(1, 1)
	header.Set("Content-Type", contentType)
	header.Set("Connection", "close")
	if chunked {
		header.Set("Transfer-Encoding", "chunked")
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.%d 200 OK\r\n", r.ProtoMinor)
	if err := header.Write(&head); err != nil {
		return err
	}
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		return err
	}

	read := make(chan struct{})
	go func() { // a client that goes is seen by reading
		defer close(read)
		_, err := io.Copy(io.Discard, conn)
		if err == nil {
			err = io.EOF
		}
		cancel(err)
	}()
	defer func() {
		_ = conn.Close()
		<-read
	}()

	out := &sink{conn: conn, framing: f, chunked: chunked, merge: o.cfg.MergedWrite, stall: o.stall}
	err := out.run(ctx, pl.q)
	if chunked && errors.Is(err, errEnded) {
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("0\r\n\r\n")); err != nil { // the response is complete
			return err
		}
	}
	return err
}

// framing chooses how pl gets the stream; it fails where the stream's audio is
// known and another one.
func (s *stream) framing(ext string, pl *player) (f framing, contentType string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	audio := s.audioInfo.codec
	switch ext {
	case ".flv":
		return &flvFraming{meta: s.meta}, "video/x-flv", true
	case ".ts":
		pl.ts = true
		return tsFraming{}, "video/MP2T", true
	case ".aac":
		pl.audioOnly = true
		return &aacFraming{}, "audio/x-aac", audio == codecNone || audio == codecAAC
	case ".mp3":
		pl.audioOnly = true
		return mp3Framing{}, "audio/mpeg", audio == codecNone || audio == codecMP3
	}
	return nil, "", false
}

// tsFraming: the packets are ready.
type tsFraming struct{}

func (tsFraming) append(bufs net.Buffers, _ *[]byte, frames []*frame) net.Buffers {
	for _, f := range frames {
		bufs = append(bufs, f.payload)
	}
	return bufs
}

// flvFraming writes an FLV file (FLV specification, annex E).
type flvFraming struct {
	meta    *frame
	pending []*frame // before the header: what has audio and video is not known yet
	headed  bool
}

func (v *flvFraming) append(bufs net.Buffers, scratch *[]byte, frames []*frame) net.Buffers {
	if !v.headed {
		v.pending = append(v.pending, frames...)
		flags := v.flags()
		switch {
		case flags == 0 && len(v.pending) < flvPatience:
			return bufs
		case flags == 0:
			flags = flvAudio | flvVideo
		}
		*scratch = append(*scratch, 'F', 'L', 'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0)
		bufs = append(bufs, *scratch)
		frames, v.pending, v.meta, v.headed = v.pending, nil, nil, true
	}
	for _, f := range frames {
		bufs = append(bufs, f.flvHead[:], f.payload, f.flvTail[:])
	}
	return bufs
}

// Flags of the header; and for how many frames without audio and video, such as
// captions, it waits.
const (
	flvAudio    = 4
	flvVideo    = 1
	flvPatience = 100
)

// flags says which tracks there are: players wait for those, and may ignore others.
// Metadata often knows before the frames do.
func (v *flvFraming) flags() (flags byte) {
	if v.meta != nil && len(v.pending) > 0 {
		if bytes.Contains(v.meta.payload, []byte("audiocodecid")) {
			flags |= flvAudio
		}
		if bytes.Contains(v.meta.payload, []byte("videocodecid")) {
			flags |= flvVideo
		}
	}
	for _, f := range v.pending {
		switch f.kind {
		case kindAudio:
			flags |= flvAudio
		case kindVideo:
			flags |= flvVideo
		}
	}
	return flags
}

// aacFraming writes ADTS.
type aacFraming struct{ info audioInfo }

func (a *aacFraming) append(bufs net.Buffers, scratch *[]byte, frames []*frame) net.Buffers {
	for _, f := range frames {
		t := parseAudioTag(f.payload)
		if t.codec != codecAAC {
			continue
		}
		if t.config {
			a.info = parseAudioConfig(f.payload, t)
		}
		body := f.payload[t.body:]
		if !t.coded || len(body) == 0 || len(body) >= 8192-adtsSize || !a.info.adts() {
			continue
		}
		at := len(*scratch)
		*scratch = a.info.appendADTS(*scratch, len(body))
		bufs = append(bufs, (*scratch)[at:], body)
	}
	return bufs
}

// mp3Framing writes the frames as they are.
type mp3Framing struct{}

func (mp3Framing) append(bufs net.Buffers, _ *[]byte, frames []*frame) net.Buffers {
	for _, f := range frames {
		if t := parseAudioTag(f.payload); t.codec == codecMP3 && t.coded && len(f.payload) > t.body {
			bufs = append(bufs, f.payload[t.body:])
		}
	}
	return bufs
}
