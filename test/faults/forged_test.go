package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// forgery is what is done to the state file while nobody runs, and what the next
// srs-proxy says of it.
type forgery struct {
	name string
	said string // the begin of a line in its log; empty where nothing has to be said
	make func(text []byte, state map[string]any, bystanders []*exec.Cmd) []byte
}

// entry is a process as the state file names it.
type entry struct {
	pid   int
	ticks uint64
}

var forgeries = []forgery{
	{"cut off", "state file is unusable", func(text []byte, _ map[string]any, _ []*exec.Cmd) []byte { return text[:len(text)/2] }},
	// Each of them exists, is ours, leads its group, and began when the file says so.
	{"of strangers", "a process is not taken for an origin", func(_ []byte, state map[string]any, bystanders []*exec.Cmd) []byte {
		return rename(state, func(i int, _ entry) entry { return entryOf(bystanders[i%len(bystanders)].Process.Pid) })
	}},
	{"of another boot", "", func(_ []byte, state map[string]any, bystanders []*exec.Cmd) []byte {
		state["boot_id"] = "00000000-0000-4000-8000-000000000000"
		return rename(state, func(i int, e entry) entry {
			if i%2 == 0 {
				return entry{bystanders[i%len(bystanders)].Process.Pid, e.ticks}
			}
			return e
		})
	}},
	{"with the origins in each other's place", "", func(_ []byte, state map[string]any, _ []*exec.Cmd) []byte {
		var all []entry
		rename(state, func(_ int, e entry) entry {
			all = append(all, e)
			return e
		})
		return rename(state, func(i int, _ entry) entry { return all[(i+1)%len(all)] })
	}},
	{"gone", "", nil},
}

// TestForgedState kills srs-proxy under load and gives the next one a state file that
// lies. It finds all origins all the same, the same processes, and signals none of the
// strangers that the file names.
func TestForgedState(t *testing.T) {
	long(t)
	in, l, f := loaded(t, "kill -9 of srs-proxy, the state file cut off, forged, of another boot or gone")
	var bystanders []*exec.Cmd
	for range 3 {
		cmd := exec.Command("sleep", "3600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		bystanders = append(bystanders, cmd)
	}
	repeat(t, in, l, f, func(round int) (wrong []string) {
		how := forgeries[round%len(forgeries)]
		for _, w := range forgedRound(in, l, f, how, bystanders) {
			wrong = append(wrong, "state file "+how.name+": "+w)
		}
		return wrong
	})
}

func forgedRound(in *instance, l *load, f *fault, how forgery, bystanders []*exec.Cmd) (wrong []string) {
	before := in.mustStatus()
	l.mark()
	in.kill()
	path := filepath.Join(in.stateDir, "state.json")
	if err := forge(path, how, bystanders); err != nil {
		return []string{err.Error()}
	}
	in.start()
	wrong = in.adopted(l, f, before, nil)
	if _, ok := in.logged("", how.said, l.marked); how.said != "" && !ok {
		wrong = append(wrong, fmt.Sprintf("the log does not say %q", how.said))
	}
	for _, b := range bystanders {
		if state := statOf(b.Process.Pid)[0]; state != "S" {
			wrong = append(wrong, fmt.Sprintf("the stranger with pid %d was signalled, its state is %s", b.Process.Pid, state))
		}
	}
	return wrong
}

func forge(path string, how forgery, bystanders []*exec.Cmd) error {
	if how.make == nil {
		return os.Remove(path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	state := make(map[string]any)
	if err := json.Unmarshal(text, &state); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, how.make(text, state, bystanders), 0o600)
}

// rename gives the origins of a state other processes.
func rename(state map[string]any, to func(int, entry) entry) []byte {
	origins, _ := state["origins"].([]any)
	for i, o := range origins {
		origin, _ := o.(map[string]any)
		pid, _ := origin["pid"].(float64)
		ticks, _ := origin["start_ticks"].(float64)
		e := to(i, entry{int(pid), uint64(ticks)})
		origin = maps.Clone(origin)
		origin["pid"], origin["start_ticks"] = e.pid, e.ticks
		origins[i] = origin
	}
	text, _ := json.Marshal(state) // it was read from JSON
	return text
}

func entryOf(pid int) entry {
	ticks, _ := strconv.ParseUint(statOf(pid)[19], 10, 64) // field 22
	return entry{pid, ticks}
}

// statOf is /proc/PID/stat from field 3 on, the state; "X" for none.
func statOf(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return slices.Repeat([]string{"X"}, 50)
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}
