package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv tells a test binary that it is in a network of its own, and where the files
// are that the first one has prepared.
const insideEnv = "SRS_PROXY_E2E_INSIDE"

// inNetwork runs the calling test once more, in a process whose network nobody else has,
// and reports how it went. Only in that process it returns true. Without the rights, or
// without what the kernel needs for it, the test is skipped.
func inNetwork(t *testing.T) bool {
	t.Helper()
	if suite.inside != "" {
		return true
	}
	needTool(t, "ip", "package iproute2")
	parallel := "2" // its tests wait most of the time, but a case has three origins and 30 clients
	if suite.faults {
		parallel = "1"
	}
	which := "^" + regexp.QuoteMeta(t.Name()) + "$"
	if _, sub, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok {
		which += "/" + sub
	}
	args := []string{"-test.run", which, "-test.v", "-test.parallel", parallel}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout", time.Until(end).String())
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideEnv+"="+suite.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("no network of its own for the test: %v", err)
	case err != nil:
		t.Errorf("in a network of its own: %v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: "+t.Name()+" "):
		t.Skipf("%s", out)
	default:
		t.Logf("%s", out)
	}
	return false
}

// network is hosts that reach each other through a router, which is where the test is:
//
//	host 10.77.1.2 ── 10.77.1.1 ┐
//	host 10.77.2.2 ── 10.77.2.1 ┼ router 10.77.0.1
//	host 10.77.3.2 ── 10.77.3.1 ┘
//
// It ends with the process that it is in, which has one.
type network struct{ hosts int }

const routerAddr = "10.77.0.1"

// host is a network namespace with one interface, or with nil that of the test.
type host struct {
	ns   *os.File
	dev  string // the router's end
	addr string
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	ip(t, "link", "set", "lo", "up")
	ip(t, "addr", "add", routerAddr+"/32", "dev", "lo")
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Skipf("no forwarding between network namespaces: %v", err)
	}
	return &network{}
}

// ip configures the network that the calling goroutine is in. What it refuses is not to be
// had on this machine.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Skipf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// host adds one.
func (n *network) host(t *testing.T) *host {
	t.Helper()
	n.hosts++
	id := strconv.Itoa(n.hosts)
	h := &host{dev: "v" + id, addr: "10.77." + id + ".2"}
	via := "10.77." + id + ".1"
	elsewhere(t, func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Skipf("no network namespace: %v", err)
		}
		h.ns = currentNetwork(t)
	})
	t.Cleanup(func() { h.ns.Close() })
	ip(t, "link", "add", h.dev, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()))
	ip(t, "addr", "add", via+"/30", "dev", h.dev)
	ip(t, "link", "set", h.dev, "up")
	h.do(t, func() {
		ip(t, "link", "set", "lo", "up")
		ip(t, "addr", "add", h.addr+"/30", "dev", "eth0")
		ip(t, "link", "set", "eth0", "up")
		ip(t, "route", "add", "default", "via", via)
	})
	return h
}

// elsewhere calls f, which enters another network, on a thread that is brought back after
// it. When the test ends in f the thread stays locked, and ends with its goroutine.
func elsewhere(t *testing.T, f func()) {
	t.Helper()
	goruntime.LockOSThread()
	back := currentNetwork(t)
	defer back.Close()
	f()
	enterNetwork(t, back)
	goruntime.UnlockOSThread()
}

func currentNetwork(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func enterNetwork(t *testing.T, ns *os.File) {
	t.Helper()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// do calls f on the host: processes that it starts and sockets that it opens itself are there.
func (h *host) do(t *testing.T, f func()) {
	t.Helper()
	if h == nil {
		f()
		return
	}
	elsewhere(t, func() {
		enterNetwork(t, h.ns)
		f()
	})
}

// at is a port of the host.
func (h *host) at(port int) string {
	if h == nil {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return net.JoinHostPort(h.addr, strconv.Itoa(port))
}

// router is an address of where the test is, as the host knows it.
func (h *host) router() string {
	if h == nil {
		return "127.0.0.1"
	}
	return routerAddr
}

// cut lets nothing pass between two hosts, of which nobody is told.
func (h *host) cut(t *testing.T, other *host) (mend func()) {
	t.Helper()
	rules := func(what string) {
		ip(t, "rule", what, "from", h.addr, "to", other.addr, "blackhole")
		ip(t, "rule", what, "from", other.addr, "to", h.addr, "blackhole")
	}
	rules("add")
	return func() { rules("del") }
}

// unplug takes the host's cable out: who sends to it is told that there is no way.
func (h *host) unplug(t *testing.T) (plug func()) {
	t.Helper()
	ip(t, "link", "set", h.dev, "down")
	return func() { ip(t, "link", "set", h.dev, "up") }
}
