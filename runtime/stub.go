// Package runtime is the host layer: CPU topology, CPU sets, limits, processes.
package runtime

import (
	"errors"
	"os/exec"
	"time"
)

var errStub = errors.New("not written yet")

// CPU is one logical CPU; CPUs with the same Package and Core are SMT siblings.
type CPU struct{ ID, Core, Package, Node int }

// Topology is the CPUs that this process may use and the CPU quota put on it.
type Topology struct {
	CPUs  []CPU
	Quota float64
}

// ReadTopology reads it from the host's file system.
func ReadTopology(root string) (Topology, error) { return Topology{}, errStub }

// Layout is the order in which CPUs are given to origins.
type Layout string

// The layouts.
const (
	Spread  Layout = "spread"
	Compact Layout = "compact"
	NUMA    Layout = "numa"
)

// ParseLayout reads a layout's name.
func ParseLayout(name string) (Layout, error) { return "", errStub }

// PlanRequest is what the operator asked for.
type PlanRequest struct {
	Origins               int // 0 = auto
	OriginCPUs, ProxyCPUs CPUSet
	Layout                Layout
}

// Plan is a CPU set for each origin and one for the proxy.
type Plan struct {
	Origins []CPUSet
	Proxy   CPUSet
}

// Plan computes the CPU sets.
func (t Topology) Plan(r PlanRequest) (Plan, error) { return Plan{}, errStub }

// Spawner starts children that are born on their CPU set.
type Spawner struct{}

// NewSpawner starts the spawning thread.
func NewSpawner() *Spawner { return &Spawner{} }

// Start starts cmd on cpus with the given RLIMIT_NOFILE.
func (s *Spawner) Start(cmd *exec.Cmd, cpus CPUSet, nofile uint64) error { return errStub }

// Close ends the spawning thread.
func (s *Spawner) Close() {}

// RaiseNofile raises our own soft RLIMIT_NOFILE.
func RaiseNofile(want uint64) (soft uint64, err error) { return 0, errStub }

// PinSelf pins all threads of this process.
func PinSelf(set CPUSet) error { return errStub }

// AllowedCPUs reads a process's affinity.
func AllowedCPUs(pid int) (CPUSet, error) { return nil, errStub }

// BecomeSubreaper makes orphaned descendants our children.
func BecomeSubreaper() error { return errStub }

// BootID is the kernel's random id of this boot.
func BootID() (string, error) { return "", errStub }

// StartTime is field 22 of /proc/PID/stat.
func StartTime(pid int) (uint64, error) { return 0, errStub }

// Usage is one sample of a process.
type Usage struct {
	CPUTime time.Duration
	RSS     uint64
	State   byte
}

// ProcSampler samples a process through a kept descriptor.
type ProcSampler struct{}

// Open opens the sampler on a process.
func (s *ProcSampler) Open(pid int) error { return errStub }

// Sample reads the process's usage.
func (s *ProcSampler) Sample() (Usage, error) { return Usage{}, errStub }

// Close closes the descriptor.
func (s *ProcSampler) Close() error { return nil }

// EphemeralRange is the range of ports that the kernel hands out by itself.
func EphemeralRange() (lo, hi int, err error) { return 0, 0, errStub }

// PortOwner tells who holds a port.
func PortOwner(network string, port int) (pid int, comm string, found bool, err error) {
	return 0, "", false, errStub
}
