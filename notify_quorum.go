package main

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// quorum is how many origins have to be ready for the whole to be. The zero
// quorum is automatic: all of them, or after quorumPatience more than half, so
// that one origin that never starts does not keep a media server from its users.
type quorum struct {
	count   int
	percent int
}

// quorumPatience is three times what 128 origins take on two cores.
const quorumPatience = 45 * time.Second

// met says whether so many ready ones are enough, so long after the start.
func (q quorum) met(ready, total int, after time.Duration) bool {
	switch {
	case q.count > 0:
		return ready >= min(q.count, total)
	case q.percent > 0:
		return 100*ready >= q.percent*total
	default:
		return ready == total || after >= quorumPatience && 2*ready > total
	}
}

// parseQuorum takes auto, all, a number of origins or a percentage of them.
func parseQuorum(v string) (quorum, error) {
	switch v {
	case "auto":
		return quorum{}, nil
	case "all":
		return quorum{percent: 100}, nil
	}
	wrong := errors.New("is no quorum; give auto, all, a number of origins, or a share of them such as 75%")
	digits, isShare := strings.CutSuffix(v, "%")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || n > maxOrigins || isShare && n > 100 {
		return quorum{}, wrong
	}
	if isShare {
		return quorum{percent: int(n)}, nil
	}
	return quorum{count: int(n)}, nil
}
