package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// configured is an instance with a configuration file that a test changes.
type configured struct {
	*running
	file string
}

// startConfigured runs up with a file, which has the ports in it besides.
func startConfigured(t *testing.T, origins int, settings string, flags ...string) *configured {
	t.Helper()
	file := filepath.Join(t.TempDir(), "srs-proxy.yaml")
	base := fmt.Sprintf("port-base: %d\n", freePorts(t, 10*(origins+2)))
	c := &configured{file: file}
	c.set(t, base+settings)
	c.running = startWith(t, append([]string{"--config", file}, flags...)...)
	return c
}

func (c *configured) set(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// change replaces a text of the file.
func (c *configured) change(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		t.Fatalf("%q is not in the file", from)
	}
	c.set(t, strings.Replace(string(text), from, to, 1))
}

// hangup sends SIGHUP and waits for a line of the log that was not there before.
func (c *configured) hangup(t *testing.T, line string) {
	t.Helper()
	before := strings.Count(c.errs.String(), line)
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.until(t, line, func() bool { return strings.Count(c.errs.String(), line) > before })
}

func (c *configured) wantPIDs(t *testing.T, want map[string]int) {
	t.Helper()
	if _, pids := c.ids(t); !maps.Equal(pids, want) {
		t.Errorf("the origins are %v, want %v untouched", pids, want)
	}
}

func TestReloadCommand(t *testing.T) {
	vhosts := writeTemp(t, "vhosts.conf", "vhost a.example.com { }\n")
	// On few CPUs this layout has other sets for each number of origins.
	c := startConfigured(t, 2, "origins: 2\ncpu-layout: compact\nvhosts: "+vhosts+"\n")
	pids := c.awaitIDs(t, "origin-0", "origin-1")

	out, _ := c.do(t, exitOK, "reload")
	wantText(t, "reload of the same", out, "nothing has changed")
	c.wantPIDs(t, pids)

	// A number alone touches nobody else; the plan says what then happens.
	c.change(t, "origins: 2", "origins: 3")
	out, _ = c.do(t, exitOK, "reload", "--dry-run")
	wantText(t, "dry run", out, "origins: 2 -> 3", "would add origin-2", "2 origins untouched")
	c.wantPIDs(t, pids)
	out, _ = c.do(t, exitOK, "reload")
	wantText(t, "reload", out, "origins: 2 -> 3", "added origin-2", "2 origins untouched")
	now := c.awaitIDs(t, "origin-0", "origin-1", "origin-2")
	if now["origin-0"] != pids["origin-0"] || now["origin-1"] != pids["origin-1"] {
		t.Errorf("pids %v, then %v", pids, now)
	}

	// Another text of a file of the same name replaces all, and the proxy learns of it.
	rep, _ := c.status(t)
	if err := os.WriteFile(vhosts, []byte("vhost b.example.com { }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = c.do(t, exitOK, "reload", "-o", "json")
	var res opResult
	if err := json.Unmarshal([]byte(out), &res); err != nil || res.Reload == nil || len(res.Reload.Origins.Restarted) != 3 {
		t.Errorf("reload of another vhosts file: %v\n%s", err, out)
	}
	c.awaitIDs(t, "origin-0.1", "origin-1.1", "origin-2.1")
	publishTo(t, "rtmp://"+behind(t, "127.0.0.5", rep.RTMP)+"/live/x?vhost=b.example.com")
	c.until(t, "a stream of the new vhost, whose publisher the proxy knows by that name", func() bool {
		return slices.ContainsFunc(c.streams(t).Streams, func(s streamInfo) bool {
			return s.title() == "b.example.com/live/x" && s.Publisher != nil && s.Publisher.Client == "127.0.0.5"
		})
	})

	// What scale said holds until the configuration speaks of it.
	c.do(t, exitOK, "scale", "2")
	c.set(t, mustRead(t, c.file)+"log-keep: 7\n")
	out, _ = c.do(t, exitOK, "reload")
	wantText(t, "reload after scale", out, "log-keep: 3 -> 7", "2 origins untouched")
	if strings.Contains(out, "added") {
		t.Errorf("the reload takes the scale back:\n%s", out)
	}
	c.change(t, "origins: 3", "origins: 1")
	out, _ = c.do(t, exitOK, "reload")
	wantText(t, "reload of origins after scale", out, "origins: 3 -> 1", "removed origin-1.1")
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A bad configuration changes nothing, whatever is bad about it, and the message
// says where.
func TestReloadOfABadConfiguration(t *testing.T) {
	template := writeTemp(t, "t.conf", mustRead(t, "srs.tmpl.conf"))
	vhosts := writeTemp(t, "v.conf", "vhost a.example.com { }\n")
	c := startConfigured(t, 2, "origins: 2\ntemplate: "+template+"\nvhosts: "+vhosts+"\n")
	good, goodTemplate, goodVhosts := mustRead(t, c.file), mustRead(t, template), mustRead(t, vhosts)
	pids := c.awaitIDs(t, "origin-0", "origin-1")
	spoil := func(path, text string) func() {
		return func() {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name  string
		spoil func()
		want  []string
	}{
		{"value", spoil(c.file, strings.Replace(good, "origins: 2", "origins: lots", 1)), []string{c.file + ":2: origins", `"lots"`}},
		{"key", spoil(c.file, good+"orgins: 3\n"), []string{c.file + ":5", "did you mean origins?"}},
		{"no YAML", spoil(c.file, good+"a: [\n"), []string{c.file, "not YAML"}},
		{"no file", func() { os.Rename(c.file, c.file+".away") }, []string{"flag --config", "no such file"}},
		{"an address", spoil(c.file, good+"http: 127.0.0.1:1\n"), nil}, // a variable wins over it: nothing changes
		{"a state dir", spoil(c.file, good+"control: /elsewhere.sock\n"), []string{c.file + ":5: control", "cannot change while srs-proxy runs"}},
		{"template", spoil(template, goodTemplate+"\n{{.Nonsense}}\n"), []string{template}},
		{"braces of the template", spoil(template, goodTemplate+"\nvhost x {\n"), []string{"origin-0"}},
		{"vhosts", spoil(vhosts, "vhost a.example.com {\n"), []string{vhosts}},
		{"CPUs", spoil(c.file, good+"origin-cpus: 4000\n"), []string{"4000"}},
		{"program", spoil(c.file, good+"max-connections: 100000000\n"), []string{c.file + ":5: max-connections"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.spoil()
			defer func() {
				os.Remove(c.file + ".away")
				spoil(c.file, good)()
				spoil(template, goodTemplate)()
				spoil(vhosts, goodVhosts)()
			}()
			code := exitFailure
			if tt.want == nil {
				code = exitOK
			}
			for _, args := range [][]string{{"reload", "--dry-run"}, {"reload"}} {
				_, errs := c.do(t, code, args...)
				wantText(t, strings.Join(args, " "), errs, tt.want...)
			}
			c.wantPIDs(t, pids)
		})
	}
	out, _ := c.do(t, exitOK, "reload")
	wantText(t, "reload of the good one", out, "nothing has changed")
	c.wantPIDs(t, pids)
}

func TestHangupReloads(t *testing.T) {
	c := startConfigured(t, 2, "origins: 2\nlog-level: info\n")
	pids := c.awaitIDs(t, "origin-0", "origin-1")
	c.hangup(t, "nothing has changed")
	c.wantPIDs(t, pids)

	c.change(t, "origins: 2", "origins: 2\nmax-conections: 300")
	c.hangup(t, "reload failed")
	wantText(t, "the log", c.errs.String(), c.file+":3", "did you mean max-connections?")
	c.wantPIDs(t, pids)

	c.change(t, "max-conections: 300", "max-connections: 300")
	c.hangup(t, "restarted origin-0.1, origin-1.1")
	c.awaitIDs(t, "origin-0.1", "origin-1.1")
	wantText(t, "an origin's config", mustRead(t, filepath.Join(c.dir, "origin-0.1", "srs.conf")), "max_connections     300;")

	// The log level holds at once; below info nothing was told before.
	c.change(t, "log-level: info", "log-level: error")
	c.cmd.Process.Signal(syscall.SIGHUP)
	c.until(t, "silence", func() bool {
		before := len(c.errs.String())
		out, _ := c.do(t, exitOK, "drain", "0")
		return out != "" && len(c.errs.String()) == before
	})
	c.do(t, exitOK, "down")
	c.wait(t)
	if c.err != nil {
		t.Errorf("up ended with %v", c.err)
	}
}

// A newer program under the same name replaces all origins.
func TestReloadOfANewProgram(t *testing.T) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	srs := filepath.Join(t.TempDir(), "srs")
	install := func(version string) {
		t.Helper()
		script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = -v ] && echo %s && exit 0\nexec %s origin \"$@\"\n", version, bin)
		if err := os.WriteFile(srs+".new", []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(srs+".new", srs); err != nil {
			t.Fatal(err)
		}
	}
	install("7.0.18")
	c := startConfigured(t, 2, "origins: 2\nreal-ip-prefix: off\n", "--srs", srs)
	pids := c.awaitIDs(t, "origin-0", "origin-1")
	out, _ := c.do(t, exitOK, "reload")
	wantText(t, "reload", out, "nothing has changed")
	c.wantPIDs(t, pids)
	install("7.0.18")
	out, _ = c.do(t, exitOK, "reload")
	wantText(t, "reload", out, "origins' program "+srs+": changed", "restarted origin-0.1, origin-1.1")
	c.awaitIDs(t, "origin-0.1", "origin-1.1")
	install("7.0.20")
	out, _ = c.do(t, exitOK, "reload", "--dry-run")
	wantText(t, "dry run", out, "7.0.18 -> 7.0.20", "would restart origin-0.1, origin-1.1")
}

// A terminal that is closed ends up, as it always did.
func TestClosedTerminalEnds(t *testing.T) {
	p := newPseudoTerminal(t, 100, 30)
	dir := socketDir(t)
	cmd := command(t, dir, "up", "--origins", "1", "--port-base", fmt.Sprint(freePorts(t, 10)))
	cmd.Env = append(cmd.Env, "TERM=xterm")
	ended := p.start(t, cmd)
	r := &running{dir: dir, cmd: cmd, ended: make(chan struct{})}
	r.until(t, "ready origin", func() bool {
		_, _, code := run(t, command(t, dir, "status"))
		return code == exitOK
	})
	// SIGHUP by hand, while the terminal is there, is a reload.
	cmd.Process.Signal(syscall.SIGHUP)
	if _, _, code := run(t, command(t, dir, "status")); code != exitOK {
		t.Errorf("status after SIGHUP: code %d", code)
	}
	p.ptmx.Close()
	if err := <-ended; err != nil {
		if ee, ok := err.(*exec.ExitError); ok {
			t.Errorf("it ended with code %d, %v", ee.ExitCode(), err)
		}
	}
}
