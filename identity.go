package main

import (
	"crypto/rand"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"srs-proxy/proxy/api"
	"srs-proxy/supervisor"
)

// identity is what the HTTP API says of the whole. The server's name is the same
// after a restart: it comes of the machine and the state dir.
func identity(stateDir string) api.Identity {
	// What cannot be read is empty, here as after the next start.
	machine, _ := os.ReadFile("/etc/machine-id")
	host, _ := os.Hostname()
	dir, err := filepath.Abs(stateDir)
	if err != nil {
		dir = stateDir
	}
	cwd, _ := os.Getwd()
	h := sha256.Sum256([]byte(string(machine) + "\n" + host + "\n" + dir))
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	return api.Identity{
		Server:  "vid-" + word(h[:7]),
		Service: word(random),
		PID:     os.Getpid(),
		PPID:    os.Getppid(),
		Argv:    strings.Join(withoutSecrets(os.Args), " "),
		Cwd:     cwd,
	}
}

// withoutSecrets is a command line without the values of settings that are secret.
func withoutSecrets(args []string) []string {
	shown := slices.Clone(args)
	for i, arg := range args {
		name, _, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		s := settingNamed(name, proxyOwnSettings())
		switch {
		case !strings.HasPrefix(arg, "-") || s == nil || !s.secret:
		case given:
			shown[i] = "--" + name + "=(secret)"
		case i+1 < len(args):
			shown[i+1] = "(secret)"
		}
	}
	return shown
}

// word is of bytes what SRS's ids are of: digits and small letters.
func word(bytes []byte) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	w := make([]byte, len(bytes))
	for i, b := range bytes {
		w[i] = letters[int(b)%len(letters)]
	}
	return string(w)
}

// slots are the supervisor's, as the HTTP API shows them.
func (in *instance) slots() []api.Slot {
	origins := in.sup.Origins()
	slots := make([]api.Slot, len(origins))
	for i, o := range origins {
		slots[i] = api.Slot{
			ID: o.ID, State: string(o.State), PID: o.PID, Version: o.Version,
			Serves: o.Role == supervisor.Current && o.Desired != supervisor.Stop,
		}
	}
	return slots
}
