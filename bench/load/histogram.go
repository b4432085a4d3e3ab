package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are 1/32 of their value wide. The zero
// value is empty. Not safe for concurrent use.
type Histogram struct {
	counts [bucketCount]uint64
	total  uint64
	max    int64
}

// subBits is how many bits of a value tell its bucket apart within a power of two.
const (
	subBits     = 5
	bucketCount = (64 - subBits) << subBits
)

// Record counts a duration in nanoseconds; a negative one counts as 0.
func (h *Histogram) Record(ns int64) {
	ns = max(ns, 0)
	h.counts[bucketOf(ns)]++
	h.total++
	h.max = max(h.max, ns)
}

// Merge adds what the other has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile is the duration that a share q (0 to 1) of all does not exceed, 0 if
// there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q*float64(h.total-1)) + 1
	for i, n := range h.counts {
		if rank <= n {
			return time.Duration(min(middleOf(i), h.max))
		}
		rank -= n
	}
	return time.Duration(h.max)
}

func bucketOf(ns int64) int {
	exp := max(0, bits.Len64(uint64(ns))-subBits-1)
	return exp<<subBits + int(ns>>exp)
}

// middleOf undoes bucketOf, to the middle of the bucket.
func middleOf(bucket int) int64 {
	exp := max(0, bucket>>subBits-1)
	low := int64(bucket-exp<<subBits) << exp
	return low + int64(1)<<exp/2
}
