package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// ending is how a running instance is brought to its end, by signals or otherwise.
type ending struct {
	// stop begins the clean end; hurry skips its graceful part, which closes hurried.
	stop    context.CancelFunc
	hurry   func()
	hurried chan struct{}
	// hangup asks for a reload.
	hangup chan struct{}
	log    *slog.Logger
}

// newEnding returns a context that ends when the instance should.
func newEnding(ctx context.Context, log *slog.Logger) (context.Context, ending) {
	ctx, stop := context.WithCancel(ctx)
	hurried := make(chan struct{})
	return ctx, ending{
		stop: stop, hurried: hurried, hurry: sync.OnceFunc(func() { close(hurried) }), hangup: make(chan struct{}, 1), log: log,
	}
}

// obeySignals begins to. ended is closed by over, which gives the signals back.
func (e *ending) obeySignals() (ended chan struct{}, over func()) {
	signals := catchSignals()
	ended = make(chan struct{})
	go e.obey(signals, ended)
	return ended, func() {
		close(ended)
		signal.Stop(signals)
	}
}

// catchSignals takes what would end us otherwise. Children get the defaults
// back, because a handler, unlike an ignored signal, does not survive exec.
func catchSignals() chan os.Signal {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	// nohup ignores SIGHUP for us; catching it would undo that.
	if !signal.Ignored(unix.SIGHUP) {
		signal.Notify(signals, unix.SIGHUP)
	}
	// Without a handler, a log into a closed pipe (`up | head`) would kill us at
	// once and leave the origins behind.
	signal.Notify(signals, unix.SIGPIPE)
	return signals
}

// obey stops at the first signal and hurries at the next ones. SIGHUP asks for a
// reload, unless it says that our terminal was closed.
func (e *ending) obey(signals <-chan os.Signal, ended <-chan struct{}) {
	terminal := hasTerminal()
	for asked := false; ; {
		select {
		case <-ended:
			return
		case s := <-signals:
			if s == unix.SIGPIPE {
				continue
			}
			if s == unix.SIGHUP && !terminalGone(terminal) {
				select {
				case e.hangup <- struct{}{}:
				default: // one is asked for already
				}
				continue
			}
			if asked {
				e.log.Warn("hurrying the stop", "signal", s.String())
			} else {
				e.log.Info("stopping; a second signal hurries", "signal", s.String())
			}
			e.stopOrHurry(asked)
			asked = true
		}
	}
}

func (e *ending) stopOrHurry(now bool) {
	if now {
		e.hurry()
	}
	e.stop()
}
