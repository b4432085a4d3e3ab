package runtime

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Unknown is a setting that this host does not show: an older kernel, or a
// network namespace that has not got its own.
const Unknown = -1

// Kernel is those settings of the kernel that bound a media server. Any of the
// numbers can be Unknown.
type Kernel struct {
	// RmemMax and WmemMax cap what a socket may ask for as its buffer, in bytes.
	RmemMax, WmemMax int
	// Somaxconn caps the backlog of a listener.
	Somaxconn int
	// EphemeralLo to EphemeralHi are the local ports of outgoing connections, less
	// Reserved, which the kernel gives to nobody who does not ask for them.
	EphemeralLo, EphemeralHi int
	Reserved                 PortRanges
	// FirstFreePort is the first that needs no privilege to listen on.
	FirstFreePort int
	// PipeUserPages is how many pages of pipes a user without privileges may have
	// before each new pipe gets two; 0 is no limit.
	PipeUserPages int
	// Overcommit is vm.overcommit_memory; OvercommitNever refuses memory that it
	// could not give to all who reserved some.
	Overcommit int
}

// OvercommitNever is the value 2 of vm.overcommit_memory (proc(5)).
const OvercommitNever = 2

// ReadKernel reads the settings below root, as ReadTopology does.
func ReadKernel(root string) (Kernel, error) {
	var k Kernel
	for _, s := range []struct {
		name string
		into *int
	}{
		{"net/core/rmem_max", &k.RmemMax},
		{"net/core/wmem_max", &k.WmemMax},
		{"net/core/somaxconn", &k.Somaxconn},
		{"net/ipv4/ip_unprivileged_port_start", &k.FirstFreePort},
		{"fs/pipe-user-pages-soft", &k.PipeUserPages},
		{"vm/overcommit_memory", &k.Overcommit},
	} {
		numbers, err := readSysctl(root, s.name)
		if err != nil {
			return Kernel{}, err
		}
		*s.into = Unknown
		if len(numbers) > 0 {
			*s.into = numbers[0]
		}
	}
	ephemeral, err := readSysctl(root, "net/ipv4/ip_local_port_range")
	if err != nil {
		return Kernel{}, err
	}
	k.EphemeralLo, k.EphemeralHi = Unknown, Unknown
	if len(ephemeral) == 2 && ephemeral[0] <= ephemeral[1] {
		k.EphemeralLo, k.EphemeralHi = ephemeral[0], ephemeral[1]
	}
	file := filepath.Join(root, "proc/sys/net/ipv4/ip_local_reserved_ports")
	text, _, err := readOptional(file)
	if err != nil {
		return Kernel{}, err
	}
	if k.Reserved, err = ParsePortRanges(text); err != nil {
		return Kernel{}, fmt.Errorf("%s: %w", file, err)
	}
	return k, nil
}

// readSysctl reads the numbers of one setting; none when the host has no such setting.
func readSysctl(root, name string) ([]int, error) {
	file := filepath.Join(root, "proc/sys", name)
	text, _, err := readOptional(file)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for field := range strings.FieldsSeq(text) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not a number", file, clip(field))
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// PortRange is the ports from Lo to Hi, both included.
type PortRange struct{ Lo, Hi int }

// PortRanges is a set of ports. Ranges are in order and do not overlap.
type PortRanges []PortRange

// ParsePortRanges reads the kernel's form, "8080,9148-9150".
func ParsePortRanges(text string) (PortRanges, error) {
	var ranges PortRanges
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' || r == ' ' }) {
		low, high, isRange := strings.Cut(part, "-")
		lo, err := strconv.ParseUint(low, 10, 16)
		hi := lo
		if err == nil && isRange {
			hi, err = strconv.ParseUint(high, 10, 16)
		}
		if err != nil || hi < lo {
			return nil, fmt.Errorf("%q is not a port or a range of ports", clip(part))
		}
		ranges = append(ranges, PortRange{int(lo), int(hi)})
	}
	slices.SortFunc(ranges, func(a, b PortRange) int { return a.Lo - b.Lo })
	merged := ranges[:0]
	for _, r := range ranges {
		if n := len(merged); n > 0 && r.Lo <= merged[n-1].Hi+1 {
			merged[n-1].Hi = max(merged[n-1].Hi, r.Hi)
			continue
		}
		merged = append(merged, r)
	}
	return slices.Clip(merged), nil
}

// Contains reports whether a port is in the set.
func (p PortRanges) Contains(port int) bool { return p.Within(port, port) == 1 }

// Within counts the ports of the set from lo to hi.
func (p PortRanges) Within(lo, hi int) int {
	n := 0
	for _, r := range p {
		n += max(0, min(hi, r.Hi)-max(lo, r.Lo)+1)
	}
	return n
}

// Ephemeral reports whether the kernel may give a port to an outgoing connection.
func (k Kernel) Ephemeral(port int) bool {
	return k.EphemeralLo != Unknown && k.EphemeralLo <= port && port <= k.EphemeralHi && !k.Reserved.Contains(port)
}

// EphemeralPorts is how many connections to one address and port can be open at
// once; Unknown when the range is.
func (k Kernel) EphemeralPorts() int {
	if k.EphemeralLo == Unknown {
		return Unknown
	}
	return k.EphemeralHi - k.EphemeralLo + 1 - k.Reserved.Within(k.EphemeralLo, k.EphemeralHi)
}
