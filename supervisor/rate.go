package supervisor

import "time"

// byteCount is what an origin has received and sent since it started, and when
// it counted that, by its own clock.
type byteCount struct {
	at      time.Duration // since the epoch; 0 means that it does not count
	in, out int64
}

// rates are bits per second between two counts.
//
// SRS adds up its connections every 3 s and says when it last did, so a rate
// between two of its counts is exact, while counts at the moments when we happened
// to look would come out anywhere from nothing to double.
type rates struct {
	last    byteCount
	in, out float64
	known   bool
}

const (
	// minSpan evens out bursts: SRS merges up to 350 ms of writes.
	minSpan = time.Second
	// maxSpan is what SRS's own figures average over; an older count says no more
	// than they do.
	maxSpan = 30 * time.Second
)

// after is the rates when a new count has come. A count as old as the last one
// leaves them as they are; one that does not follow from it begins anew.
func (r rates) after(c byteCount) rates {
	span := c.at - r.last.at
	switch {
	case r.last.at == 0, c.at == 0, span < 0, span > maxSpan, c.in < r.last.in, c.out < r.last.out:
		return rates{last: c}
	case span < minSpan:
		return r
	}
	return rates{
		last:  c,
		in:    8 * float64(c.in-r.last.in) / span.Seconds(),
		out:   8 * float64(c.out-r.last.out) / span.Seconds(),
		known: true,
	}
}
