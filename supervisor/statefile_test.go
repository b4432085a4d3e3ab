package supervisor

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
)

// sleeper is a process that any state file may name and nobody may touch.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "sleeper")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func stateNaming(t *testing.T, pid int) savedState {
	t.Helper()
	boot, err := runtime.BootID()
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := runtime.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	return savedState{Format: stateFormat, BootID: boot, PID: 1, Origins: []savedOrigin{{ID: "origin-0", PID: pid, StartTicks: ticks}}}
}

func encode(t *testing.T, s savedState) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestUnusableStateFileIsMovedAside(t *testing.T) {
	victim := sleeper(t)
	good := stateNaming(t, victim.Process.Pid)
	with := func(change func(*savedState)) string {
		s := good
		s.Origins = append([]savedOrigin(nil), good.Origins...)
		change(&s)
		return encode(t, s)
	}
	whole := encode(t, good)
	tests := []struct {
		name, text string
		aside      bool
	}{
		{"empty", "", true},
		{"no JSON", "\x00\x01garbage", true},
		{"truncated", whole[:len(whole)-7], true},
		{"of another program", `{"version":3,"processes":[]}`, true},
		{"another format", with(func(s *savedState) { s.Format = 99 }), true},
		{"pid 0", with(func(s *savedState) { s.Origins[0].PID = 0 }), true},
		{"pid -1, which is everybody", with(func(s *savedState) { s.Origins[0].PID = -1 }), true},
		{"pid 1", with(func(s *savedState) { s.Origins[0].PID = 1 }), true},
		{"another boot", with(func(s *savedState) { s.BootID = "another" }), false},
		{"another start time: the pid was given away", with(func(s *savedState) { s.Origins[0].StartTicks++ }), false},
		{"the right pid and start time, but a stranger's", with(func(*savedState) {}), false},
		{"a pid twice", with(func(s *savedState) { s.Origins = append(s.Origins, s.Origins[0]) }), false},
		{"an ID that leads elsewhere", with(func(s *savedState) { s.Origins[0].ID = "origin-0/../../etc" }), false},
		{"a process that is gone", with(func(s *savedState) { s.Origins[0].PID = 1 << 22 }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := fakeConfig(t, 1, "ready")
			path := statePath(cfg.StateDir)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			f := newFleet(t, cfg).up()
			if kept, err := os.ReadFile(path + ".bad"); tt.aside != (err == nil) || tt.aside && string(kept) != tt.text {
				t.Errorf("moved aside: %v", err)
			}
			if said := strings.Contains(f.logs.String(), "state file is unusable"); said != tt.aside {
				t.Errorf("said so: %t", said)
			}
			f.stop()
			if err := f.ended(); err != nil {
				t.Fatal(err)
			}
			if !alive(victim.Process.Pid) {
				t.Fatal("a process was killed on the word of a bad file")
			}
		})
	}
}

// Without its state file a leftover still is known by its command line.
func TestLeftoverWithoutStateFile(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	port := cfg.Ports.Ports(0).API
	ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "sleeper", "-c", cfg.StateDir+"/origin-0/srs.conf")
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	file.Close()
	ln.Close()
	err = newFleet(t, cfg).Prepare(t.Context())
	if !errors.Is(err, ErrPortBusy) || !strings.Contains(err.Error(), "left over; stop it with: kill "+strconv.Itoa(cmd.Process.Pid)) {
		t.Fatal(err)
	}
}

// Who else could have written the file could have written anything into it.
func TestStateFileOfOthersIsNotRead(t *testing.T) {
	text := []byte(encode(t, stateNaming(t, sleeper(t).Process.Pid)))
	tests := []struct {
		name  string
		spoil func(path string) error
		good  bool
	}{
		{"ours", func(string) error { return nil }, true},
		{"writable by its group", func(path string) error { return os.Chmod(path, 0o620) }, false},
		{"writable by all", func(path string) error { return os.Chmod(path, 0o602) }, false},
		{"another user's", func(path string) error { return os.Chown(path, 65534, -1) }, false},
		{"a link", func(path string) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		}, false},
		{"a FIFO", func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) }, false},
		{"a folder", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := statePath(t.TempDir())
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(path); errors.Is(err, os.ErrPermission) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			state, err := readState(path)
			if good := err == nil && len(state.Origins) == 1; good != tt.good {
				t.Errorf("%+v, %v", state, err)
			}
		})
	}
}
