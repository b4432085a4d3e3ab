package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// facts is all that check knows: of the settings, and of this machine. Gathering
// them is the only part of check that touches anything.
type facts struct {
	cfg   *resolved
	setup *setup
	// What setup could not decide. What comes after in its order was tried all the
	// same, so far as it does not depend on it.
	softwareErr, templateErr, cpusErr, limitErr, portPlanErr, priorityErr, oomScoreErr, hookErr error

	// variables of SRS's in our environment, by name.
	variables []string
	// instance is the pid of a running instance, while instanceErr is nil.
	instance    int
	instanceErr error

	host    runtime.Topology
	offline runtime.CPUSet
	kernel  runtime.Kernel
	memory  runtime.Memory
	cgroups runtime.CgroupSupport
	// bigPipes says that the limit of a user's pipes does not hold for us.
	bigPipes bool

	// stateAt is the state dir, or what of its path is there; diskErr is about it too.
	stateAt  string
	stateErr error
	disk     runtime.Disk
	diskErr  error

	// secured are the vhosts with SRS's own list of addresses.
	secured   []string
	origins   []originFacts
	ports     []portFacts
	addresses []candidate.Address

	// unread says which facts could not be had.
	unread []finding
}

// originFacts is what one origin's config came to.
type originFacts struct {
	id        string
	err       error
	listeners []srsconf.Listener
}

// readHost keeps a fact that could be read, and notes one that could not.
func readHost[T any](f *facts, subject string, into *T, value T, err error) {
	if err != nil {
		f.unread = append(f.unread, warn(subject, "not known: %v", err))
		return
	}
	*into = value
}

func gatherFacts(ctx context.Context, cfg *resolved) *facts {
	s := &setup{cfg: cfg, ports: srsconf.PortPlan{Base: cfg.PortBase}}
	f := &facts{cfg: cfg, setup: s, variables: srsVariables(childEnvironment())}

	topology, err := runtime.ReadTopology("/")
	readHost(f, "cpus", &f.host, topology, err)
	offline, err := runtime.ReadOffline("/")
	readHost(f, "cpus", &f.offline, offline, err)
	f.kernel = unknownKernel()
	kernel, err := runtime.ReadKernel("/")
	readHost(f, "kernel", &f.kernel, kernel, err)
	memory, err := runtime.ReadMemory()
	readHost(f, "memory", &f.memory, memory, err)
	cgroups, err := runtime.DetectCgroups(runtime.CgroupConfig{Name: cfg.cgroupName()})
	readHost(f, "cgroups", &f.cgroups, cgroups, err)
	bigPipes, err := unlimitedPipes()
	readHost(f, "pipes", &f.bigPipes, bigPipes, err)
	addresses, err := candidate.Addresses()
	readHost(f, "addresses", &f.addresses, addresses, err)

	f.softwareErr = s.chooseSoftware(ctx)
	f.templateErr = s.readTemplate(ctx)
	f.priorityErr = s.choosePriorities(ctx)
	f.oomScoreErr = s.tryOOMScore(ctx)
	f.cpusErr = s.planCPUs(ctx)
	f.limitErr = s.raiseLimits(ctx)
	f.instance, f.instanceErr = runningInstance(cfg.Control)

	f.stateAt, f.stateErr = probeStateDir(cfg.StateDir)
	if f.stateErr == nil {
		f.disk, f.diskErr = runtime.ReadDisk(f.stateAt)
	}
	if f.cpusErr != nil {
		return f
	}
	f.portPlanErr = s.planPorts(ctx)
	if f.templateErr == nil && f.softwareErr == nil {
		f.hookErr = s.planHooks(ctx)
		f.secured = s.securedVhosts()
		f.origins = s.tryConfigs(ctx, 2*len(f.host.CPUs))
	}
	if f.instanceErr != nil {
		f.ports = s.tryPorts(ctx, f.origins)
	}
	return f
}

func unknownKernel() runtime.Kernel {
	return runtime.Kernel{
		RmemMax: runtime.Unknown, WmemMax: runtime.Unknown, Somaxconn: runtime.Unknown,
		EphemeralLo: runtime.Unknown, EphemeralHi: runtime.Unknown, FirstFreePort: runtime.Unknown,
		PipeUserPages: runtime.Unknown, Overcommit: runtime.Unknown,
	}
}

// unlimitedPipes is pipe_is_unprivileged_user of the kernel's fs/pipe.c.
func unlimitedPipes() (bool, error) {
	for _, capability := range []int{unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN} {
		if has, err := runtime.HasCapability(capability); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// srsVariables names those of an environment that SRS would take for directives.
// Ours begin the same way.
func srsVariables(env []string) []string {
	var names []string
	kept := srsconf.CleanEnv(env)
	for _, e := range env {
		// CleanEnv keeps the order.
		if len(kept) > 0 && kept[0] == e {
			kept = kept[1:]
			continue
		}
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "SRS_PROXY_") && name != "SRS_BINARY" {
			names = append(names, name)
		}
	}
	return names
}

// errNoDirectory is a state dir, or a part of its path, that is a file.
var errNoDirectory = errors.New("is no directory")

// probeStateDir finds the folder in which the state dir is or would be made, and
// whether it can be written to. It makes nothing that stays.
func probeStateDir(dir string) (at string, err error) {
	at = dir
	for {
		st, err := os.Stat(at)
		if err == nil && !st.IsDir() {
			return at, errNoDirectory
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return at, withoutPath(err)
		}
		at = filepath.Dir(at)
	}
	probe, err := os.MkdirTemp(at, ".srs-proxy-check-")
	if err != nil {
		return at, withoutPath(err)
	}
	_ = os.Remove(probe) // empty, and only its creation mattered
	return at, nil
}
