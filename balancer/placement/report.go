package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// report is what came out.
type report struct {
	phases []phase
	// deaths of origins, and the streams that those cut.
	deaths, cut int
	// moved streams although their origin lives; sessions of a stream at two origins;
	// sessions sent to a dead one. All must be 0.
	moved, split, toDead int
	worst                float64 // max/mean of streams after the fill
}

// phase is a moment.
type phase struct {
	name           string
	second, up     int
	streams, cores spread
}

// spread is how even something is over the origins.
type spread struct{ mean, max, stddev float64 }

func (s spread) ratio() float64 {
	if s.mean == 0 {
		return 1
	}
	return s.max / s.mean
}

func (w *world) sample() {
	p := phase{second: w.second}
	p.streams, p.up = w.spread(func(o *originState) float64 { return float64(o.streams) })
	p.cores, _ = w.spread((*originState).cores)
	if w.second >= fillTime {
		w.report.worst = max(w.report.worst, p.streams.ratio())
	}
	half := w.o.seconds / 2
	for _, at := range []struct {
		second int
		name   string
	}{{fillTime - 1, "filled"}, {half - 1, "before the deaths"}, {half, "origins dead"}, {half + deadTime, "they are back"}, {w.o.seconds - 1, "at the end"}} {
		if at.second == w.second {
			p.name = at.name
			w.report.phases = append(w.report.phases, p)
		}
	}
}

// spread is over the origins that live.
func (w *world) spread(of func(*originState) float64) (s spread, n int) {
	var sum, squares float64
	for _, o := range w.origins {
		if o.dead {
			continue
		}
		v := of(o)
		n++
		sum += v
		squares += v * v
		s.max = max(s.max, v)
	}
	if n > 0 {
		s.mean = sum / float64(n)
		s.stddev = math.Sqrt(max(0, squares/float64(n)-s.mean*s.mean))
	}
	return s, n
}

func (r *report) tell(out io.Writer, o options, l redisLoad) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) } // Flush has the error
	line("%d origins, %d proxies, %d streams of %g Mb/s with %d players each, %g %% of them end in a second, seed %d", o.origins, o.proxies, o.streams, o.mbps, o.players, 100*o.churn, o.seed)
	line("")
	line("moment\tsecond\torigins\tstreams: mean\tmax\tmax/mean\tstddev\tcores: mean\tmax\tmax/mean")
	for _, p := range r.phases {
		line("%s\t%d\t%d\t%.2f\t%.0f\t%.2f\t%.2f\t%.3f\t%.3f\t%.2f", p.name, p.second, p.up, p.streams.mean, p.streams.max, p.streams.ratio(), p.streams.stddev,
			p.cores.mean, p.cores.max, p.cores.ratio())
	}
	line("")
	line("worst max/mean of streams\t%.2f", r.worst)
	line("origins that died\t%d", r.deaths)
	line("streams moved, origin dead\t%d", r.cut)
	line("streams moved, origin alive\t%d", r.moved)
	line("sessions split, sent to the dead\t%d, %d", r.split, r.toDead)
	l.tell(line)
	return t.Flush()
}
