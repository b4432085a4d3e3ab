package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sdunit "github.com/coreos/go-systemd/v22/unit"
)

func render(t *testing.T, u unit) string {
	t.Helper()
	text, err := u.render()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestUnitGolden(t *testing.T) {
	u := unit{
		self:     "/usr/local/bin/srs-proxy",
		flags:    []unitFlag{{"origins", "16"}, {"srs", "/opt/my srs/objs/srs"}, {"ready-quorum", "75%"}},
		stateDir: unitStateDir, systemd: 256, cgroup: "srs-proxy",
	}
	golden(t, "systemd-256.service", render(t, u))
	u.systemd, u.stateDir, u.nofile = 252, "/data/srs", 65536
	u.configFile = "/etc/srs-proxy.yaml"
	u.flags = []unitFlag{{"state-dir", "/data/srs"}, {"control", "/run/srs-proxy.sock"}}
	golden(t, "systemd-252.service", render(t, u))
	for _, version := range []int{252, 256} {
		u.systemd, u.cgroup = version, "off"
		if text := render(t, u); strings.Contains(text, "Delegate") || strings.Contains(text, "subtree_control") {
			t.Errorf("without groups the unit for systemd %d asks for them:\n%s", version, text)
		}
	}
}

// options are a unit's settings, as "KEY=VALUE".
func options(t *testing.T, text string) []string {
	t.Helper()
	parsed, err := sdunit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, o := range parsed {
		all = append(all, o.Name+"="+o.Value)
	}
	return all
}

func TestUnitWord(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/bin/srs": "/usr/bin/srs", "": `""`, "a b": `"a b"`, "50%": "50%%", "$HOME": "$$HOME", "${X}": "$${X}",
		`say "hi"`: `"say \"hi\""`, `C:\x`: `"C:\\x"`, "tab\there": `"tab\x09here"`, "it's": `"it's"`, ";": `";"`, "#x": `"#x"`,
		"line\nbreak": `"line\x0abreak"`, "père": "père", "bad\xff": `"bad\xff"`,
	} {
		if got := unitWord(in, true); got != want {
			t.Errorf("unitWord(%q) = %s, want %s", in, got, want)
		}
	}
	if got := unitWord("/a$b", false); got != "/a$b" {
		t.Errorf("a path with a dollar is %s", got)
	}
}

func TestSystemdUnitCommand(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "my conf.yaml")
	if err := os.WriteFile(conf, []byte("origins: 3\nstate-dir: /srv/media\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, dir, "systemd-unit", "--systemd-version", "256", "--config", "my conf.yaml", "--srs", builtinOrigin, "--control", "c.sock", "--origin-cpus", "1-2")
	cmd.Dir = dir
	out, errs, code := run(t, cmd)
	if code != exitOK {
		t.Fatalf("code %d: %s", code, errs)
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	got := options(t, out)
	for _, want := range []string{
		// Paths are absolute; the flags, and nothing that came from elsewhere.
		`ExecStart=` + bin + ` up --config "` + conf + `" --srs builtin --origin-cpus 1-2 --control ` + filepath.Join(dir, "c.sock"),
		`ExecStop=-` + bin + ` down --config "` + conf + `" --control ` + filepath.Join(dir, "c.sock"),
		"RequiresMountsFor=/srv/media", "Type=notify-reload", "NotifyAccess=main", "KillMode=process", "Restart=on-failure", "Delegate=yes",
		"DelegateSubgroup=" + cgroupNameFor(cgroupAuto, "/srv/media"), "OOMPolicy=continue", "LimitNOFILE=1048576", "WatchdogSec=30",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("lacks %s:\n%s", want, out)
		}
	}
	// Go exits with 2 after a panic and after SIGABRT too, so no code may mean "don't restart".
	if strings.Contains(out, "RestartPreventExitStatus") {
		t.Error("a crash would not be followed by a start")
	}
	if strings.Contains(out, "ExecReload=") {
		t.Error("two ways to reload")
	}
	if strings.Contains(out, "StateDirectory=") {
		t.Error("a state dir elsewhere is systemd's")
	}
	// The test's own variables are the shell's.
	if !strings.Contains(errs, "SRS_PROXY_STATE_DIR") || !strings.Contains(errs, "PROXY_RTMP_SERVER") {
		t.Errorf("stderr %q", errs)
	}
	for _, args := range [][]string{{"--origins", "many"}, {"--systemd-version", "new"}, {"--config", "/none"}} {
		if _, errs, code := run(t, command(t, dir, append([]string{"systemd-unit"}, args...)...)); code != exitUsage || errs == "" {
			t.Errorf("%q: code %d, %s", args, code, errs)
		}
	}
}

// systemd itself finds nothing wrong with it.
func TestUnitPassesSystemdAnalyze(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here (apt-get install systemd)")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "50% odd; $dir", "srs proxy")
	if err := os.MkdirAll(filepath.Dir(odd), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(bin, odd); err != nil {
		t.Fatal(err)
	}
	version := installedSystemd(t.Context())
	if version == 0 {
		t.Fatal("the version of systemd is not known")
	}
	for _, self := range []string{bin, odd} {
		u := unit{self: self, stateDir: "/srv/50% odd", systemd: version, cgroup: "srs-proxy", flags: []unitFlag{{"vhosts", `/a b/$x "y" 'z' ;`}, {"origins", "3"}}}
		if errs := verifyUnit(t, analyze, render(t, u)); errs != "" {
			t.Errorf("systemd-analyze verify: %s", errs)
		}
	}
	if _, err := (unit{self: `/a "b"/srs-proxy`}).render(); err == nil {
		t.Error("a path that systemd refuses")
	}
	// It does see what is wrong.
	u := unit{self: bin + "-is-not-there", stateDir: unitStateDir, systemd: version, cgroup: "srs-proxy"}
	if errs := verifyUnit(t, analyze, render(t, u)); !strings.Contains(errs, "is-not-there") {
		t.Errorf("a missing program: %q", errs)
	}
}

// verifyUnit is what systemd-analyze says of our unit; it may have a word to say
// about this machine's others.
func verifyUnit(t *testing.T, analyze, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "srs-proxy.service")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	err := cmd.Run()
	var ours []string
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "srs-proxy.service") {
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	if err != nil && len(ours) == 0 {
		t.Skipf("systemd-analyze does not run here: %v: %s", err, errs.String())
	}
	return strings.Join(ours, "; ")
}
