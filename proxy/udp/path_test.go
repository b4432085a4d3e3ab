package udp_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/source"
	"srs-proxy/proxy/udp"
	"srs-proxy/testkit"
)

// What a relay costs for a packet, over loopback and over a veth pair as of a container:
//
//	clients ═ veth or loopback ═ relay, a process of its own ═ loopback ═ origin, which echoes
//
// A turn is a burst of packets of 1,200 bytes from each of some clients, and the wait
// until all are back: nothing is lost, and each packet passes twice. The figure is the CPU time of
// the relay's process; senders and receivers are not in it.
//
//	go test -run xxx -bench Path -benchtime 100000x ./proxy/udp
func BenchmarkPath(b *testing.B) {
	relays := []struct {
		name  string
		start func(*testing.B, *road) netip.AddrPort
	}{
		{"one call a packet", relayProcess("single")},
		{"batches", relayProcess("batches")},
		{"batches and runs", relayProcess("runs")},
		{"nginx", nginxProcess},
	}
	for _, veth := range []bool{false, true} {
		for _, load := range []struct{ clients, burst int }{{1, 1}, {10, 1}, {1, 5}, {10, 5}, {1, 32}} {
			for _, relay := range relays {
				name := fmt.Sprintf("%s/%dx%d/%s", map[bool]string{true: "veth", false: "loopback"}[veth], load.clients, load.burst, relay.name)
				b.Run(name, func(b *testing.B) {
					r := newRoad(b, veth)
					r.pump(b, relay.start(b, r), load.clients, load.burst)
				})
			}
		}
	}
}

// road is where the two sides of a relay are: in networks of their own, or both in that
// of the test.
type road struct {
	near, far *os.File // of the clients, of the relay and the origin; nil for the test's
	addr      string   // of the relay, as clients know it
	pid       int      // of the relay
	origin    *net.UDPConn
}

const (
	nearAddr = "10.77.9.1"
	farAddr  = "10.77.9.2"
)

func newRoad(b *testing.B, veth bool) *road {
	b.Helper()
	r := &road{addr: "127.0.0.1"}
	if veth {
		testkit.NeedTools(b, "ip")
		r.near, r.far, r.addr = newNetwork(b), newNetwork(b), farAddr
		in(b, r.near, func() {
			ip(b, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.far.Fd()))
			ip(b, "addr", "add", nearAddr+"/30", "dev", "near")
			ip(b, "link", "set", "near", "up")
		})
		in(b, r.far, func() {
			ip(b, "addr", "add", farAddr+"/30", "dev", "far")
			ip(b, "link", "set", "far", "up")
		})
	}
	in(b, r.far, func() { r.origin = startEcho(b, "127.0.0.1:0").UDPConn })
	return r
}

// newNetwork has nothing but loopback. It ends when the file is closed and no process is in it.
func newNetwork(b *testing.B) (ns *os.File) {
	b.Helper()
	in(b, nil, func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			b.Skipf("no network namespace: %v", err)
		}
		ns = currentNetwork(b)
		ip(b, "link", "set", "lo", "up")
	})
	b.Cleanup(func() { ns.Close() })
	return ns
}

// in calls f on a thread that is in a network, and brings the thread back. What f opens
// and starts stays there.
func in(b *testing.B, ns *os.File, f func()) {
	b.Helper()
	goruntime.LockOSThread()
	back := currentNetwork(b)
	defer back.Close()
	if ns != nil {
		enter(b, ns)
	}
	f()
	enter(b, back) // a thread for which this fails stays locked, and ends with its goroutine
	goruntime.UnlockOSThread()
}

func enter(b *testing.B, ns *os.File) {
	b.Helper()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		b.Skipf("a network namespace cannot be entered: %v", err)
	}
}

func currentNetwork(b *testing.B) *os.File {
	b.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		b.Fatal(err)
	}
	return ns
}

func ip(b *testing.B, args ...string) {
	b.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		b.Skipf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// run starts a process in the relay's network. It ends with the benchmark.
func (r *road) run(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	var err error
	in(b, r.far, func() { err = cmd.Start() })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r.pid = cmd.Process.Pid
}

// relayEnv makes the test's binary a relay of that kind, to the origin in originEnv.
const (
	relayEnv  = "SRS_PROXY_TEST_RELAY"
	originEnv = "SRS_PROXY_TEST_RELAY_ORIGIN"
)

func relayProcess(kind string) func(*testing.B, *road) netip.AddrPort {
	return func(b *testing.B, r *road) netip.AddrPort {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), relayEnv+"="+kind, originEnv+"="+r.origin.LocalAddr().String(), "GOMAXPROCS=2")
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		r.run(b, cmd)
		var port uint16
		if _, err := fmt.Fscan(bufio.NewReader(out), &port); err != nil {
			b.Fatal(err)
		}
		return netip.AddrPortFrom(netip.MustParseAddr(r.addr), port)
	}
}

// beRelay is that process: it says its port, and relays until it is killed.
func beRelay(kind, origin string) error {
	to, err := netip.ParseAddrPort(origin)
	if err != nil {
		return err
	}
	if kind == "single" {
		return relaySingly(to)
	}
	br := &bridge{origin: to, flows: []map[udp.Peer]*bridgeSession{{}}}
	s := udp.New(udp.Config{Listen: "0.0.0.0:0", Shards: 1}, br, source.New(), slog.New(slog.DiscardHandler))
	if err := s.Listen(); err != nil {
		return err
	}
	if kind == "batches" {
		s.WithoutRuns()
	}
	fmt.Println(s.Addr().(*net.UDPAddr).Port)
	return s.Run(context.Background())
}

// relaySingly is what each Go proxy does at least: a socket and a goroutine for each
// client, and a system call for each packet.
func relaySingly(origin netip.AddrPort) error {
	in, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	fmt.Println(in.LocalAddr().(*net.UDPAddr).Port)
	sessions := make(map[netip.AddrPort]*net.UDPConn)
	buf := make([]byte, udp.MaxDatagram)
	for {
		n, from, err := in.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		out := sessions[from]
		if out == nil {
			if out, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(origin)); err != nil {
				return err
			}
			sessions[from] = out
			go func() {
				buf := make([]byte, udp.MaxDatagram)
				for {
					n, err := out.Read(buf)
					if err != nil {
						return
					}
					_, _ = in.WriteToUDPAddrPort(buf[:n], from)
				}
			}()
		}
		_, _ = out.Write(buf[:n])
	}
}

// nginxModule is where Debian's libnginx-mod-stream puts its module.
const nginxModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

func nginxProcess(b *testing.B, r *road) netip.AddrPort {
	testkit.NeedTools(b, "nginx")
	if _, err := os.Stat(nginxModule); err != nil {
		b.Skip("nginx has no stream module: libnginx-mod-stream")
	}
	dir, port := b.TempDir(), testkit.FreePort(b)
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`load_module %s;
daemon off; master_process off; pid %s/pid; error_log %s/error.log;
events { worker_connections 1024; }
stream { server { listen 0.0.0.0:%d udp; proxy_pass %s; } }
`, nginxModule, dir, dir, port, r.origin.LocalAddr())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	r.run(b, exec.Command("nginx", "-p", dir, "-c", conf, "-e", dir+"/early.log"))
	return netip.AddrPortFrom(netip.MustParseAddr(r.addr), uint16(port))
}

// dial opens a client's socket and waits until the relay and its way to the origin are there.
func (r *road) dial(b *testing.B, to netip.AddrPort) (c *net.UDPConn) {
	b.Helper()
	in(b, r.near, func() {
		var err error
		if c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to)); err != nil {
			b.Fatal(err)
		}
	})
	b.Cleanup(func() { c.Close() })
	buf := make([]byte, 16)
	testkit.Within(b, patience, "the relay answers", func() bool {
		_, _ = c.Write([]byte("hello"))
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := c.Read(buf)
		return err == nil && string(buf[:n]) == "hello"
	})
	// Answers to what was asked again meanwhile.
	for {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(buf); err != nil {
			break
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	return c
}

// pump has b.N packets go to the origin and come back.
func (r *road) pump(b *testing.B, to netip.AddrPort, clients, burst int) {
	conns := make([]*net.UDPConn, clients)
	for i := range conns {
		conns[i] = r.dial(b, to)
		_ = conns[i].SetReadDeadline(time.Now().Add(5 * time.Minute))
	}
	packet, buf := make([]byte, 1200), make([]byte, udp.MaxDatagram)
	b.ResetTimer()
	before := processTime(b, r.pid)
	for left := b.N; left > 0; {
		var sent []*net.UDPConn
		for _, c := range conns {
			for range min(burst, left) {
				if _, err := c.Write(packet); err != nil {
					b.Fatal(err)
				}
				sent = append(sent, c)
				left--
			}
		}
		for _, c := range sent {
			if _, err := c.Read(buf); err != nil {
				b.Fatalf("a packet is lost: %v", err)
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(processTime(b, r.pid)-before)/float64(2*b.N)/1000, "cpu-us/packet")
}

// processTime is the CPU time of another process: its clock is named by its complement
// (clock_getcpuclockid(3)).
func processTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
