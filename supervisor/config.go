package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// Config of a Supervisor. Zero timeouts and counts mean the defaults.
type Config struct {
	// StateDir holds the lock, the state file and a folder for each origin.
	StateDir string
	// Command starts an origin when "-c FILE" is appended to it, and checks a
	// config when "-t -c FILE" is: the path of srs, or this program and "origin".
	Command []string
	// Program identifies the file that Command starts, whatever its name says: when it
	// is another one, a Reload replaces all origins.
	Program string
	// BuiltIn says that Command is the built-in origin.
	BuiltIn bool
	// Version of the SRS that Command is.
	Version  srsconf.Version
	Template *srsconf.Template
	// Overlay may be nil.
	Overlay *srsconf.Overlay
	// Hook is what origins call in the place of their hooks; nil leaves them.
	Hook  srsconf.Hook
	Ports srsconf.PortPlan
	// CPUs has a set for each origin: its length is the number of origins. An
	// empty set leaves the origin wherever this process may run.
	CPUs []runtime.CPUSet
	// Nofile is each origin's limit of open files; 0 leaves them ours.
	Nofile         uint64
	MaxConnections int
	// Cgroup begins the names of the origins' control groups; empty or "off" for
	// none. Without them there is no quota, no memory limit and no word of an OOM kill.
	Cgroup string
	// CPUQuota of each origin in cores and MemoryMax in bytes; 0 for no limit.
	CPUQuota  float64
	MemoryMax uint64
	// Nice and OOMScore of each origin; nil leaves them ours.
	Nice, OOMScore *int
	// Mems are the NUMA nodes from which an origin on certain CPUs has its memory; nil
	// or an empty set for all.
	Mems func(cpus runtime.CPUSet) runtime.CPUSet
	// Env is the environment of the origins; SRS's own variables are taken out.
	Env []string

	// Listen is the address of the origins' listeners; default 127.0.0.1.
	Listen string
	// RTC, RTCTCP, SRT and Exporter turn on what an origin serves besides RTMP and HTTP.
	RTC, RTCTCP, SRT, Exporter bool
	// RTMPToRTC lets RTMP streams be played over WebRTC, see srsconf.Params.
	RTMPToRTC    bool
	Candidate    string
	HeartbeatURL string
	// DieWithParent makes the origins exit when this process is gone.
	DieWithParent bool
	// Logs is the rotation of the origins' log files.
	Logs LogRotation
	// IDPrefix goes before the slot's number in an origin's ID; default "origin-".
	IDPrefix string

	// Starts is how many origins start at once, and how many Restart replaces at a
	// time; default 8. More would make all of them slow to answer, and the first ones
	// ready later.
	Starts int
	// StartTimeout is from spawn to ready; default 30 s, for a machine that starts
	// a hundred others.
	StartTimeout time.Duration
	// ProbePeriod, ProbeTimeout and ProbeMisses say when an origin hangs: 1 s,
	// 1.5 s and 3, so that a hung one is replaced within 6 s.
	ProbePeriod  time.Duration
	ProbeTimeout time.Duration
	ProbeMisses  int
	// TermAfter and KillAfter follow SIGQUIT, with which SRS waits for its clients
	// for ever: 8 s and 12 s.
	TermAfter time.Duration
	KillAfter time.Duration
	// ResetAfter is how long an origin has to be ready for its next failure to
	// count as the first; default 60 s.
	ResetAfter time.Duration
	// DrainDeadline is how long a process that was replaced, or scaled away, keeps
	// the streams that it has; default 10 min.
	DrainDeadline time.Duration
	// Reserved are ports that no origin may have: those on which the proxy listens.
	Reserved []int
	// PlanCPUs gives CPU sets for another number of origins, for Scale; without it
	// more origins share the sets of CPUs.
	PlanCPUs func(origins int) ([]runtime.CPUSet, error)
}

// DefaultStarts is how many origins start at once.
const DefaultStarts = 8

const (
	// hurryKill is how long SIGTERM has after a Hurry: SRS needs 0.1 s.
	hurryKill = 2 * time.Second
	// killPatience is how long the kernel has to end what was sent SIGKILL; a
	// process that waits for a dead disk does not end at all.
	killPatience = 5 * time.Second
	// checkTimeout bounds `-t`, which takes 16 ms of CPU.
	checkTimeout = 10 * time.Second
	// balancerTimeout bounds one call of a balancer that lives in Redis.
	balancerTimeout = 2 * time.Second
)

func (c Config) withDefaults() Config {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1")
	c.IDPrefix = cmp.Or(c.IDPrefix, "origin-")
	c.MaxConnections = cmp.Or(c.MaxConnections, 1000)
	c.Starts = cmp.Or(c.Starts, DefaultStarts)
	c.StartTimeout = cmp.Or(c.StartTimeout, 30*time.Second)
	c.ProbePeriod = cmp.Or(c.ProbePeriod, time.Second)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, 1500*time.Millisecond)
	c.ProbeMisses = cmp.Or(c.ProbeMisses, 3)
	c.TermAfter = cmp.Or(c.TermAfter, 8*time.Second)
	c.KillAfter = cmp.Or(c.KillAfter, 12*time.Second)
	c.ResetAfter = cmp.Or(c.ResetAfter, time.Minute)
	c.DrainDeadline = cmp.Or(c.DrainDeadline, 10*time.Minute)
	return c
}

func (c Config) validate() error {
	switch {
	case c.StateDir == "" || !filepath.IsAbs(c.StateDir):
		return fmt.Errorf("state dir %q has to be an absolute path", c.StateDir)
	case len(c.Command) == 0:
		return errors.New("no command to start origins with")
	case c.Template == nil:
		return errors.New("no config template")
	case len(c.CPUs) == 0:
		return errors.New("no origins to start")
	case c.KillAfter < c.TermAfter:
		return fmt.Errorf("SIGKILL after %s would come before SIGTERM after %s", c.KillAfter, c.TermAfter)
	}
	if _, err := netip.ParseAddr(c.Listen); err != nil {
		return fmt.Errorf("listen address of the origins: %w", err)
	}
	return nil
}

// software is what runs in the slots, for people.
func (c Config) software() string {
	if c.BuiltIn {
		return "built-in origin"
	}
	return "SRS " + c.Version.String()
}

// id names a generation of a place: origin-3, and origin-3.1 for the process that
// replaces it.
func (c Config) id(index, gen int) string {
	id := c.IDPrefix + strconv.Itoa(index)
	if gen > 0 {
		id += "." + strconv.Itoa(gen)
	}
	return id
}

func (c Config) params(b birth) srsconf.Params {
	id := c.id(b.index, b.gen)
	p := srsconf.Params{
		Slot:           b.index,
		ID:             id,
		Version:        c.Version,
		Ports:          b.ports,
		Listen:         c.Listen,
		WorkDir:        filepath.Join(c.StateDir, id),
		MaxConnections: c.MaxConnections,
		RTC:            c.RTC,
		RTCTCP:         c.RTCTCP,
		RTMPToRTC:      c.RTMPToRTC,
		SRT:            c.SRT,
		Exporter:       c.Exporter,
		Candidate:      c.Candidate,
		AsProcess:      c.DieWithParent,
		HeartbeatURL:   c.HeartbeatURL,
		Hook:           c.Hook,
	}
	p.LogFile = filepath.Join(p.WorkDir, "srs.log")
	p.PIDFile = filepath.Join(p.WorkDir, "srs.pid")
	if c.Overlay != nil {
		p.Overlay = c.Overlay.For(b.index)
	}
	return p
}

// dialAddr is where a slot's port is reached from this machine.
func (c Config) dialAddr(port int) netip.AddrPort {
	addr, err := netip.ParseAddr(c.Listen)
	switch {
	case err != nil || addr == netip.IPv4Unspecified():
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case addr == netip.IPv6Unspecified():
		addr = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

func (c Config) endpoints(p srsconf.Ports) balancer.Endpoints {
	e := balancer.Endpoints{
		RTMP: c.dialAddr(p.RTMP).String(),
		HTTP: c.dialAddr(p.HTTP).String(),
		API:  c.dialAddr(p.API).String(),
	}
	if c.SRT {
		e.SRT = c.dialAddr(p.SRT).String()
	}
	if c.RTC {
		e.RTC = c.dialAddr(p.RTC).String()
	}
	return e
}
