package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"srs-proxy/srsconf"
)

// Is a living process an origin that an earlier run of this supervisor started?
//
// What says so may be wrong in any way: the state file can be old, of another boot,
// cut off, or made up, and a pid is given to another process sooner or later. So a
// file only names a candidate. A descriptor of the candidate is opened, and then
// the kernel is asked, and the process itself (adopt.go):
//
//	state.json, or who holds the lock on PIDFILE ──▶ a pid
//	  pidfd_open, before all else
//	  start time as saved, if it was          the pid is still the one that was meant
//	  all of its user ids are ours            we may signal it, and it is no setuid program
//	  the leader of its process group         as we start origins
//	  runs our program, or the saved one      with "-c FOLDER/srs.conf" at the end
//	  SUPERVISED_ORIGIN=FOLDER                in the environment that it was given
//	  holds the lock on FOLDER/srs.pid        itself, or a process of its group (a script's)
//	  the descriptor: not ended yet           so all that was about this one process
//	  the API on its port: its pid, and the saved service id
//
// Whatever does not fit makes it a stranger, and no stranger is ever signalled.

// errNotOurs says that a process is a stranger.
var errNotOurs = errors.New("it is no origin of ours")

// errEnded says that a candidate is no more.
var errEnded = errors.New("it has ended")

// candidate is a pid that may be an origin's, and what is known about that one.
type candidate struct {
	pid   int
	place birth
	// saved is the state file's entry; without one nothing but the ID is in it.
	saved savedOrigin
	// command is how the origins of that run were started; empty without a state file.
	command []string
}

// leftover is a process of an earlier run that was proved to be ours, but for what
// its API says.
type leftover struct {
	*adopted
	place  birth
	saved  savedOrigin
	params srsconf.Params
	// configHash of the config that it was started with.
	configHash string
	// answers is the process that holds the lock on the pid file: the origin itself,
	// where the leader is a script that waits for it.
	answers int
	// program is the file that it runs, and sameCommand says that it was started as
	// one would be now.
	program     string
	sameCommand bool
}

// letGo forgets the process without touching it.
func (l *leftover) letGo() { l.fd.Close() }

// claim takes hold of a candidate and proves it to be ours. Its error is errEnded,
// errNotOurs with the reason, or that this cannot be found out here.
func (c Config) claim(cand candidate) (_ *leftover, err error) {
	if cand.pid <= 1 || cand.pid == os.Getpid() {
		return nil, fmt.Errorf("%w: it is pid %d", errNotOurs, cand.pid)
	}
	fd, err := openPID(cand.pid)
	if errors.Is(err, unix.ESRCH) {
		return nil, errEnded
	}
	if err != nil {
		return nil, err
	}
	l := &leftover{
		adopted: &adopted{fd: fd, pid: cand.pid, group: cand.pid},
		place:   cand.place,
		saved:   cand.saved,
		params:  c.params(cand.place),
	}
	l.workDir = l.params.WorkDir
	defer func() {
		if err != nil {
			l.letGo()
		}
	}()
	proofs := []func(Config, candidate) error{
		l.proveStart, l.proveUser, l.proveProgram, l.proveMark, l.proveLock,
	}
	for _, prove := range proofs {
		if err := prove(c, cand); err != nil {
			if errors.Is(err, errEnded) || !l.alive() {
				return nil, errEnded
			}
			return nil, fmt.Errorf("%w: %w", errNotOurs, err)
		}
	}
	if !l.alive() {
		return nil, errEnded
	}
	return l, nil
}

func (l *leftover) proveStart(_ Config, cand candidate) error {
	s, err := readProcStat(l.pid)
	switch {
	case err != nil:
		return err
	case s.dead():
		return errEnded
	case cand.saved.StartTicks != 0 && s.startTicks != cand.saved.StartTicks:
		return fmt.Errorf("it started at %d ticks after the boot, and the one that was meant at %d", s.startTicks, cand.saved.StartTicks)
	case s.group != l.pid:
		return fmt.Errorf("it belongs to the process group %d and leads none", s.group)
	}
	l.startTicks = s.startTicks
	return nil
}

func (l *leftover) proveUser(Config, candidate) error {
	same, err := runsAsUs(l.pid)
	if err == nil && !same {
		err = errors.New("it has another user")
	}
	return err
}

func (l *leftover) proveProgram(c Config, cand candidate) error {
	args, err := arguments(l.pid)
	if err != nil {
		return err
	}
	config := filepath.Join(l.workDir, configName)
	if n := len(args); n < 3 || args[n-2] != "-c" || args[n-1] != config {
		return fmt.Errorf("its command line is %q and does not end with -c %s", printable(strings.Join(args, " ")), config)
	}
	if l.program, err = program(l.pid); err != nil {
		return err
	}
	// A script shows its interpreter as program and itself as an argument, until it
	// turns into another program, which then only the state file knows.
	command := args[:len(args)-2]
	runs := func(c []string) bool {
		return len(c) > 0 && len(command) >= len(c) && slices.Equal(command[len(command)-len(c):], c)
	}
	asSaved := cand.saved.Program != "" && l.program == cand.saved.Program
	l.sameCommand = runs(c.Command) || asSaved && slices.Equal(c.Command, cand.command)
	if l.sameCommand && !asSaved && !isScript(c.Command[0]) && l.program != resolved(c.Command[0]) {
		return fmt.Errorf("it calls itself %s and runs %s", c.Command[0], printable(l.program))
	}
	if l.sameCommand || asSaved || runs(cand.command) {
		return nil
	}
	return fmt.Errorf("it runs %s", printable(strings.Join(command, " ")))
}

// resolved is a program's path as /proc/PID/exe has it.
func resolved(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path
	}
	return real
}

func (l *leftover) proveMark(_ Config, cand candidate) error {
	env, err := variables(l.pid)
	if err != nil {
		return err
	}
	if mark := variable(env, strayMark); mark != l.workDir {
		return fmt.Errorf("its environment has %s%s and not %s", strayMark, printable(mark), l.workDir)
	}
	if l.configHash = variable(env, configMark); l.configHash == "" {
		l.configHash = cand.saved.ConfigHash
	}
	return nil
}

func (l *leftover) proveLock(Config, candidate) error {
	owner, err := lockOwner(l.params.PIDFile)
	if err != nil {
		return err
	}
	l.answers = owner
	switch {
	case owner == 0:
		return fmt.Errorf("nobody holds the lock on %s", l.params.PIDFile)
	case owner == l.pid:
		return nil
	}
	if s, err := readProcStat(owner); err != nil || s.group != l.pid {
		return fmt.Errorf("the lock on %s is held by pid %d", l.params.PIDFile, owner)
	}
	return nil
}

// isScript says that a program is run by another, its interpreter.
func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 2)
	n, _ := f.Read(head)
	return string(head[:n]) == "#!"
}

// parseID is what Config.id makes of a place and a generation, read back.
func (c Config) parseID(id string) (index, gen int, ok bool) {
	rest, ok := strings.CutPrefix(id, c.IDPrefix)
	if !ok {
		return 0, 0, false
	}
	number, generation, dotted := strings.Cut(rest, ".")
	index, err := strconv.Atoi(number)
	if err == nil && dotted {
		gen, err = strconv.Atoi(generation)
	}
	// No other spelling: "+3", "03" and "3.0" name nothing.
	return index, gen, err == nil && index >= 0 && c.id(index, gen) == id
}
