package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"srs-proxy/supervisor"
)

// controlBody bounds a request: a thousand names of origins.
const controlBody = 64 << 10

// controlError is the answer to a request that cannot be followed.
type controlError struct {
	Error string `json:"error"`
}

// originsReport is what is known of the origins without asking them.
type originsReport struct {
	StateDir string                    `json:"state_dir"`
	Origins  []supervisor.OriginStatus `json:"origins"`
}

// originsRequest names origins; none means all.
type originsRequest struct {
	IDs []string `json:"ids,omitempty"`
}

type scaleRequest struct {
	Origins int `json:"origins"`
}

// routes are the commands, with the instance behind them. What they begin ends
// with ctx, not with the command that asked for it.
func (in *instance) routes(ctx context.Context) func(*http.ServeMux) {
	return func(mux *http.ServeMux) {
		if in.cfg.Pprof {
			addProfiles(mux)
		}
		mux.HandleFunc("GET "+controlOrigins, func(w http.ResponseWriter, _ *http.Request) {
			controlAnswer(in.log, w, originsReport{StateDir: in.cfg.StateDir, Origins: in.sup.Origins()})
		})
		streamRoutes(mux, in.fleet(), in.log)
		for path, order := range map[string]orderedChange{
			controlDrain:   {name: "drain", do: in.sup.Drain},
			controlUndrain: {name: "undrain", do: in.sup.Undrain},
			controlRestart: {name: "restart", exclusive: true, inSteps: true, do: in.sup.Restart},
		} {
			mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
				var req originsRequest
				if !controlRequest(w, r, &req) || !in.known(w, req.IDs) {
					return
				}
				note := ""
				if order.inSteps {
					note = in.steps(len(req.IDs))
				}
				in.operate(ctx, w, operation{name: order.name, ids: req.IDs, exclusive: order.exclusive, note: note, do: func(ctx context.Context, _ *opResult) error {
					return order.do(ctx, req.IDs...)
				}})
			})
		}
		mux.HandleFunc("POST "+controlScale, func(w http.ResponseWriter, r *http.Request) {
			var req scaleRequest
			if controlRequest(w, r, &req) {
				in.operate(ctx, w, operation{name: "scale", exclusive: true, do: func(ctx context.Context, _ *opResult) error {
					return in.scale(ctx, req.Origins)
				}})
			}
		})
		mux.HandleFunc("POST "+controlReload, func(w http.ResponseWriter, r *http.Request) {
			var req reloadRequest
			if controlRequest(w, r, &req) {
				in.operate(ctx, w, operation{name: "reload", exclusive: true, do: func(ctx context.Context, res *opResult) error {
					report, err := in.reload(ctx, req.DryRun)
					res.Reload = &report
					return err
				}})
			}
		})
	}
}

type orderedChange struct {
	name      string
	exclusive bool
	inSteps   bool
	do        func(ctx context.Context, ids ...string) error
}

// steps says that not all of the n origins, or of all for 0, are replaced at once.
func (in *instance) steps(n int) string {
	if n == 0 {
		n = placesOf(in.sup.Origins())
	}
	if n <= supervisor.DefaultStarts {
		return ""
	}
	return fmt.Sprintf("replacing %d origins, %d at a time", n, supervisor.DefaultStarts)
}

// controlRequest reads a body. Without a good one it answers, and returns false.
func controlRequest(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, controlBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		controlRefuse(w, http.StatusBadRequest, fmt.Errorf("request: %w", err))
		return false
	}
	return true
}

// known complains about origins that there are not, before anything is done.
func (in *instance) known(w http.ResponseWriter, ids []string) bool {
	var names, processes []string
	for _, o := range in.sup.Origins() {
		if o.Role == supervisor.Current {
			names = append(names, originID(strconv.Itoa(o.Index)))
			processes = append(processes, o.ID)
		}
	}
	for _, id := range ids {
		if !slices.Contains(names, id) && !slices.Contains(processes, id) {
			controlRefuse(w, http.StatusNotFound, unknownOrigin(id, names))
			return false
		}
	}
	return true
}

// unknownOrigin says which origins there are, or which one was meant.
func unknownOrigin(id string, names []string) error {
	switch near := nearest(id, names); {
	case len(names) == 0:
		return fmt.Errorf("there is no %s, and no other origin", printable(id))
	case near != "" && !strings.HasPrefix(id, "origin-"):
		return fmt.Errorf("there is no origin %s; did you mean %s?", printable(id), near)
	case len(names) <= 4:
		return fmt.Errorf("there is no %s; there are %s", printable(id), strings.Join(names, ", "))
	default:
		return fmt.Errorf("there is no %s; there are %s to %s", printable(id), names[0], names[len(names)-1])
	}
}

// streamRoutes are the commands about streams, of both kinds of instances.
func streamRoutes(mux *http.ServeMux, f fleet, log *slog.Logger) {
	mux.HandleFunc("GET "+controlStreams, func(w http.ResponseWriter, r *http.Request) {
		controlAnswer(log, w, f.streams(r.Context()))
	})
	mux.HandleFunc("POST "+controlKick, func(w http.ResponseWriter, r *http.Request) {
		var req kickRequest
		if controlRequest(w, r, &req) {
			f.serveKick(w, r, req, log)
		}
	})
}

func (f fleet) serveKick(w http.ResponseWriter, r *http.Request, req kickRequest, log *slog.Logger) {
	report, err := f.kick(r.Context(), req)
	if err != nil {
		controlRefuse(w, http.StatusNotFound, err)
		return
	}
	for _, k := range report.Kicked {
		log.Info("client ended by kick", "origin", k.Origin, "id", k.ID, "client", k.Client, "stream", k.Stream)
	}
	controlAnswer(log, w, report)
}

func controlAnswer(log *slog.Logger, w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Debug("control: write answer", "error", err)
	}
}

func controlRefuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(controlError{err.Error()}) // whoever asked has gone if it fails
}

// operation is a change of the running instance that may take its time.
type operation struct {
	name string
	ids  []string // of the origins that it is about; empty for all
	// exclusive ones wait for nobody: a second one is refused.
	exclusive bool
	// note is told before it begins; empty for nothing.
	note string
	do   func(ctx context.Context, result *opResult) error
}

// opEvent is a line of the answer to an operation. An empty one says that it goes on.
type opEvent struct {
	Progress string    `json:"progress,omitempty"`
	Done     *opResult `json:"done,omitempty"`
}

// opResult is how an operation ended. Without an error it has been done.
type opResult struct {
	Operation string        `json:"operation"`
	Error     string        `json:"error,omitempty"`
	IDs       []string      `json:"ids,omitempty"`
	Reload    *reloadReport `json:"reload,omitempty"`
	// Origins are there now; Unhealthy says of those that are not as wanted why.
	Origins   []supervisor.OriginStatus `json:"origins"`
	Unhealthy []string                  `json:"unhealthy,omitempty"`
	Took      float64                   `json:"took_seconds"`
}

const (
	// opLook is how often the origins are looked at for progress.
	opLook = 100 * time.Millisecond
	// opAlive is how often an operation without progress says that it goes on.
	opAlive = 2 * time.Second
	// opWrite is how long the other end may take to read a line.
	opWrite = 5 * time.Second
)

// operate does an operation and tells its progress. Whether anybody still listens
// does not matter to it.
func (in *instance) operate(ctx context.Context, w http.ResponseWriter, op operation) {
	free := func() {}
	if op.exclusive {
		if err := in.busy.begin(op.name); err != nil {
			controlRefuse(w, http.StatusConflict, err)
			return
		}
		free = sync.OnceFunc(in.busy.end)
		defer free()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	tell := in.teller(w)
	if op.note != "" {
		tell(opEvent{Progress: op.note})
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	before := newOriginChanges(in.sup.Origins())
	go func() {
		defer close(stopped)
		in.tellProgress(before, stop, tell)
	}()
	result := in.perform(ctx, op)
	close(stop)
	<-stopped
	free() // before whoever asked is told, and asks for the next one
	tell(opEvent{Done: &result})
}

// perform does it and logs that.
func (in *instance) perform(ctx context.Context, op operation) opResult {
	began := time.Now()
	result := opResult{Operation: op.name, IDs: op.ids}
	in.log.Info(op.name+" begins", "origins", cmp.Or(strings.Join(op.ids, " "), "all"))
	err := in.guarded(ctx, op, &result)
	took := time.Since(began)
	result.Took = took.Seconds()
	result.Origins = in.sup.Origins()
	for _, o := range (supervisor.Snapshot{Origins: result.Origins}).Unhealthy() {
		result.Unhealthy = append(result.Unhealthy, fmt.Sprintf("%s is %s: %s", o.ID, o.State, explainOrigin(o)))
	}
	if err != nil {
		result.Error = err.Error()
		in.log.Error(op.name+" failed", "error", err, "took", took.Round(time.Millisecond))
		return result
	}
	in.log.Info(op.name+" done", "took", took.Round(time.Millisecond))
	return result
}

// guarded is a seat belt: a bug in an operation must not end a media server.
func (in *instance) guarded(ctx context.Context, op operation, result *opResult) (err error) {
	defer func() {
		if r := recover(); r != nil {
			in.log.Error("panic in an operation: please report it", "operation", op.name, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s hit a bug, which the log of up tells about: %v", op.name, r)
		}
	}()
	return op.do(ctx, result)
}

// teller writes events until one cannot be written.
func (in *instance) teller(w http.ResponseWriter) func(opEvent) {
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	gone := false
	return func(e opEvent) {
		if gone {
			return
		}
		err := errors.Join(out.SetWriteDeadline(time.Now().Add(opWrite)), enc.Encode(e), out.Flush())
		if gone = err != nil; gone {
			in.log.Debug("control: whoever asked has gone", "error", err)
		}
	}
}

// tellProgress tells of each change of an origin.
func (in *instance) tellProgress(p *originChanges, stop <-chan struct{}, tell func(opEvent)) {
	tick := time.NewTicker(opLook)
	defer tick.Stop()
	last := time.Now()
	tell(opEvent{})
	for ended := false; !ended; {
		select {
		case <-stop:
			ended = true // and a last look
		case <-tick.C:
		}
		for _, line := range p.next(in.sup.Origins(), in.sessions) {
			tell(opEvent{Progress: line})
			last = time.Now()
		}
		if time.Since(last) > opAlive {
			tell(opEvent{})
			last = time.Now()
		}
	}
}

// sessions is what an origin serves, in words: "2 streams, 31 players".
func (in *instance) sessions(id string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	all, err := in.bal.Origins(ctx)
	if err != nil {
		return "its sessions are not known"
	}
	for _, o := range all {
		if o.ID == id && o.Publishers+o.Players > 0 {
			return counted(o.Publishers, "stream") + ", " + counted(o.Players, "player")
		}
	}
	return "nobody uses it"
}

// counted is a number and what is counted.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// scale changes the number of origins; a reload keeps it until the setting changes.
func (in *instance) scale(ctx context.Context, n int) error {
	setup, _ := in.current()
	if err := setup.roomFor(n); err != nil {
		return err
	}
	if err := in.sup.Scale(ctx, n); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.scaled = n
	return nil
}
