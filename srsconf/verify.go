package srsconf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// verify finds what SRS would accept in a rendered config and what then fails
// in a way that is hard to see:
//
//   - a port of another origin: SO_REUSEPORT makes the kernel deal the clients
//     out to both
//   - `daemon on`, SRS's default: the child would exit at once and live on
//   - pid and work_dir elsewhere: adoption would not find the process, and
//     relative media paths would be shared
//   - a directive given twice: SRS takes the first in silence
//   - an overlay that the template does not mention
func verify(root, overlay *Directive, p Params) error {
	if err := onlyOnce(root); err != nil {
		return err
	}
	if d := root.Get("daemon"); d.Arg(0) != "off" {
		return wrong(d, "`daemon off` is needed: a daemon leaves the process that started it")
	}
	if d := root.Get("work_dir"); !samePath("", d.Arg(0), p.WorkDir) { // SRS takes ./ for "stay where you are"
		return wrong(d, "work_dir must be {{.Path}}, here %s", p.WorkDir)
	}
	if d := root.Get("pid"); !samePath(p.WorkDir, d.Arg(0), p.PIDFile) {
		return wrong(d, "pid must be {{word .PIDFile}}, here %s", p.PIDFile)
	}
	if err := verifyListeners(root, p); err != nil {
		return err
	}
	for _, o := range overlay.Children {
		same := func(d *Directive) bool { return d.Name == o.Name && d.Arg(0) == o.Arg(0) }
		if !slices.ContainsFunc(root.Children, same) {
			return wrong(nil, "the template leaves out {{.Overlay}}, which has %s %s", o.Name, o.Arg(0))
		}
	}
	return nil
}

func verifyListeners(root *Directive, p Params) error {
	listeners, err := Listeners(root)
	if err != nil {
		return wrong(nil, "%s", err)
	}
	has := func(port int) func(Listener) bool {
		return func(l Listener) bool { return l.Network == "tcp" && int(l.Addr.Port()) == port }
	}
	for _, need := range []struct {
		what string
		port int
	}{{"RTMP", p.Ports.RTMP}, {"API", p.Ports.API}} {
		if !slices.ContainsFunc(listeners, has(need.port)) {
			return wrong(nil, "nothing listens on {{.Ports.%s}}, here %d", need.what, need.port)
		}
	}
	for _, l := range listeners {
		// Those of an overlay: on slot 0 alone, with ports of the user's choice.
		if strings.HasPrefix(l.Directive, "stream_caster") {
			continue
		}
		if !slices.Contains(p.Ports.List(), int(l.Addr.Port())) {
			return wrong(&Directive{Line: l.Line}, "%s listens on %d, which is not a port of this slot: use {{.Ports...}}, or every origin takes clients of the others",
				l.Directive, l.Addr.Port())
		}
	}
	return nil
}

// onlyOnce refuses a second directive of a name where SRS reads the first only.
func onlyOnce(root *Directive) error {
	seen := map[string]*Directive{}
	for _, d := range root.Children {
		key, what := d.Name, d.Name
		switch d.Name {
		case "stream_caster", "include":
			continue
		case "vhost":
			if d.Arg(0) == "" {
				return wrong(d, "a vhost has no name")
			}
			key, what = "vhost "+d.Arg(0), "the vhost "+d.Arg(0)
		}
		if first := seen[key]; first != nil {
			return wrong(d, "%s is given a second time, after %s", what, first.Pos())
		}
		seen[key] = d
	}
	return nil
}

// samePath compares a path of the config with the one it should be.
func samePath(work, got, want string) bool {
	return got != "" && rebase(work, got) == filepath.Clean(want)
}

func wrong(d *Directive, format string, args ...any) error {
	msg := redact(fmt.Sprintf(format, args...))
	if d == nil {
		return fmt.Errorf("%s", msg)
	}
	return &SyntaxError{Name: d.file, Line: d.Line, Msg: msg}
}
