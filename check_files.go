package main

import (
	"errors"
	"fmt"
	"strings"

	"srs-proxy/runtime"
)

// checkFiles: what bounds descriptors is the hard limit. SRS raises its soft one
// to that by itself before it compares it with max_connections.
func checkFiles(f *facts) []finding {
	raise := func(n uint64) string {
		return fmt.Sprintf("sudo prlimit --pid $$ --nofile=%d:%d (systemd: LimitNOFILE=%d)", n, n, n)
	}
	if f.limitErr != nil {
		found := fail("nofile", "%v", f.limitErr)
		if n := f.cfg.MaxConnections; n > 0 {
			found = found.fixedBy("%s", raise(uint64(n)+2*srsReservedFiles))
		}
		return []finding{found}
	}
	nofile := f.setup.nofile
	connections := f.cfg.maxConnections(nofile)
	sessions := maxSessions(nofile)
	text := fmt.Sprintf("limit of open files %d: %d sessions of the proxy, %d connections of an origin", nofile, sessions, connections)
	switch {
	case f.cfg.NoFile > nofile:
		return []finding{warn("nofile", "%s; --nofile asks for %d and the hard limit allows no more", text, f.cfg.NoFile).fixedBy("%s", raise(f.cfg.NoFile))}
	case f.cfg.MaxConnections == 0 && connections < autoMaxConnections:
		return []finding{warn("nofile", "%s; an origin could serve %d", text, autoMaxConnections).fixedBy("%s", raise(2*filesFor(autoMaxConnections)))}
	case sessions < connections:
		return []finding{warn("nofile", "%s: the proxy is full before an origin is", text).fixedBy("%s", raise(2*filesFor(connections)))}
	}
	return []finding{ok("nofile", "%s", text)}
}

// pagesPerPipe is those of the proxy's pipes, which hold 1 MiB. It has one for
// each direction that moves bytes at the moment.
const pagesPerPipe = 256

// checkPipes: over the limit, the kernel gives an unprivileged user pipes of two
// pages (pipe(7)), and splice moves 8 KiB a call in the place of 1 MiB.
func checkPipes(f *facts) []finding {
	pages := f.kernel.PipeUserPages
	if f.bigPipes || pages == runtime.Unknown || pages == 0 {
		return nil
	}
	const enough = 4096
	if pages/pagesPerPipe >= enough {
		return []finding{ok("pipes", "fs.pipe-user-pages-soft has room for %d busy connections", pages/pagesPerPipe)}
	}
	return []finding{warn("pipes", "fs.pipe-user-pages-soft is %d: while %d connections are busy, others get small pipes, which cost more CPU", pages, pages/pagesPerPipe).
		fixedBy("sudo sysctl -w fs.pipe-user-pages-soft=0")}
}

func checkInstance(f *facts) []finding {
	switch {
	case f.instanceErr == nil:
		return []finding{warn("instance", "already running as pid %d; up refuses until that is stopped, or with another --state-dir", f.instance).
			fixedBy("srs-proxy down --control %s", shellWord(f.cfg.Control))}
	case errors.Is(f.instanceErr, errNotRunning):
		return []finding{ok("instance", "none runs on %s", f.cfg.Control)}
	default:
		return []finding{fail("instance", "%v", f.instanceErr)}
	}
}

func checkState(f *facts) []finding {
	dir := f.cfg.StateDir
	switch {
	case f.stateErr == nil:
		return []finding{ok("state", "%s", dir)}
	case errors.Is(f.stateErr, errNoDirectory):
		return []finding{fail("state", "%s %v", f.stateAt, f.stateErr).fixedBy("srs-proxy up --state-dir DIR")}
	default:
		return []finding{fail("state", "%s cannot be written to (%v)", f.stateAt, f.stateErr).
			fixedBy("sudo install -d -o \"$USER\" %s (or --state-dir DIR)", shellWord(dir))}
	}
}

const (
	// originDisk is some HLS streams of an origin: half a minute of each is kept,
	// 15 MB at 4 Mb/s, and its log.
	originDisk = 64 * mib
	// originFiles are their segments, and what an origin has itself.
	originFiles = 200
	// startDisk and startFiles are what an origin needs to start.
	startDisk  = mib
	startFiles = 16
)

// checkDisk is about the file system of the state dir, in bytes and in files.
func checkDisk(f *facts) []finding {
	if f.stateErr != nil || f.cpusErr != nil {
		return nil
	}
	if f.diskErr != nil {
		return []finding{warn("disk", "not known: %v", f.diskErr)}
	}
	d, n := f.disk, uint64(len(f.setup.cpus.Origins))
	text := fmt.Sprintf("%s of %s free for %s", formatBytes(d.Free), formatBytes(d.Total), f.cfg.StateDir)
	counted := d.TotalFiles > 0
	if counted {
		text += fmt.Sprintf(", and %d files", d.FreeFiles)
	}
	if d.Type == "tmpfs" {
		text += "; it is in memory (tmpfs)"
	}
	elsewhere := fmt.Sprintf("df -h %[1]s; df -i %[1]s (make room, or --state-dir DIR)", shellWord(f.stateAt))
	switch {
	case d.Free < n*startDisk || counted && d.FreeFiles < n*startFiles:
		return []finding{fail("disk", "%s: too little to start %d origins", text, n).fixedBy("%s", elsewhere)}
	case d.Free < max(gib, n*originDisk) || counted && d.FreeFiles < n*originFiles:
		return []finding{warn("disk", "%s: HLS and logs of %d origins want %s and %d files", text, n, formatBytes(max(gib, n*originDisk)), n*originFiles).fixedBy("%s", elsewhere)}
	case networked(d.Type):
		return []finding{warn("disk", "%s, on a network file system (%s): when that stalls, the origins' logs and HLS stall with it", text, d.Type).
			fixedBy("srs-proxy up --state-dir DIR")}
	}
	return []finding{ok("disk", "%s", text)}
}

func networked(fileSystem string) bool {
	for _, name := range []string{"nfs", "cifs", "smb", "ceph", "gluster", "lustre", "gpfs", "afs", "9p"} {
		if strings.HasPrefix(strings.ToLower(fileSystem), name) {
			return true
		}
	}
	return false
}

// shellWord is a text as one word of a shell.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_./:@%+=,-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
