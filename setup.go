package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"srs-proxy/proxy"
	"srs-proxy/proxy/srt"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
	"srs-proxy/supervisor"
)

// setup is what a Config means on this machine: everything that is decided
// before the first socket is bound and the first process started. `up` runs it,
// `check` examines it, `config --origin` prints a part of it.
type setup struct {
	cfg      *resolved
	software software
	version  srsconf.Version // of SRS; zero for the built-in origin
	template *srsconf.Template
	// templateText and overlayText are the files', to see that they changed.
	templateText, overlayText string
	host                      runtime.Topology // zero until it was read
	overlay                   *srsconf.Overlay
	cpus                      runtime.Plan
	ports                     srsconf.PortPlan
	hooks                     hookRelay
	nofile                    uint64
	oomScore                  *int // of the origins; nil leaves it ours
}

// newSetup makes all decisions, in the order in which they depend on each other.
func newSetup(ctx context.Context, cfg *resolved) (*setup, error) {
	s := &setup{cfg: cfg, ports: srsconf.PortPlan{Base: cfg.PortBase}}
	for _, decide := range []func(context.Context) error{
		s.chooseSoftware, s.readTemplate, s.choosePriorities, s.tryOOMScore, s.planCPUs, s.planPorts, s.raiseLimits, s.planHooks,
	} {
		if err := decide(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *setup) chooseSoftware(ctx context.Context) (err error) {
	if s.software, err = findSoftware(&s.cfg.Config); err != nil {
		return err
	}
	s.software.program = programIdentity(s.software.command[0])
	if s.software.builtin {
		return nil
	}
	s.version, err = srsconf.DetectVersion(ctx, s.software.command[0])
	if err != nil {
		return fmt.Errorf("%s is no SRS that can be run: %w; name another with --srs, or --srs %s for the built-in origin",
			s.software.command[0], err, builtinOrigin)
	}
	return nil
}

func (s *setup) readTemplate(context.Context) (err error) {
	name, text := "built-in template", defaultTemplate
	if path := s.cfg.Template; path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("template %s: %w", path, withoutPath(err))
		}
		name, text = path, string(b)
	}
	s.templateText = text
	if s.template, err = srsconf.ParseTemplate(name, text); err != nil {
		return fmt.Errorf("template: %w", err)
	}
	if s.overlay, err = srsconf.LoadOverlay(s.cfg.Vhosts); err != nil {
		return fmt.Errorf("vhosts file: %w", err)
	}
	if s.cfg.Vhosts != "" {
		b, err := os.ReadFile(s.cfg.Vhosts)
		if err != nil {
			return fmt.Errorf("vhosts file %s: %w", s.cfg.Vhosts, withoutPath(err))
		}
		s.overlayText = string(b)
	}
	return nil
}

func (s *setup) planCPUs(context.Context) error {
	if len(s.host.CPUs) == 0 {
		host, err := runtime.ReadTopology("/")
		if err != nil {
			return fmt.Errorf("CPUs of this machine: %w", err)
		}
		s.host = host
	}
	plan, err := s.host.Plan(s.planRequest(s.cfg.Origins))
	if errors.Is(err, runtime.ErrCPUNotAllowed) {
		return fmt.Errorf("%w; this process may use %s (see --origin-cpus and --proxy-cpus)", err, s.host.Allowed())
	}
	s.cpus = plan
	return err
}

func (s *setup) planRequest(origins int) runtime.PlanRequest {
	return runtime.PlanRequest{
		Origins:    origins,
		OriginCPUs: s.cfg.OriginCPUs,
		ProxyCPUs:  s.cfg.ProxyCPUs,
		Layout:     s.cfg.CPULayout,
	}
}

func (s *setup) planPorts(context.Context) error {
	lo, hi, err := runtime.EphemeralRange()
	if err != nil {
		return err
	}
	if err := s.chooseHookPort(); err != nil {
		return err
	}
	if err := s.ports.Validate(len(s.cpus.Origins), lo, hi, s.reservedPorts()); err != nil {
		return fmt.Errorf("%s: %w", s.cfg.value("port-base").place(), err)
	}
	return nil
}

// publicPorts are the proxy's own, which no origin may have.
func (s *setup) publicPorts() []int {
	var ports []int
	for _, l := range s.publicListeners() {
		if l.port != 0 && !slices.Contains(ports, l.port) {
			ports = append(ports, l.port)
		}
	}
	return ports
}

func (s *setup) raiseLimits(context.Context) (err error) {
	if s.nofile, err = runtime.RaiseNofile(s.cfg.NoFile); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	return s.checkLimits()
}

func (s *setup) checkLimits() error {
	if need := uint64(s.cfg.MaxConnections + srsReservedFiles); s.cfg.MaxConnections > 0 && s.nofile <= need {
		return fmt.Errorf("%s: %d connections need a limit of open files above %d, and this machine allows %d; lower it or raise the hard limit (ulimit -Hn, LimitNOFILE=)",
			s.cfg.value("max-connections").place(), s.cfg.MaxConnections, need, s.nofile)
	}
	return nil
}

// supervisorConfig is the setup as the supervisor takes it.
func (s *setup) supervisorConfig() supervisor.Config {
	return supervisor.Config{
		StateDir:       s.cfg.StateDir,
		Command:        s.software.command,
		Program:        s.software.program,
		BuiltIn:        s.software.builtin,
		Version:        s.version,
		Template:       s.template,
		Overlay:        s.overlay,
		Hook:           s.hook(),
		Ports:          s.ports,
		CPUs:           s.cpus.Origins,
		Nofile:         s.nofile,
		MaxConnections: s.cfg.maxConnections(s.nofile),
		Env:            childEnvironment(),
		Logs:           s.logRotation(),
		DieWithParent:  s.cfg.DieWithParent,
		RTC:            true,
		RTCTCP:         true,
		RTMPToRTC:      s.cfg.RTMPToRTC,
		SRT:            true,
		Reserved:       s.reservedPorts(),
		PlanCPUs:       s.cpusFor,
		DrainDeadline:  s.cfg.DrainDeadline,
		Cgroup:         s.cfg.cgroupName(),
		CPUQuota:       s.cfg.CPUQuota,
		MemoryMax:      s.cfg.MemoryMax,
		Nice:           s.cfg.Nice.pointer(),
		OOMScore:       s.oomScore,
		Mems:           s.memsFor,
	}
}

// cpusFor is the plan for another number of origins.
func (s *setup) cpusFor(origins int) ([]runtime.CPUSet, error) {
	plan, err := s.host.Plan(s.planRequest(origins))
	return plan.Origins, err
}

// roomFor says that there can be so many origins.
func (s *setup) roomFor(origins int) error {
	if origins < 1 || origins > maxOrigins {
		return fmt.Errorf("%d is not a number of origins; give 1 to %d", origins, maxOrigins)
	}
	lo, hi, err := runtime.EphemeralRange()
	if err != nil {
		return err
	}
	if err := s.ports.Validate(origins, lo, hi, s.reservedPorts()); err != nil {
		return fmt.Errorf("no ports for %d origins: %w", origins, err)
	}
	return nil
}

func (s *setup) logRotation() supervisor.LogRotation {
	return supervisor.LogRotation{MaxSize: s.cfg.LogMaxSize, Keep: s.cfg.LogKeep}
}

// originConfig renders the config of one slot, as the supervisor will.
func (s *setup) originConfig(slot int) ([]byte, error) {
	id := "origin-" + strconv.Itoa(slot)
	dir := filepath.Join(s.cfg.StateDir, id)
	text, err := s.template.Render(srsconf.Params{
		Slot:           slot,
		ID:             id,
		Version:        s.version,
		Ports:          s.ports.Ports(slot),
		WorkDir:        dir,
		LogFile:        filepath.Join(dir, "srs.log"),
		PIDFile:        filepath.Join(dir, "srs.pid"),
		MaxConnections: s.cfg.maxConnections(s.nofile),
		SRT:            true,
		Overlay:        s.overlay.For(slot),
		Hook:           s.hook(),
		AsProcess:      s.cfg.DieWithParent,
		RTC:            true,
		RTCTCP:         true,
		RTMPToRTC:      s.cfg.RTMPToRTC,
	})
	if err != nil {
		return nil, fmt.Errorf("config of %s: %w", id, err)
	}
	return text, nil
}

// served is what the proxy has to know of the origins' config to route as they do.
type served struct {
	// vhosts are those that it names: the proxy folds all other hosts into the
	// default one, as SRS does.
	vhosts    []string
	streamIDs srt.StreamIDs
}

func (s *setup) served() (served, error) {
	text, err := s.originConfig(0)
	if err != nil {
		return served{}, err
	}
	root, err := srsconf.Parse("config of the first origin", text)
	if err != nil {
		return served{}, fmt.Errorf("vhosts: %w", err)
	}
	return servedBy(root), nil
}

func servedBy(root *srsconf.Directive) served {
	return served{
		vhosts: srsconf.Vhosts(root),
		streamIDs: srt.StreamIDs{
			Default:    root.Value("srt_server", "default_streamid"),
			DefaultApp: root.Value("srt_server", "default_app"),
		},
	}
}

// A session is two of the proxy's descriptors, one on each side; its pipes are there only
// while bytes wait for room. maxSessions takes four fifths of the descriptors for them.
// maxPipes is at most half of the fifth that is left, in which sessions that begin, clients
// of HLS and all else have to find room too; whoever does not is refused, and sessions
// that run go on (packages listener and relay).
func maxSessions(nofile uint64) int { return int(max(1, nofile*2/5)) }

func maxPipes(nofile uint64) int { return int(min(max(1, nofile/20), pipesEnough)) }

// pipesEnough is more directions than are ever busy at once, unless many clients take
// nothing; a gigabyte of the kernel's memory if all are full.
const pipesEnough = 1024

// filesFor is how many descriptors maxSessions wants for so many sessions.
func filesFor(sessions int) uint64 { return uint64(sessions) * 5 / 2 }

// proxyConfig is the setup as the proxy takes it.
func (s *setup) proxyConfig(origins served) proxy.Config {
	return proxy.Config{
		RTMP:         s.cfg.RTMP,
		HTTP:         s.cfg.HTTP,
		API:          s.cfg.API,
		SRT:          s.cfg.SRT,
		WebRTC:       s.cfg.WebRTC,
		RTMPS:        s.cfg.RTMPS,
		HTTPS:        s.cfg.HTTPS,
		HTTPSAPI:     s.cfg.HTTPSAPI,
		Candidates:   s.cfg.Candidates,
		Vhosts:       origins.vhosts,
		StreamIDs:    origins.streamIDs,
		Shards:       s.cpus.ProxyLoops(),
		RealIPPrefix: s.cfg.RealIPPrefix.enabled(s.software.isSRS()),
		PerIP:        s.cfg.MaxConnectionsPerIP,
		UDPPerIP:     s.cfg.MaxUDPSessionsPerIP,
		Handshaking:  s.cfg.MaxHandshaking,
		HLSCache:     s.cfg.HLSCache,
		MaxSessions:  maxSessions(s.nofile),
		Pipes:        maxPipes(s.nofile),
		DialTimeout:  s.cfg.DialTimeout,
		Loops:        s.cpus.ProxyLoops(),
		RelayMode:    s.cfg.RelayMode,
		Access:       s.cfg.Access,
	}
}

// explainListen adds to a failed Listen of the proxy who has the port and which
// flag moves us away from it.
func (s *setup) explainListen(ctx context.Context, err error) error {
	if !isBusy(err) {
		return err
	}
	for _, l := range s.publicListeners() {
		if tryListen(ctx, l.network, l.addr) != nil {
			return fmt.Errorf("%s is held by %s; stop that one, or choose another --%s", l, portHolder(l.network, l.port), l.flag)
		}
	}
	return err
}

// publicListener is one of the proxy's addresses.
type publicListener struct {
	address
	flag    string
	network string // tcp or udp
	addr    string
}

func (l publicListener) String() string { return fmt.Sprintf("port %d (%s)", l.port, l.flag) }

func (s *setup) publicListeners() []publicListener {
	var all []publicListener
	listeners := s.cfg.listeners()
	if s.hooks.sealer != nil {
		listeners = append(listeners, publicListener{flag: "hook-relay", network: "tcp", addr: s.hooks.addr.String()})
	}
	for _, l := range listeners {
		if a, err := splitAddress(l.addr); err == nil {
			l.address = a
			all = append(all, l)
		}
	}
	return all
}

func isBusy(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// portHolder names the process that has a port, as well as it may be seen.
func portHolder(network string, port int) string {
	pid, comm, found, err := runtime.PortOwner(network, port)
	switch {
	case err == nil && !found && ephemeral(port):
		return "an outgoing connection (it lies in the kernel's ephemeral range, where that can happen at any time)"
	case err != nil || !found:
		return "another process"
	case pid == 0:
		return "a process of another user or container"
	default:
		return "pid " + strconv.Itoa(pid) + " (" + printable(comm) + ")"
	}
}

func ephemeral(port int) bool {
	lo, hi, err := runtime.EphemeralRange()
	return err == nil && lo <= port && port <= hi
}
