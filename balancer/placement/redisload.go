package main

import (
	"cmp"
	"math"
	"slices"
)

// operations are what proxies asked of Redis in a second.
type operations struct {
	picks, holds, updates, stats, events int
	// held are pins that proxies held, each counted once a proxy.
	held int
}

// redisLoad is what Redis has to do in a second.
type redisLoad struct {
	// usual is the median second before the deaths, worst the one with the most calls.
	usual, worst calls
}

// calls a second, by script.
type calls struct {
	pick, hold, update, stats, poll, read float64
	cpu                                   float64 // seconds of Redis' one core
}

func (c calls) sum() float64 { return c.pick + c.hold + c.update + c.stats + c.poll + c.read }

const (
	// renewTime is after how many seconds a proxy tells again that it holds a pin.
	renewTime = 10
	// pollsASecond of each proxy (balancer/redisbalancer).
	pollsASecond = 4
	// heartbeat is SRS's, in seconds.
	heartbeat = 9
	// mostReads a second: events that come faster are read together.
	mostReads = 1000
)

// load is what the proxies of a run made Redis do.
func (st *store) load(o options) redisLoad {
	if !st.shared() {
		return redisLoad{}
	}
	var all []calls
	for _, ops := range st.ops {
		all = append(all, ops.calls(o))
	}
	least := func(a, b calls) int { return cmp.Compare(a.sum(), b.sum()) }
	usual := slices.Clone(all[fillTime+1 : o.seconds/2])
	slices.SortFunc(usual, least)
	return redisLoad{usual: usual[len(usual)/2], worst: slices.MaxFunc(all[1:], least)}
}

// calls are a second's. The model has one proxy report an origin's load. In truth each does
// that had a heartbeat of it in the time to live: heartbeats come to any proxy.
func (n operations) calls(o options) calls {
	proxies, origins := float64(o.proxies), float64(o.origins)
	reporters := proxies * (1 - math.Pow(1-1/proxies, 30./heartbeat))
	c := calls{
		pick:   float64(n.picks),
		hold:   float64(n.holds) + float64(n.held)/renewTime,
		update: reporters*float64(n.updates) + origins/heartbeat,
		stats:  float64(n.stats),
		poll:   proxies * pollsASecond,
	}
	events := reporters * float64(n.events)
	c.read = proxies * (pollsASecond + min(events, mostReads))
	c.cpu = (c.pick*costOfPick + c.hold*costOfHold + c.update*(costOfUpdate+origins*costOfUpdateOrigin) + c.stats*(costOfStats+origins*costOfStatsOrigin) +
		c.poll*costOfPoll + c.read*costOfRead + proxies*events*costOfEvent) / 1e6
	return c
}

func (l redisLoad) tell(line func(string, ...any)) {
	if l.usual.sum() == 0 {
		return
	}
	line("")
	line("Redis, calls a second\tpick\thold\tupdate\tstats\tpoll\tread\tall\tcores")
	for _, row := range []struct {
		name string
		c    calls
	}{{"usual", l.usual}, {"worst", l.worst}} {
		c := row.c
		line("%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f", row.name, c.pick, c.hold, c.update, c.stats, c.poll, c.read, c.sum(), c.cpu)
	}
}

// What a call costs Redis, in microseconds of its CPU, as TestRedisCosts measured it on a
// shared machine where a PING costs 16 to 19; what is for each origin grows with their number.
const (
	costOfPick         = 400
	costOfHold         = 150
	costOfUpdate       = 100
	costOfUpdateOrigin = 0.4
	costOfStats        = 50
	costOfStatsOrigin  = 2.15
	costOfPoll         = 560
	costOfRead         = 20
	costOfEvent        = 0.7
)
