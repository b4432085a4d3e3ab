package main

import (
	"fmt"
	"html"
	"strings"
)

// The plot's sizes, in pixels.
const (
	plotWidth  = 760
	plotLabel  = 110 // room for a peer's name
	plotValue  = 60  // and for a figure behind a bar
	plotBar    = 18
	plotGap    = 4
	plotHeader = 34
)

// plot is an SVG with a group of bars for each case: what the proxy costs, and behind
// it, paler, what the origin costs.
func (r *results) plot() string {
	var body strings.Builder
	y := 24
	text := func(x, y int, class, s string) {
		_, _ = fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" class=%q>%s</text>\n", x, y, class, html.EscapeString(s))
	}
	text(10, y, "title", "CPU of the proxy, and of the origin behind it (pale)")
	y += 18
	text(10, y, "note", strings.SplitN(r.head(), "\n", 2)[0])
	for _, c := range cases() {
		largest, any := 0.0, false
		for _, p := range peerNames() {
			if l := r.median(c.name, p); l != nil {
				largest, any = max(largest, l.BothCost), true
			}
		}
		if !any || largest == 0 {
			continue
		}
		y += plotHeader
		text(10, y, "case", fmt.Sprintf("%s (%s)", c.title, c.unit))
		y += 8
		scale := float64(plotWidth-plotLabel-plotValue) / largest
		for _, p := range peerNames() {
			l := r.median(c.name, p)
			if l == nil {
				continue
			}
			class := "peer"
			if p == peerOurs {
				class = "ours"
			}
			text(10, y+plotBar-5, "note", p)
			_, _ = fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" class=\"origin\"/>\n", plotLabel, y, l.BothCost*scale, plotBar)
			_, _ = fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" class=%q/>\n", plotLabel, y, l.ProxyCost*scale, plotBar, class)
			value := fmt.Sprintf("%.2f", l.ProxyCost)
			if p == peerDirect {
				value = fmt.Sprintf("%.2f", l.BothCost)
			}
			text(plotLabel+int(l.BothCost*scale)+6, y+plotBar-5, "note", value)
			y += plotBar + plotGap
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">
<style>
text { font-family: sans-serif; fill: #222 } .title { font-size: 16px; font-weight: bold } .case { font-size: 13px; font-weight: bold }
.note { font-size: 12px } .ours { fill: #1667b7 } .peer { fill: #888 } .origin { fill: #dde3ea }
</style>
<rect width="100%%" height="100%%" fill="white"/>
%s</svg>
`, plotWidth, y+16, plotWidth, y+16, body.String())
}
