package main

import (
	"bytes"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/register"
)

func proxySources(flags, env map[string]string) sources {
	src := fakeSources(flags, env)
	src.command = proxyCommand
	return src
}

// Each setting that only proxy has arrives in the Config.
func TestProxySettings(t *testing.T) {
	tokens, err := register.ParseTokens("abc,def")
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{
		"system-api": "0.0.0.0:3020", "register-token": "abc,def", "register-allow": "10.0.0.0/8,2001:db8::1", "register-ttl": "7s", "max-origins": "5000",
		"origin":         "rtmp=10.0.0.1:1935;name=b,rtmp=[2001:db8::1]:1936,http=10.0.0.2:8080",
		"shutdown-delay": "3s", "drain-timeout": "4s", "quit-timeout": "5s", "go-pprof": "127.0.0.1:6060", "static-files": "/tmp",
	}
	for _, s := range proxyOwnSettings() {
		if _, ok := flags[s.name]; !ok && s.category != categoryRedis {
			t.Errorf("setting %s is missing from this test", s.name)
		}
	}
	cfg, err := resolve(proxySources(flags, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		SystemAPI: "0.0.0.0:3020", Register: register.Rules{Tokens: tokens, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}},
		RegisterTTL: 7 * time.Second, MaxOrigins: 5000,
		Static: []staticOrigin{
			{endpoints: balancer.Endpoints{RTMP: "10.0.0.1:1935"}},
			{name: "b", endpoints: balancer.Endpoints{RTMP: "[2001:db8::1]:1936", HTTP: "10.0.0.2:8080"}},
		},
		ShutdownDelay: 3 * time.Second, DrainTimeout: 4 * time.Second, QuitTimeout: 5 * time.Second, GoPprof: "127.0.0.1:6060", StaticFiles: "/tmp",
	}
	got := Config{
		SystemAPI: cfg.SystemAPI, Register: cfg.Register, RegisterTTL: cfg.RegisterTTL, MaxOrigins: cfg.MaxOrigins, Static: cfg.Static,
		ShutdownDelay: cfg.ShutdownDelay, DrainTimeout: cfg.DrainTimeout, QuitTimeout: cfg.QuitTimeout, GoPprof: cfg.GoPprof, StaticFiles: cfg.StaticFiles,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The ports are the existing proxy's, and the system API is the loopback's.
func TestProxyDefaults(t *testing.T) {
	cfg, err := resolve(proxySources(nil, map[string]string{"HOME": "/home/u", "SRS_BINARY": "/opt/none"}))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{cfg.RTMP, cfg.HTTP, cfg.API, cfg.WebRTC, cfg.SRT, cfg.SystemAPI}
	if want := []string{":11935", ":18080", ":11985", ":18000", ":20080", "127.0.0.1:12025"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if cfg.RegisterTTL != 30*time.Second || cfg.DrainTimeout != 20*time.Second || cfg.MaxOrigins != 1024 {
		t.Errorf("%s, %s", cfg.RegisterTTL, cfg.DrainTimeout)
	}
}

// The two commands' settings do not get in each other's way, but a wrong one is named.
func TestSettingsOfTheOtherCommand(t *testing.T) {
	for _, s := range settings("/x") {
		if upOnly(s.name) && settingNamed(s.name, proxySettings("/x")) != nil || !upOnly(s.name) && settingNamed(s.name, proxySettings("/x")) == nil {
			t.Errorf("setting %s", s.name)
		}
	}
	file := func(text string) map[string]string { return map[string]string{"config": writeTemp(t, "c.yaml", text)} }
	for _, tt := range []struct {
		src  sources
		says string
	}{
		{proxySources(file("rtmp: 1935\norigins: 3\n"), nil), `c.yaml:2: "origins" is a setting of up; proxy starts no origins; did you mean origin?`},
		{proxySources(file("cpu-quota: 1\n"), nil), `"cpu-quota" is a setting of up`},
		{fakeSources(file("register-ttl: 9s\n"), nil), `"register-ttl" is a setting of proxy`},
		{proxySources(map[string]string{"system-api": "1935", "rtmp": "127.0.0.1:1935"}, nil), "flag --system-api"},
		{proxySources(map[string]string{"register-ttl": "0"}, nil), "flag --register-ttl"},
		{proxySources(map[string]string{"balancer": "etcd"}, nil), "flag --balancer"},
		{proxySources(nil, map[string]string{"PROXY_GRACE_QUIT_TIMEOUT": "soon"}), "variable PROXY_GRACE_QUIT_TIMEOUT"},
	} {
		if _, err := resolve(tt.src); err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v does not say %s", err, tt.says)
		}
	}
	// The file is for both when a third command only wants to know where the socket is.
	both := file("origins: 3\nregister-ttl: 9s\nstate-dir: /s\norigin: [\"rtmp=10.0.0.1:1935,name=a\", \"rtmp=10.0.0.2:1935\"]\n")
	if cfg, err := resolve(fakeSources(both, nil), "state-dir", "control"); err != nil || cfg.Control != "/s/control.sock" {
		t.Errorf("%v", err)
	}
	// A list of the file is one origin an entry.
	list := file("origin:\n- rtmp=10.0.0.1:1935,name=a\n- rtmp=10.0.0.2:1935\n")
	if cfg, err := resolve(proxySources(list, nil)); err != nil || len(cfg.Static) != 2 || cfg.Static[0].name != "a" {
		t.Errorf("%v", err)
	}
}

// A token is nowhere to be seen.
func TestTokenIsNotShown(t *testing.T) {
	const secret = "open-sesame-4711"
	dir := t.TempDir()
	inFile := filepath.Join(dir, "token")
	if err := os.WriteFile(inFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"HOME": dir, "SRS_PROXY_REGISTER_TOKEN": secret}
	cfg, err := resolve(proxySources(nil, env))
	if err != nil {
		t.Fatal(err)
	}
	fromFile, err := resolve(proxySources(map[string]string{"register-token": "file:" + inFile}, map[string]string{"HOME": dir}))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Register.Tokens) != 1 || !reflect.DeepEqual(cfg.Register.Tokens, fromFile.Register.Tokens) {
		t.Error("a variable and a file give different tokens")
	}
	yaml, err := configYAML(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, wrong := resolve(proxySources(map[string]string{"register-token": secret + "/x"}, nil))
	_, missing := resolve(proxySources(map[string]string{"register-token": "file:" + dir + "/none"}, nil))
	var changes bytes.Buffer
	other, err := resolve(proxySources(nil, map[string]string{"HOME": dir, "SRS_PROXY_REGISTER_TOKEN": secret + "2"}))
	if err != nil {
		t.Fatal(err)
	}
	list, err := changedSettings(cfg, other)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	changes.WriteString(list[0].What + list[0].From + list[0].To)
	args := strings.Join(withoutSecrets([]string{"srs-proxy", "proxy", "--register-token", secret, "-register-token=" + secret, "--rtmp", "1935"}), " ")
	for name, text := range map[string]string{"config": string(yaml), "error": wrong.Error(), "missing": missing.Error(), "reload": changes.String(), "arguments": args} {
		if strings.Contains(text, secret) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if args != "srs-proxy proxy --register-token (secret) --register-token=(secret) --rtmp 1935" {
		t.Errorf("arguments: %s", args)
	}
}

func TestStaticOrigins(t *testing.T) {
	for _, v := range []string{
		"10.0.0.1:1935", "rtmp=10.0.0.1", "http=10.0.0.1:8080", "rtmp=0.0.0.0:1935", "rtmp=10.0.0.1:0", "rtmp=10.0.0.1:1935,rtmp=10.0.0.2:1935",
		"rtmp=10.0.0.1:1935,hls=10.0.0.1:80", "rtmp=10.0.0.1:1935,name=a b", "rtmp=10.0.0.1:1935,name=", "rtmp=10.0.0.1:1935;rtmp=10.0.0.1:1935", "rtmp=10.0.0.1:1935,name=a;rtmp=10.0.0.2:1935,name=a",
		"rtmp=224.0.0.1:1935", "rtmp=10.0.0.1:1935,", "rtmp",
		"rtmp=:1935", "rtmp=example.com", "rtmp=example.com:0", "rtmp=example.com:x", "rtmp=10.0.0.256:1935", "rtmp=1.2.3:1935", "rtmp=a b:1935", "rtmp=-a:1935", "rtmp=a..b:1935",
		"rtmp=[fe80::1%eth0]:1935", "rtmp=" + strings.Repeat("a", 64) + ":1935", "rtmp=rtmp://example.com:1935",
		"rtmp=a.example.com:1935,http=b.example.com:8080", "rtmp=a.example.com:1935,http=10.0.0.1:8080", "rtmp=10.0.0.1:1935,api=a.example.com:1985",
		"rtmp=A.example.com:1935;rtmp=a.example.com:1935",
	} {
		if all, err := parseStaticOrigins(v); err == nil {
			t.Errorf("%q is %+v", v, all)
		}
	}
	all, err := parseStaticOrigins("rtmp=Srs-0.srs.media.svc:1935,http=srs-0.srs.media.svc:08080,name=a;rtmp=srs_origin:1935;rtmp=[2001:db8::1]:1935,api=[::ffff:10.0.0.1]:1985;rtmp=a.example.com.:1935")
	want := []staticOrigin{
		{name: "a", endpoints: balancer.Endpoints{RTMP: "srs-0.srs.media.svc:1935", HTTP: "srs-0.srs.media.svc:8080"}},
		{endpoints: balancer.Endpoints{RTMP: "srs_origin:1935"}},
		{endpoints: balancer.Endpoints{RTMP: "[2001:db8::1]:1935", API: "10.0.0.1:1985"}},
		{endpoints: balancer.Endpoints{RTMP: "a.example.com.:1935"}},
	}
	if err != nil || !slices.Equal(all, want) {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := parseStaticOrigins(" ; "); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
}

func TestSystemAPIAddress(t *testing.T) {
	for v, want := range map[string]string{
		"12025": "127.0.0.1:12025", ":12025": ":12025", "0.0.0.0:12025": "0.0.0.0:12025", "[::1]:1": "[::1]:1", "off": "",
		"/run/x.sock": "/run/x.sock", "unix:/run/x.sock": "/run/x.sock",
	} {
		if got, err := parseSystemAPI(v); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", v, got, err, want)
		}
	}
	for _, v := range []string{"", "x", "unix:", "/" + strings.Repeat("x", 200)} {
		if got, err := parseSystemAPI(v); err == nil {
			t.Errorf("%q is %q", v, got)
		}
	}
}

func TestDefaultBackend(t *testing.T) {
	read := func(env map[string]string) (staticOrigin, bool, error) {
		return readDefaultBackend(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	}
	if _, ok, err := read(nil); ok || err != nil {
		t.Errorf("there is one: %v", err)
	}
	o, ok, err := read(map[string]string{"PROXY_DEFAULT_BACKEND_ENABLED": "on"})
	want := balancer.Endpoints{RTMP: "127.0.0.1:1935", HTTP: "127.0.0.1:8080", API: "127.0.0.1:1985", RTC: "127.0.0.1:8000", SRT: "127.0.0.1:10080"}
	if !ok || err != nil || o.endpoints != want {
		t.Errorf("%+v %v", o, err)
	}
	o, ok, err = read(map[string]string{
		"PROXY_DEFAULT_BACKEND_ENABLED": "on", "PROXY_DEFAULT_BACKEND_IP": "10.0.0.7", "PROXY_DEFAULT_BACKEND_RTMP": "1936", "PROXY_DEFAULT_BACKEND_HTTP": "8081",
		"PROXY_DEFAULT_BACKEND_API": "1986", "PROXY_DEFAULT_BACKEND_RTC": "8001", "PROXY_DEFAULT_BACKEND_SRT": "10081",
	})
	want = balancer.Endpoints{RTMP: "10.0.0.7:1936", HTTP: "10.0.0.7:8081", API: "10.0.0.7:1986", RTC: "10.0.0.7:8001", SRT: "10.0.0.7:10081"}
	if !ok || err != nil || o.endpoints != want {
		t.Errorf("%+v %v", o, err)
	}
	o, ok, err = read(map[string]string{"PROXY_DEFAULT_BACKEND_ENABLED": "on", "PROXY_DEFAULT_BACKEND_IP": "srs"})
	if !ok || err != nil || o.endpoints.RTMP != "srs:1935" || o.endpoints.SRT != "srs:10080" {
		t.Errorf("a host name: %+v %v", o, err)
	}
	for _, env := range []map[string]string{{"PROXY_DEFAULT_BACKEND_IP": "no host"}, {"PROXY_DEFAULT_BACKEND_IP": "0.0.0.0"}, {"PROXY_DEFAULT_BACKEND_SRT": "x"}, {"PROXY_DEFAULT_BACKEND_RTMP": "0"}} {
		env["PROXY_DEFAULT_BACKEND_ENABLED"] = "on"
		if _, _, err := read(env); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", env, err)
		}
	}
}

// The existing proxy's variables for a token of registration. What is not understood is
// refused: without an error whoever set them would be left without a token.
func TestRegisterAuth(t *testing.T) {
	const secret = "a/b+c,=="
	want, err := register.HeaderToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		env   map[string]string
		want  register.Tokens
		names string // the variable that the error names
	}{
		"none":          {},
		"off":           {env: map[string]string{authEnabled: "off", authType: "x"}},
		"on":            {env: map[string]string{authEnabled: "on", authType: "bearer", authToken: secret}, want: want},
		"neither":       {env: map[string]string{authEnabled: "yes", authType: "bearer", authToken: secret}, names: authEnabled},
		"no type":       {env: map[string]string{authEnabled: "on", authToken: secret}, names: authType},
		"basic":         {env: map[string]string{authEnabled: "on", authType: "basic", authToken: secret}, names: authType},
		"no token":      {env: map[string]string{authEnabled: "on", authType: "bearer"}, names: authToken},
		"with a space":  {env: map[string]string{authEnabled: "on", authType: "bearer", authToken: secret + " x"}, names: authToken},
		"far too long":  {env: map[string]string{authEnabled: "on", authType: "bearer", authToken: strings.Repeat(secret, 100)}, names: authToken},
		"not as header": {env: map[string]string{authEnabled: "on", authType: "bearer", authToken: secret + "\x7f"}, names: authToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir()) // without a file .env
			tt.env = maps.Clone(tt.env)
			if tt.env == nil {
				tt.env = make(map[string]string)
			}
			tt.env["HOME"] = t.TempDir()
			cfg, err := resolveProxy(proxySources(nil, tt.env))
			switch {
			case tt.names == "" && (err != nil || !slices.Equal(cfg.Register.Tokens, tt.want)):
				t.Errorf("%v", err)
			case tt.names != "" && (exitCode(err) != exitUsage || !strings.Contains(err.Error(), "variable "+tt.names+":") || strings.Contains(err.Error(), secret)):
				t.Errorf("%v, want one about %s", err, tt.names)
			}
		})
	}
	both := map[string]string{"HOME": t.TempDir(), "SRS_PROXY_REGISTER_TOKEN": "other", authEnabled: "on", authType: "bearer", authToken: secret}
	if cfg, err := resolveProxy(proxySources(nil, both)); err != nil || len(cfg.Register.Tokens) != 2 {
		t.Errorf("with a token of ours: %v", err)
	}
}

// The bare command is the proxy where the existing one's variables are set.
func TestBareCommandStartsProxy(t *testing.T) {
	for name, want := range map[string]bool{
		"PROXY_RTMP_SERVER": true, "PROXY_SYSTEM_API": true, "PROXY_LOAD_BALANCER_TYPE": true, "PROXY_DEFAULT_BACKEND_ENABLED": true, "PROXY_STATIC_FILES": true,
		"PROXY_HTTP_API_AUTH_ENABLED": true, "PROXY_REDIS_HOST": true, "PROXY_FORCE_QUIT_TIMEOUT": true, "SRS_PROXY_LOG_LEVEL": false, "GO_PPROF": false, "PROXY_OF_OTHERS": false,
	} {
		for _, v := range []string{"1", ""} {
			got := startsProxy(func(n string) (string, bool) { return v, n == name })
			if got != (want && v != "") {
				t.Errorf("%s=%q: %v", name, v, got)
			}
		}
	}
}

func TestDotEnv(t *testing.T) {
	t.Chdir(t.TempDir())
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"PROXY_RTMP_SERVER": "1", "PROXY_HTTP_API": ""}[name]
		return v, ok
	}
	if e, err := withDotEnv(env); err != nil {
		t.Error(err)
	} else if _, ok := e("PROXY_HTTP_SERVER"); ok {
		t.Error("out of no file")
	}
	text := "# PROXY_SRT_SERVER=9\r\n  PROXY_RTMP_SERVER=2\n\nPROXY_HTTP_SERVER = 3 \nPROXY_HTTP_SERVER=4\nPROXY_HTTP_API=5\nPATH=/x\nGO_PPROF=:1\nnonsense\n=7\nSRS_PROXY_ORIGIN=rtmp=10.0.0.1:1935\n"
	if err := os.WriteFile(".env", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := withDotEnv(env)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"PROXY_RTMP_SERVER": "1", "PROXY_HTTP_SERVER": "3", "PROXY_HTTP_API": "5", "GO_PPROF": ":1", "PATH": "", "PROXY_SRT_SERVER": "", "SRS_PROXY_ORIGIN": "rtmp=10.0.0.1:1935",
	} {
		if got, _ := e(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
