package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"srs-proxy/srsconf"
)

func checkSoftware(f *facts) []finding {
	s := f.setup
	switch {
	case f.softwareErr != nil:
		return []finding{fail("srs", "%v", f.softwareErr)}
	case s.software.builtin && f.cfg.SRS == "":
		return []finding{warn("srs", "origins run %s", s.software.found)}
	case s.software.builtin:
		return []finding{ok("srs", "origins run %s", s.software.found)}
	case s.version.Major < 5:
		// Before 5 the API lacks what the supervisor proves its children by.
		return []finding{warn("srs", "%s has version %s; use 5 or newer", s.software.command[0], s.version)}
	}
	return []finding{ok("srs", "%s, version %s", s.software.found, s.version)}
}

// checkVariables: whoever sets SRS_LISTEN expects an effect. It would be one
// port for all origins, so there is none.
func checkVariables(f *facts) []finding {
	if len(f.variables) == 0 {
		return nil
	}
	verb := "is"
	if len(f.variables) > 1 {
		verb = "are"
	}
	names := strings.Join(f.variables, " ")
	return []finding{warn("variables", "%s %s kept from the origins, whose configs they would override; write such settings into the file of --vhosts", names, verb).
		fixedBy("unset %s", names)}
}

// checkConfigs is about what the origins' program said to each origin's config.
func checkConfigs(f *facts) []finding {
	if f.templateErr != nil {
		return []finding{fail("config", "%v", f.templateErr)}
	}
	var first error
	var refused []string
	for _, o := range f.origins {
		if o.err != nil {
			refused = append(refused, o.id)
			if first == nil {
				first = o.err
			}
		}
	}
	switch n := len(refused); {
	case len(f.origins) == 0:
		return nil // why is said elsewhere
	case n == 0:
		return []finding{ok("config", "those of %d origins accepted by %s -t", len(f.origins), strings.Join(f.setup.software.command, " "))}
	case n == 1:
		return []finding{fail("config", "%s: %v", refused[0], first).fixedBy("srs-proxy config --origin %s", slotOf(refused[0]))}
	default:
		return []finding{fail("config", "%d of %d origins, the first of them %s: %v", n, len(f.origins), refused[0], first).
			fixedBy("srs-proxy config --origin %s", slotOf(refused[0]))}
	}
}

func slotOf(id string) string { return strings.TrimPrefix(id, originPrefix) }

const originPrefix = "origin-"

// tryConfigs lets the origins' program check what up would give to each slot, so
// many at once.
func (s *setup) tryConfigs(ctx context.Context, atOnce int) []originFacts {
	origins := make([]originFacts, len(s.cpus.Origins))
	dir, err := os.MkdirTemp("", "srs-proxy-check-")
	if err != nil {
		return []originFacts{{id: originPrefix + "0", err: err}}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// More would take memory and gain nothing: a check is a process that computes.
	var g errgroup.Group
	g.SetLimit(min(max(atOnce, 2), 32))
	for slot := range origins {
		g.Go(func() error {
			origins[slot] = s.tryConfig(ctx, dir, slot)
			return nil
		})
	}
	_ = g.Wait() // each has its own error
	return origins
}

func (s *setup) tryConfig(ctx context.Context, dir string, slot int) originFacts {
	o := originFacts{id: fmt.Sprintf("%s%d", originPrefix, slot)}
	// The program makes folders even for a check, so these are ours to remove.
	elsewhere := *s
	cfg := *s.cfg
	cfg.StateDir = dir
	elsewhere.cfg = &cfg
	var text []byte
	if text, o.err = elsewhere.originConfig(slot); o.err != nil {
		return o
	}
	file := filepath.Join(dir, o.id+".conf")
	root, err := srsconf.Parse(file, text)
	if err != nil {
		o.err = err
		return o
	}
	var listenErr error
	o.listeners, listenErr = srsconf.Listeners(root)
	for _, d := range append(srsconf.Dirs(root), filepath.Join(dir, o.id)) {
		// The template or the vhosts may name folders elsewhere: not ours to make.
		if strings.HasPrefix(d, dir) {
			if o.err = os.MkdirAll(d, 0o700); o.err != nil {
				return o
			}
		}
	}
	if o.err = srsconf.WriteFile(file, text); o.err == nil {
		o.err = errors.Join(srsconf.Check(ctx, s.software.command, file), listenErr)
	}
	return o
}
