package main

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
	"srs-proxy/supervisor"
)

// fakeInstance has a supervisor that runs nothing, behind a control socket. Its
// operations are do.
func fakeInstance(t *testing.T, ops map[string]operation) (*instance, string) {
	t.Helper()
	bal := balancer.NewMemory(balancer.Config{})
	in := &instance{cfg: &resolved{}, bal: bal, log: quietLog()}
	in.setup = &setup{cfg: in.cfg, ports: srsconf.PortPlan{Base: 20000}}
	in.sup = supervisor.New(supervisor.Config{StateDir: t.TempDir(), CPUs: make([]runtime.CPUSet, 3)}, bal, quietLog())
	path := filepath.Join(socketDir(t), "c.sock")
	startControl(t, &control{path: path, report: func(context.Context) report { return report{} }, routes: func(mux *http.ServeMux) {
		in.routes(t.Context())(mux)
		for name, op := range ops {
			mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, _ *http.Request) { in.operate(t.Context(), w, op) })
		}
	}})
	return in, path
}

func nothing(string) error { return nil }

// Whoever asked may go: the operation is done all the same, and meanwhile a second
// one is refused.
func TestOperationOutlivesItsCommand(t *testing.T) {
	begun, finish, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	in, path := fakeInstance(t, map[string]operation{
		"slow": {name: "slow", exclusive: true, do: func(ctx context.Context, _ *opResult) error {
			close(begun)
			<-finish
			done <- ctx.Err()
			return nil
		}},
		"second": {name: "second", exclusive: true, do: func(context.Context, *opResult) error { return nil }},
		"shared": {name: "shared", do: func(context.Context, *opResult) error { return nil }},
	})
	ctx, cancel := context.WithCancel(t.Context())
	detached := make(chan error, 1)
	go func() {
		_, err := controlOperate(ctx, path, "/slow", struct{}{}, nothing)
		detached <- err
	}()
	<-begun
	_, err := controlOperate(t.Context(), path, "/second", struct{}{}, nothing)
	if err == nil || !strings.HasPrefix(err.Error(), "slow goes on since ") {
		t.Errorf("second operation: %v", err)
	}
	if _, err := controlOperate(t.Context(), path, "/shared", struct{}{}, nothing); err != nil {
		t.Errorf("one that need not be alone: %v", err)
	}
	cancel()
	if err := <-detached; !errors.Is(err, errDetached) {
		t.Errorf("the command ended with %v", err)
	}
	close(finish)
	if err := <-done; err != nil {
		t.Errorf("the operation was told to end: %v", err)
	}
	// It has to let go of its place, a moment later.
	if !in.busy.await(t.Context().Done(), "me") {
		t.Error("the place is never free")
	}
	in.busy.end()
	if _, err := controlOperate(t.Context(), path, "/second", struct{}{}, nothing); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// An operation says how it ended, in its last line.
func TestOperationResult(t *testing.T) {
	_, path := fakeInstance(t, map[string]operation{
		"bug": {name: "bug", exclusive: true, do: func(context.Context, *opResult) error { panic("oops") }},
		"bad": {name: "bad", ids: []string{"origin-1"}, do: func(context.Context, *opResult) error { return errors.New("so it is") }},
	})
	r, err := controlOperate(t.Context(), path, "/bad", struct{}{}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if r.Error != "so it is" || r.Operation != "bad" || !slices.Equal(r.IDs, []string{"origin-1"}) || len(r.Origins) != 3 {
		t.Errorf("result %+v", r)
	}
	for range 2 { // it lets go of its place
		if r, err := controlOperate(t.Context(), path, "/bug", struct{}{}, nothing); err != nil || !strings.Contains(r.Error, "oops") {
			t.Errorf("a bug: %+v, %v", r, err)
		}
	}
	if len(r.Unhealthy) != 3 {
		t.Errorf("none of the origins runs, but %q", r.Unhealthy)
	}
}

// What is wrong with a request is said by it, before anything is done.
func TestControlRefuses(t *testing.T) {
	_, path := fakeInstance(t, nil)
	tests := []struct {
		name, resource string
		body           any
		want           string
	}{
		{"unknown origin", controlDrain, originsRequest{IDs: []string{"origin-3"}}, "there is no origin-3; there are origin-0, origin-1, origin-2"},
		{"misspelt origin", controlRestart, originsRequest{IDs: []string{"oorigin-2"}}, "did you mean origin-2?"},
		{"one of several", controlUndrain, originsRequest{IDs: []string{"origin-0", "origin-0.1"}}, "there is no origin-0.1"},
		{"unknown field", controlScale, map[string]any{"origin": 3}, "unknown field"},
		{"too large", controlDrain, originsRequest{IDs: slices.Repeat([]string{"origin-0"}, controlBody)}, "too large"},
		{"no JSON", controlReload, "text", "request"},
		{"another version", "/v1/dance", struct{}{}, "another version"},
		{"unknown client", controlKick, kickRequest{Target: "abc"}, "there is no client abc"},
		{"unknown stream", controlKick, kickRequest{Target: "live/a"}, "there is no stream live/a"},
		{"all of a client", controlKick, kickRequest{Target: "abc", All: true}, "no stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := controlAsk(t.Context(), path, http.MethodPost, tt.resource, tt.body, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v lacks %q", err, tt.want)
			}
		})
	}
	r, err := controlOperate(t.Context(), path, controlScale, scaleRequest{Origins: 2}, nothing)
	if err != nil || !strings.Contains(r.Error, "does not run") {
		t.Errorf("scale of what does not run: %+v, %v", r, err)
	}
}

func TestOriginChanges(t *testing.T) {
	status := func(id string, state supervisor.State, change func(*supervisor.OriginStatus)) supervisor.OriginStatus {
		o := supervisor.OriginStatus{ID: id, Desired: supervisor.Run, State: state, PID: 7}
		if change != nil {
			change(&o)
		}
		return o
	}
	retiring := func(o *supervisor.OriginStatus) {
		o.Role, o.Desired = supervisor.Retiring, supervisor.Drain
		o.DrainUntil = time.Date(2026, 1, 1, 12, 30, 0, 0, time.Local)
	}
	successor := func(o *supervisor.OriginStatus) { o.Role = supervisor.Successor }
	drained := func(o *supervisor.OriginStatus) { o.Desired = supervisor.Drain }
	c := newOriginChanges([]supervisor.OriginStatus{status("origin-0", supervisor.Ready, nil), status("origin-1", supervisor.Ready, nil)})
	steps := []struct {
		name string
		now  []supervisor.OriginStatus
		want string
	}{
		{"nothing", []supervisor.OriginStatus{status("origin-0", supervisor.Ready, nil), status("origin-1", supervisor.Ready, nil)}, ""},
		{"a successor starts", []supervisor.OriginStatus{
			status("origin-0", supervisor.Ready, nil), status("origin-0.1", supervisor.Starting, successor), status("origin-1", supervisor.Ready, nil),
		}, "origin-0.1 starts"},
		{"it is ready and takes over", []supervisor.OriginStatus{
			status("origin-0", supervisor.Draining, retiring), status("origin-0.1", supervisor.Ready, nil), status("origin-1", supervisor.Ready, nil),
		}, "origin-0.1 is ready|origin-0 drains (of origin-0), until 12:30:00 at the latest"},
		{"another is drained, the old one is gone", []supervisor.OriginStatus{
			status("origin-0.1", supervisor.Ready, nil), status("origin-1", supervisor.Draining, drained),
		}, "origin-1 drains (of origin-1)|origin-0 is gone"},
		{"and undrained, and one fails", []supervisor.OriginStatus{
			status("origin-0.1", supervisor.Backoff, func(o *supervisor.OriginStatus) { o.Reason = "why" }), status("origin-1", supervisor.Ready, nil),
		}, "origin-0.1 is backoff: why|origin-1 is ready|origin-1 takes new streams again"},
		{"it is back as another process", []supervisor.OriginStatus{
			status("origin-0.1", supervisor.Ready, func(o *supervisor.OriginStatus) { o.PID = 8 }), status("origin-1", supervisor.Ready, nil),
		}, "origin-0.1 is ready"},
		{"replaced between two looks", []supervisor.OriginStatus{
			status("origin-0.1", supervisor.Ready, func(o *supervisor.OriginStatus) { o.PID = 9 }), status("origin-1", supervisor.Ready, nil),
		}, "origin-0.1 is ready"},
		{"the successor of a drained one is not started", []supervisor.OriginStatus{
			status("origin-0.1", supervisor.Ready, func(o *supervisor.OriginStatus) { o.PID = 9 }), status("origin-1", supervisor.Ready, nil),
			status("origin-1.1", supervisor.Stopped, func(o *supervisor.OriginStatus) { o.Desired, o.PID = supervisor.Drain, 0 }),
		}, ""},
	}
	for _, s := range steps {
		got := strings.Join(c.next(s.now, func(id string) string { return "of " + id }), "|")
		if got != s.want {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
	}
}
