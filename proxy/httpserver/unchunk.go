package httpserver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http/httputil"
	"time"
)

// unchunk relays a chunked body to an HTTP/1.0 client, which knows no chunks (RFC
// 9112 section 6.1). It copies in user space; such clients are rare.
func (s *Server) unchunk(ses *session, rest []byte) error {
	ctx, cancel := context.WithCancelCause(ses.live)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		_ = ses.client.SetDeadline(time.Unix(1, 0))
		_ = ses.origin.SetDeadline(time.Unix(1, 0))
	})
	defer stop()

	gone := make(chan struct{})
	go func() { // sees the client leave, even when the origin has nothing to send
		defer close(gone)
		_, _ = io.Copy(io.Discard, ses.client)
		cancel(io.EOF)
	}()
	body := httputil.NewChunkedReader(bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), ses.origin), 32<<10))
	_, err := io.Copy(&sessionWriter{ses}, body)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	_ = ses.client.SetReadDeadline(time.Unix(1, 0)) // the AfterFunc may have yet to run
	<-gone
	if err == io.EOF {
		return nil
	}
	return err
}

// sessionWriter writes to the client and counts.
type sessionWriter struct{ ses *session }

func (w *sessionWriter) Write(p []byte) (int, error) {
	n, err := w.ses.client.Write(p)
	w.ses.out.Add(int64(n))
	return n, err
}
