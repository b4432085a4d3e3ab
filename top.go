package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// live shows reports one after the other.
type live struct {
	ask      func(context.Context) (report, error)
	interval time.Duration
	times    int // to show; 0 is for ever
}

// defaultInterval is how often a human wants to see change.
const defaultInterval = time.Second

// asked is what came of one look.
type asked struct {
	report report
	err    error
}

// onScreen runs the live screen until a key, a signal or the context ends it. The
// terminal is given back in every case. An instance that goes away leaves its
// last picture and the reason; one that comes back is shown again.
func (l live) onScreen(ctx context.Context, s *fullScreen, m *topModel, colors bool) error {
	// The first look comes before the screen: that nobody runs is an error.
	r, err := l.ask(ctx)
	if err != nil {
		return notRunning(err)
	}
	m.received(r)
	shown := 1

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH)
	if !signal.Ignored(unix.SIGHUP) {
		signal.Notify(signals, unix.SIGHUP)
	}
	defer signal.Stop(signals)

	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	defer s.leave() // on a panic too
	if err := s.enter(); err != nil {
		return err
	}
	failed := make(chan error, 2)
	keys := make(chan key)
	asks, answers := make(chan struct{}, 1), make(chan asked)
	helpers.Go(func() { failed <- contained(func() error { return readKeys(ctx, s.in, keys) }) })
	helpers.Go(func() { failed <- contained(func() error { return l.answer(ctx, asks, answers) }) })

	next := time.NewTicker(l.interval)
	defer next.Stop()
	clock := time.NewTicker(time.Second) // of the line that says for how long nobody answers
	defer clock.Stop()
	for {
		if s.entered { // not suspended
			m.columns, m.rows = s.size()
			if err := s.draw(rendered(m.view(time.Now()), m.columns, colors)); err != nil {
				return err
			}
		}
		if l.times > 0 && shown >= l.times {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case sig := <-signals:
			if done, err := l.obey(sig, s); done || err != nil {
				return err
			}
		case k := <-keys:
			switch m.press(k) {
			case actQuit:
				return nil
			case actSuspend:
				if err := s.suspend(); err != nil {
					return err
				}
			case actRepaint:
				s.forget()
			case actRefresh:
				request(asks)
			case actNone:
			}
		case a := <-answers:
			shown++
			if a.err != nil {
				m.failed(a.err, time.Now())
			} else {
				m.received(a.report)
			}
		case <-next.C:
			request(asks)
		case <-clock.C:
		}
	}
}

// obey does what a signal asks for; done says that this is the end.
func (l live) obey(sig os.Signal, s *fullScreen) (done bool, err error) {
	switch sig {
	case unix.SIGWINCH:
		s.forget()
		return false, nil
	case unix.SIGTSTP:
		return false, s.suspend()
	case unix.SIGCONT:
		if s.entered { // stopped by a signal that nobody can catch
			return false, s.resume()
		}
		return false, s.enter()
	default:
		return true, nil
	}
}

// request asks for a look, unless one is asked for already.
func request(asks chan<- struct{}) {
	select {
	case asks <- struct{}{}:
	default:
	}
}

// answer looks when it is asked to: an instance that is slow must not keep keys waiting.
func (l live) answer(ctx context.Context, asks <-chan struct{}, answers chan<- asked) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-asks:
		}
		r, err := l.ask(ctx)
		select {
		case <-ctx.Done():
			return nil
		case answers <- asked{r, err}:
		}
	}
}

// contained makes a panic of a helper an error, so that the terminal is given
// back before it is shown.
func contained(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v\n%s", r, debug.Stack())
		}
	}()
	return do()
}

// suspend gives the terminal back and stops, as Ctrl-Z does. What follows is
// SIGCONT: kill(2) may return before the stop has reached this thread.
func (s *fullScreen) suspend() error {
	s.leave()
	if err := unix.Kill(unix.Getpid(), unix.SIGSTOP); err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	return nil
}

// asText shows reports one after the other where there is no terminal. The last
// report is returned: its health is the exit code of a command.
func (l live) asText(ctx context.Context, errs io.Writer, show func(report) error) (report, error) {
	var last report
	var lastErr error
	next := time.NewTicker(l.interval)
	defer next.Stop()
	for shown := 1; ; shown++ {
		r, err := l.ask(ctx)
		switch {
		case err != nil && shown == 1:
			return r, notRunning(err)
		case err != nil:
			if lastErr == nil || lastErr.Error() != err.Error() { // said once, not each second
				if _, err := fmt.Fprintf(errs, "srs-proxy: %v; trying again\n", err); err != nil {
					return last, err
				}
			}
		default:
			last = r
			if err := show(r); err != nil {
				return last, err
			}
		}
		lastErr = err
		if shown == l.times {
			return last, notRunning(lastErr)
		}
		select {
		case <-ctx.Done():
			return last, nil
		case <-next.C:
		}
	}
}

// rendered are lines as a terminal takes them.
func rendered(lines []line, width int, colors bool) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.render(width, colors)
	}
	return out
}

// writeLines prints lines without a terminal.
func writeLines(w io.Writer, lines []line) error {
	if _, err := io.WriteString(w, strings.Join(rendered(lines, 0, false), "\n")+"\n"); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
