package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srs-proxy/proxy/access"
	"srs-proxy/proxy/certs"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// fakeSources are flags and variables as a test names them, and a file.
func fakeSources(flags, env map[string]string) sources {
	look := func(m map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
	}
	return sources{flag: look(flags), env: look(env)}
}

func writeTemp(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := writeTemp(t, "c.yaml", "origins: 3\nrtmp: 127.0.0.1:3000\n")
	tests := []struct {
		name    string
		flags   map[string]string
		env     map[string]string
		origins int
		rtmp    string
		place   string // of origins
	}{
		{"default", nil, nil, 0, ":1935", "default of --origins"},
		{"file", nil, map[string]string{"SRS_PROXY_CONFIG": file}, 3, "127.0.0.1:3000", file + ":1: origins"},
		{"env over file", nil, map[string]string{"SRS_PROXY_CONFIG": file, "SRS_PROXY_ORIGINS": "5"}, 5, "127.0.0.1:3000", "variable SRS_PROXY_ORIGINS"},
		{"empty variable is none", nil, map[string]string{"SRS_PROXY_CONFIG": file, "SRS_PROXY_ORIGINS": ""}, 3, "127.0.0.1:3000", file + ":1: origins"},
		{"flag over env and file", map[string]string{"origins": "7", "config": file}, map[string]string{"SRS_PROXY_ORIGINS": "5"}, 7, "127.0.0.1:3000", "flag --origins"},
		{"the existing proxy's variable", nil, map[string]string{"PROXY_RTMP_SERVER": "11935"}, 0, ":11935", "default of --origins"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := resolve(fakeSources(tt.flags, tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Origins != tt.origins || cfg.RTMP != tt.rtmp {
				t.Errorf("origins %d, rtmp %q; want %d, %q", cfg.Origins, cfg.RTMP, tt.origins, tt.rtmp)
			}
			if got := cfg.value("origins").place(); got != tt.place {
				t.Errorf("origins come from %q, want %q", got, tt.place)
			}
		})
	}
}

// Each setting arrives in its field: a copied line in the table of settings
// would fill another one's.
func TestEverySettingArrives(t *testing.T) {
	file := writeTemp(t, "f", "")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{
		"rtmp": "[::1]:3001", "http": "3002", "api": "3003", "candidate": "192.0.2.1,[2001:db8::1]:9000",
		"srt": "3004", "webrtc": "3005", "origins": "4", "srs": exe, "template": file, "vhosts": file + "/../f",
		"tls-cert": file, "tls-key": file, "rtmps": "3010", "https": "3011", "https-api": "3012",
		"port-base": "21000", "hook-relay": "20777", "max-connections": "77", "real-ip-prefix": "off", "ready-quorum": "75%", "die-with-parent": "on", "rtmp-to-rtc": "on",
		"origin-cpus": "1-2", "proxy-cpus": "0", "cpu-layout": "numa", "relay": "copy",
		"nofile": "5000", "max-connections-per-ip": "11", "max-udp-sessions-per-ip": "14", "max-handshaking": "12", "hls-cache": "64M", "dial-timeout": "2s", "lease-idle": "3m",
		"allow": "publish:10.0.0.0/8", "deny": "play:192.0.2.7",
		"state-dir": "/s", "control": "/c", "log-level": "debug", "log-format": "json",
		"log-max-size": "2M", "log-keep": "13",
		"drain-deadline": "4m", "cpu-quota": "1.5", "memory-max": "512M", "nice": "-3", "oom-score": "44", "cgroup": "media_1", "pprof": "on",
	}
	for _, s := range settings("/x") {
		if _, ok := flags[s.name]; !ok {
			t.Errorf("setting %s is missing from this test", s.name)
		}
	}
	cfg, err := resolve(fakeSources(flags, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		RTMP: "[::1]:3001", HTTP: ":3002", API: ":3003", Candidates: []candidate.Spec{{Host: "192.0.2.1"}, {Host: "2001:db8::1", Port: 9000}},
		SRT: ":3004", WebRTC: ":3005", Origins: 4, SRS: exe, Template: file, Vhosts: file,
		TLS: certs.Pair{CertFile: file, KeyFile: file}, RTMPS: ":3010", HTTPS: ":3011", HTTPSAPI: ":3012",
		PortBase: 21000, HookRelay: 20777, MaxConnections: 77, RealIPPrefix: toggleOff, ReadyQuorum: quorum{percent: 75}, DieWithParent: true, RTMPToRTC: true,
		OriginCPUs: runtime.CPUSet{1, 2}, ProxyCPUs: runtime.CPUSet{0}, CPULayout: runtime.NUMA, RelayMode: relay.Copy,
		NoFile: 5000, MaxConnectionsPerIP: 11, MaxUDPSessionsPerIP: 14, MaxHandshaking: 12, HLSCache: 64 << 20, DialTimeout: 2 * time.Second, LeaseIdle: 3 * time.Minute,
		Access:   access.Rules{Allow: accessList(t, "publish:10.0.0.0/8"), Deny: accessList(t, "play:192.0.2.7")},
		StateDir: "/s", Control: "/c", LogLevel: slog.LevelDebug, LogFormat: "json",
		LogMaxSize: 2 << 20, LogKeep: 13,
		DrainDeadline: 4 * time.Minute, CPUQuota: 1.5, MemoryMax: 512 << 20, Nice: level{true, -3}, OOMScore: level{true, 44}, Cgroup: "media_1", Pprof: true,
	}
	if got := configString(cfg.Config); got != configString(want) {
		t.Errorf("config\n got %s\nwant %s", got, configString(want))
	}
}

func accessList(t *testing.T, text string) access.List {
	t.Helper()
	l, err := access.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func configString(c Config) string { return strings.ReplaceAll(slog.AnyValue(c).String(), " ", "\n") }

func TestDefaults(t *testing.T) {
	cfg, err := resolve(fakeSources(nil, map[string]string{"HOME": "/home/u"}))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.HTTP != ":8080" || cfg.PortBase != srsconf.DefaultPortBase || cfg.CPULayout != runtime.Spread ||
		cfg.LeaseIdle != time.Minute || cfg.DrainDeadline != 10*time.Minute || cfg.CPUQuota != 0 || cfg.MemoryMax != 0 ||
		cfg.Nice.pointer() != nil || cfg.OOMScore.pointer() != nil || cfg.cgroupName() != cgroupNameFor(cgroupAuto, cfg.StateDir) || cfg.DialTimeout != time.Second || cfg.MaxConnectionsPerIP != 1024 || cfg.MaxHandshaking != 2048 || cfg.HLSCache != 256<<20 {
		t.Errorf("defaults: %+v", cfg.Config)
	}
	if want := filepath.Join(cfg.StateDir, "control.sock"); cfg.Control != want {
		t.Errorf("control %q, want %q", cfg.Control, want)
	}
}

// An error names where the value came from and says what would be right.
func TestErrorsNameTheSource(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name  string
		flags map[string]string
		env   map[string]string
		file  string
		want  []string
	}{
		{"flag", map[string]string{"origins": "many"}, nil, "", []string{"flag --origins", `"many"`, "1 to 1024, or auto"}},
		{"empty flag", map[string]string{"origins": ""}, nil, "", []string{"flag --origins", `""`}},
		{"variable", nil, map[string]string{"PROXY_HTTP_SERVER": "x:y:z"}, "", []string{"variable PROXY_HTTP_SERVER", `"x:y:z"`, "127.0.0.1:1935"}},
		{"file", nil, nil, "# comment\n\norigins: -1\n", []string{"c.yaml:3: origins", `"-1"`, "1 to 1024"}},
		{"unknown key", nil, nil, "http: 80\norigin: 3\n", []string{"c.yaml:2", `"origin"`, "did you mean origins?"}},
		{"underscores", nil, nil, "port_base: 30000\n", []string{"c.yaml:1", "did you mean port-base?"}},
		{"nothing like it", nil, nil, "zzzzzzzzzzzz: 3\n", []string{"c.yaml:1", "the settings are rtmp, http"}},
		{"key twice", nil, nil, "http: 80\nhttp: 81\n", []string{"c.yaml:2", "line 1 already"}},
		{"no value", nil, nil, "http:\n", []string{"c.yaml:1", "http: VALUE"}},
		{"a bad entry of a list", nil, nil, "allow: [10.0.0.1, 10.0.0]\n", []string{"c.yaml:1: allow", `"10.0.0"`, "publish:10.0.0.0/8"}},
		{"not a flat list", nil, nil, "allow:\n  - [10.0.0.1]\n", []string{"c.yaml:1", "allow: VALUE"}},
		{"a list", nil, nil, "origin-cpus:\n  - 1\n", []string{"c.yaml:1", "origin-cpus: VALUE"}},
		{"not a mapping", nil, nil, "- a\n", []string{"c.yaml:1", "origins: 8"}},
		{"not YAML", nil, nil, "a: [\n", []string{"c.yaml", "not YAML"}},
		{"two documents", nil, nil, "http: 80\n---\nhttp: 81\n", []string{"c.yaml", "second YAML document"}},
		{"no such file", map[string]string{"config": dir + "/none.yaml"}, nil, "", []string{"flag --config", "none.yaml", "no such file"}},
		{"directory as template", map[string]string{"template": dir}, nil, "", []string{"flag --template", "regular file"}},
		{"missing binary", nil, map[string]string{"SRS_BINARY": dir + "/srs"}, "", []string{"variable SRS_BINARY", dir + "/srs", "no such file", "builtin"}},
		{"not executable", map[string]string{"srs": writeTemp(t, "srs", "")}, nil, "", []string{"flag --srs", "executable"}},
		{"host name", map[string]string{"rtmp": "media.example.com:1935"}, nil, "", []string{"flag --rtmp", "media.example.com", "IP address"}},
		{"port out of range", map[string]string{"rtmp": "70000"}, nil, "", []string{"flag --rtmp", "0 to 65535"}},
		{"one port for two", map[string]string{"http": "1935"}, nil, "", []string{"flag --http", "rtmp"}},
		{"one port for two, by address", map[string]string{"http": "127.0.0.1:1935"}, nil, "", []string{"flag --http", "rtmp"}},
		{"one port for two, the API", map[string]string{"api": "8080"}, nil, "", []string{"flag --api", "http"}},
		{"candidate", map[string]string{"candidate": "192.0.2"}, nil, "", []string{"flag --candidate", "is no candidate"}},
		{"one port for two, WebRTC over TCP", map[string]string{"webrtc": "1985"}, nil, "", []string{"flag --webrtc", "api"}},
		{"cpu list", map[string]string{"origin-cpus": "3-1"}, nil, "", []string{"flag --origin-cpus", "0-3,8"}},
		{"layout", map[string]string{"cpu-layout": "dense"}, nil, "", []string{"flag --cpu-layout", "spread, compact or numa"}},
		{"duration without unit", map[string]string{"dial-timeout": "3"}, nil, "", []string{"flag --dial-timeout", "unit"}},
		{"duration out of range", nil, map[string]string{"SRS_PROXY_LEASE_IDLE": "1ms"}, "", []string{"variable SRS_PROXY_LEASE_IDLE", "1s to 24h"}},
		{"toggle", map[string]string{"real-ip-prefix": "maybe"}, nil, "", []string{"flag --real-ip-prefix", "on, off or auto"}},
		{"switch", nil, map[string]string{"SRS_PROXY_DIE_WITH_PARENT": "auto"}, "", []string{"variable SRS_PROXY_DIE_WITH_PARENT", "on or off"}},
		{"level", nil, map[string]string{"SRS_PROXY_LOG_LEVEL": "loud"}, "", []string{"variable SRS_PROXY_LOG_LEVEL", "debug, info, warn or error"}},
		{"too many connections", map[string]string{"nofile": "1000"}, map[string]string{"SRS_PROXY_MAX_CONNECTIONS": "1000"}, "", []string{"variable SRS_PROXY_MAX_CONNECTIONS", "1128", "--nofile"}},
		{"log size", map[string]string{"log-max-size": "big"}, nil, "", []string{"flag --log-max-size", "32M", "off"}},
		{"small log size", map[string]string{"log-max-size": "63K"}, nil, "", []string{"flag --log-max-size", "64K"}},
		{"no log size", map[string]string{"log-max-size": ""}, nil, "", []string{"flag --log-max-size", `""`, "32M"}},
		{"no old logs", nil, map[string]string{"SRS_PROXY_LOG_KEEP": "0"}, "", []string{"variable SRS_PROXY_LOG_KEEP", "from 1"}},
		{"drain deadline", map[string]string{"drain-deadline": "10"}, nil, "", []string{"flag --drain-deadline", "unit"}},
		{"drain deadline of a year", map[string]string{"drain-deadline": "8760h"}, nil, "", []string{"flag --drain-deadline", "1s to 168h"}},
		{"quota in percent", map[string]string{"cpu-quota": "50%"}, nil, "", []string{"flag --cpu-quota", `"50%"`, "0.01 to 1024, such as 0.5 or 2, or off"}},
		{"no quota", nil, nil, "cpu-quota: 0\n", []string{"c.yaml:1: cpu-quota", "0.01"}},
		{"quota that is no number", map[string]string{"cpu-quota": "NaN"}, nil, "", []string{"flag --cpu-quota", "cores"}},
		{"memory without number", nil, map[string]string{"SRS_PROXY_MEMORY_MAX": "lots"}, "", []string{"variable SRS_PROXY_MEMORY_MAX", "512M or 2G, or off"}},
		{"memory without unit", nil, map[string]string{"SRS_PROXY_MEMORY_MAX": "512"}, "", []string{"variable SRS_PROXY_MEMORY_MAX", "32M or more, or off"}},
		{"nice", map[string]string{"nice": "20"}, nil, "", []string{"flag --nice", "-20 to 19, or auto"}},
		{"oom score", map[string]string{"oom-score": "-1001"}, nil, "", []string{"flag --oom-score", "-1000 to 1000, or auto"}},
		{"cgroup path", map[string]string{"cgroup": "/sys/fs/cgroup/x"}, nil, "", []string{"flag --cgroup", "letters, digits", "or auto or off"}},
		{"cgroup of a controller", map[string]string{"cgroup": "memory"}, nil, "", []string{"flag --cgroup", "no controller's name"}},
		{"no cgroup", map[string]string{"cgroup": ""}, nil, "", []string{"flag --cgroup", `""`}},
		{"long socket path", map[string]string{"control": "/" + strings.Repeat("x", 120)}, nil, "", []string{"flag --control", "107"}},
		{"empty state dir", map[string]string{"state-dir": ""}, nil, "", []string{"flag --state-dir", "directory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := fakeSources(tt.flags, tt.env)
			if tt.file != "" {
				src = fakeSources(map[string]string{"config": writeTemp(t, "c.yaml", tt.file)}, nil)
			}
			_, err := resolve(src)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
			if exitCode(err) != exitUsage {
				t.Errorf("exit code %d, want %d", exitCode(err), exitUsage)
			}
		})
	}
}

func TestParseLogSize(t *testing.T) {
	for text, want := range map[string]int64{
		"off": 0, "64K": 64 << 10, "65536": 64 << 10, "32M": 32 << 20, "32m": 32 << 20, "2G": 2 << 30, "2g": 2 << 30,
		"": -1, "K": -1, "-1M": -1, "1.5G": -1, "3T": -1, "0": -1, "1K": -1, "99999999999999999999G": -1, "3x": -1,
	} {
		got, err := parseLogSize(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("parseLogSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}

// A command that needs two settings does not fail over a third.
func TestResolveOnlyNamed(t *testing.T) {
	src := fakeSources(map[string]string{"state-dir": "/s"}, map[string]string{"PROXY_RTMP_SERVER": "bad"})
	cfg, err := resolve(src, "state-dir", "control")
	if err != nil || cfg.Control != "/s/control.sock" {
		t.Errorf("control %q, error %v", cfg.Control, err)
	}
}

func TestDefaultStateDir(t *testing.T) {
	env := fakeSources(nil, map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "/xdg"}).env
	got := defaultStateDir(env)
	want := "/xdg/srs-proxy"
	if os.Geteuid() == 0 {
		want = "/var/lib/srs-proxy"
	}
	if got != want {
		t.Errorf("state dir %q, want %q", got, want)
	}
}

func TestMaxConnections(t *testing.T) {
	tests := []struct {
		set    int
		nofile uint64
		want   int
	}{
		{77, 1 << 20, 77},
		{0, 1 << 20, autoMaxConnections},
		{0, 4096, 3840},
		{0, 256, 128},
	}
	for _, tt := range tests {
		c := Config{MaxConnections: tt.set}
		if got := c.maxConnections(tt.nofile); got != tt.want {
			t.Errorf("maxConnections(%d) with %d set = %d, want %d", tt.nofile, tt.set, got, tt.want)
		}
	}
}

func FuzzConfigFile(f *testing.F) {
	for _, s := range []string{"", "origins: 3\n", "a: &x 1\norigins: *x\n", "? [a]\n: b\n", "origins: {a: b}\n", "<<: {origins: 1}\n", "---\n---\n", "\xff"} {
		f.Add([]byte(s))
	}
	all := settings("/s")
	f.Fuzz(func(t *testing.T, text []byte) {
		values, err := parseConfigFile("c.yaml", text, all)
		if err == nil {
			for name, v := range values {
				if settingNamed(name, all) == nil || v.line < 1 {
					t.Errorf("accepted %q as %q on line %d", name, v.text, v.line)
				}
			}
		}
	})
}
