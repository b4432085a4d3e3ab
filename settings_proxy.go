package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"srs-proxy/proxy/health"
	"srs-proxy/proxy/register"
)

// proxyCommand is the command that runs the proxy alone. Its settings are those of `up`
// that are about the proxy, some with another default, and a few of its own.
const proxyCommand = "proxy"

// categoryRegister is of settings that only `proxy` has.
const categoryRegister = "Origins that register or are listed"

// upOnly says that a setting is about origins that `up` starts.
func upOnly(name string) bool {
	switch name {
	case "origins", "srs", "template", "port-base", "hook-relay", "max-connections", "rtmp-to-rtc", "ready-quorum", "die-with-parent",
		"origin-cpus", "cpu-layout", "drain-deadline", "cpu-quota", "memory-max", "nice", "oom-score", "cgroup", "log-max-size", "log-keep":
		return true
	}
	return false
}

// proxyDefaults are the existing proxy's ports, and what is not known of origins that
// somebody else runs.
func proxyDefaults(name string) (def string, ok bool) {
	switch name {
	case "rtmp":
		return "11935", true
	case "http":
		return "18080", true
	case "api":
		return "11985", true
	case "webrtc":
		return "18000", true
	case "srt":
		return "20080", true
	case "proxy-cpus":
		return "", true
	}
	return "", false
}

// proxySettings is the list of what can be decided of `proxy`.
func proxySettings(stateDir string) []setting {
	var all []setting
	for _, s := range settings(stateDir) {
		if upOnly(s.name) {
			continue
		}
		if def, ok := proxyDefaults(s.name); ok {
			s.def = def
		}
		switch s.name {
		case "vhosts":
			s.usage = "`FILE` in SRS's syntax with the vhosts that the origins know; other hosts are the default vhost's"
		case "real-ip-prefix":
			s.usage = "tell origins a client's address ahead of the RTMP handshake (0xF3), which only SRS takes: `on|off|auto`; auto is off"
		case "proxy-cpus":
			s.usage = "run on the CPUs of `LIST`, such as 0-3; empty is all"
		}
		all = append(all, s)
	}
	return append(all, proxyOwnSettings()...)
}

// proxyOwnSettings are those that `up` has not.
func proxyOwnSettings() []setting {
	return slices.Concat(redisSettings(), []setting{
		{
			name: "system-api", env: "PROXY_SYSTEM_API", category: categoryRegister, def: "12025",
			usage: "let origins register, and others ask for /readyz and /healthz, on `ADDR`; a bare port means 127.0.0.1, a path a unix socket, off nowhere",
			apply: field(parseSystemAPI, func(c *Config) *string { return &c.SystemAPI }),
		},
		{
			name: "register-token", env: "SRS_PROXY_REGISTER_TOKEN", category: categoryRegister, isList: true, secret: true,
			usage: "let only those register who send `TOKEN`, as Bearer or as last element of the URL's path; file:PATH reads it from a file, where nobody sees it; several while one replaces another",
			apply: field(parseTokens, func(c *Config) *register.Tokens { return &c.Register.Tokens }),
		},
		{
			name: "register-allow", env: "SRS_PROXY_REGISTER_ALLOW", category: categoryRegister, isList: true,
			usage: "let only origins of `LIST` register, such as 10.0.0.0/8,192.0.2.7; empty is this machine, or with --register-token everybody who has it",
			apply: field(parseNetworks, func(c *Config) *networks { return (*networks)(&c.Register.Allow) }),
		},
		{
			name: "register-ttl", env: "SRS_PROXY_REGISTER_TTL", category: categoryRegister, def: "30s",
			usage: "forget an origin that has not registered again for `DURATION`; the default is three heartbeats of SRS",
			apply: field(parseDuration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.RegisterTTL }),
		},
		{
			name: "max-origins", env: "SRS_PROXY_MAX_ORIGINS", category: categoryRegister, def: strconv.Itoa(health.DefaultMost),
			usage: "refuse a registration that would make it more than `N` origins; those that are known stay",
			apply: field(parseCount, func(c *Config) *int { return &c.MaxOrigins }),
		},
		{
			name: "origin", env: "SRS_PROXY_ORIGIN", category: categoryRegister, isList: true, separator: ";",
			usage: "use an origin that does not register: `ADDRESSES` such as rtmp=10.0.0.1:1935,http=10.0.0.1:8080,api=10.0.0.1:1985,name=a; rtmp is enough; a host name in place of the IP is an origin at each of its addresses; several flags for several origins",
			apply: field(parseStaticOrigins, func(c *Config) *[]staticOrigin { return &c.Static }),
		},
		{
			name: "static-files", env: "PROXY_STATIC_FILES", category: categoryListen,
			usage: "serve the web pages in `DIR` over HTTP, beside streams; empty leaves what is no stream to the origins",
			apply: field(parseFolder, func(c *Config) *string { return &c.StaticFiles }),
		},
		{
			name: "shutdown-delay", env: "SRS_PROXY_SHUTDOWN_DELAY", category: categoryLimits, def: "0s",
			usage: "when asked to stop, serve on for `DURATION` with /readyz saying no, so that load balancers notice",
			apply: field(parseDuration(0, time.Hour), func(c *Config) *time.Duration { return &c.ShutdownDelay }),
		},
		{
			name: "drain-timeout", env: "PROXY_GRACE_QUIT_TIMEOUT", category: categoryLimits, def: "20s",
			usage: "when asked to stop, take no new sessions and let those that there are go on for `DURATION`",
			apply: field(parseDuration(0, 7*24*time.Hour), func(c *Config) *time.Duration { return &c.DrainTimeout }),
		},
		{
			name: "quit-timeout", env: "PROXY_FORCE_QUIT_TIMEOUT", category: categoryLimits, def: "auto",
			usage: "end `DURATION` after being asked to, whatever there is to wait for; auto is 30s, or 5s after --shutdown-delay and --drain-timeout",
			apply: field(parseQuitTimeout, func(c *Config) *time.Duration { return &c.QuitTimeout }),
		},
		{
			name: "go-pprof", env: "GO_PPROF", category: categoryHost,
			usage: "serve Go's profiles on `ADDR`, such as 127.0.0.1:6060",
			apply: field(parseAddress, func(c *Config) *string { return &c.GoPprof }),
		},
	})
}

// parseFolder is parsePath for a folder that is there.
func parseFolder(v string) (string, error) {
	path, err := parsePath(v)
	if err != nil || path == "" {
		return path, err
	}
	if st, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("cannot be used (%w); give a folder", withoutPath(err))
	} else if !st.IsDir() {
		return "", errors.New("is no folder")
	}
	return path, nil
}

// parseQuitTimeout takes 0 for auto.
func parseQuitTimeout(v string) (time.Duration, error) {
	if v == "auto" {
		return 0, nil
	}
	return parseDuration(100*time.Millisecond, 8*24*time.Hour)(v)
}

// settingsOf are those that a command has; "" is `up`.
func settingsOf(command, stateDir string) []setting {
	if command == proxyCommand {
		return proxySettings(stateDir)
	}
	return settings(stateDir)
}

// everySetting is for a file that serves several commands.
func everySetting(stateDir string) []setting {
	return append(settings(stateDir), proxyOwnSettings()...)
}

// elsewhere explains a setting that a command has not but another one has, and which of
// its own may have been meant; "" if there is no such setting at all.
func elsewhere(command, name string) string {
	var why string
	switch {
	case command == proxyCommand && upOnly(name):
		why = fmt.Sprintf("%q is a setting of up; proxy starts no origins", name)
	case command != proxyCommand && settingNamed(name, proxyOwnSettings()) != nil:
		why = fmt.Sprintf("%q is a setting of proxy; origins of up neither register nor are listed", name)
	default:
		return ""
	}
	var names []string
	for _, s := range settingsOf(command, "") {
		names = append(names, s.name)
	}
	if near := nearest(name, names); near != "" {
		why += "; did you mean " + near + "?"
	}
	return why
}

// startsProxy says that the bare command means `proxy`: the existing proxy has no
// command line, and is told all by these variables.
func startsProxy(env func(string) (string, bool)) bool {
	names := []string{authEnabled}
	for _, s := range proxySettings("") {
		names = append(names, s.env)
	}
	for _, p := range defaultBackend() {
		names = append(names, p.env)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		v, ok := env(name)
		return ok && v != "" && strings.HasPrefix(name, "PROXY_")
	})
}
