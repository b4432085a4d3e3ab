package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBadInput: each mistake ends `up` at once, with the exit code, the place and
// the way out, and leaves nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	unknownKey := file("unknown.yaml", "# mine\nlog-level: debug\noriginz: 3\n", 0o644)
	badValue := file("value.yaml", "\nlease-idle: soon\n", 0o644)
	noYAML := file("no.yaml", "origins: [\n", 0o644)
	syntax := file("syntax.tmpl", "listen 1935;\n{{.Slot\n", 0o644)
	field := file("field.tmpl", "listen 1935;\nserver_id {{.Slott}};\n", 0o644)
	refused := file("refused.tmpl", "{{.Overlay}}listen {{.Addr .Ports.RTMP}};\nno_such_directive {{.ID}} {{.Path \"a\"}} {{.LogFile}} {{.PIDFile}} {\n", 0o644)
	overlay := file("overlay.conf", "vhost a {\n", 0o644)
	notInOverlay := file("listen.conf", "vhost a { }\nlisten 1935;\n", 0o644)
	noProgram := file("srs-text", "hello\n", 0o644)
	quits := script(t, `[ "$1" = -v ] && { echo 7.0.18; exit 0; }; [ "$1" = -t ] && exit 0; echo "cannot open the moon" >&2; exit 7`)
	quitsAtVersion := script(t, `echo "no such version" >&2; exit 9`)
	refuses := script(t, `[ "$1" = -v ] && { echo 7.0.18; exit 0; }; echo "line 3: the moon is closed" >&2; exit 1`)

	for _, tt := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"unknown flag", []string{"--bogus"}, 2, []string{"--bogus", "up --help"}},
		{"misspelt flag", []string{"--orgins", "3"}, 2, []string{"--orgins", "did you mean --origins"}},
		{"flag without value", []string{"--origins"}, 2, []string{"origins"}},
		{"words after the flags", []string{"origins=3"}, 2, []string{`"origins=3"`, "up --help"}},
		{"no origins", []string{"--origins", "0"}, 2, []string{"--origins", `"0"`, "1 to 1024"}},
		{"negative origins", []string{"--origins", "-1"}, 2, []string{"--origins", `"-1"`, "1 to 1024"}},
		{"origins in words", []string{"--origins", "x"}, 2, []string{"--origins", `"x"`, "1 to 1024"}},
		{"origins beyond all ports", []string{"--origins", "100000"}, 2, []string{"--origins", `"100000"`, "1 to 1024"}},
		{"port", []string{"--rtmp", "127.0.0.1:99999"}, 2, []string{"--rtmp", "99999", "65535"}},
		{"host name", []string{"--http", "nowhere.example.org:80"}, 2, []string{"--http", "nowhere.example.org", "IP address"}},
		{"an address twice", []string{"--rtmp", "127.0.0.1:7777", "--http", "127.0.0.1:7777"}, 2, []string{"--http", "7777", "rtmp"}},
		{"address of no interface", []string{"--rtmp", "192.0.2.1:1935"}, 1, []string{"192.0.2.1:1935"}},
		{"port base in the ephemeral range", []string{"--port-base", "40000"}, 1, []string{"--port-base", "ephemeral", "would fit"}},
		{"port base beyond the end", []string{"--port-base", "65530"}, 1, []string{"--port-base", "65535", "would fit"}},
		{"port base over a public port", []string{"--port-base", "25000", "--rtmp", "127.0.0.1:25003"}, 1, []string{"--port-base", "25003", "would fit"}},
		{"CPU list", []string{"--origin-cpus", "a-b"}, 2, []string{"--origin-cpus", `"a-b"`, "0-3,8"}},
		{"CPU that is not there", []string{"--origin-cpus", "4000"}, 1, []string{"4000", "--origin-cpus"}},
		{"layout", []string{"--cpu-layout", "heap"}, 2, []string{"--cpu-layout", `"heap"`, "spread"}},
		{"duration", []string{"--dial-timeout", "5"}, 2, []string{"--dial-timeout", `"5"`, "unit"}},
		{"log level", []string{"--log-level", "loud"}, 2, []string{"--log-level", `"loud"`, "debug, info, warn or error"}},
		{"control path too long", []string{"--control", "/" + strings.Repeat("c", 120)}, 2, []string{"--control", "107"}},
		{"state dir is a file", []string{"--state-dir", noProgram}, 1, []string{noProgram}},

		{"unknown YAML key", []string{"--config", unknownKey}, 2, []string{unknownKey + ":3", `"originz"`, "did you mean origins"}},
		{"YAML value", []string{"--config", badValue}, 2, []string{badValue + ":2", "lease-idle", `"soon"`, "unit"}},
		{"no YAML", []string{"--config", noYAML}, 2, []string{noYAML}},
		{"config file missing", []string{"--config", "/nonexistent/c.yaml"}, 2, []string{"--config", "/nonexistent/c.yaml", "no such file"}},
		{"config file is a folder", []string{"--config", dir}, 2, []string{"--config", dir, "regular file"}},

		{"template missing", []string{"--template", "/nonexistent/t"}, 2, []string{"--template", "/nonexistent/t", "no such file"}},
		{"template syntax", []string{"--template", syntax}, 1, []string{syntax + ":"}},
		{"template field", []string{"--template", field}, 1, []string{field + ":2", "Slott"}},
		{"template that makes no config", []string{"--template", refused}, 1, []string{"origin-0"}},
		{"vhosts missing", []string{"--vhosts", "/nonexistent/v"}, 2, []string{"--vhosts", "/nonexistent/v", "no such file"}},
		{"vhosts syntax", []string{"--vhosts", overlay}, 1, []string{overlay + ":"}},
		{"listener in vhosts", []string{"--vhosts", notInOverlay}, 1, []string{notInOverlay + ":2", "listen", "template"}},

		{"srs missing", []string{"--srs", "/nonexistent"}, 2, []string{"--srs", "/nonexistent", "no such file", "builtin"}},
		{"srs not executable", []string{"--srs", noProgram}, 2, []string{"--srs", noProgram, "not an executable", "builtin"}},
		{"srs is a folder", []string{"--srs", dir}, 2, []string{"--srs", dir, "not an executable"}},
		{"srs without a version", []string{"--srs", quitsAtVersion}, 1, []string{quitsAtVersion, "no such version", "--srs"}},
		{"srs refuses the config", []string{"--srs", refuses}, 1, []string{"the moon is closed", "origin-0"}},
		{"srs exits at once", []string{"--srs", quits}, 1, []string{"exit code 7", "cannot open the moon"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := launch(t, 2, tt.args...)
			code := in.waitEnd(15 * time.Second)
			said := in.err.String()
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			// The complaint is the last thing said, so that it is seen.
			_, complaint, _ := strings.Cut(said, "srs-proxy: ")
			for _, want := range tt.says {
				if !strings.Contains(complaint, want) {
					t.Errorf("the complaint lacks %q:\n%s", want, said)
				}
			}
			if strings.Contains(said, "goroutine ") {
				t.Errorf("a stack trace for an operator:\n%s", said)
			}
		})
	}
}

// TestUnreadableFiles runs as a user that permissions hold for.
func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--config", "--template", "--vhosts"} {
		t.Run(flag, func(t *testing.T) {
			path := writeFile(t, "secret", "")
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(suite.binary, "up", "--state-dir", t.TempDir(), flag, path)
			if os.Geteuid() == 0 {
				const nobody = 65534
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			}
			r := run(t, cmd)
			if r.code != 2 || !strings.Contains(r.err, flag) || !strings.Contains(r.err, path) || !strings.Contains(r.err, "permission denied") {
				t.Errorf("exit code %d, %q; want 2, the flag, the file and why", r.code, r.err)
			}
		})
	}
}

// TestUsageOfCommands: other commands and variables are as strict.
func TestUsageOfCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		args []string
		env  string
		code int
		says []string
	}{
		{[]string{"upp"}, "", 2, []string{`"upp"`, "did you mean up"}},
		{[]string{"status", "--bogus"}, "", 2, []string{"--bogus"}},
		{[]string{"status", "extra"}, "", 2, []string{`"extra"`}},
		{[]string{"down", "--timeout", "-1s"}, "", 2, []string{"--timeout"}},
		{[]string{"up", "--state-dir", dir}, "SRS_PROXY_ORIGINS=nine", 2, []string{"SRS_PROXY_ORIGINS", `"nine"`}},
		{[]string{"up", "--state-dir", dir}, "PROXY_RTMP_SERVER=rtmp", 2, []string{"PROXY_RTMP_SERVER", `"rtmp"`}},
		{[]string{"up", "--state-dir", dir}, "SRS_BINARY=/nonexistent", 2, []string{"SRS_BINARY", "/nonexistent"}},
		{[]string{"origin"}, "", 2, []string{"-c"}},
		{[]string{"origin", "-c", "/nonexistent"}, "", 1, []string{"/nonexistent", "no such file"}},
	} {
		t.Run(strings.Join(tt.args, " ")+" "+tt.env, func(t *testing.T) {
			cmd := exec.Command(suite.binary, tt.args...)
			cmd.Env = cleanEnv(tt.env)
			r := run(t, cmd)
			if r.code != tt.code {
				t.Errorf("exit code %d, want %d: %s", r.code, tt.code, r.err)
			}
			for _, want := range tt.says {
				if !strings.Contains(r.err, want) {
					t.Errorf("%q lacks %q", r.err, want)
				}
			}
		})
	}
}

// TestPortsBusy: whoever has a port is named, and keeps it.
func TestPortsBusy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		port func(b block) int
		says []string
	}{
		{"rtmp", func(b block) int { return b.RTMP }, []string{"--rtmp"}},
		{"http", func(b block) int { return b.HTTP }, []string{"--http"}},
		{"api", func(b block) int { return b.API }, []string{"--api"}},
		{"srt", func(b block) int { return b.SRT }, []string{"--srt"}},
		{"webrtc", func(b block) int { return b.WebRTC }, []string{"--webrtc"}},
		{"an origin's", func(b block) int { return b.base + perOrigin + 1 }, []string{"origin-1", "--port-base"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := newInstance(t, 2)
			port := tt.port(in.ports)
			ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			udp, err := net.ListenPacket("udp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			in.start()
			if code := in.waitEnd(10 * time.Second); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			for _, want := range append(tt.says, strconv.Itoa(port), "pid "+strconv.Itoa(os.Getpid())) {
				if !strings.Contains(in.err.String(), want) {
					t.Errorf("the complaint lacks %q:\n%s", want, in.err.String())
				}
			}
			if !dialable(ln.Addr().String()) {
				t.Error("the stranger lost its port")
			}
			ln.Close()
			udp.Close()
		})
	}
}

// TestSecondInstance: two on one state dir, and two on the same ports.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	in.publish(t, "a")
	player := in.playRTMP(t, "a")
	player.awaitFrames(t, 3, 10*time.Second)

	second := newInstance(t, 2, "--state-dir", in.stateDir)
	r := run(t, exec.Command(suite.binary, second.args...))
	if want := fmt.Sprintf("pid %d", in.cmd.Process.Pid); r.code != 1 || !strings.Contains(r.err, want) || !strings.Contains(r.err, "--state-dir") {
		t.Errorf("on the same state dir: exit code %d, %q; want 1 and %s", r.code, r.err, want)
	}
	third := newInstance(t, 2, "--control", filepath.Join(t.TempDir(), "c.sock"), "--state-dir", in.stateDir)
	if r := run(t, exec.Command(suite.binary, third.args...)); r.code != 1 || !strings.Contains(r.err, in.stateDir) {
		t.Errorf("on the same state dir with a control socket of its own: exit code %d, %q; want 1 and the folder", r.code, r.err)
	}
	fourth := newInstance(t, 2, "--rtmp", in.rtmp())
	if r := run(t, exec.Command(suite.binary, fourth.args...)); r.code != 1 || !strings.Contains(r.err, fmt.Sprintf("pid %d (srs-proxy)", in.cmd.Process.Pid)) {
		t.Errorf("on the same RTMP port: exit code %d, %q; want 1 and the first one's pid", r.code, r.err)
	}

	player.awaitFrames(t, 15, 10*time.Second)
	player.checkNoGap(t)
	if s, code := in.tryStatus(); code != 0 || s.Totals.Restarts != 0 {
		t.Errorf("the first instance: exit code %d, %+v", code, s.Totals)
	}
}
