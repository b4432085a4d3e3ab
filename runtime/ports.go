package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// EphemeralRange is the range of local ports that the kernel gives to outgoing
// connections, both ends included. A listener inside it can find its port taken.
func EphemeralRange() (lo, hi int, err error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, fmt.Errorf("ephemeral ports: %w", err)
	}
	fields := strings.Fields(string(data))
	if len(fields) == 2 {
		var errLo, errHi error
		lo, errLo = strconv.Atoi(fields[0])
		hi, errHi = strconv.Atoi(fields[1])
		if errLo == nil && errHi == nil && lo <= hi {
			return lo, hi, nil
		}
	}
	return 0, 0, fmt.Errorf("%s: %q is not a range of ports", file, clip(string(data)))
}

// PortOwner tells who holds a port on any address of this network namespace: who
// listens on it for "tcp", who has it, connected or not, for "udp". It is for messages, such
// as "port 20000 is held by pid 123 (srs)": another process can take or leave the
// port right after.
//
// A holder whose descriptors we may not read, or in another pid namespace, is
// found with pid 0. Of several that share the port, the lowest pid is given.
func PortOwner(network string, port int) (pid int, comm string, found bool, err error) {
	if network != "tcp" && network != "udp" {
		return 0, "", false, fmt.Errorf("port owner: network %q: want tcp or udp", network)
	}
	sockets := make(map[string]bool) // "socket:[INODE]", as /proc/PID/fd shows them
	for _, file := range []string{"/proc/self/net/" + network, "/proc/self/net/" + network + "6"} {
		data, ok, err := readOptional(file)
		if err != nil {
			return 0, "", false, fmt.Errorf("port owner: %w", err)
		}
		if !ok {
			continue // no IPv6 here
		}
		if err := portInodes(data, port, network == "tcp", sockets); err != nil {
			return 0, "", false, fmt.Errorf("%s: %w", file, err)
		}
	}
	if len(sockets) == 0 {
		return 0, "", false, nil
	}
	pids, err := readNumbers("/proc")
	if err != nil {
		return 0, "", true, fmt.Errorf("port owner: %w", err)
	}
	for _, pid := range pids {
		if holdsSocket(pid, sockets) {
			comm, _, _ := readOptional("/proc/" + strconv.Itoa(pid) + "/comm")
			return pid, comm, true, nil
		}
	}
	return 0, "", true, nil
}

// tcpListen is TCP_LISTEN in the state column of /proc/net.
const tcpListen = "0A"

var errSocketTable = errors.New("not the format of /proc/net/tcp")

// portInodes adds the sockets with a local port, or only those that listen, from a
// table of proc_pid_net(5):
//
//	sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
//	0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345 ...
func portInodes(table string, port int, listening bool, sockets map[string]bool) error {
	first := true
	for line := range strings.Lines(table) {
		if first {
			first = false // the heading
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 10 {
			return errSocketTable
		}
		_, hex, ok := strings.Cut(fields[1], ":")
		local, err := strconv.ParseUint(hex, 16, 16)
		if !ok || err != nil {
			return errSocketTable
		}
		// Inode 0 is a socket that no process has open any more.
		if int(local) == port && fields[9] != "0" && (!listening || fields[3] == tcpListen) {
			sockets["socket:["+fields[9]+"]"] = true
		}
	}
	return nil
}

// holdsSocket reports whether one of pid's descriptors is one of the sockets.
// What can't be read (it ended, or is not ours to look at) holds none.
func holdsSocket(pid int, sockets map[string]bool) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	fds, err := readNumbers(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		link, err := os.Readlink(dir + "/" + strconv.Itoa(fd))
		if err == nil && sockets[link] {
			return true
		}
	}
	return false
}
