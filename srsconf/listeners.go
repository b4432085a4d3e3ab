package srsconf

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener is a socket that a config makes its origin listen on.
type Listener struct {
	Directive string // rtmp, http_api, rtc_server.tcp ...
	Network   string // tcp or udp
	Addr      netip.AddrPort
	Line      int
}

// listening says where a config holds its listeners, and SRS's defaults.
var listening = []struct {
	path     []string // of the section; enabled and listen are in it
	network  string
	def      string // the listen that SRS takes when there is none
	alwaysOn bool   // has no `enabled`
}{
	{path: []string{"rtmp"}, network: "tcp", alwaysOn: true},
	{path: []string{"rtmps"}, network: "tcp", def: "1443"},
	{path: []string{"http_api"}, network: "tcp", def: "1985"},
	{path: []string{"http_api", "https"}, network: "tcp", def: "1990"},
	{path: []string{"http_server"}, network: "tcp", def: "8080"},
	{path: []string{"http_server", "https"}, network: "tcp", def: "8088"},
	{path: []string{"rtc_server"}, network: "udp", def: "8000"},
	{path: []string{"rtc_server", "tcp"}, network: "tcp", def: "8000"},
	{path: []string{"srt_server"}, network: "udp", def: "10080"},
	{path: []string{"rtsp_server"}, network: "tcp", def: "554"},
	{path: []string{"exporter"}, network: "tcp", def: "9972"},
}

// Listeners are the sockets that a config asks for, in both forms of the RTMP
// directive. Port 0, or none, is an error.
func Listeners(root *Directive) ([]Listener, error) {
	var found []Listener
	add := func(name, network string, d *Directive, def string) error {
		args := []string{def}
		line := 0
		if d != nil {
			line = d.Line
			if len(d.Args) > 0 {
				args = d.Args
			}
		}
		for _, arg := range args {
			if arg == "" {
				continue
			}
			addr, err := ParseEndpoint(arg)
			if err != nil {
				return fmt.Errorf("line %d: %s: %w", line, name, err)
			}
			found = append(found, Listener{name, network, addr, line})
		}
		return nil
	}
	if err := add("listen", "tcp", root.Get("listen"), ""); err != nil {
		return nil, err
	}
	for _, l := range listening {
		section := root.Get(l.path...)
		// A section inside another does nothing when that is off.
		off := slices.ContainsFunc([]*Directive{root.Get(l.path[0]), section}, func(d *Directive) bool {
			return d == nil || !l.alwaysOn && !d.On(false, "enabled")
		})
		if off {
			continue
		}
		if err := add(strings.Join(l.path, "."), l.network, section.Get("listen"), l.def); err != nil {
			return nil, err
		}
	}
	for _, c := range root.All("stream_caster") {
		if !c.On(false, "enabled") {
			continue
		}
		network := "tcp"
		if c.Value("caster") == "mpegts_over_udp" {
			network = "udp"
		}
		if err := add("stream_caster", network, c.Get("listen"), ""); err != nil {
			return nil, err
		}
		if sip := c.Get("sip"); sip != nil && sip.On(true, "enabled") {
			if err := add("stream_caster.sip", "tcp", sip.Get("listen"), "5060"); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// ParseEndpoint reads what SRS takes in `listen`: port, ip:port or [ip]:port.
// A bare port is all interfaces.
func ParseEndpoint(s string) (netip.AddrPort, error) {
	host, port := "", s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s[:i], "["), "]"), s[i+1:]
	}
	addr := netip.IPv4Unspecified()
	if host != "" {
		var err error
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is not [ip:]port: %w", s, err)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is not [ip:]port with a port of 1 to 65535", s)
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}

// Dirs are the folders that must be there before an origin starts with this
// config: it makes those of its media, and fails without these.
func Dirs(root *Directive) []string {
	work := root.Value("work_dir")
	dirs := []string{work}
	for _, path := range []string{root.Value("pid"), root.Value("srs_log_file")} {
		if path != "" {
			dirs = append(dirs, rebase(work, filepath.Dir(path)))
		}
	}
	for _, path := range []string{root.Value("ff_log_dir"), root.Value("http_server", "dir")} {
		if path != "" && path != "/dev/null" {
			dirs = append(dirs, rebase(work, path))
		}
	}
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return d == "" })
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// rebase is what a path of the config means to a process in its work dir.
func rebase(work, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(work, path)
}
