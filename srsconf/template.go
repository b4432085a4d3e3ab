package srsconf

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

// Params is what a config template may use: as {{.Slot}}, {{.Ports.RTMP}}...
type Params struct {
	Slot    int     // index of the slot, from 0
	ID      string  // unique in the cluster: SRS's server_id and heartbeat device_id; default origin-<slot>
	Version Version // of the binary that will read the file; zero means the newest form
	Ports   Ports
	Listen  string // address of the listeners; default 127.0.0.1

	WorkDir string // everything the origin writes is below it; must be absolute
	LogFile string // default WorkDir/srs.log
	PIDFile string // default WorkDir/srs.pid

	MaxConnections int // default 1000, as SRS

	RTC, SRT, Exporter bool
	RTCTCP             bool   // WebRTC over TCP as well, on the same port number
	RTMPToRTC          bool   // RTMP streams can be played over WebRTC: SRS makes Opus of the sound of each
	Candidate          string // what SDP answers carry; default Listen

	AsProcess    bool   // exit with the parent; excludes adoption
	HeartbeatURL string // empty: no heartbeat
	Overlay      string // Overlay.For(slot)
	Hook         Hook   // what to call in the place of hooks; nil leaves them
}

const (
	defaultListen         = "127.0.0.1"
	defaultMaxConnections = 1000
)

// normal is the params with the defaults filled in, or what is wrong with them.
func (p Params) normal() (Params, error) {
	if p.ID == "" {
		p.ID = fmt.Sprintf("origin-%d", p.Slot)
	}
	if p.Listen == "" {
		p.Listen = defaultListen
	}
	if p.LogFile == "" {
		p.LogFile = filepath.Join(p.WorkDir, "srs.log")
	}
	if p.PIDFile == "" {
		p.PIDFile = filepath.Join(p.WorkDir, "srs.pid")
	}
	if p.MaxConnections == 0 {
		p.MaxConnections = defaultMaxConnections
	}
	if p.Candidate == "" {
		p.Candidate = p.Listen
	}
	if p.Slot < 0 || p.MaxConnections < 0 {
		return p, fmt.Errorf("slot %d, max_connections %d: cannot be negative", p.Slot, p.MaxConnections)
	}
	if _, err := netip.ParseAddr(p.Listen); err != nil {
		return p, fmt.Errorf("listen address: %w", err)
	}
	if !filepath.IsAbs(p.WorkDir) {
		return p, fmt.Errorf("work dir %q is not absolute", p.WorkDir)
	}
	if !filepath.IsAbs(p.LogFile) || !filepath.IsAbs(p.PIDFile) {
		return p, fmt.Errorf("log file %q, pid file %q: must be absolute", p.LogFile, p.PIDFile)
	}
	for _, port := range p.Ports.List() {
		if port < 1 || port > 65535 {
			return p, fmt.Errorf("port %d is not within 1 to 65535", port)
		}
	}
	return p, nil
}

// view is what the template sees: the params and what is computed from them.
type view struct {
	Params
	// HasDefaultVhost says that the overlay declares __defaultVhost__, so that
	// the template must not.
	HasDefaultVhost bool
}

// Addr is a listen address with a port.
func (v view) Addr(port int) (string, error) {
	addr, err := netip.ParseAddr(v.Listen)
	if err != nil {
		return "", err
	}
	if port < 1 || port > 65535 {
		return "", fmt.Errorf("port %d is not within 1 to 65535", port)
	}
	return netip.AddrPortFrom(addr, uint16(port)).String(), nil
}

// Path is a path below the work dir, as a word of the config.
func (v view) Path(elem ...string) (string, error) {
	return Word(filepath.Join(append([]string{v.WorkDir}, elem...)...))
}

// Since reports whether the SRS version has what came with these versions; see
// Version.Since.
func (v view) Since(versions ...string) (bool, error) {
	first := make([]Version, len(versions))
	for i, s := range versions {
		var err error
		if first[i], err = ParseVersion(s); err != nil {
			return false, err
		}
	}
	return v.Version.Since(first...), nil
}

// Template is a parsed config template. It can be rendered concurrently.
type Template struct {
	name string
	t    *template.Template
}

// ParseTemplate parses the text of a template; name is for the errors, which
// have the form "name:line: ...".
func ParseTemplate(name, text string) (*Template, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"word":  Word,
		"onoff": onoff,
	}).Parse(text)
	if err != nil {
		return nil, templateError(err)
	}
	return &Template{name: name, t: t}, nil
}

func onoff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// Render gives the config of one origin. The result has been parsed back, and
// was checked for what would fail without a word when many origins share one
// machine: another origin's port or folder, a daemon, a directive given twice.
func (t *Template) Render(p Params) ([]byte, error) {
	p, err := p.normal()
	if err != nil {
		return nil, fmt.Errorf("config of slot %d: %w", p.Slot, err)
	}
	overlay, err := Parse("overlay", []byte(p.Overlay))
	if err != nil {
		return nil, fmt.Errorf("config of slot %d: %w", p.Slot, err)
	}
	if p.Hook != nil && eachHook(overlay, p.Hook) {
		p.Overlay = overlay.String()
	}
	var out bytes.Buffer
	if err := t.t.Execute(&limited{&out, maxSize}, view{p, overlay.Vhost(DefaultVhost) != nil}); err != nil {
		return nil, templateError(err)
	}
	root, err := Parse(t.name, out.Bytes())
	if err == nil {
		err = verify(root, overlay, p)
	}
	if err != nil {
		return nil, t.renderedError(err, p.Slot, out.Bytes())
	}
	if p.Hook != nil && eachHook(root, p.Hook) {
		// Hooks of the template's own. Its comments are lost with the rest of its form.
		return append(fmt.Appendf(nil, "# Made by srs-proxy for slot %d out of %s.\n", p.Slot, t.name), root.String()...), nil
	}
	return out.Bytes(), nil
}

// renderedError is an error of the rendered text, whose lines are not the
// template's: it quotes the line.
func (t *Template) renderedError(err error, slot int, text []byte) error {
	var at *SyntaxError
	if !errors.As(err, &at) {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	lines := strings.Split(string(text), "\n")
	line := strings.TrimSpace(lines[min(max(at.Line, 1), len(lines))-1])
	return fmt.Errorf("%s: as rendered for slot %d, line %d %q: %s", t.name, slot, at.Line, shorten(redact(line), 120), at.Msg)
}

// templatePrefix is how text/template begins its errors: a column after the
// line in some, a template's name quoted in others.
var templatePrefix = regexp.MustCompile(`^template: (.+?):(\d+)(?::\d+)?: `)

// templateError gives an error of text/template the form "name:line: ...".
func templateError(err error) error {
	msg := err.Error()
	m := templatePrefix.FindStringSubmatch(msg)
	if m == nil {
		return err
	}
	return &templateErr{fmt.Sprintf("%s:%s: %s", m[1], m[2], msg[len(m[0]):]), err}
}

type templateErr struct {
	msg string
	err error
}

func (e *templateErr) Error() string { return e.msg }
func (e *templateErr) Unwrap() error { return e.err }

// limited refuses to write more than a config may have, for templates that
// would never end.
type limited struct {
	b    *bytes.Buffer
	most int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.b.Len()+len(b) > l.most {
		return 0, fmt.Errorf("the config grows beyond %d bytes", l.most)
	}
	return l.b.Write(b)
}
