package main

import (
	"fmt"
	"strings"
)

// bar is what a figure of ours has to stay at or below.
type bar struct {
	cases  string // names, with spaces
	what   string
	figure func(*leg) float64
	digits int
	// limit is fixed, or else the same figure of the peer of.
	limit float64
	of    string
}

// bars are in the order of the table; the first ones of a case are what it is about.
func bars() []bar {
	cost := func(l *leg) float64 { return l.ProxyCost }
	return []bar{
		{cases: "rtmp rtmp-fan rtmp-merged flv flv-fan publish", what: string(perGB), figure: cost, digits: 2, of: peerHAProxy},
		{cases: "hls", what: string(perGB), figure: cost, digits: 2, of: peerNginx},
		{cases: "webrtc srt", what: string(perPackets), figure: cost, digits: 1, of: peerNginx},
		{cases: "idle-rtmp idle-flv", what: "KB/session", figure: cost, digits: 1, limit: 6},
		{cases: "idle-webrtc idle-srt", what: "KB/session", figure: cost, digits: 1, limit: 2},
		{cases: "churn", what: "prelude p99, ms", figure: func(l *leg) float64 { return l.PreludeP99 }, digits: 1, limit: 20},
		{cases: "churn", what: "errors", figure: func(l *leg) float64 { return float64(sum(l.Errors)) }},
		{cases: "rtmp rtmp-fan rtmp-merged", what: "added p50, ms", figure: func(l *leg) float64 { return l.AddedP50 }, digits: 2, limit: .2},
		{cases: "rtmp rtmp-fan rtmp-merged", what: "added p99, ms", figure: func(l *leg) float64 { return l.AddedP99 }, digits: 2, of: peerHAProxy},
		{cases: "rtmp rtmp-fan rtmp-merged flv flv-fan webrtc srt", what: "first frame p50, ms", figure: func(l *leg) float64 { return l.FirstP50 }, digits: 1, of: peerDirect},
		{cases: "hls", what: "origin requests a segment", figure: func(l *leg) float64 { return l.Fetches }, digits: 2, limit: 1},
	}
}

// barRow is one line of the table of bars.
func (r *results) barRow(b bar, c benchCase) []string {
	ours := r.median(c.name, peerOurs)
	if ours == nil {
		return nil
	}
	show := func(v float64) string { return fmt.Sprintf("%.*f", b.digits, v) }
	of := func(name string) string {
		l := r.median(c.name, name)
		switch {
		case l == nil:
			return "-"
		case name == peerDirect && b.what == string(c.unit): // of which there is no proxy's
			return show(l.BothCost)
		}
		return show(b.figure(l))
	}
	limit, text := b.limit, show(b.limit)
	if b.of != "" {
		l := r.median(c.name, b.of)
		if l == nil {
			return nil
		}
		limit, text = b.figure(l), b.of
	}
	mine := b.figure(ours)
	ratio, met := "-", "**no**"
	if limit > 0 {
		ratio = fmt.Sprintf("%.2f", mine/limit)
	}
	if show(mine) == show(limit) || mine <= limit {
		met = "yes"
	}
	if ours.Disturbed {
		met += " (disturbed)"
	}
	return []string{c.title, b.what, show(mine), text, ratio, met, of(peerHAProxy), of(peerNginx), of(peerExisting), of(peerDirect)}
}

// barTable is the table of bars, in Markdown; with brief only what each case is about.
func (r *results) barTable(brief bool) string {
	rows := [][]string{{"case", "figure", "srs-proxy", "bar", "of the bar", "met", "HAProxy", "nginx", "existing", "direct"}}
	about := map[string]bool{}
	for _, b := range bars() {
		for name := range strings.FieldsSeq(b.cases) {
			if brief && about[name] {
				continue
			}
			for _, c := range cases() {
				if c.name != name {
					continue
				}
				if row := r.barRow(b, c); row != nil {
					rows = append(rows, row)
					about[name] = true
				}
			}
		}
	}
	return markdown(rows)
}
