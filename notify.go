package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"srs-proxy/supervisor"
)

// notifier tells the service manager how we are (sd_notify(3)): ready when enough
// origins are, how many all the time, and that we live. Without a service
// manager, which NOTIFY_SOCKET tells, it does nothing.
//
//	supervisor ──Progress──▶ Run ──READY=1, STATUS=, WATCHDOG=1──▶ NOTIFY_SOCKET
//
// The watchdog is no ticker of its own: the same loop looks at the supervisor
// first, and feeds only if that goes on. A supervisor that hangs with a lock held
// stops the loop, one whose clock stands still is seen, and either way systemd
// ends us (SIGABRT, which prints what all goroutines do) and starts us again.
type notifier struct {
	send   func(state string) error
	sup    watched
	quorum quorum
	// watchdog is how often systemd wants to hear from us, 0 for never.
	watchdog time.Duration
	log      *slog.Logger

	mu     sync.Mutex // guards the following
	ready  bool       // READY=1 was sent
	status string     // last sent
	failed bool       // a failure to send was logged
}

// watched is what the notifier needs of the supervisor.
type watched interface {
	Progress() (supervisor.Progress, <-chan struct{})
	// LastTick is when its own loop, which looks after all origins, came round last.
	LastTick() time.Time
}

// newNotifier is nil when nobody wants to know.
func newNotifier(q quorum, env func(string) (string, bool), log *slog.Logger) *notifier {
	if socket, _ := env("NOTIFY_SOCKET"); socket == "" {
		return nil
	}
	n := &notifier{quorum: q, log: log, send: func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}}
	var err error
	if n.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("systemd's watchdog is not fed", "error", err)
	}
	return n
}

// Run reports until ctx ends, which is after the last origin; stopping ends when
// the stop begins.
func (n *notifier) Run(ctx, stopping context.Context) error {
	if n == nil {
		return nil
	}
	begun := time.Now()
	late := time.NewTimer(quorumPatience)
	defer late.Stop()
	var feed <-chan time.Time
	if n.watchdog > 0 {
		// Half of it is what sd_watchdog_enabled(3) asks for; a third leaves room for
		// one that comes late.
		ticker := time.NewTicker(n.watchdog / 3)
		defer ticker.Stop()
		feed = ticker.C
	}
	stops := stopping.Done()
	for {
		p, changed := n.sup.Progress()
		if stops != nil {
			n.tellProgress(p, time.Since(begun))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-stops:
			stops = nil
			n.tell(daemon.SdNotifyStopping, "stopping")
		case <-changed:
		case <-late.C:
		case <-feed:
			n.feed()
		}
	}
}

// tellProgress says how many origins are ready, and once that it is enough.
func (n *notifier) tellProgress(p supervisor.Progress, after time.Duration) {
	state := ""
	n.mu.Lock()
	if !n.ready && n.quorum.met(p.Ready, p.Total, after) {
		n.ready = true
		// The pid is for a process that was replaced, or started by a wrapper.
		state = fmt.Sprintf("%s\nMAINPID=%d", daemon.SdNotifyReady, os.Getpid())
		n.log.Info("told systemd that we are ready", "ready", p.Ready, "of", p.Total)
	}
	n.mu.Unlock()
	n.tell(state, progressText(p))
}

// Watch is before Run: whose progress is told.
func (n *notifier) Watch(sup watched) {
	if n != nil {
		n.sup = sup
		n.tell("", "checking the origins' configs")
	}
}

// Reload tells that a reload begins and, when do has ended, that it is over: with
// success or not, we run on.
func (n *notifier) Reload(do func() error) error {
	if n == nil || !n.isReady() {
		return do() // READY=1 after it would be too early
	}
	n.tell(daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec(), "reloading")
	err := do()
	after := "reloaded"
	if err != nil {
		after = "reload failed, nothing changed: " + err.Error()
	}
	n.tell(daemon.SdNotifyReady, after)
	return err
}

func (n *notifier) isReady() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ready
}

// feed sends WATCHDOG=1 unless the supervisor's loop has stood still for as long
// as systemd would wait for us.
func (n *notifier) feed() {
	last := n.sup.LastTick() // zero before its first round
	if since := time.Since(last); !last.IsZero() && since > n.watchdog {
		n.log.Error("the supervisor stands still: systemd's watchdog is not fed", "for", since.Round(time.Millisecond))
		return
	}
	n.tell(daemon.SdNotifyWatchdog, "")
}

// tell sends a state, a status, or both; a status that is known already is not
// sent again.
func (n *notifier) tell(state, status string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if status != "" && status != n.status {
		n.status = status
		if state != "" {
			state += "\n"
		}
		state += "STATUS=" + printable(status)
	}
	if state == "" {
		return
	}
	if err := n.send(state); err != nil && !n.failed {
		n.failed = true
		n.log.Warn("tell systemd", "error", err)
	}
}

// progressText is the line of `systemctl status`.
func progressText(p supervisor.Progress) string {
	text := fmt.Sprintf("%d/%d origins ready", p.Ready, p.Total)
	if p.Ready < p.Total && p.Note != "" {
		text += "; " + p.Note
	}
	return text
}

// withoutServiceManager takes out of an environment what systemd says to this
// process alone: an origin has nothing to tell it.
func withoutServiceManager(env []string) []string {
	ours := func(name string) bool {
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES":
			return true
		}
		return false
	}
	kept := make([]string, 0, len(env))
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); !ours(name) {
			kept = append(kept, e)
		}
	}
	return kept
}
