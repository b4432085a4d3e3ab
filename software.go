package main

import (
	"fmt"
	"os"
	"os/exec"
)

// srsInstalled is where SRS's own `make install` and its packages put it.
const srsInstalled = "/usr/local/srs/objs/srs"

// software is the program that runs in the slots.
type software struct {
	// command starts it: the binary, and the words before SRS's own flags.
	command []string
	builtin bool
	// found says how it was chosen, for the line that `up` prints.
	found string
	// program identifies the binary, whatever has its name later.
	program string
}

// isSRS is false for the built-in origin, and where origins are not ours to start.
func (s software) isSRS() bool { return len(s.command) > 0 && !s.builtin }

// findSoftware chooses the origins' program: what the operator named, else srs
// in PATH, else an installed one, else the built-in origin.
func findSoftware(cfg *Config) (software, error) {
	if cfg.SRS != "" && cfg.SRS != builtinOrigin {
		return software{command: []string{cfg.SRS}, found: "SRS at " + cfg.SRS}, nil
	}
	if cfg.SRS == "" {
		if path, err := exec.LookPath("srs"); err == nil {
			return software{command: []string{path}, found: "SRS at " + path + " (in PATH)"}, nil
		}
		if st, err := os.Stat(srsInstalled); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
			return software{command: []string{srsInstalled}, found: "SRS at " + srsInstalled}, nil
		}
	}
	self, err := os.Executable()
	if err != nil {
		return software{}, fmt.Errorf("find this program for the built-in origin: %w", err)
	}
	found := "the built-in origin, as asked"
	if cfg.SRS == "" {
		found = "the built-in origin: no srs in PATH and none at " + srsInstalled + "; name one with --srs"
	}
	return software{command: []string{self, "origin"}, builtin: true, found: found}, nil
}
