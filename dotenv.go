package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// dotEnvFile is read from the working directory, as the existing proxy does.
const dotEnvFile = ".env"

// maxDotEnv is far above what anybody writes into one.
const maxDotEnv = 1 << 20

// withDotEnv adds what the file .env says of our variables to an environment, which
// wins. A file that is not there adds nothing.
func withDotEnv(env func(string) (string, bool)) (func(string) (string, bool), error) {
	f, err := os.Open(dotEnvFile)
	if errors.Is(err, fs.ErrNotExist) {
		return env, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dotEnvFile, withoutPath(err))
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxDotEnv))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dotEnvFile, withoutPath(err))
	}
	more := parseDotEnv(text)
	return func(name string) (string, bool) {
		if v, ok := env(name); ok && v != "" {
			return v, true
		}
		if v, ok := more[name]; ok {
			return v, true
		}
		return env(name)
	}, nil
}

// parseDotEnv reads NAME=value lines as the existing proxy does: quotes are part of a
// value, a # begins a comment only at a line's begin. The first of a name counts. Names
// of others are left out.
func parseDotEnv(text []byte) map[string]string {
	values := make(map[string]string)
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		name = strings.TrimSpace(name)
		if !ok || strings.HasPrefix(name, "#") || !isOurVariable(name) {
			continue
		}
		if _, known := values[name]; !known {
			values[name] = strings.TrimSpace(value)
		}
	}
	return values
}

func isOurVariable(name string) bool {
	return strings.HasPrefix(name, "PROXY_") || strings.HasPrefix(name, "SRS_PROXY_") || name == "GO_PPROF"
}
