package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"srs-proxy/proxy/access"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// setting is one thing that an operator may decide. Its name is the flag's and
// the key's in the configuration file.
type setting struct {
	name     string
	env      string
	category string
	// usage has the value's name in backquotes: help shows --name VALUE.
	usage string
	def   string
	// isSwitch makes a flag without a value: --name is --name=true.
	isSwitch bool
	// isList lets the flag be given several times: the values are joined by commas, or
	// by separator.
	isList    bool
	separator string
	// secret keeps the value out of everything that is printed.
	secret bool
	// apply reads a value into the Config. Its error completes the sentence that
	// begins with the value.
	apply func(c *Config, value string) error
}

// joint is between the values of a list.
func (s setting) joint() string { return cmp.Or(s.separator, ",") }

const (
	categoryListen  = "Where things listen"
	categoryOrigins = "Origins"
	categoryCPU     = "CPUs"
	categoryLimits  = "Limits"
	categoryHost    = "State and logs"
)

// field makes an apply function of a parser and the place that it fills.
func field[T any](parse func(string) (T, error), at func(*Config) *T) func(*Config, string) error {
	return func(c *Config, value string) error {
		v, err := parse(value)
		if err != nil {
			return err
		}
		*at(c) = v
		return nil
	}
}

// settings is the one list of what can be decided: flags, environment, file,
// help and `config` all come from it. stateDir is the default that depends on the user.
func settings(stateDir string) []setting {
	return []setting{
		{
			name: "rtmp", env: "PROXY_RTMP_SERVER", category: categoryListen, def: "1935",
			usage: "listen for RTMP on `ADDR`; a bare port means all interfaces",
			apply: field(parseAddress, func(c *Config) *string { return &c.RTMP }),
		},
		{
			name: "http", env: "PROXY_HTTP_SERVER", category: categoryListen, def: "8080",
			usage: "listen for HTTP-FLV, HTTP-TS and HLS on `ADDR`",
			apply: field(parseAddress, func(c *Config) *string { return &c.HTTP }),
		},
		{
			name: "tls-cert", env: "SRS_PROXY_TLS_CERT", category: categoryListen,
			usage: "serve RTMPS and HTTPS with the certificate in `FILE` (PEM, with those that lead to its root); one that is renewed is taken up by itself",
			apply: field(parseFile, func(c *Config) *string { return &c.TLS.CertFile }),
		},
		{
			name: "tls-key", env: "SRS_PROXY_TLS_KEY", category: categoryListen,
			usage: "key of --tls-cert, in `FILE` (PEM)",
			apply: field(parseFile, func(c *Config) *string { return &c.TLS.KeyFile }),
		},
		{
			name: "rtmps", env: "SRS_PROXY_RTMPS_SERVER", category: categoryListen, def: "1443",
			usage: "listen for RTMPS on `ADDR`, if there is a --tls-cert",
			apply: field(parseAddress, func(c *Config) *string { return &c.RTMPS }),
		},
		{
			name: "https", env: "SRS_PROXY_HTTPS_SERVER", category: categoryListen, def: "8088",
			usage: "listen for HTTPS on `ADDR`, if there is a --tls-cert",
			apply: field(parseAddress, func(c *Config) *string { return &c.HTTPS }),
		},
		{
			name: "https-api", env: "SRS_PROXY_HTTPS_API", category: categoryListen, def: "1990",
			usage: "listen for the HTTP API with TLS on `ADDR`, if there is a --tls-cert",
			apply: field(parseAddress, func(c *Config) *string { return &c.HTTPSAPI }),
		},
		{
			name: "api", env: "PROXY_HTTP_API", category: categoryListen, def: "1985",
			usage: "listen for the HTTP API on `ADDR`",
			apply: field(parseAddress, func(c *Config) *string { return &c.API }),
		},
		{
			name: "srt", env: "PROXY_SRT_SERVER", category: categoryListen, def: "10080",
			usage: "listen for SRT on `ADDR`, over UDP",
			apply: field(parseAddress, func(c *Config) *string { return &c.SRT }),
		},
		{
			name: "webrtc", env: "PROXY_WEBRTC_SERVER", category: categoryListen, def: "8000",
			usage: "listen for WebRTC media on `ADDR`, over UDP and TCP",
			apply: field(parseAddress, func(c *Config) *string { return &c.WebRTC }),
		},
		{
			name: "candidate", env: "SRS_PROXY_CANDIDATE", category: categoryListen, def: "auto", isList: true,
			usage: "tell clients of WebRTC to send to `HOST` or HOST:PORT, an address or a name, several with commas; auto finds the addresses of this machine, of which public ones go before private ones",
			apply: field(candidate.ParseList, func(c *Config) *[]candidate.Spec { return &c.Candidates }),
		},

		{
			name: "origins", env: "SRS_PROXY_ORIGINS", category: categoryOrigins, def: "auto",
			usage: "run `N` origins; auto is one for each CPU that the proxy leaves",
			apply: field(parseOrigins, func(c *Config) *int { return &c.Origins }),
		},
		{
			name: "srs", env: "SRS_BINARY", category: categoryOrigins,
			usage: "SRS binary at `PATH`, or builtin; empty takes srs in PATH, else " + srsInstalled + ", else the built-in origin",
			apply: field(parseBinary, func(c *Config) *string { return &c.SRS }),
		},
		{
			name: "template", env: "SRS_PROXY_TEMPLATE", category: categoryOrigins,
			usage: "template `FILE` of the origins' config instead of the embedded one",
			apply: field(parseFile, func(c *Config) *string { return &c.Template }),
		},
		{
			name: "vhosts", env: "SRS_PROXY_VHOSTS", category: categoryOrigins,
			usage: "`FILE` in SRS's syntax with vhosts and other directives to add to every origin",
			apply: field(parseFile, func(c *Config) *string { return &c.Vhosts }),
		},
		{
			name: "port-base", env: "SRS_PROXY_PORT_BASE", category: categoryOrigins, def: strconv.Itoa(srsconf.DefaultPortBase),
			usage: "`PORT` of the first origin; the others follow",
			apply: field(parsePort, func(c *Config) *int { return &c.PortBase }),
		},
		{
			name: "hook-relay", env: "SRS_PROXY_HOOK_RELAY", category: categoryOrigins, def: "auto",
			usage: "have origins call their hooks through `PORT` of 127.0.0.1, where clients' own addresses are put in; auto is the one before --port-base, off calls them straight",
			apply: field(parseHookPort, func(c *Config) *hookPort { return &c.HookRelay }),
		},
		{
			name: "max-connections", env: "SRS_PROXY_MAX_CONNECTIONS", category: categoryOrigins, def: "auto",
			usage: fmt.Sprintf("let one origin have `N` connections; auto is what descriptors allow, up to %d", autoMaxConnections),
			apply: field(parseAutoCount, func(c *Config) *int { return &c.MaxConnections }),
		},
		{
			name: "real-ip-prefix", env: "SRS_PROXY_REAL_IP_PREFIX", category: categoryOrigins, def: "auto",
			usage: "tell origins a client's address ahead of the RTMP handshake (0xF3), for their log: `on|off|auto`; auto is on for SRS",
			apply: field(parseToggle, func(c *Config) *toggle { return &c.RealIPPrefix }),
		},
		{
			name: "rtmp-to-rtc", env: "SRS_PROXY_RTMP_TO_RTC", category: categoryOrigins, def: "on",
			usage: "let what comes by RTMP be played over WebRTC: `on|off`; SRS makes Opus of each stream's sound for it, played or not",
			apply: field(parseSwitch, func(c *Config) *bool { return &c.RTMPToRTC }),
		},
		{
			name: "ready-quorum", env: "SRS_PROXY_READY_QUORUM", category: categoryOrigins, def: "auto",
			usage: "tell systemd that we are ready when `N` origins are: a number, a share (75%), all, or auto; auto is all, or after 45 s more than half",
			apply: field(parseQuorum, func(c *Config) *quorum { return &c.ReadyQuorum }),
		},
		{
			name: "die-with-parent", env: "SRS_PROXY_DIE_WITH_PARENT", category: categoryOrigins, def: "off", isSwitch: true,
			usage: "end all origins within a second when srs-proxy is killed, instead of leaving them to the next one to adopt",
			apply: field(parseSwitch, func(c *Config) *bool { return &c.DieWithParent }),
		},

		{
			name: "origin-cpus", env: "SRS_PROXY_ORIGIN_CPUS", category: categoryCPU,
			usage: "run origins on the CPUs of `LIST`, such as 4-127; empty is what the proxy leaves",
			apply: field(parseCPUs, func(c *Config) *runtime.CPUSet { return &c.OriginCPUs }),
		},
		{
			name: "proxy-cpus", env: "SRS_PROXY_PROXY_CPUS", category: categoryCPU,
			usage: "run the proxy on the CPUs of `LIST`, such as 0-3; empty is one CPU in eight",
			apply: field(parseCPUs, func(c *Config) *runtime.CPUSet { return &c.ProxyCPUs }),
		},
		{
			name: "cpu-layout", env: "SRS_PROXY_CPU_LAYOUT", category: categoryCPU, def: string(runtime.Spread),
			usage: "give CPUs to origins in the order of `LAYOUT`: spread (over the cores), compact (SMT siblings together) or numa (node by node)",
			apply: field(parseLayout, func(c *Config) *runtime.Layout { return &c.CPULayout }),
		},

		{
			name: "relay", env: "SRS_PROXY_RELAY", category: categoryCPU, def: string(relay.Auto),
			usage: "move the bytes of TCP sessions by `MODE`: splice (inside the kernel), copy (through the proxy's memory) or auto, which is splice",
			apply: field(parseOneOf(relay.Auto, relay.Splice, relay.Copy), func(c *Config) *relay.Mode { return &c.RelayMode }),
		},

		{
			name: "nofile", env: "SRS_PROXY_NOFILE", category: categoryLimits, def: "auto",
			usage: "raise the limit of open files to `N`, for the proxy and for each origin; auto is the hard limit",
			apply: field(parseAutoLimit, func(c *Config) *uint64 { return &c.NoFile }),
		},
		{
			name: "max-connections-per-ip", env: "SRS_PROXY_MAX_CONNECTIONS_PER_IP", category: categoryLimits, def: "1024",
			usage: "allow `N` connections of one client address",
			apply: field(parseCount, func(c *Config) *int { return &c.MaxConnectionsPerIP }),
		},
		{
			name: "max-udp-sessions-per-ip", env: "SRS_PROXY_MAX_UDP_SESSIONS_PER_IP", category: categoryLimits, def: "64",
			usage: "allow `N` sessions of WebRTC, and of SRT, of one client address",
			apply: field(parseCount, func(c *Config) *int { return &c.MaxUDPSessionsPerIP }),
		},
		{
			name: "max-handshaking", env: "SRS_PROXY_MAX_HANDSHAKING", category: categoryLimits, def: "2048",
			usage: "allow `N` RTMP connections that have not come to publish or play yet",
			apply: field(parseCount, func(c *Config) *int { return &c.MaxHandshaking }),
		},
		{
			name: "hls-cache", env: "SRS_PROXY_HLS_CACHE", category: categoryLimits, def: "256M",
			usage: "hold up to `SIZE` of HLS segments for seconds each, so that an origin is asked for a segment once whatever the number of its viewers; off asks for each viewer",
			apply: field(parseHLSCache, func(c *Config) *int64 { return &c.HLSCache }),
		},
		{
			name: "dial-timeout", env: "SRS_PROXY_DIAL_TIMEOUT", category: categoryLimits, def: "1s",
			usage: "try another origin when one has not accepted within `DURATION`",
			apply: field(parseDuration(10*time.Millisecond, time.Minute), func(c *Config) *time.Duration { return &c.DialTimeout }),
		},
		{
			name: "lease-idle", env: "SRS_PROXY_LEASE_IDLE", category: categoryLimits, def: "60s",
			usage: "keep a stream's origin for `DURATION` after its last session",
			apply: field(parseDuration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.LeaseIdle }),
		},
		{
			name: "allow", env: "SRS_PROXY_ALLOW", category: categoryLimits, isList: true,
			usage: "let only `LIST` publish or play, such as publish:10.0.0.0/8,play:192.0.2.7; a role without entries is for everybody",
			apply: field(access.Parse, func(c *Config) *access.List { return &c.Access.Allow }),
		},
		{
			name: "deny", env: "SRS_PROXY_DENY", category: categoryLimits, isList: true,
			usage: "let `LIST` not publish or play, whatever --allow says",
			apply: field(access.Parse, func(c *Config) *access.List { return &c.Access.Deny }),
		},
		{
			name: "drain-deadline", env: "SRS_PROXY_DRAIN_DEADLINE", category: categoryLimits, def: "10m",
			usage: "stop an origin that was replaced or scaled away after `DURATION`, whoever still uses it",
			apply: field(parseDuration(time.Second, 7*24*time.Hour), func(c *Config) *time.Duration { return &c.DrainDeadline }),
		},
		{
			name: "cpu-quota", env: "SRS_PROXY_CPU_QUOTA", category: categoryLimits, def: limitOff,
			usage: "let an origin, with all that it starts, use the time of `CORES`, such as 0.5 or 2; off is no limit",
			apply: field(parseCores, func(c *Config) *float64 { return &c.CPUQuota }),
		},
		{
			name: "memory-max", env: "SRS_PROXY_MEMORY_MAX", category: categoryLimits, def: limitOff,
			usage: "let an origin, with all that it starts, have `SIZE` of memory, such as 512M or 2G, and no swap; it is killed and restarted when it takes more; off is no limit",
			apply: field(parseMemory, func(c *Config) *uint64 { return &c.MemoryMax }),
		},
		{
			name: "nice", env: "SRS_PROXY_NICE", category: categoryLimits, def: levelAuto,
			usage: "give origins the nice value `N`, from -20 (favoured) to 19; auto is that of srs-proxy",
			apply: field(parseLevel(-20, 19), func(c *Config) *level { return &c.Nice }),
		},
		{
			name: "oom-score", env: "SRS_PROXY_OOM_SCORE", category: categoryLimits, def: levelAuto,
			usage: fmt.Sprintf("give origins the oom_score_adj `N`, from -1000 (never killed) to 1000; auto is %d more than srs-proxy's own, so that a host without memory loses an origin first", originsOOMScore),
			apply: field(parseLevel(-1000, 1000), func(c *Config) *level { return &c.OOMScore }),
		},
		{
			name: "cgroup", env: "SRS_PROXY_CGROUP", category: categoryLimits, def: cgroupAuto,
			usage: "begin the names of the origins' control groups with `NAME`; auto is one for each state dir; off is none, and so no quota and no memory limit",
			apply: field(parseCgroup, func(c *Config) *string { return &c.Cgroup }),
		},

		{
			name: "state-dir", env: "SRS_PROXY_STATE_DIR", category: categoryHost, def: stateDir,
			usage: "keep the origins' folders, configs and logs and the state file in `DIR`",
			apply: field(parsePath, func(c *Config) *string { return &c.StateDir }),
		},
		{
			name: "control", env: "SRS_PROXY_CONTROL", category: categoryHost,
			usage: "unix socket `PATH` by which commands reach the running instance; empty is control.sock in the state dir",
			apply: field(parsePath, func(c *Config) *string { return &c.Control }),
		},
		{
			name: "pprof", env: "SRS_PROXY_PPROF", category: categoryHost, def: "off", isSwitch: true,
			usage: "let the control socket give profiles of srs-proxy itself (Go's pprof, under /debug/pprof/)",
			apply: field(parseSwitch, func(c *Config) *bool { return &c.Pprof }),
		},
		{
			name: "log-level", env: "SRS_PROXY_LOG_LEVEL", category: categoryHost, def: "info",
			usage: "log from `LEVEL` on: debug, info, warn or error",
			apply: field(parseLogLevel, func(c *Config) *slog.Level { return &c.LogLevel }),
		},
		{
			name: "log-format", env: "SRS_PROXY_LOG_FORMAT", category: categoryHost, def: "text",
			usage: "write log lines as `FORMAT`: text or json",
			apply: field(parseOneOf("text", "json"), func(c *Config) *string { return &c.LogFormat }),
		},
		{
			name: "log-max-size", env: "SRS_PROXY_LOG_MAX_SIZE", category: categoryHost, def: "32M",
			usage: "begin a new log file of an origin when it has `SIZE`, such as 500K, 32M or 1G; off lets it grow",
			apply: field(parseLogSize, func(c *Config) *int64 { return &c.LogMaxSize }),
		},
		{
			name: "log-keep", env: "SRS_PROXY_LOG_KEEP", category: categoryHost, def: "3",
			usage: "keep `N` old log files of each origin",
			apply: field(parseCount, func(c *Config) *int { return &c.LogKeep }),
		},
	}
}
