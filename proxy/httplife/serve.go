// Package httplife is the life of an HTTP server, the same for every HTTP face.
//
//	Serve: listeners ─▶ http.Server ─ctx─▶ stopping ─▶ Shutdown, grace ─▶ Close
//	Gate:  handlers in ─────────────────────────────▶ closed ─▶ the last one is out
//
// It knows no path and no origin.
package httplife

import (
	"context"
	"net"
	"net/http"
	"time"
)

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
