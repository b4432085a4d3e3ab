// Command placement plays through how streams are placed on many origins: it fills a
// cluster, lets streams come and go, kills origins, and prints how even the load is, which
// streams moved and what Redis has to do. It opens no socket.
//
//	world: streams, players, deaths ──Pick, Release, Update, Remove──▶ model: the policy of
//	       (one seed, seconds of it)                                   balancer, a proxy or many
//	            │
//	            └──▶ max/mean, moved streams, Redis operations a second
//
//	go run ./balancer/placement -origins 1024 -proxies 8 -streams 10000 -players 20
//
// The model is there so that a run can be had again: it draws from one seed, and chooses
// by the code with which balancer.Memory does, or as balancer/redisbalancer does. Tests put
// the same world on the real ones.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "placement:", err) // nowhere left to report to
		stop()
		os.Exit(1) //nolint:gocritic // everything deferred has run
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := defaultOptions()
	flags := flag.NewFlagSet("placement", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.origins, "origins", o.origins, "origins")
	flags.IntVar(&o.proxies, "proxies", o.proxies, "proxies, which share a Redis; 1 is a proxy by itself")
	flags.IntVar(&o.streams, "streams", o.streams, "streams at a time")
	flags.IntVar(&o.players, "players", o.players, "players of a stream at its origin, on average: edges, where there are edges")
	flags.Float64Var(&o.mbps, "mbps", o.mbps, "bit rate of a stream in Mb/s")
	flags.IntVar(&o.seconds, "seconds", o.seconds, "how long, in the time of the simulation")
	flags.Float64Var(&o.churn, "churn", o.churn, "share of the streams that end in a second; as many begin")
	flags.Float64Var(&o.kill, "kill", o.kill, "share of the origins that die together, at half-time; they are back 10 s later")
	flags.IntVar(&o.refresh, "refresh", o.refresh, "seconds between a proxy's looks at the counts of all proxies; 0 is never")
	flags.Uint64Var(&o.seed, "seed", o.seed, "another seed is another run; the same is the same one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err := o.validate(); err != nil {
		return err
	}
	w, st := simulation(o)
	if err := w.run(ctx); err != nil {
		return err
	}
	return w.report.tell(stdout, o, st.load(o))
}

// simulation is a world on the model.
func simulation(o options) (*world, *store) {
	rng := rand.New(rand.NewPCG(o.seed, 0))
	st := newStore(o, rand.New(rand.NewPCG(o.seed, 1)).IntN)
	var proxies []placer
	for _, v := range st.views {
		proxies = append(proxies, v)
	}
	w := newWorld(o, rng, proxies)
	w.tick = st.tick
	return w, st
}
