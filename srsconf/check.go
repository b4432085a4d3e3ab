package srsconf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

const (
	// checkTimeout bounds `srs -t`: a few milliseconds, unless the machine is
	// busy starting a hundred others.
	checkTimeout = 10 * time.Second
	// killGrace is for descendants that hold the output open after the kill.
	killGrace = time.Second
	// keepOutput is how much of a child's output is kept, of its end.
	keepOutput = 16 << 10
	// errorLines of the output end up in an error.
	errorLines = 4
)

// ErrRefused says that the origin's program refuses the config.
var ErrRefused = errors.New("config refused")

// Check runs `command... -t -c file`. Command is the binary, with the words
// before the flags when there are any (srs-proxy origin). The error of a file
// that was refused is ErrRefused and has the last lines of the output.
//
// SRS compares max_connections with its limit of open files in this check too,
// and the child inherits the caller's.
func Check(ctx context.Context, command []string, file string) error {
	if len(command) == 0 {
		return errors.New("check config: no command")
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	args := append(command[1:len(command):len(command)], "-t", "-c", file)
	out, err := run(ctx, command[0], args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && ctx.Err() == nil:
		return fmt.Errorf("%w by %s -t -c %s: %s", ErrRefused, strings.Join(command, " "), file, lastLines(out))
	}
	return fmt.Errorf("check config %s: %w", file, err)
}

// CleanEnv is the environment without SRS's variables. SRS takes every
// directive from SRS_* before the config file, and the file itself from
// SRS_CONFIG_FILE: one SRS_LISTEN in the operator's shell would put all origins
// on one port. SRS_DEVICE_IP, the address of a heartbeat, is no directive and stays.
func CleanEnv(env []string) []string {
	kept := make([]string, 0, len(env))
	for _, e := range env {
		if !strings.HasPrefix(e, "SRS_") || strings.HasPrefix(e, "SRS_DEVICE_IP=") {
			kept = append(kept, e)
		}
	}
	return kept
}

// run runs a short-lived command and returns the end of what it printed.
func run(ctx context.Context, name string, args ...string) (string, error) {
	var out tail
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = CleanEnv(os.Environ())
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = killGrace
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	return string(out), err
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	if extra := len(*t) - keepOutput; extra > 0 {
		*t = append((*t)[:0], (*t)[extra:]...)
	}
	return len(b), nil
}

var (
	colour = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	// SRS's "[time][LEVEL][pid][context] " before each line.
	logPrefix = regexp.MustCompile(`^(\[[^]]*\]){3,5} ?`)
)

// lastLines are the last lines of a program's output, fit for one line of ours.
func lastLines(out string) string {
	var lines []string
	for line := range strings.Lines(colour.ReplaceAllString(out, "")) {
		line = strings.TrimSpace(logPrefix.ReplaceAllString(line, ""))
		if line != "" {
			lines = append(lines, shorten(redact(line), 500))
		}
	}
	if len(lines) == 0 {
		return "it printed nothing"
	}
	return strings.Join(lines[max(0, len(lines)-errorLines):], "; ")
}

func shorten(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
