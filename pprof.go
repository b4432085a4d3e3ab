package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// addProfiles serves all but the command line, which may have secrets.
func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // each profile by its name, too
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// pprofServer serves Go's profiles, for whoever looks for a fault of ours.
type pprofServer struct {
	ln  net.Listener
	log *slog.Logger
}

func listenPprof(ctx context.Context, addr string, log *slog.Logger) (*pprofServer, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for pprof: %w", err)
	}
	return &pprofServer{ln, log}, nil
}

// Run serves until ctx ends.
func (p *pprofServer) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	addProfiles(mux)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	p.log.Info("Go's profiles are served", "listen", p.ln.Addr())
	if err := srv.Serve(p.ln); ctx.Err() == nil || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve pprof: %w", err)
	}
	return nil
}
