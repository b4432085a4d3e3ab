package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"

	"srs-proxy/runtime"
)

// unit is what a unit file of ours depends on.
type unit struct {
	// self is this program's path.
	self string
	// flags of up, in order; configFile is that of --config, or "".
	flags      []unitFlag
	configFile string
	stateDir   string
	nofile     uint64 // 0 for the default
	// cgroup begins the names of our groups, or is runtime.CgroupsOff.
	cgroup string
	// systemd is its version, 0 when that is not known.
	systemd int
}

type unitFlag struct{ name, value string }

const (
	// unitStateDir is the default state dir of who runs as root, as a unit does.
	unitStateDir    = "/var/lib/srs-proxy"
	unitEnvironment = "/etc/default/srs-proxy"
	// unitNofile is what 170,000 sessions and their pipes take.
	unitNofile = 1048576
	// subgroupSince has DelegateSubgroup= and RestartSteps=, and Type=notify-reload too.
	subgroupSince = 254
)

// render writes the unit. Its comments are for whoever reads it in /etc.
func (u unit) render() (string, error) {
	// systemd takes no other (string_is_safe in its basic/string-util.c).
	if strings.ContainsFunc(u.self, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune("\"'\\", r) }) {
		return "", fmt.Errorf("systemd runs no program with quotes, backslashes or control characters in its path, such as %q; install srs-proxy elsewhere", u.self)
	}
	t, err := template.New("unit").Parse(unitTemplate)
	if err != nil {
		return "", fmt.Errorf("unit: %w", err)
	}
	up := []string{"up"}
	var down []string
	if u.configFile != "" {
		up = append(up, "--"+configFileFlag, u.configFile)
		down = append(down, "--"+configFileFlag, u.configFile)
	}
	for _, f := range u.flags {
		up = append(up, "--"+f.name, f.value)
		if f.name == "state-dir" || f.name == "control" {
			down = append(down, "--"+f.name, f.value)
		}
	}
	data := struct {
		Up, Down, StateDirectory, Mounts, Environment, Group string
		NoFile                                               uint64
		Modern, Groups                                       bool
	}{
		Up:          commandLine(u.self, up...),
		Down:        commandLine(u.self, append([]string{"down"}, down...)...),
		Environment: unitEnvironment, Group: u.cgroup, Groups: u.cgroup != runtime.CgroupsOff,
		NoFile: unitNofile, Modern: u.systemd >= subgroupSince,
	}
	if u.nofile > 0 {
		data.NoFile = u.nofile
	}
	// systemd makes what is below /var/lib; the rest has to be mounted before we start.
	if rel, ok := strings.CutPrefix(filepath.Clean(u.stateDir), "/var/lib/"); ok && rel != "" {
		data.StateDirectory = unitWord(rel, false)
	} else {
		data.Mounts = unitWord(u.stateDir, false)
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("unit: %w", err)
	}
	return b.String(), nil
}

// commandLine is a command as ExecStart= takes it.
func commandLine(program string, args ...string) string {
	words := []string{unitWord(program, false)} // the program's path has no variables
	for _, a := range args {
		words = append(words, unitWord(a, true))
	}
	return strings.Join(words, " ")
}

// unitWord writes a text as one word: in quotes where it needs them, with C's
// escapes, and with the %-specifiers (systemd.unit(5)) and, in arguments, the
// variables (systemd.service(5), "Command lines") made literal.
func unitWord(s string, variables bool) string {
	var b strings.Builder
	quoted, text := s == "", utf8.ValidString(s)
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '%':
			b.WriteString("%%")
		case c == '$' && variables:
			b.WriteString("$$")
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
			quoted = true
		case c < ' ' || c == 0x7f || c > 0x7f && !text:
			b.WriteString(`\x` + strconv.FormatUint(0x100|uint64(c), 16)[1:])
			quoted = true
		default:
			b.WriteByte(c)
			// A lone ; parts commands, and ' quotes.
			quoted = quoted || c == ' ' || c == '\'' || c == ';' || c == '#'
		}
	}
	if quoted {
		return `"` + b.String() + `"`
	}
	return b.String()
}

const unitTemplate = `# Made by srs-proxy systemd-unit. To change settings, make it again with other flags,
# or use variables in {{.Environment}} (srs-proxy up --help names them).
#
#   sudo systemctl daemon-reload && sudo systemctl enable --now srs-proxy
#   systemctl status srs-proxy      how many origins are ready
#   systemctl reload srs-proxy      read the settings again; streams go on
#   systemctl restart srs-proxy     stop all and start again; streams end

[Unit]
Description=SRS origins on every CPU behind one proxy
Documentation=https://ossrs.io
After=network-online.target
Wants=network-online.target
{{- with .Mounts}}
RequiresMountsFor={{.}}
{{- end}}
# Never give up: what keeps it from starting (a port, a full disk) may go away.
StartLimitIntervalSec=0

[Service]
# Ready when enough origins are (--ready-quorum): what is ordered after this unit
# finds a media server. Only the main process is believed, no child of an origin.
{{- if .Modern}}
# A reload is over when srs-proxy says so.
Type=notify-reload
{{- else}}
Type=notify
{{- end}}
NotifyAccess=main
EnvironmentFile=-{{.Environment}}
ExecStart={{.Up}}
{{- if not .Modern}}
ExecReload=/bin/kill -HUP $MAINPID
{{- end}}
# Stops the proxy and the origins and waits until all are gone, in parallel: 12 s at
# most until the last one is killed.
ExecStop=-{{.Down}}
TimeoutStopSec=45
# It ends by itself, with an error, when no origin can start. As long as some do,
# they serve: better a unit that is still "activating" than streams cut by a timeout.
TimeoutStartSec=infinity

# When srs-proxy itself is killed or crashes, its origins live on, and the next one
# adopts them. For that, systemd must leave them alone when the main process is
# gone: so "process". "mixed" and "control-group" would kill all of them with it.
# The price: they outlive an srs-proxy that hangs in a stop and is killed after
# TimeoutStopSec. The next start adopts them, and this ends all there is:
#   systemctl kill --signal=KILL srs-proxy
# Where origins are told to die with srs-proxy, KillMode=mixed is the right one.
KillMode=process
Restart=on-failure
{{- if .Modern}}
RestartSec=200ms
RestartSteps=5
RestartMaxDelaySec=30
{{- else}}
RestartSec=1
{{- end}}
# It is fed by the loop that looks after the origins. One that hangs is ended with
# SIGABRT, writes what it was doing to the journal, and is started again.
WatchdogSec=30
{{if .Groups}}
# The control groups below this unit are ours: one for each origin.
Delegate=yes
{{- if .Modern}}
# Version 2 allows no process in a group that has limited ones below it.
DelegateSubgroup={{.Group}}
{{- else}}
# Version 2 allows no process in a group that has limited ones below it: while
# origins live on, systemd could not start the next main process (219/CGROUP).
# From 254 on, DelegateSubgroup= is for that. Before, this lifts the limits until
# the next srs-proxy sets them again. It runs in the subgroup .control.
ExecStopPost=-/bin/sh -c 'g=$$(sed -n "s,^0::,,p" /proc/self/cgroup); case $$g in */.control) cd "/sys/fs/cgroup$$g/.." && for c in $$(cat cgroup.subtree_control); do echo -$$c > cgroup.subtree_control; done;; esac'
{{- end}}
{{end -}}
# One origin out of memory is one origin to restart, not the end of the unit.
OOMPolicy=continue
# The origins' is higher (--oom-score): a host without memory loses one of them first.
OOMScoreAdjust=-200

# A session takes up to 6 descriptors.
LimitNOFILE={{.NoFile}}
# Threads of all origins and their transcoders.
TasksMax=32768
UMask=0027
{{- with .StateDirectory}}
StateDirectory={{.}}
StateDirectoryMode=0750
{{- end}}

[Install]
WantedBy=multi-user.target
`
