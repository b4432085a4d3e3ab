package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"srs-proxy/supervisor"
)

// report is what a running instance tells of itself; it is also `status -o json`.
type report struct {
	supervisor.Snapshot
	Totals supervisor.Totals `json:"totals"`
	// Version is the running program's, which an upgrade on disk does not change.
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	RTMP     string    `json:"rtmp"`
	HTTP     string    `json:"http"`
	API      string    `json:"api"`
	SRT      string    `json:"srt"`
	WebRTC   string    `json:"webrtc"`
	StateDir string    `json:"state_dir"`
}

// The control API: HTTP over the unix socket. What a request says is in a small
// JSON body, and so is an answer. It is for this program's own commands: both ends
// have the same version, but for the time between an upgrade on disk and a restart.
//
//	GET  /v1/status                                  report
//	POST /v1/stop?now=true                           202
//	GET  /v1/origins                                 originsReport: asks no origin, takes no time
//	GET  /v1/streams                                 streamsReport: asks all origins, a second at most
//	POST /v1/kick     kickRequest                    kickReport
//	POST /v1/drain, undrain, restart  originsRequest opEvent, one a line
//	POST /v1/scale    scaleRequest                   opEvent, one a line
//	POST /v1/reload   reloadRequest                  opEvent, one a line
//
// A request that cannot be followed is answered with 4xx and a controlError.
const (
	controlStatus  = "/v1/status"
	controlStop    = "/v1/stop"
	controlOrigins = "/v1/origins"
	controlStreams = "/v1/streams"
	controlKick    = "/v1/kick"
	controlDrain   = "/v1/drain"
	controlUndrain = "/v1/undrain"
	controlRestart = "/v1/restart"
	controlScale   = "/v1/scale"
	controlReload  = "/v1/reload"
	// controlNow as query of controlStop skips the waiting.
	controlNow = "now"
)

// control serves the unix socket through which `status` and `down` reach a
// running instance. Whoever may open the socket may stop the instance, so it
// is its owner's alone (0600).
type control struct {
	path   string
	report func(context.Context) report
	stop   func(now bool)
	// routes adds the commands of control_api.go; nil for none.
	routes func(*http.ServeMux)
	log    *slog.Logger

	ln *net.UnixListener
}

// errAlreadyRunning says that another instance answers on the socket.
var errAlreadyRunning = errors.New("already running")

// Listen binds the socket. It is made under another name and moved into place
// when its mode is right: nobody can connect before, and a socket left behind
// by a killed instance is replaced at once.
func (c *control) Listen() error {
	if err := c.refuseSecond(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return fmt.Errorf("control socket %s: make its directory: %w", c.path, withoutPath(err))
	}
	// The name is short, because the path's length is limited.
	tmp := c.path + "~"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("control socket %s: remove %s: %w", c.path, tmp, withoutPath(err))
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return fmt.Errorf("control socket %s: %w", c.path, err)
	}
	ln.SetUnlinkOnClose(false) // it would unlink the temporary name
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, c.path)); err != nil {
		_ = ln.Close()
		_ = os.Remove(tmp)
		return fmt.Errorf("control socket %s: %w", c.path, err)
	}
	c.ln = ln
	return nil
}

// refuseSecond fails if an instance answers on the socket, or if something that
// is no socket stands in its place: that is somebody's file.
func (c *control) refuseSecond() error {
	if st, err := os.Lstat(c.path); err == nil && st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("control socket %s: a file of that name exists and is no socket; remove it or choose another --control", c.path)
	}
	pid, err := runningInstance(c.path)
	switch {
	case errors.Is(err, errNotRunning):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%w as pid %d (it answers on %s); see it with status, end it with down, or run a second one with its own --state-dir, --rtmp, --http, --api and --port-base",
			errAlreadyRunning, pid, c.path)
	}
}

// Close frees the socket of a control that will not Run.
func (c *control) Close() {
	_ = c.ln.Close()
	_ = os.Remove(c.path)
}

// Run serves until ctx ends and removes the socket.
func (c *control) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+controlStatus, c.serveStatus)
	mux.HandleFunc("POST "+controlStop, c.serveStop)
	if c.routes != nil {
		c.routes(mux)
	}
	srv := &http.Server{
		Handler: mux,
		// The peer is a local command that writes its request at once.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	err := srv.Serve(c.ln)
	if rmErr := os.Remove(c.path); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		c.log.Warn("remove control socket", "error", rmErr)
	}
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("control socket %s: %w", c.path, err)
}

func (c *control) serveStatus(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(c.report(r.Context())); err != nil {
		c.log.Debug("control: write status", "error", err)
	}
}

func (c *control) serveStop(w http.ResponseWriter, r *http.Request) {
	now, _ := strconv.ParseBool(r.URL.Query().Get(controlNow))
	c.log.Info("stop requested through the control socket", "now", now)
	w.WriteHeader(http.StatusAccepted)
	c.stop(now)
}
