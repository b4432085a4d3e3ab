package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"srs-proxy/proxy/access"
	"srs-proxy/proxy/certs"
	"srs-proxy/proxy/register"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/runtime"
)

// Config is everything that an operator decides. It is read once, from flags,
// environment and file (settings.go says which), and not changed afterwards.
type Config struct {
	// Origins is how many to run; 0 means one for each CPU that the proxy leaves.
	Origins int
	// RTMP, HTTP, API and SRT are the public addresses, "host:port"; an empty host means
	// all interfaces.
	RTMP string
	HTTP string
	API  string
	SRT  string
	// WebRTC is that of media, over UDP and TCP.
	WebRTC string
	// Candidates are what clients are told of it; none means to find out.
	Candidates []candidate.Spec

	// SRS is the path of the SRS binary, builtinOrigin for the built-in origin,
	// or "" to search.
	SRS string
	// Template and Vhosts are files that replace and extend the origins' config;
	// "" for none.
	Template string
	Vhosts   string
	PortBase int
	// TLS is the certificate of RTMPS, HTTPS and HTTPSAPI, which are served if there is
	// one.
	TLS      certs.Pair
	RTMPS    string
	HTTPS    string
	HTTPSAPI string
	// HookRelay is the port through which origins call their hooks.
	HookRelay hookPort

	// StateDir holds the origins' work dirs, configs and logs, and the state file.
	StateDir string
	// Control is the unix socket on which a running instance obeys.
	Control string

	// OriginCPUs and ProxyCPUs are empty where the plan is to choose.
	OriginCPUs runtime.CPUSet
	ProxyCPUs  runtime.CPUSet
	CPULayout  runtime.Layout

	// NoFile is the descriptor limit to raise to; 0 means the hard limit.
	NoFile uint64
	// MaxConnections is that of one origin; 0 means as many as descriptors allow,
	// up to autoMaxConnections.
	MaxConnections int

	RealIPPrefix toggle
	// RTMPToRTC lets RTMP streams be played over WebRTC.
	RTMPToRTC bool
	// DieWithParent ends the origins when this process is killed; without it they
	// serve on and the next one adopts them.
	DieWithParent bool

	// ReadyQuorum is how many origins make the whole ready, for systemd.
	ReadyQuorum quorum

	MaxConnectionsPerIP int
	// MaxUDPSessionsPerIP is of WebRTC, and of SRT.
	MaxUDPSessionsPerIP int
	HLSCache            int64 // bytes; 0 is off
	MaxHandshaking      int
	DialTimeout         time.Duration
	// RelayMode is how bytes of TCP sessions move.
	RelayMode relay.Mode
	LeaseIdle time.Duration
	// Access says who may publish and play.
	Access access.Rules
	// DrainDeadline is how long an origin that was replaced keeps its streams.
	DrainDeadline time.Duration

	// CPUQuota of each origin is in cores and MemoryMax in bytes; 0 for no limit.
	CPUQuota  float64
	MemoryMax uint64
	// Nice and OOMScore of the origins; not given, we decide.
	Nice, OOMScore level
	// Cgroup begins the names of the origins' control groups: cgroupAuto, a name, or
	// runtime.CgroupsOff.
	Cgroup string

	// Pprof has the control socket give profiles of this process.
	Pprof bool

	// The following are of `proxy` alone.

	// SystemAPI is where origins register: an address, the path of a unix socket, or ""
	// for nowhere.
	SystemAPI string
	Register  register.Rules
	// RegisterTTL is how long an origin is known after its last heartbeat.
	RegisterTTL time.Duration
	// MaxOrigins is up to how many may register.
	MaxOrigins int
	// Static are the origins that do not register.
	Static []staticOrigin
	// Redis is where the balancer keeps what it knows.
	Redis redisConfig
	// ShutdownDelay, DrainTimeout and QuitTimeout are the phases of the end.
	ShutdownDelay, DrainTimeout, QuitTimeout time.Duration
	// StaticFiles is the folder of web pages that are served over HTTP; "" for none.
	StaticFiles string
	// GoPprof is where Go's profiles are served; "" for nowhere.
	GoPprof string

	LogLevel  slog.Level
	LogFormat string
	// LogMaxSize and LogKeep are of the origins' log files; size 0 lets them grow.
	LogMaxSize int64
	LogKeep    int
}

// builtinOrigin as value of --srs chooses the built-in origin even where an
// SRS is installed.
const builtinOrigin = "builtin"

// toggle is a switch that may be left to the program.
type toggle string

const (
	toggleAuto toggle = "auto"
	toggleOn   toggle = "on"
	toggleOff  toggle = "off"
)

// enabled resolves auto to def.
func (t toggle) enabled(def bool) bool {
	if t == toggleAuto {
		return def
	}
	return t == toggleOn
}

// maxSocketPath is what sockaddr_un.sun_path holds, less the closing NUL.
const maxSocketPath = 107

// Validate checks what concerns several settings together; each value by
// itself was checked when it was read. The names in its errors are resolved to
// their sources by the caller.
func (c *Config) Validate() error {
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		given, missing, file := "tls-cert", "tls-key", c.TLS.CertFile
		if file == "" {
			given, missing, file = missing, given, c.TLS.KeyFile
		}
		return &settingError{name: given, value: file, reason: fmt.Sprintf("needs --%s too", missing)}
	}
	listeners := c.listeners()
	for i, l := range listeners {
		for _, before := range listeners[:i] {
			if before.network == l.network && sameListener(before.addr, l.addr) {
				return &settingError{name: l.flag, value: l.addr, reason: "is the address of " + before.flag + " too; give each its own port"}
			}
		}
	}
	if len(c.Control) > maxSocketPath {
		return &settingError{name: "control", value: c.Control, reason: fmt.Sprintf(
			"has %d characters and a unix socket's path may have %d; choose a shorter --control or --state-dir", len(c.Control), maxSocketPath)}
	}
	if c.NoFile > 0 && c.MaxConnections > 0 && uint64(c.MaxConnections)+srsReservedFiles >= c.NoFile {
		return &settingError{name: "max-connections", value: fmt.Sprint(c.MaxConnections), reason: fmt.Sprintf(
			"needs a nofile above %d (SRS keeps %d descriptors for itself), and nofile is %d; lower it or raise --nofile",
			c.MaxConnections+srsReservedFiles, srsReservedFiles, c.NoFile)}
	}
	return nil
}

// listeners are the public addresses and the settings that place them.
func (c *Config) listeners() []publicListener {
	all := []publicListener{
		{flag: "rtmp", network: "tcp", addr: c.RTMP},
		{flag: "http", network: "tcp", addr: c.HTTP},
		{flag: "api", network: "tcp", addr: c.API},
		{flag: "srt", network: "udp", addr: c.SRT},
		{flag: "webrtc", network: "udp", addr: c.WebRTC},
		{flag: "webrtc", network: "tcp", addr: c.WebRTC},
	}
	if c.SystemAPI != "" && !strings.HasPrefix(c.SystemAPI, "/") {
		all = append(all, publicListener{flag: "system-api", network: "tcp", addr: c.SystemAPI})
	}
	if c.TLS.CertFile != "" {
		all = append(all, publicListener{flag: "rtmps", network: "tcp", addr: c.RTMPS},
			publicListener{flag: "https", network: "tcp", addr: c.HTTPS},
			publicListener{flag: "https-api", network: "tcp", addr: c.HTTPSAPI})
	}
	return all
}

const (
	// srsReservedFiles is what SRS wants beyond max_connections: it refuses to
	// start if max_connections + 128 >= nofile.
	srsReservedFiles = 128
	// autoMaxConnections is above the 4,000 players of a 600 kb/s stream that one
	// core serves, so that the CPU is what runs out first.
	autoMaxConnections = 10000
)

// maxConnections resolves an automatic limit against the descriptors that an
// origin will have. The reserve is twice SRS's, because HLS and DVR files come on top.
func (c *Config) maxConnections(nofile uint64) int {
	if c.MaxConnections > 0 {
		return c.MaxConnections
	}
	if nofile <= 3*srsReservedFiles {
		return srsReservedFiles
	}
	return int(min(autoMaxConnections, nofile-2*srsReservedFiles))
}

// sameListener says that both addresses cannot be bound together. Port 0 never
// collides: the kernel chooses.
func sameListener(a, b string) bool {
	x, errA := splitAddress(a)
	y, errB := splitAddress(b)
	if errA != nil || errB != nil || x.port != y.port || x.port == 0 {
		return false
	}
	return x.wildcard() || y.wildcard() || x.host == y.host
}

// address is a listener's host and port; an empty host means all interfaces.
type address struct {
	host string
	port int
}

func (a address) wildcard() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.host == "" || err == nil && ip.IsUnspecified()
}
