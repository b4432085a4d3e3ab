package supervisor

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
)

// SelfUsage is what this process, the supervisor and the proxy in one, uses.
type SelfUsage struct {
	// CPUs is where it may run.
	CPUs string `json:"cpus,omitempty"`
	// CPUPercent is the share of one core since the look before this one, a second
	// or more ago; on several cores it can be above 100.
	CPUPercent float64 `json:"cpu_percent"`
	RSS        uint64  `json:"rss"`
}

// selfMeter measures this process when somebody looks.
type selfMeter struct {
	mu    sync.Mutex // guards the following
	at    time.Time
	used  time.Duration
	usage SelfUsage
}

// read is the usage at the time now.
func (m *selfMeter) read(now time.Time) SelfUsage {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.at) < time.Second {
		return m.usage
	}
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return m.usage
	}
	used := time.Duration(r.Utime.Nano() + r.Stime.Nano())
	if !m.at.IsZero() {
		m.usage.CPUPercent = 100 * float64(used-m.used) / float64(now.Sub(m.at))
	}
	m.at, m.used = now, used
	var s runtime.ProcSampler
	if err := s.Open(os.Getpid()); err == nil {
		if u, err := s.Sample(); err == nil {
			m.usage.RSS = u.RSS
		}
		_ = s.Close()
	}
	if cpus, err := runtime.AllowedCPUs(os.Getpid()); err == nil {
		m.usage.CPUs = cpus.String()
	}
	return m.usage
}
