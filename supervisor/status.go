package supervisor

import (
	"slices"
	"time"

	"srs-proxy/srsconf"
)

// State is what was observed of a slot.
type State string

// The observed states; the machine that moves between them is in state.go.
const (
	Starting State = "starting"
	Ready    State = "ready"
	Degraded State = "degraded"
	Draining State = "draining"
	Backoff  State = "backoff"
	Fatal    State = "fatal"
	Stopped  State = "stopped"
)

// Desired is what the operator wants of a slot, apart from what is observed.
type Desired string

// The desired states.
const (
	Run   Desired = "run"
	Drain Desired = "drain"
	Stop  Desired = "stop"
)

// Role is what a process is to the place of its origin. A place may have several
// for a while, each with an ID of its own: origin-3, origin-3.1...
type Role string

// The roles: one process of a place is current, a successor starts to take its
// place, and those retire that were replaced or scaled away.
const (
	Current   Role = ""
	Successor Role = "successor"
	Retiring  Role = "retiring"
)

// OriginStatus is one slot as `status` shows it.
type OriginStatus struct {
	ID    string `json:"id"`
	Index int    `json:"index"`
	Role  Role   `json:"role,omitempty"`
	// DrainUntil is when a retiring process is stopped at the latest.
	DrainUntil time.Time `json:"drain_until,omitzero"`
	Desired    Desired   `json:"desired"`
	State      State     `json:"state"`
	// Reason says why the state is not ready, in a sentence.
	Reason string        `json:"reason,omitempty"`
	PID    int           `json:"pid,omitempty"`
	CPUs   string        `json:"cpus"`
	Ports  srsconf.Ports `json:"ports"`
	// Since is the start of the process.
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts"`
	// LastExit says how the last process ended, with the last line it printed.
	LastExit string `json:"last_exit,omitempty"`
	// Exit is the same for programs.
	Exit *Exit `json:"exit,omitempty"`
	// Limits are those of its cgroup that are in force, NotInForce those that were
	// asked for and are not, with the reason.
	Limits     string   `json:"limits,omitempty"`
	NotInForce []string `json:"limits_not_in_force,omitempty"`
	// CPUPercent is the share of one core over the last second, 0 to 100.
	CPUPercent float64 `json:"cpu_percent"`
	RSS        uint64  `json:"rss"`
	Streams    int     `json:"streams"`
	Publishers int     `json:"publishers"`
	Players    int     `json:"players"`
	// InBps and OutBps are bits per second, of all clients on all protocols: since
	// the snapshot before, if that was 1 to 30 s ago (SRS counts every 3 s), else
	// SRS's own averages over 30 s, which are 0 for a stream's first 30 s.
	InBps     float64 `json:"in_bps"`
	OutBps    float64 `json:"out_bps"`
	WorkDir   string  `json:"work_dir"`
	LogFile   string  `json:"log_file,omitempty"`
	ServiceID string  `json:"service_id,omitempty"`
	Version   string  `json:"version,omitempty"`
	// StatsError says why streams, players and rates are missing or old.
	StatsError string `json:"stats_error,omitempty"`
}

// Exit is how a process ended.
type Exit struct {
	Time time.Time `json:"time"`
	PID  int       `json:"pid"`
	// Code is -1 when a signal ended it.
	Code    int    `json:"code"`
	Signal  string `json:"signal,omitempty"`
	OOM     bool   `json:"oom,omitempty"`
	Ordered bool   `json:"ordered,omitempty"`
	// Lines are the last that it printed or, if that was nothing, logged.
	Lines []string `json:"lines,omitempty"`
}

// Uptime is how long the process has lived at the time now; zero without one.
func (o OriginStatus) Uptime(now time.Time) time.Duration {
	if o.PID == 0 || o.Since.IsZero() {
		return 0
	}
	return max(0, now.Sub(o.Since))
}

// Snapshot is the whole supervisor at one moment.
type Snapshot struct {
	Time time.Time `json:"time"`
	// Software is "SRS 7.0.18" or "built-in origin".
	Software string `json:"software"`
	// PID is the supervisor's own, and Self what that process uses.
	PID int `json:"pid"`
	// Cgroups is which version of control groups does what, in a line; see
	// runtime.CgroupSupport.
	Cgroups string         `json:"cgroups,omitempty"`
	Self    SelfUsage      `json:"self"`
	Origins []OriginStatus `json:"origins"`
}

// Totals sums a snapshot over its origins.
type Totals struct {
	Origins    int     `json:"origins"`
	Ready      int     `json:"ready"`
	Restarts   int     `json:"restarts"`
	CPUPercent float64 `json:"cpu_percent"`
	RSS        uint64  `json:"rss"`
	Streams    int     `json:"streams"`
	Publishers int     `json:"publishers"`
	Players    int     `json:"players"`
	InBps      float64 `json:"in_bps"`
	OutBps     float64 `json:"out_bps"`
}

// Totals sums over all origins.
func (s Snapshot) Totals() Totals {
	var t Totals
	for _, o := range s.Origins {
		if o.Role == Current {
			t.Origins++
		}
		if o.State == Ready {
			t.Ready++
		}
		t.Restarts += o.Restarts
		t.CPUPercent += o.CPUPercent
		t.RSS += o.RSS
		t.Streams += o.Streams
		t.Publishers += o.Publishers
		t.Players += o.Players
		t.InBps += o.InBps
		t.OutBps += o.OutBps
	}
	return t
}

// Healthy says that every origin is in the state that is wanted of it: ready
// where it should run, draining or stopped where it should not. What comes and
// goes while a process is replaced is not counted.
func (s Snapshot) Healthy() bool {
	return len(s.Unhealthy()) == 0
}

// Degraded says that some origins do what is wanted of them and some do not.
func (s Snapshot) Degraded() bool {
	n := len(s.Unhealthy())
	return n > 0 && n < s.Totals().Origins
}

// Unhealthy lists the origins that are not in the state that is wanted of them.
func (s Snapshot) Unhealthy() []OriginStatus {
	return slices.DeleteFunc(slices.Clone(s.Origins), OriginStatus.healthy)
}

func (o OriginStatus) healthy() bool {
	if o.Role != Current {
		return true
	}
	switch o.Desired {
	case Run:
		return o.State == Ready
	case Drain:
		return o.State == Draining || o.State == Stopped
	default:
		return o.State == Stopped || o.State == Draining
	}
}
