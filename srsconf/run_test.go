package srsconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRealSRSRuns starts a real SRS with a rendered config and looks at it from
// outside: where it listens, what it answers, what it writes, how it stops.
func TestRealSRSRuns(t *testing.T) {
	binary, v := srs(t)
	udpAddr := v.Since(Version{7, 0, 67})
	tests := []struct {
		name   string
		change func(*Params)
		want   func(Ports) []string
	}{
		{"streams", func(*Params) {}, func(p Ports) []string {
			return []string{loop("tcp", p.RTMP), loop("tcp", p.HTTP), loop("tcp", p.API)}
		}},
		{"everything", func(p *Params) {
			p.RTC, p.RTCTCP, p.RTMPToRTC, p.SRT, p.Exporter, p.AsProcess = true, true, true, true, true, true
		}, func(p Ports) []string {
			rtcAndSRT := []string{"udp 0.0.0.0:" + itoa(p.RTC), "tcp 0.0.0.0:" + itoa(p.RTC), "udp 0.0.0.0:" + itoa(p.SRT)}
			if udpAddr {
				rtcAndSRT = []string{loop("udp", p.RTC), loop("tcp", p.RTC), loop("udp", p.SRT)}
			}
			return append(rtcAndSRT, loop("tcp", p.RTMP), loop("tcp", p.HTTP), loop("tcp", p.API), loop("tcp", p.Exporter))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Params{Slot: 2, Version: v, WorkDir: filepath.Join(t.TempDir(), "origin 2"), MaxConnections: 100}
			p.Ports = freePlan(t).Ports(p.Slot)
			tt.change(&p)
			conf, err := builtin(t).Render(p)
			if err != nil {
				t.Fatal(err)
			}
			root, err := Parse("srs.conf", conf)
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range Dirs(root) {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(p.WorkDir, "srs.conf")
			if err := WriteFile(file, conf); err != nil {
				t.Fatal(err)
			}
			cmd := startSRS(t, binary, file)

			eventually(t, "the API answers with our pid and id", func() error {
				return apiIsOurs(p.Ports.API, cmd.Process.Pid)
			})
			eventually(t, "RTMP answers a handshake", func() error { return rtmpHandshake(p.Ports.RTMP) })
			eventually(t, "HTTP answers", func() error {
				return httpGet(p.Ports.HTTP, "/live/none.m3u8", func(status int, _ []byte) error {
					if status != http.StatusNotFound {
						return fmt.Errorf("status %d", status)
					}
					return nil
				})
			})
			want := tt.want(p.Ports)
			slices.Sort(want)
			eventually(t, "it listens where it should, and nowhere else", func() error {
				if got := listeningOf(t, cmd.Process.Pid); !slices.Equal(got, want) {
					return fmt.Errorf("it listens on %v, not %v", got, want)
				}
				return nil
			})
			var described []string
			listeners, err := Listeners(root)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range listeners {
				described = append(described, l.Network+" "+l.Addr.String())
			}
			slices.Sort(described)
			if !slices.Equal(described, want) {
				t.Errorf("Listeners reads %v from the config, SRS listens on %v", described, want)
			}
			if pid, err := os.ReadFile(filepath.Join(p.WorkDir, "srs.pid")); err != nil || string(pid) != itoa(cmd.Process.Pid) {
				t.Errorf("pid file %q, %v", pid, err)
			}
			if info, err := os.Stat(filepath.Join(p.WorkDir, "srs.log")); err != nil || info.Size() == 0 {
				t.Errorf("log file: %v", err)
			}

			// Well before the SIGTERM that would follow at 8 s.
			stopSRS(t, cmd, syscall.SIGQUIT, 6*time.Second)
			for _, port := range p.Ports.List() {
				if !bindable(port) {
					t.Errorf("port %d is still taken", port)
				}
			}
		})
	}
}

func loop(network string, port int) string { return network + " 127.0.0.1:" + itoa(port) }

func startSRS(t *testing.T, binary, file string) *exec.Cmd {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(binary, "-c", file)
	cmd.Env = CleanEnv(os.Environ())
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("SRS printed:\n%s", out.Bytes())
		}
	})
	return cmd
}

func stopSRS(t *testing.T, cmd *exec.Cmd, sig os.Signal, most time.Duration) {
	t.Helper()
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	kill := time.AfterFunc(most, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	if !kill.Stop() {
		t.Fatalf("still there %s after %s", most, sig)
	}
	t.Logf("stopped %s after %s: %s", time.Since(start).Round(time.Millisecond), sig, cmd.ProcessState)
}

// eventually retries what a starting process needs a moment for.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func httpGet(port int, path string, look func(status int, body []byte) error) error {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://127.0.0.1:" + itoa(port) + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return look(resp.StatusCode, body)
}

func apiIsOurs(port, pid int) error {
	return httpGet(port, "/api/v1/versions", func(_ int, body []byte) error {
		var reply struct{ Server, PID string }
		if err := json.Unmarshal(body, &reply); err != nil {
			return err
		}
		if reply.Server != "origin-2" || reply.PID != itoa(pid) {
			return fmt.Errorf("the API answers %s", body)
		}
		return nil
	})
}

// rtmpHandshake sends C0 and C1 and expects S0 and S1.
func rtmpHandshake(port int) error {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+itoa(port), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	c0c1 := make([]byte, 1+1536)
	c0c1[0] = 3
	if _, err := conn.Write(c0c1); err != nil {
		return err
	}
	s0s1 := make([]byte, len(c0c1))
	if _, err := io.ReadFull(conn, s0s1); err != nil {
		return err
	}
	if s0s1[0] != 3 {
		return fmt.Errorf("S0 is %d", s0s1[0])
	}
	return nil
}

// freePlan probes for a base whose first slots are free, outside of the
// ephemeral range.
func freePlan(t *testing.T) PortPlan {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	var lo, hi int
	if _, err := fmt.Sscan(string(text), &lo, &hi); err != nil {
		t.Fatal(err)
	}
	// Processes that test at the same time begin at different places.
	for i := range 500 {
		plan := PortPlan{Base: 21500 + (os.Getpid()*40+i*40)%10000}
		if plan.Validate(3, lo, hi, nil) == nil && !slices.ContainsFunc(plan.Ports(2).List(), func(p int) bool { return !bindable(p) }) {
			return plan
		}
	}
	t.Fatal("no free ports")
	return PortPlan{}
}

// bindable reports whether nobody has the port, on TCP or UDP, on any address.
func bindable(port int) bool {
	tcp, err := net.Listen("tcp4", ":"+itoa(port))
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", ":"+itoa(port))
	if err != nil {
		return false
	}
	return udp.Close() == nil
}

// listeningOf are the sockets on which a process listens, from /proc.
func listeningOf(t *testing.T, pid int) []string {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	const tcpListen, udpUnconnected = "0A", "07"
	var found []string
	for _, table := range []struct{ file, network, state string }{
		{"tcp", "tcp", tcpListen}, {"tcp6", "tcp", tcpListen}, {"udp", "udp", udpUnconnected}, {"udp6", "udp", udpUnconnected},
	} {
		text, err := os.ReadFile("/proc/net/" + table.file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == table.state && inodes[f[9]] {
				found = append(found, table.network+" "+procAddr(t, f[1]))
			}
		}
	}
	slices.Sort(found)
	return found
}

// procAddr reads an address of /proc/net: 0100007F:4E20 is 127.0.0.1:20000.
func procAddr(t *testing.T, s string) string {
	t.Helper()
	host, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	if len(host) != 8 {
		return "[" + host + "]:" + itoa(int(n))
	}
	ip, err := strconv.ParseUint(host, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(ip), byte(ip >> 8), byte(ip >> 16), byte(ip >> 24)}), uint16(n)).String()
}
