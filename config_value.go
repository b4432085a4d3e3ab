package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"srs-proxy/runtime"
)

// These read one value each. Their errors complete the sentence that begins
// with the value ("abc" is not a number...) and say what would be right.

func parseOrigins(v string) (int, error) {
	if v == "auto" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxOrigins {
		return 0, fmt.Errorf("is not a number of origins; give 1 to %d, or auto", maxOrigins)
	}
	return n, nil
}

// maxOrigins is what one machine's ports have room for, several times over
// what its CPUs do.
const maxOrigins = 1024

// parseAddress takes "1935", ":1935", "192.0.2.1:1935" and "[::1]:1935".
func parseAddress(v string) (string, error) {
	a, err := splitAddress(v)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(a.host, strconv.Itoa(a.port)), nil
}

func splitAddress(v string) (address, error) {
	host, port := "", v
	if strings.Contains(v, ":") {
		h, p, err := net.SplitHostPort(v)
		if err != nil {
			return address{}, errors.New("is not an address; give a port (1935) or host:port (127.0.0.1:1935, [::1]:1935)")
		}
		host, port = h, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return address{}, fmt.Errorf("has no port from 0 to 65535; give a port (1935) or host:port (127.0.0.1:1935, [::1]:1935)")
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			return address{}, fmt.Errorf("has %q where an IP address belongs; give the address of an interface, or the port alone for all", host)
		}
	}
	return address{host: host, port: int(n)}, nil
}

func parsePort(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n < 1024 {
		return 0, errors.New("is not a port; give 1024 to 65535")
	}
	return int(n), nil
}

func parseToggle(v string) (toggle, error) {
	switch strings.ToLower(v) {
	case "auto":
		return toggleAuto, nil
	case "on", "true", "yes", "1":
		return toggleOn, nil
	case "off", "false", "no", "0":
		return toggleOff, nil
	}
	return "", errors.New("is not a switch; give on, off or auto")
}

func parseSwitch(v string) (bool, error) {
	t, err := parseToggle(v)
	if err != nil || t == toggleAuto {
		return false, errors.New("is not a switch; give on or off")
	}
	return t == toggleOn, nil
}

func parseCount(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("is not a count; give a whole number from 1")
	}
	return int(n), nil
}

// parseAutoCount takes 0 for auto.
func parseAutoCount(v string) (int, error) {
	if v == "auto" {
		return 0, nil
	}
	n, err := parseCount(v)
	if err != nil {
		return 0, errors.New("is not a count; give a whole number from 1, or auto")
	}
	return n, nil
}

// parseAutoLimit is parseAutoCount in the kernel's type for limits.
func parseAutoLimit(v string) (uint64, error) {
	n, err := parseAutoCount(v)
	return uint64(n), err
}

func parseDuration(lo, hi time.Duration) func(string) (time.Duration, error) {
	return func(v string) (time.Duration, error) {
		d, err := time.ParseDuration(v)
		if err != nil {
			return 0, fmt.Errorf("is not a duration; give one with a unit, such as %s", lo*2)
		}
		if d < lo || d > hi {
			return 0, fmt.Errorf("is out of range; give %s to %s", lo, hi)
		}
		return d, nil
	}
}

func parseOneOf[T ~string](choices ...T) func(string) (T, error) {
	return func(v string) (T, error) {
		for _, c := range choices {
			if T(v) == c {
				return c, nil
			}
		}
		return "", fmt.Errorf("is unknown; give %s", orList(choices))
	}
}

// minMemory is what an idle origin takes, and a little more: below it none would
// ever be ready.
const minMemory = 32 << 20

// limitOff is the value that asks for no limit.
const limitOff = "off"

// parseMemory takes 512M and the like; off is 0.
func parseMemory(v string) (uint64, error) {
	if v == limitOff {
		return 0, nil
	}
	n, err := parseSize(v)
	switch {
	case err != nil:
		return 0, errors.New("is not a size; give one such as 512M or 2G, or off")
	case n < minMemory:
		return 0, fmt.Errorf("is too little for an origin; give %dM or more, or off", minMemory>>20)
	}
	return uint64(n), nil
}

// maxCores is beyond all machines: more is a slip of the pen, such as percents.
const maxCores = 1024

// parseCores takes a number of cores, 0.5 or 2; off is 0.
func parseCores(v string) (float64, error) {
	if v == limitOff {
		return 0, nil
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(n) || n < runtime.MinCPUQuota || n > maxCores {
		return 0, fmt.Errorf("is not a number of cores; give %g to %d, such as 0.5 or 2, or off", runtime.MinCPUQuota, maxCores)
	}
	return n, nil
}

// level is a whole number that may be left to us.
type level struct {
	given bool
	n     int
}

// levelAuto is the value that leaves it to us.
const levelAuto = "auto"

func (l level) pointer() *int {
	if !l.given {
		return nil
	}
	return &l.n
}

func parseLevel(lo, hi int) func(string) (level, error) {
	return func(v string) (level, error) {
		if v == levelAuto {
			return level{}, nil
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < lo || n > hi {
			return level{}, fmt.Errorf("is out of range; give a whole number from %d to %d, or auto", lo, hi)
		}
		return level{given: true, n: n}, nil
	}
}

// parseCgroup takes a name, auto and off.
func parseCgroup(v string) (string, error) {
	if (runtime.CgroupConfig{Name: v}).Validate() != nil {
		return "", errors.New("is no name for control groups; give up to 64 letters, digits, - and _ that are no controller's name, or auto or off")
	}
	return v, nil
}

// parseLogSize takes 32M and the like. In the least a log's last lines, which say why an
// origin ended, are in one file.
func parseLogSize(v string) (int64, error) { return parseSizeOrOff(v, "64K") }

// parseHLSCache takes 256M and the like. In the least there is room for a stream's newest segments.
func parseHLSCache(v string) (int64, error) { return parseSizeOrOff(v, "16M") }

// parseSizeOrOff takes a size, at least that; off is 0.
func parseSizeOrOff(v, least string) (int64, error) {
	if v == "off" {
		return 0, nil
	}
	n, err := parseSize(v)
	if err != nil {
		return 0, errors.New("is not a size; give one such as 32M, or off")
	}
	if from, _ := parseSize(least); n < from {
		return 0, fmt.Errorf("is too small; give %s or more, or off", least)
	}
	return n, nil
}

// parseSize takes bytes, or 500K, 32M and 1G.
func parseSize(v string) (int64, error) {
	digits, unit := v, int64(1)
	if v != "" {
		if i := strings.IndexByte("kmg", v[len(v)-1]|0x20); i >= 0 {
			digits, unit = v[:len(v)-1], 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	return int64(n) * unit, err
}

// parseCPUs takes a list such as 0-3,8; empty leaves the choice to the plan.
func parseCPUs(v string) (runtime.CPUSet, error) {
	if v == "" {
		return nil, nil
	}
	set, err := runtime.ParseCPUSet(v)
	if err != nil || len(set) == 0 {
		return nil, errors.New("is not a list of CPUs; give numbers and ranges, such as 0-3,8")
	}
	return set, nil
}

func parseLayout(v string) (runtime.Layout, error) {
	for _, l := range []runtime.Layout{runtime.Spread, runtime.Compact, runtime.NUMA} {
		if v == string(l) {
			return l, nil
		}
	}
	return "", fmt.Errorf("is unknown; give %s, %s or %s", runtime.Spread, runtime.Compact, runtime.NUMA)
}

func parseLogLevel(v string) (slog.Level, error) {
	switch strings.ToLower(v) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, errors.New("is unknown; give debug, info, warn or error")
}

// parsePath makes a path absolute, so that a later change of directory or a
// child with another one reads the same file. Empty stays empty.
func parsePath(v string) (string, error) {
	if v == "" {
		return "", nil
	}
	abs, err := filepath.Abs(v)
	if err != nil {
		return "", fmt.Errorf("cannot be made an absolute path: %w", err)
	}
	return abs, nil
}

// parseFile is parsePath for a file that must be readable now: better to fail
// here, where the setting is known, than at the first use.
func parseFile(v string) (string, error) {
	path, err := parsePath(v)
	if err != nil || path == "" {
		return path, err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read (%w); give a readable file", withoutPath(err))
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", errors.New("is not a regular file; give a readable file")
	}
	return path, nil
}

// parseBinary is parsePath for a program; the word builtin and empty pass.
func parseBinary(v string) (string, error) {
	if v == "" || v == builtinOrigin {
		return v, nil
	}
	path, err := parsePath(v)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be run (%w); give the path of an srs binary, or builtin for the built-in origin", withoutPath(err))
	case !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0:
		return "", errors.New("is not an executable file; give the path of an srs binary, or builtin for the built-in origin")
	}
	return path, nil
}

// withoutPath strips the path that os puts into its errors: the message has it already.
func withoutPath(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

func orList[T ~string](choices []T) string {
	var words []string
	for _, c := range choices {
		words = append(words, string(c))
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
