// Package httplife is the life of an HTTP server, the same for every HTTP face.
//
//	Serve: listeners ─▶ http.Server ─ctx─▶ stopping ─▶ Shutdown, grace ─▶ Close
//	Gate:  handlers in ─────────────────────────────▶ closed ─▶ the last one is out
//
// It knows no path and no origin.
package httplife

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of a client.
type Limits struct {
	Header      time.Duration // for the head of a request
	HeaderBytes int           // of it
	Idle        time.Duration // between two requests
}

// NewServer is a http.Server that logs nothing of single clients (broken requests,
// hang-ups) above the level Debug.
func NewServer(h http.Handler, l Limits, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: l.Header,
		MaxHeaderBytes:    l.HeaderBytes,
		IdleTimeout:       l.Idle,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Serve serves on all listeners until ctx is cancelled or one of them fails, whose error
// it returns. Then it calls stopping, gives the answers under way their grace, and
// returns when nothing is accepted any more. Handlers may still run: a Gate waits for them.
func Serve[L net.Listener](ctx context.Context, hs *http.Server, listeners []L, stopping func(), grace time.Duration) error {
	served := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { served <- hs.Serve(ln) }()
	}
	left := len(listeners)
	var err error
	select {
	case err = <-served:
		left--
	case <-ctx.Done():
	}
	stopping()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if hs.Shutdown(limit) != nil {
		hs.Close()
	}
	for range left {
		<-served // http.ErrServerClosed
	}
	return err
}
