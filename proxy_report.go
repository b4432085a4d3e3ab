package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/api"
	"srs-proxy/proxy/health"
	"srs-proxy/srsconf"
	"srs-proxy/supervisor"
)

// stateDown is of an origin that somebody else runs and that cannot be reached.
const stateDown supervisor.State = "down"

// report is what status shows: the origins that this proxy looks after, and those that
// others registered, with the sessions of this proxy.
func (in *proxyInstance) report(ctx context.Context) report {
	s := supervisor.Snapshot{
		Time: time.Now(), Software: "origins that register or are listed", PID: os.Getpid(), Origins: in.origins(ctx),
	}
	return newReport(s, in.proxy, in.started, in.cfg.StateDir)
}

func (in *proxyInstance) origins(ctx context.Context) []supervisor.OriginStatus {
	all := []supervisor.OriginStatus{}
	known, err := in.bal.Origins(ctx)
	if err != nil {
		in.log.Warn("the balancer does not tell its origins", "cause", err)
	}
	members := in.monitor.Members()
	for _, m := range members {
		i := slices.IndexFunc(known, func(o balancer.Status) bool { return o.ID == m.ID })
		var placed balancer.Status
		if i >= 0 {
			placed = known[i]
		}
		all = append(all, memberStatus(m, placed))
	}
	for _, o := range known {
		if slices.ContainsFunc(members, func(m health.Status) bool { return m.ID == o.ID }) {
			continue
		}
		all = append(all, memberStatus(health.Status{
			Origin: health.Origin{ID: o.ID, Service: o.Service, Endpoints: o.Endpoints}, Up: true, Expired: o.State == balancer.Draining, Load: o.Load,
		}, o))
	}
	slices.SortFunc(all, func(a, b supervisor.OriginStatus) int { return cmp.Compare(a.ID, b.ID) })
	for i := range all {
		all[i].Index = i
	}
	return all
}

// memberStatus puts an origin into the words of `status`.
func memberStatus(m health.Status, placed balancer.Status) supervisor.OriginStatus {
	o := supervisor.OriginStatus{
		ID: m.ID, Desired: supervisor.Run, State: supervisor.Ready, PID: m.PID, Since: m.Since, Version: m.Version, ServiceID: m.Service,
		Ports:      srsconf.Ports{RTMP: portOf(m.Endpoints.RTMP), HTTP: portOf(m.Endpoints.HTTP), API: portOf(m.Endpoints.API)},
		CPUPercent: 100 * m.Load.CPU, RSS: m.RSS, InBps: m.InBps, OutBps: m.OutBps,
		Streams: placed.Streams, Publishers: placed.Publishers, Players: placed.Players,
	}
	switch {
	case !m.Up:
		o.State, o.Reason = stateDown, cmp.Or(m.Reason, "it answers again, and is watched for a moment")
	case m.Expired:
		o.Desired, o.State, o.Reason = supervisor.Drain, supervisor.Draining, "its heartbeats have stopped"
		if m.Unlisted {
			o.Reason = "it is not listed any more"
		}
	case m.Missing:
		o.State, o.Reason = supervisor.Degraded, m.Reason
	case !placed.EjectedUntil.IsZero():
		o.State, o.Reason = supervisor.Degraded, "connections to it failed"
	}
	return o
}

func portOf(addr string) int {
	ap, _ := netip.ParseAddrPort(addr) // "" has none
	return int(ap.Port())
}

// slots are the origins as the HTTP API shows them.
func (in *proxyInstance) slots() []api.Slot {
	var slots []api.Slot
	for _, m := range in.monitor.Members() {
		o := memberStatus(m, balancer.Status{})
		slots = append(slots, api.Slot{ID: o.ID, State: string(o.State), PID: o.PID, Version: o.Version, Serves: true})
	}
	return slots
}

// routes are the commands of the control socket besides status and stop: those that
// need no supervisor.
func (in *proxyInstance) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+controlOrigins, func(w http.ResponseWriter, r *http.Request) {
		controlAnswer(in.log, w, originsReport{StateDir: in.cfg.StateDir, Origins: in.origins(r.Context())})
	})
	streamRoutes(mux, fleet{origins: in.origins, where: in.whereAPI, publisher: in.proxy.Publisher}, in.log)
	if in.cfg.Pprof {
		addProfiles(mux)
	}
	mux.HandleFunc("POST "+controlReload, in.serveReload)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		controlRefuse(w, http.StatusNotImplemented, errNoSupervisor)
	})
}

var errNoSupervisor = errors.New("the running instance is a proxy without a supervisor: its origins are not its own, and this is theirs to do")

// whereAPI is the address of an origin's API.
func (in *proxyInstance) whereAPI(o supervisor.OriginStatus) string {
	known, err := in.bal.Origins(context.Background())
	if err != nil {
		return ""
	}
	for _, k := range known {
		if k.ID == o.ID {
			return k.Endpoints.API
		}
	}
	return ""
}
