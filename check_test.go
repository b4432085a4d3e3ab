package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// goodFacts is a machine on which everything is right: 16 CPUs on 8 cores, two
// of them the proxy's, and 7 origins, one on each other core.
func goodFacts(t *testing.T) *facts {
	t.Helper()
	cfg, err := resolve(fakeSources(map[string]string{"state-dir": "/var/lib/srs-proxy"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	f := &facts{
		cfg: cfg,
		setup: &setup{
			cfg:      cfg,
			software: software{command: []string{"/opt/srs/objs/srs"}, found: "SRS at /opt/srs/objs/srs"},
			version:  srsconf.Version{Major: 7, Minor: 0, Revision: 67},
			ports:    srsconf.PortPlan{Base: cfg.PortBase},
			nofile:   1 << 20,
		},
		instanceErr: errNotRunning,
		kernel: runtime.Kernel{
			RmemMax: 16 * mib, WmemMax: 16 * mib, Somaxconn: 4096, EphemeralLo: 32768, EphemeralHi: 60999,
			FirstFreePort: 1024, PipeUserPages: 16384,
		},
		memory:    runtime.Memory{Total: 64 * gib, Available: 60 * gib},
		cgroups:   runtime.CgroupSupport{Mode: runtime.CgroupV2, Memory: runtime.CgroupFeature{By: runtime.CgroupV2}},
		bigPipes:  true,
		stateAt:   "/var/lib",
		disk:      runtime.Disk{Total: 200 * gib, Free: 100 * gib, TotalFiles: 1e7, FreeFiles: 9e6, Type: "ext2/ext3"},
		addresses: []candidate.Address{{Addr: netip.MustParseAddr("203.0.113.5"), Interface: "eth0"}, {Addr: netip.MustParseAddr("10.0.0.5"), Interface: "eth1"}},
		ports: []portFacts{
			{flag: "rtmp", network: "tcp", address: address{port: 1935}},
			{flag: "http", network: "tcp", address: address{port: 8080}},
			{flag: "api", network: "tcp", address: address{port: 1985}},
			{flag: "srt", network: "udp", address: address{port: 10080}},
			{flag: "webrtc", network: "udp", address: address{port: 8000}},
			{flag: "webrtc", network: "tcp", address: address{port: 8000}},
		},
	}
	for id := range 16 {
		f.host.CPUs = append(f.host.CPUs, runtime.CPU{ID: id, Core: id % 8})
	}
	f.setup.cpus = runtime.Plan{Proxy: runtime.CPUSet{0, 8}}
	for i := range 7 {
		f.setup.cpus.Origins = append(f.setup.cpus.Origins, runtime.CPUSet{i + 1})
		f.addOrigin("rtmp", "tcp", "127.0.0.1", 20000+10*i)
	}
	return f
}

// addOrigin adds one with a single listener.
func (f *facts) addOrigin(directive, network, host string, port int) {
	o := originFacts{id: fmt.Sprintf("origin-%d", len(f.origins)), listeners: []srsconf.Listener{{
		Directive: directive, Network: network, Addr: netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port)),
	}}}
	f.origins = append(f.origins, o)
	f.ports = append(f.ports, portFacts{origin: o.id, network: network, address: address{host: host, port: port}})
}

// originPorts are the ports behind the public ones.
func (f *facts) originPorts() []*portFacts {
	var found []*portFacts
	for i := range f.ports {
		if f.ports[i].origin != "" {
			found = append(found, &f.ports[i])
		}
	}
	return found
}

func TestPreflightOfAGoodMachine(t *testing.T) {
	found := preflight(goodFacts(t))
	for _, f := range found {
		if f.Verdict != verdictOK || f.Fix != "" {
			t.Errorf("%+v", f)
		}
	}
	if len(found) < 14 {
		t.Errorf("only %d lines", len(found))
	}
}

func TestPreflight(t *testing.T) {
	public := func(f *facts, err error, holder string) { f.ports[0].err, f.ports[0].holder = err, holder }
	tests := []struct {
		name    string
		change  func(*facts)
		subject string
		verdict verdict
		text    string // in its line
		fix     string // in its fix
	}{
		{"no srs", func(f *facts) { f.softwareErr = errors.New("cannot be run"); f.origins = nil }, "srs", verdictFail, "cannot be run", ""},
		{"old srs", func(f *facts) { f.setup.version = srsconf.Version{Major: 4, Revision: 9} }, "srs", verdictWarn, "4.0.9; use 5 or newer", ""},
		{"built-in by default", func(f *facts) { f.setup.software.builtin = true; f.setup.software.found = "the built-in origin" }, "srs", verdictWarn, "built-in", ""},
		{"srs variables", func(f *facts) { f.variables = []string{"SRS_LISTEN", "SRS_DAEMON"} }, "variables", verdictWarn, "SRS_LISTEN SRS_DAEMON are kept from the origins", "unset SRS_LISTEN SRS_DAEMON"},

		{"a bad template", func(f *facts) { f.templateErr = errors.New("template: x:3: oops"); f.origins = nil }, "config", verdictFail, "x:3: oops", ""},
		{"one refused config", func(f *facts) { f.origins[3].err = errors.New("refused: bad hls") }, "config", verdictFail, "origin-3: refused: bad hls", "srs-proxy config --origin 3"},
		{"all configs refused", func(f *facts) {
			for i := range f.origins {
				f.origins[i].err = errors.New("refused")
			}
		}, "config", verdictFail, "7 of 7 origins, the first of them origin-0: refused", "srs-proxy config --origin 0"},

		{"more origins than CPUs", func(f *facts) { f.setup.cpus.Origins = append(f.setup.cpus.Origins, runtime.CPUSet{1}) }, "cpus", verdictWarn, "8 origins share 7 CPUs", "--origins auto"},
		{"an offline CPU", func(f *facts) {
			f.offline = runtime.CPUSet{16, 17}
			f.cfg.OriginCPUs = runtime.CPUSet{1, 16}
			f.cpusErr = fmt.Errorf("CPU 16: %w", runtime.ErrCPUNotAllowed)
		}, "cpus", verdictFail, "CPU 16 is switched off", "sudo chcpu -e 16"},
		{"a CPU that is not ours", func(f *facts) {
			f.cfg.OriginCPUs = runtime.CPUSet{99}
			f.cpusErr = fmt.Errorf("CPU 99: %w", runtime.ErrCPUNotAllowed)
		}, "cpus", verdictFail, "CPU 99", ""},
		{"siblings while cores are free", func(f *facts) {
			f.setup.cpus.Origins = []runtime.CPUSet{{1}, {9}, {2}, {10}}
		}, "siblings", verdictWarn, "2 cores run an origin on each of their threads, at some 60 % of a core's speed each, while 5 cores are free", "--cpu-layout spread --origin-cpus 1-7"},
		{"siblings of necessity", func(f *facts) {
			for i := range 7 {
				f.setup.cpus.Origins = append(f.setup.cpus.Origins, runtime.CPUSet{9 + i})
			}
		}, "siblings", verdictOK, "7 cores", ""},
		{"quota too small", func(f *facts) { f.host.Quota = 2.5 }, "quota", verdictWarn, "2.5 CPUs, and 7 origins can use that of 7", "raise the quota"},
		{"quota that is enough", func(f *facts) { f.host.Quota = 8 }, "quota", verdictOK, "8 CPUs", ""},
		{"no cgroups", func(f *facts) { f.cgroups = runtime.CgroupSupport{Mode: runtime.CgroupNone} }, "cgroups", verdictOK, "without limits", ""},

		{"cgroups switched off", func(f *facts) {
			f.cgroups = runtime.CgroupSupport{Mode: runtime.CgroupNone}
			f.cfg.Cgroup = runtime.CgroupsOff
		}, "cgroups", verdictOK, "switched off by default of --cgroup", ""},

		{"limits that can be had", func(f *facts) {
			f.cfg.MemoryMax, f.cfg.Nice = 512*mib, level{true, 3}
		}, "limits", verdictOK, "each origin has memory 512M, nice 3", ""},
		{"a quota without its controller", func(f *facts) {
			f.cfg.CPUQuota, f.cgroups.CPU.Why = 0.5, "not delegated"
		}, "limits", verdictWarn, "not in force: CPU quota 0.5: not delegated", ""},
		{"limits without cgroups", func(f *facts) {
			f.cfg.MemoryMax = gib
			f.cgroups = runtime.CgroupSupport{Mode: runtime.CgroupNone, Memory: runtime.CgroupFeature{Why: "not mounted"}}
		}, "limits", verdictWarn, "not in force: memory limit 1G: not mounted", ""},
		{"memory of a NUMA node", func(f *facts) {
			f.cfg.CPULayout = runtime.NUMA
			for i := range f.host.CPUs {
				f.host.CPUs[i].Node = i % 2
			}
			f.setup.host, f.setup.cpus.Origins = f.host, []runtime.CPUSet{{2, 4}, {3, 5}}
			f.cgroups.Cpuset.By = runtime.CgroupV2
		}, "limits", verdictOK, "each origin has memory of its own NUMA node only", ""},
		{"a nice value that cannot be had", func(f *facts) { f.priorityErr = errors.New("flag --nice: nice -5 is less than ours") }, "limits", verdictFail, "flag --nice: nice -5", "AmbientCapabilities"},
		{"an OOM score that cannot be had", func(f *facts) { f.oomScoreErr = errors.New("flag --oom-score: OOM score -5") }, "limits", verdictFail, "flag --oom-score", "privileges"},

		{"little memory", func(f *facts) { f.memory = runtime.Memory{Total: gib, Available: 300 * mib, Limited: true} }, "memory", verdictWarn, "300M of 1.0G of the cgroup are free", "--origins 2"},
		{"strict overcommit", func(f *facts) { f.kernel.Overcommit = runtime.OvercommitNever; f.memory.Reservable = gib / 2 }, "memory", verdictWarn, "512M more may be reserved", "vm.overcommit_memory=0"},
		{"strict overcommit with room", func(f *facts) { f.kernel.Overcommit = runtime.OvercommitNever; f.memory.Reservable = 40 * gib }, "memory", verdictOK, "60G of 64G", ""},
		{"swap in use", func(f *facts) { f.memory.SwapUsed = 9 * gib }, "memory", verdictWarn, "9.0G are swapped out", "vm.swappiness=1"},

		{"connections over the hard limit", func(f *facts) { f.cfg.MaxConnections = 5000; f.limitErr = errors.New("allows 1024") }, "nofile", verdictFail, "allows 1024", "--nofile=5256:5256"},
		{"a low hard limit", func(f *facts) { f.setup.nofile = 4096 }, "nofile", verdictWarn, "1638 sessions of the proxy, 3840 connections of an origin; an origin could serve 10000", "LimitNOFILE=50000"},
		{"the proxy full first", func(f *facts) { f.setup.nofile = 20000 }, "nofile", verdictWarn, "the proxy is full before an origin is", "LimitNOFILE=50000"},
		{"--nofile over the hard limit", func(f *facts) { f.cfg.NoFile = 1 << 21 }, "nofile", verdictWarn, "asks for 2097152", "--nofile=2097152:2097152"},
		{"pipes of an ordinary user", func(f *facts) { f.bigPipes = false }, "pipes", verdictWarn, "while 64 connections are busy", "fs.pipe-user-pages-soft=0"},
		{"unlimited pipes", func(f *facts) { f.bigPipes, f.kernel.PipeUserPages = false, 1<<20 }, "pipes", verdictOK, "4096 busy", ""},

		{"already running", func(f *facts) { f.instance, f.instanceErr = 42, nil }, "instance", verdictWarn, "running as pid 42", "srs-proxy down --control /var/lib/srs-proxy/control.sock"},
		{"ports of the running one", func(f *facts) { f.instance, f.instanceErr, f.ports = 42, nil, nil }, "ports", verdictOK, "pid 42", ""},
		{"a socket of another user", func(f *facts) { f.instanceErr = errors.New("belongs to another user") }, "instance", verdictFail, "another user", ""},

		{"state dir is a file", func(f *facts) { f.stateAt, f.stateErr = "/var/lib", errNoDirectory }, "state", verdictFail, "/var/lib is no directory", "--state-dir"},
		{"state dir is read-only", func(f *facts) { f.stateErr = unix.EROFS }, "state", verdictFail, "cannot be written to (read-only file system)", "install -d"},
		{"disk full", func(f *facts) { f.disk.Free = 6 * mib }, "disk", verdictFail, "too little to start 7 origins", "df -h /var/lib"},
		{"disk nearly full", func(f *facts) { f.disk.Free = 900 * mib }, "disk", verdictWarn, "want 1.0G", "df -h /var/lib"},
		{"no inodes", func(f *facts) { f.disk.FreeFiles = 50 }, "disk", verdictFail, "and 50 files", "df -i /var/lib"},
		{"few inodes", func(f *facts) { f.disk.FreeFiles = 1000 }, "disk", verdictWarn, "1400 files", "df -i"},
		{"inodes not counted", func(f *facts) { f.disk.TotalFiles, f.disk.FreeFiles = 0, 0 }, "disk", verdictOK, "100G of 200G", ""},
		{"network file system", func(f *facts) { f.disk.Type = "nfs" }, "disk", verdictWarn, "network file system (nfs)", "--state-dir"},
		{"tmpfs", func(f *facts) { f.disk.Type = "tmpfs" }, "disk", verdictOK, "in memory", ""},

		{"plan in the ephemeral range", func(f *facts) { f.portPlanErr = errors.New("overlap; base 20000 would fit") }, "portplan", verdictFail, "base 20000 would fit", ""},
		{"public port taken", func(f *facts) { public(f, unix.EADDRINUSE, "pid 77 (nginx)") }, "ports", verdictFail, "port 1935/tcp (rtmp) is held by pid 77 (nginx)", "kill 77 (or choose another --rtmp)"},
		{"public port taken by a stranger", func(f *facts) { public(f, unix.EADDRINUSE, "another process") }, "ports", verdictFail, "held by another process", "ss -tanp 'sport = :1935'"},
		{"privileged port", func(f *facts) { f.ports[0].port = 80; public(f, unix.EACCES, "") }, "ports", verdictFail, "ports below 1024", "setcap cap_net_bind_service"},
		{"foreign address", func(f *facts) { f.ports[0].host = "192.0.2.9"; public(f, unix.EADDRNOTAVAIL, "") }, "ports", verdictFail, "192.0.2.9 is no address of this machine", "ip -brief address"},
		{"public port in the ephemeral range", func(f *facts) {
			f.ports[1].port = 40000
			f.kernel.Reserved = runtime.PortRanges{{Lo: 50000, Hi: 50009}}
		}, "ports", verdictWarn, "port 40000/tcp (http) is free, but lies in", "ip_local_reserved_ports=50000-50009,40000"},
		{"reserved public port", func(f *facts) {
			f.ports[1].port = 40000
			f.kernel.Reserved = runtime.PortRanges{{Lo: 40000, Hi: 40000}}
		}, "ports", verdictOK, "port 40000/tcp (http) is free", ""},
		{"origin ports taken", func(f *facts) {
			for i, p := range f.originPorts() {
				p.err, p.holder = unix.EADDRINUSE, fmt.Sprintf("pid %d (srs)", i+2)
			}
		}, "ports", verdictFail, "port 20030/tcp (origin-3) is held by pid 5 (srs); and 3 more", "kill 2 (or choose another --port-base)"},
		{"origin UDP port taken", func(f *facts) {
			f.addOrigin("srt_server", "udp", "127.0.0.1", 20074)
			f.ports[len(f.ports)-1].err, f.ports[len(f.ports)-1].holder = unix.EADDRINUSE, "another process"
		}, "ports", verdictFail, "port 20074/udp (origin-7) is held by another process", "ss -uanp 'sport = :20074'"},
		{"origin port refused", func(f *facts) { f.originPorts()[2].err = unix.EACCES }, "ports", verdictFail, "port 20020/tcp (origin-2): permission denied", ""},

		{"old SRS on all interfaces", func(f *facts) {
			f.setup.version = srsconf.Version{Major: 7, Revision: 18}
			f.addOrigin("rtc_server", "udp", "0.0.0.0", 20003)
			f.addOrigin("srt_server", "udp", "0.0.0.0", 20014)
		}, "exposed", verdictWarn, "20003/udp (origin-7, rtc_server), 20014/udp (origin-8, srt_server); SRS before 7.0.67 has no way not to (this is 7.0.18)", "th dport 20003-20014 drop"},
		{"a template on all interfaces", func(f *facts) { f.addOrigin("http_server", "tcp", "0.0.0.0", 20001) }, "exposed", verdictWarn, "reached past the proxy", "th dport 20001 drop"},

		{"few ephemeral ports", func(f *facts) { f.kernel.EphemeralLo = 55000 }, "ephemeral", verdictWarn, "6000 ports", "ip_local_port_range='21000 65535'"},
		{"few ephemeral ports and no room", func(f *facts) { f.kernel.EphemeralLo = 55000; f.setup.ports.Base = 61000 }, "ephemeral", verdictWarn, "6000 ports", "--max-connections 4800"},
		{"reserved ephemeral ports", func(f *facts) { f.kernel.Reserved = runtime.PortRanges{{Lo: 32768, Hi: 52767}} }, "ephemeral", verdictWarn, "8232 ports", "sysctl"},
		{"short backlog", func(f *facts) { f.kernel.Somaxconn = 128 }, "backlog", verdictWarn, "128", "net.core.somaxconn=4096"},
		{"small UDP buffers, not in use", func(f *facts) { f.kernel.RmemMax = 212992 }, "udp", verdictOK, "which are off", "rmem_max=16777216 net.core.wmem_max=16777216"},
		{"small UDP buffers", func(f *facts) {
			f.kernel.WmemMax, f.kernel.RmemMax = 212992, 32*mib
			f.addOrigin("srt_server", "udp", "127.0.0.1", 20004)
		}, "udp", verdictWarn, "SRS asks for 10485760", "rmem_max=33554432 net.core.wmem_max=16777216"},
		{"public addresses", func(*facts) {}, "candidates", verdictOK, "offers 203.0.113.5 (eth0): these are this machine's public", ""},
		{"private addresses", func(f *facts) { f.addresses = f.addresses[1:] }, "candidates", verdictWarn, "offers 10.0.0.5 (eth1): there is no public address", ""},
		{"behind a carrier's NAT", func(f *facts) {
			f.addresses = []candidate.Address{{Addr: netip.MustParseAddr("100.64.1.1"), Interface: "eth0"}, {Addr: netip.MustParseAddr("fd00::1"), Interface: "eth0"}}
		}, "candidates", verdictWarn, "offers 100.64.1.1 (eth0): there is no public address", ""},
		{"candidates of the operator's", func(f *facts) {
			f.cfg.Candidates = []candidate.Spec{{Host: "198.51.100.1"}, {Host: "2001:db8::1", Port: 9000}}
		}, "candidates", verdictOK, "offers 198.51.100.1, [2001:db8::1]:9000, as --candidate says", ""},
		{"no address", func(f *facts) { f.addresses = nil }, "candidates", verdictWarn, "no address but loopback", ""},
		{"an unreadable fact", func(f *facts) { f.unread = []finding{warn("memory", "not known: x")} }, "memory", verdictWarn, "not known", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := goodFacts(t)
			tt.change(f)
			found := preflight(f)
			hit := false
			for _, l := range found {
				if l.Subject == tt.subject && l.Verdict == tt.verdict && strings.Contains(l.Text, tt.text) {
					hit = true
					if !strings.Contains(l.Fix, tt.fix) || tt.fix == "" && l.Fix != "" {
						t.Errorf("fix %q, want %q", l.Fix, tt.fix)
					}
				}
				if l.Subject != tt.subject && l.Verdict == verdictFail {
					t.Errorf("fails too: %+v", l)
				}
				if strings.ContainsAny(l.Text+l.Fix, "\n\r") {
					t.Errorf("more than one line: %+v", l)
				}
			}
			if !hit {
				t.Errorf("no %s %s with %q among\n%+v", tt.verdict, tt.subject, tt.text, found)
			}
			if tt.verdict != verdictOK && worst(found) != tt.verdict {
				t.Errorf("the whole is %s", worst(found))
			}
		})
	}
}

// Nothing that is not known may be taken for a number.
func TestPreflightOfAnUnreadableMachine(t *testing.T) {
	f := goodFacts(t)
	f.kernel, f.host, f.memory, f.cgroups = unknownKernel(), runtime.Topology{}, runtime.Memory{}, runtime.CgroupSupport{}
	f.diskErr = errors.New("stale handle")
	for _, l := range preflight(f) {
		if l.Verdict == verdictFail || strings.Contains(l.Text+l.Fix, "-1") {
			t.Errorf("%+v", l)
		}
	}
}

func TestSRSVariables(t *testing.T) {
	env := []string{"PATH=/bin", "SRS_LISTEN=1935", "SRS_PROXY_ORIGINS=3", "SRS_BINARY=/srs", "SRS_DEVICE_IP=1.2.3.4", "HOME=/", "SRS_DAEMON=on"}
	if got := strings.Join(srsVariables(env), " "); got != "SRS_LISTEN SRS_DAEMON" {
		t.Errorf("%q", got)
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"/var/lib/x": "/var/lib/x", "a b": "'a b'", "": "''", "it's": `'it'\''s'`, "$HOME": "'$HOME'"} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}

// The real thing on this machine, with 128 origins: it says how all of it is, in
// good time, and leaves nothing behind.
func TestCheckOfThisMachine(t *testing.T) {
	dir := socketDir(t)
	tmp := t.TempDir()
	var out, errs string
	var code int
	var took time.Duration
	// Others on this machine may take one of so many ports meanwhile: another base, then.
	for range 5 {
		cmd := command(t, dir, "check", "-o", "json", "--origins", "128", "--port-base", fmt.Sprint(freePorts(t, 1280)))
		cmd.Env = append(cmd.Env, "TMPDIR="+tmp, "SRS_LISTEN=1935")
		start := time.Now()
		out, errs, code = run(t, cmd)
		took = time.Since(start)
		if !strings.Contains(out, ") is held by ") {
			break
		}
	}
	var got struct {
		Verdict  verdict
		Findings []finding
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK {
		t.Fatalf("code %d, %v: %s%s", code, err, out, errs)
	}
	if got.Verdict != verdictWarn { // SRS_LISTEN, if nothing else
		t.Errorf("verdict %s", got.Verdict)
	}
	texts := make(map[string]string)
	for _, f := range got.Findings {
		texts[f.Subject] += f.Text + "\n"
	}
	for subject, want := range map[string]string{
		"config": "those of 128 origins accepted", "ports": "ports of 128 origins are free", "variables": "SRS_LISTEN",
		"disk": "free for " + dir, "nofile": "limit of open files", "cpus": "128 origins",
	} {
		if !strings.Contains(texts[subject], want) {
			t.Errorf("%s: %q lacks %q", subject, texts[subject], want)
		}
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if len(buildFlags()) == 0 && took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	t.Logf("128 configs in %s", took.Round(time.Millisecond))
}

// All findings of a broken set-up come at once, and the code says so.
func TestCheckFails(t *testing.T) {
	dir := socketDir(t)
	vhosts := writeTemp(t, "v.conf", "vhost __defaultVhost__ { no_such_thing on; }\n")
	base := freePorts(t, 30)
	args := []string{"check", "--origins", "3", "--port-base", fmt.Sprint(base), "--vhosts", vhosts, "--rtmp", "192.0.2.77:1935"}
	out, errs, code := run(t, command(t, dir, args...))
	want := []string{"is no address of this machine", "fix: ip -brief address"}
	if os.Getenv("SRS_BINARY") != "" {
		want = append(want, "FAIL  config      3 of 3 origins")
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("lacks %q:\n%s%s", w, out, errs)
		}
	}
	if code != exitFailure {
		t.Errorf("code %d", code)
	}
	if _, errs, code = run(t, command(t, dir, "check", "-o", "yaml")); code != exitUsage || !strings.Contains(errs, "table or json") {
		t.Errorf("-o yaml: code %d, %s", code, errs)
	}
}
