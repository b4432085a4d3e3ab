// Command compare measures srs-proxy beside the proxies that one would use instead, on
// this machine, with the same origin, the same load and in turn.
//
//	                 ┌── direct ───┐
//	                 ├── ours ─────┤
//	publishers ────▶ ├── HAProxy ──┤ ────▶ one origin (SRS, or the built-in one)
//	and players      ├── nginx ────┤
//	(this process)   └── existing ─┘
//
// Each case brings up its own origin and peers on free ports of loopback, in a folder
// of its own, and takes them down again. A round is one leg for each peer; figures are
// medians of the rounds. `make bench` runs it; docs/BENCH.md says what its figures mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "compare:", err) // nowhere left to report to
		stop()
		os.Exit(1) //nolint:gocritic // everything deferred has run
	}
}

// options are the command's flags.
type options struct {
	binary   string // srs-proxy
	srs      string // SRS, or "" for the built-in origin
	existing string // the existing Go proxy, or ""
	cases    []string
	peers    []string
	rounds   int
	seconds  time.Duration
	scale    float64 // share of a case's sessions, above 0, at most 1
	out      string  // folder of results
	profile  string  // folder of profiles of ours, or ""
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	var cases, peers, docs string
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "bin/srs-proxy", "srs-proxy to measure")
	flags.StringVar(&o.srs, "srs", "", "SRS binary for the origin; empty takes the built-in origin")
	flags.StringVar(&o.existing, "existing", "", "binary of the existing Go proxy; empty leaves it out")
	flags.StringVar(&cases, "cases", "all", "names with commas: "+strings.Join(caseNames(), ", "))
	flags.StringVar(&peers, "peers", "all", "names with commas: "+strings.Join(peerNames(), ", "))
	flags.IntVar(&o.rounds, "rounds", 3, "rounds")
	flags.DurationVar(&o.seconds, "seconds", 10*time.Second, "length of a leg's window")
	flags.Float64Var(&o.scale, "scale", 1, "share of the sessions of each case, for a look on a small machine: its figures are not those of the case")
	flags.StringVar(&o.out, "out", "bin/bench", "folder for the result files")
	flags.StringVar(&o.profile, "profile", "", "folder for CPU profiles of ours, one a case; with it there are only the legs of ours")
	flags.StringVar(&docs, "docs", "", "measure nothing: put the results.json files that follow into README.md and docs/ under this folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if docs != "" {
		return publish(docs, flags.Args())
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.rounds < 1 || o.seconds < time.Second || o.seconds > 10*time.Minute {
		return errors.New("at least 1 round and 1 s, at most 10 minutes a leg")
	}
	if !(o.scale > 0 && o.scale <= 1) {
		return errors.New("a scale is above 0 and at most 1")
	}
	var err error
	if o.cases, err = choose("case", cases, caseNames()); err != nil {
		return err
	}
	if o.peers, err = choose("peer", peers, peerNames()); err != nil {
		return err
	}
	if o.profile != "" {
		o.peers = []string{peerOurs}
	}
	for _, file := range []*string{&o.binary, &o.srs, &o.existing} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return err
		}
		if _, err := os.Stat(*file); err != nil {
			return err
		}
	}
	return compare(ctx, o, stdout, stderr)
}

// choose reads a list of names out of those that there are.
func choose(what, list string, all []string) ([]string, error) {
	if list == "all" || list == "" {
		return all, nil
	}
	known := map[string]bool{}
	for _, name := range all {
		known[name] = true
	}
	var chosen []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); !known[name] {
			return nil, fmt.Errorf("there is no %s %q; there are %s", what, name, strings.Join(all, ", "))
		}
		chosen = append(chosen, name)
	}
	return chosen, nil
}
