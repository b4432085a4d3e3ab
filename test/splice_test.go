package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSpliceInSteadyState looks at the system calls of the proxy while media
// flows: it is moved by splice(2), and none of it is read into the process.
func TestSpliceInSteadyState(t *testing.T) {
	needTool(t, "strace", "package strace")
	in := up(t, 2)
	in.publish(t, "a")
	players := []*player{in.playRTMP(t, "a"), in.playFLV(t, "a")}
	awaitFrames(t, 20, 10*time.Second, players...) // past the GOP that was cached

	before := in.sessionSockets(t)
	trace := filepath.Join(t.TempDir(), "strace")
	strace := startTool(t, "strace", "-f", "-yy", "-qq", "-o", trace, "-p", strconv.Itoa(in.cmd.Process.Pid),
		"-e", "trace=read,write,readv,writev,sendto,recvfrom,sendmsg,recvmsg,splice")
	eventually(t, 10*time.Second, "strace sees system calls", func() (bool, string) {
		if !strace.running() && strings.Contains(strace.out.String(), "Operation not permitted") {
			t.Skip("strace may not attach to processes here (ptrace)")
		}
		text, _ := os.ReadFile(trace)
		return bytes.Contains(text, []byte("splice(")), fmt.Sprintf("%d bytes of trace; %s", len(text), strace.out.String())
	})
	awaitFrames(t, 45, 20*time.Second, players...) // three seconds
	for _, p := range players {
		p.checkNoGap(t)
	}
	detach(t, strace)
	after := in.sessionSockets(t)
	maps.DeleteFunc(before, func(s string, _ bool) bool { return !after[s] })
	// A publish and two plays, each with a socket on both sides.
	if len(before) != 6 {
		t.Fatalf("%d sockets of sessions, want 6: %v", len(before), before)
	}

	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	spliced, calls := 0, 0
	for _, c := range sysCalls(string(text)) {
		if !before[c.socket] {
			continue
		}
		calls++
		switch {
		case c.name == "splice":
			spliced += c.n
		case c.n >= 512:
			t.Errorf("%d bytes of a session go through the process: %+v", c.n, c)
		}
	}
	t.Logf("%d calls on the sessions' sockets, %d bytes spliced", calls, spliced)
	if spliced < 10_000 {
		t.Errorf("%d bytes spliced in three seconds of media, want all of it", spliced)
	}
}

func detach(t *testing.T, strace *tool) {
	t.Helper()
	if err := strace.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	strace.waitEnd(t, 10*time.Second)
}

// socketLine is what `ss` prints of a connection: the addresses of both ends.
var socketLine = regexp.MustCompile(`^ESTAB\s+\d+\s+\d+\s+(\S+)\s+(\S+)`)

// sessionSockets are the proxy's sockets that media may flow through, as "local->remote":
// those of the public ports and those to the origins' RTMP and HTTP ports.
func (in *instance) sessionSockets(t *testing.T) map[string]bool {
	t.Helper()
	ports := map[string]bool{}
	for _, o := range in.status().Origins {
		ports[strconv.Itoa(o.Ports.RTMP)] = true
		ports[strconv.Itoa(o.Ports.HTTP)] = true
	}
	r := run(t, exec.Command("ss", "-tnHO", "state", "all"))
	found := make(map[string]bool)
	for line := range strings.Lines(r.out) {
		m := socketLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		local, remote := m[1], m[2]
		if local == in.rtmp() || local == in.http() || ports[port(remote)] {
			found[local+"->"+remote] = true
		}
	}
	return found
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// sysCall is a finished system call on a TCP socket.
type sysCall struct {
	name   string
	socket string // "local->remote"
	n      int    // what it returned
}

// A call as strace -f -yy prints it, with the connection behind each descriptor.
// One that another thread interrupts is two lines: the first has the socket, the
// second the result.
var (
	callBegins  = regexp.MustCompile(`^(\d+) +(\w+)\(.*?<TCP(?:v6)?:\[([^\]]*)\]>`)
	callResumes = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>`)
	callReturns = regexp.MustCompile(`= (\d+)$`)
)

// sysCalls reads a trace.
func sysCalls(trace string) (calls []sysCall) {
	waiting := make(map[string]sysCall) // by thread
	for line := range strings.Lines(trace) {
		line = strings.TrimRight(line, "\n")
		var thread string
		var call sysCall
		if m := callResumes.FindStringSubmatch(line); m != nil {
			thread = m[1]
			call = waiting[thread]
			delete(waiting, thread)
		} else if m := callBegins.FindStringSubmatch(line); m != nil {
			thread = m[1]
			call = sysCall{name: m[2], socket: m[3]}
			if strings.HasSuffix(line, "<unfinished ...>") {
				waiting[thread] = call
				continue
			}
		}
		if m := callReturns.FindStringSubmatch(line); m != nil && call.socket != "" {
			call.n, _ = strconv.Atoi(m[1])
			calls = append(calls, call)
		}
	}
	return calls
}

func TestTraceReader(t *testing.T) {
	got := sysCalls(`10 read(7<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\27\1"..., 4096) = 700
10 read(8<UNIX:[1->2]>, "x", 1) = 1
11 splice(9<TCP:[127.0.0.1:3->127.0.0.1:4]>, NULL, 12<pipe:[5]>, NULL, 65536, SPLICE_F_MOVE|SPLICE_F_NONBLOCK <unfinished ...>
10 write(7<TCP:[127.0.0.1:1->127.0.0.1:2]>, "a", 1 <unfinished ...>
11 <... splice resumed>) = 1234
10 <... write resumed>) = 1
11 splice(9<TCP:[127.0.0.1:3->127.0.0.1:4]>, NULL, 12<pipe:[5]>, NULL, 65536, 0) = -1 EAGAIN (Resource temporarily unavailable)
`)
	want := []sysCall{
		{"read", "127.0.0.1:1->127.0.0.1:2", 700}, {"splice", "127.0.0.1:3->127.0.0.1:4", 1234}, {"write", "127.0.0.1:1->127.0.0.1:2", 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
