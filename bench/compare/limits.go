package main

import (
	"fmt"
	"syscall"
)

// wantedFiles is enough for the largest case: 6,500 sessions, for each of which our
// proxy sets two and a half descriptors aside.
const wantedFiles = 65_536

// raiseFiles raises the limit of open files, ours and so that of all that we start, as
// far as we may: above the hard limit only a privileged process.
func raiseFiles() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return // descriptors will see what there is
	}
	for _, want := range []syscall.Rlimit{{Cur: wantedFiles, Max: max(limit.Max, wantedFiles)}, {Cur: limit.Max, Max: limit.Max}} {
		if limit.Cur >= want.Cur || syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
			return
		}
	}
}

// spareFiles is what a process has open beside its sessions.
const spareFiles = 500

// descriptors is how many a process has for sessions.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 2*spareFiles {
		return spareFiles
	}
	return int(min(limit.Cur, 300_000)) - spareFiles
}

// holdable is how many clients a peer may serve with that: HAProxy wants two for each,
// and two for the pipe of one in four; ours sets as many aside.
func holdable() int { return descriptors() * 2 / 5 }

// affordable is the case with as many held sessions as descriptors allow beside the
// new ones, and what to say if these are fewer. A tenth of its sessions our proxy keeps
// for publishers.
func (c benchCase) affordable() (benchCase, string) {
	if c.kind != holding && c.kind != churning {
		return c, ""
	}
	most := max(1, holdable()*9/10-c.rate*3/2)
	if c.players <= most {
		return c, ""
	}
	note := fmt.Sprintf("%s: %d sessions are held instead of %d: the limit of open files is %d (ulimit -n)", c.name, most, c.players, descriptors()+spareFiles)
	c.players = most
	return c, note
}
