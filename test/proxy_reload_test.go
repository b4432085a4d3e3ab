package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rewrite puts a text in a file's place.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// logs waits for a line of the log that was not there before.
func (in *instance) logs(what string, since int) {
	in.t.Helper()
	eventually(in.t, 10*time.Second, what+" is in the log", func() (bool, string) {
		log := in.err.String()[since:]
		return strings.Contains(log, what), log
	})
}

// SIGHUP to a proxy reads its files again. What can change does so without a session
// noticing; a bad file changes nothing, and the log says what is wrong with it.
func TestProxyReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf, token := filepath.Join(dir, "proxy.yaml"), filepath.Join(dir, "token")
	web := filepath.Join(dir, "web")
	if err := os.Mkdir(web, 0o755); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(web, "p.html"), "one")
	rewrite(t, token, "token-number-1")
	in := newProxy(t, 3, "--config", conf)
	a, b := newOutside(in, 0, "BEATS", "off"), newOutside(in, 1, "BEATS", "off")
	// text is a configuration file.
	text := func(more string, origins ...string) string {
		s := fmt.Sprintf("# of the test\nregister-token: file:%s\nstatic-files: %s\ndrain-timeout: 1s\n%sorigin:\n", token, web, more)
		for _, o := range origins {
			s += "- rtmp=" + o + "\n"
		}
		return s
	}
	hangup := func(text string) (since int) {
		rewrite(t, conf, text)
		since = len(in.err.String())
		in.signal(syscall.SIGHUP)
		return since
	}
	rewrite(t, conf, text("", a.addr))
	in.start()
	a.run()
	b.run()
	in.waitOrigins(1, 1, readyWithin)
	in.publish(t, "stays")
	player := in.playRTMP(t, "stays")
	player.awaitFrames(t, 10, 15*time.Second)

	// Each of these is refused as a whole: the second origin of it is not taken either.
	for _, bad := range []struct{ text, says string }{
		{text("log-level: loud\n", a.addr, b.addr), "proxy.yaml:5: log-level"},
		{text("colour: blue\n", a.addr, b.addr), `proxy.yaml:5: \"colour\" is not a setting`},
		{text("", a.addr, b.addr, "nowhere"), "proxy.yaml:6: origin"},
		{text("rtmp-to-rtc: off\n", a.addr, b.addr), "is a setting of up"},
		{text("control: "+dir+"/c.sock\n", a.addr, b.addr), "cannot change while srs-proxy runs"},
		{"origin: [", "not YAML"},
	} {
		since := hangup(bad.text)
		in.logs("reload failed", since)
		if log := in.err.String()[since:]; !strings.Contains(log, bad.says) {
			t.Errorf("the log does not say %s:\n%s", bad.says, log)
		}
		if s := in.status(); len(s.Origins) != 1 || s.Origins[0].ID != a.addr {
			t.Errorf("%s: %+v", bad.says, s.Origins)
		}
	}
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	since := len(in.err.String())
	in.signal(syscall.SIGHUP)
	in.logs("reload failed", since)

	rewrite(t, conf, text("log-level: debug\n", b.addr))
	if got := srsProxy(t, "reload", "--dry-run", "--state-dir", in.stateDir); got.code != 0 || !strings.Contains(got.out, "log-level: info -> debug") || !strings.Contains(got.out, "origin: ") {
		t.Errorf("reload --dry-run: %+v", got)
	}
	if s := in.status(); len(s.Origins) != 1 || s.Origins[0].ID != a.addr {
		t.Errorf("after a dry run: %+v", s.Origins)
	}
	rewrite(t, token, "token-number-2")
	if err := os.Rename(web, web+".before"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(web, 0o755); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(web, "p.html"), "two")
	since = hangup(text("log-level: debug\n", b.addr))
	for _, what := range []string{"reload: log-level: info -> debug", "reload: origin: ", "reload: the file of register-token: changed"} {
		in.logs(what, since)
	}
	eventually(t, 10*time.Second, "one drains and the other is ready", func() (bool, string) {
		s := in.status()
		return s.origin(a.addr).State == "draining" && s.origin(b.addr).State == "ready", fmt.Sprintf("%+v", s.Origins)
	})
	if reason := in.status().origin(a.addr).Reason; !strings.Contains(reason, "not listed") {
		t.Errorf("it drains because %q", reason)
	}
	in.publish(t, "new")
	in.playRTMP(t, "new").awaitFrames(t, 10, 15*time.Second)
	if !b.has("new") || a.has("new") {
		t.Error("a new stream is not at the new origin")
	}
	in.playRTMP(t, "stays").awaitFrames(t, 10, 15*time.Second)
	player.checkNoGap(t)
	body := fmt.Sprintf(`{"ip":"127.0.0.1","server":"s","service":"t","pid":"1","rtmp":[%q]}`, fmt.Sprint(in.ports.base+2*perOrigin))
	for path, want := range map[string]int{"token-number-1": http.StatusUnauthorized, "token-number-2": http.StatusOK} {
		if status, answer := in.register("/api/v1/srs/register/"+path, body); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, answer, want)
		}
	}
	if r, err := fetch(t.Context(), http.MethodGet, "http://"+in.http()+"/p.html", nil); err != nil || string(r.body) != "two" {
		t.Errorf("a page of the new folder: %s, %v", r.body, err)
	}
	if got := srsProxy(t, "reload", "--state-dir", in.stateDir); got.code != 0 || !strings.Contains(got.out, "nothing has changed") {
		t.Errorf("reload: %+v", got)
	}
	if strings.Contains(in.err.String(), "token-number") {
		t.Errorf("a token is in the log:\n%s", in.err.String())
	}
}

// A listed origin may have a host name, as in Kubernetes: it need not be there at the
// start, and its addresses may change.
func TestProxyOriginByName(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give the program a hosts file of its own")
	}
	needTool(t, "unshare", "util-linux")
	const name = "origins.media.test"
	hosts := writeFile(t, "hosts", "127.0.0.1 localhost\n")
	in := newProxy(t, 1)
	port := fmt.Sprint(in.ports.base)
	a := newOutside(in, 0, "BEATS", "off")
	in.args = append(in.args, "--origin", fmt.Sprintf("rtmp=%s:%s,http=%s:%d", name, port, name, in.ports.base+1))
	in.command(cleanEnv())
	args := append([]string{"--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts, suite.binary}, in.args...)
	before := in.cmd
	in.cmd = exec.Command("unshare", args...)
	in.cmd.Env, in.cmd.Stdout, in.cmd.Stderr = before.Env, before.Stdout, before.Stderr
	in.start()
	a.run()
	eventually(t, readyWithin, "the proxy serves without an origin, and says why", func() (bool, string) {
		status, body := in.systemGet("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(in.err.String(), "host="+name), body
	})
	rewrite(t, hosts, "127.0.0.1 localhost\n127.0.0.1 "+name+"\n")
	// Go's resolver looks at the file again after 5 s.
	in.waitOrigins(1, 1, 20*time.Second)
	in.publish(t, "a")
	in.playRTMP(t, "a").awaitFrames(t, 10, 15*time.Second)
	if in.status().origin(a.addr).State != "ready" {
		t.Errorf("%+v", in.status().Origins)
	}
	// A second address of the name is a second origin.
	rewrite(t, hosts, "127.0.0.1 localhost\n127.0.0.1 "+name+"\n127.0.0.2 "+name+"\n")
	in.waitOrigins(1, 2, 20*time.Second)
}
