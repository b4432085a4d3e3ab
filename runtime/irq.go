package runtime

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// NIC is a network interface with hardware of its own, as far as it matters who
// of the CPUs serves it.
type NIC struct {
	Name string
	// Driver is empty where the host does not name it.
	Driver string
	// Node is the NUMA node it is at, Unknown without NUMA.
	Node int
	// Up says that the link carries traffic.
	Up bool
	// RX and TX are the names of the queues, in order: rx-0, rx-1...
	RX, TX []string
	// RPS are the CPUs that each of RX is spread over in software, empty for none.
	RPS []CPUSet
	// IRQs are those of the queues, in order.
	IRQs []IRQ
}

// IRQ is an interrupt line of a device.
type IRQ struct {
	Number int
	// Name is what the driver calls it: eth0-TxRx-3.
	Name string
	// Queue is the number in the name.
	Queue int
	// CPUs may serve it.
	CPUs CPUSet
	// Count is how often it came since the boot.
	Count uint64
}

// ReadNICs lists the interfaces that have a device behind them, below root as
// ReadTopology does. It changes nothing.
func ReadNICs(root string) ([]NIC, error) {
	table, err := readInterrupts(root)
	if err != nil {
		return nil, err
	}
	class := filepath.Join(root, "sys/class/net")
	entries, err := os.ReadDir(class)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	var nics []NIC
	for _, e := range entries {
		dir := filepath.Join(class, e.Name())
		// lo, bridges and tunnels have none, and no interrupts.
		device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if err != nil {
			continue
		}
		nic, err := readNIC(root, dir, device, table)
		if err != nil {
			return nil, err
		}
		nics = append(nics, nic)
	}
	return nics, nil
}

func readNIC(root, dir, device string, table map[int]IRQ) (NIC, error) {
	nic := NIC{Name: filepath.Base(dir), Node: Unknown}
	if driver, err := os.Readlink(filepath.Join(device, "driver")); err == nil {
		nic.Driver = filepath.Base(driver)
	}
	state, _, err := readOptional(filepath.Join(dir, "operstate"))
	if err != nil {
		return NIC{}, err
	}
	nic.Up = state == "up" || state == "unknown" // some drivers never tell
	if nic.RX, nic.TX, err = readQueues(filepath.Join(dir, "queues")); err != nil {
		return NIC{}, err
	}
	for _, q := range nic.RX {
		mask, _, err := readOptional(filepath.Join(dir, "queues", q, "rps_cpus"))
		if err != nil {
			return NIC{}, err
		}
		cpus, err := parseCPUMask(mask)
		if err != nil {
			return NIC{}, fmt.Errorf("%s: %w", filepath.Join(dir, "queues", q, "rps_cpus"), err)
		}
		nic.RPS = append(nic.RPS, cpus)
	}
	bus := busDevice(device)
	node, found, err := readOptional(filepath.Join(bus, "numa_node"))
	if err != nil {
		return NIC{}, err
	}
	if n, err := strconv.Atoi(node); found && err == nil && n >= 0 {
		nic.Node = n
	}
	numbers, err := readNumbers(filepath.Join(bus, "msi_irqs"))
	if err != nil && !absent(err) {
		return NIC{}, fmt.Errorf("interrupts of %s: %w", nic.Name, err)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		irq, known := table[n]
		if !known || irq.Queue < 0 {
			continue // not in use, or for events of the device
		}
		cpus, _, err := readCPUSet(filepath.Join(root, "proc/irq", strconv.Itoa(n), "smp_affinity_list"))
		if err != nil {
			return NIC{}, err
		}
		irq.CPUs = cpus
		nic.IRQs = append(nic.IRQs, irq)
	}
	return nic, nil
}

// busDevice is the PCI device of an interface's device: itself, or the one that a
// virtio device sits on.
func busDevice(device string) string {
	for dir, i := device, 0; i < 2; dir, i = filepath.Dir(dir), i+1 {
		if _, err := os.Stat(filepath.Join(dir, "msi_irqs")); err == nil {
			return dir
		}
	}
	return device
}

// readQueues lists the queues, rx-10 after rx-9.
func readQueues(dir string) (rx, tx []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !absent(err) {
		return nil, nil, err
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(name[len("rx-"):])
		return n
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, "rx-"):
			rx = append(rx, name)
		case strings.HasPrefix(name, "tx-"):
			tx = append(tx, name)
		}
	}
	byNumber := func(a, b string) int { return number(a) - number(b) }
	slices.SortFunc(rx, byNumber)
	slices.SortFunc(tx, byNumber)
	return rx, tx, nil
}

// readInterrupts reads /proc/interrupts by number:
//
//	          CPU0       CPU1
//	38:          0      10217 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
//
// Lines of other kinds (NMI, LOC) have no number and no device.
func readInterrupts(root string) (map[int]IRQ, error) {
	text, _, err := readOptional(filepath.Join(root, "proc/interrupts"))
	if err != nil {
		return nil, err
	}
	table := make(map[int]IRQ)
	cpus := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if cpus == 0 {
			cpus = len(fields) // the heading
			continue
		}
		if len(fields) < cpus+2 {
			continue
		}
		number, err := strconv.Atoi(strings.TrimSuffix(fields[0], ":"))
		if err != nil {
			continue
		}
		irq := IRQ{Number: number, Name: fields[len(fields)-1]}
		irq.Queue = queueOf(irq.Name)
		for _, count := range fields[1 : cpus+1] {
			n, err := strconv.ParseUint(count, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: interrupt %d: %q is not a count", filepath.Join(root, "proc/interrupts"), number, clip(count))
			}
			irq.Count += n
		}
		table[number] = irq
	}
	return table, nil
}

// queueOf finds the queue's number in the name that a driver gave its interrupt:
// eth0-TxRx-3, virtio2-input.0, mlx5_comp3@pci:0000:3b:00.0, ens5-Tx-Rx-7. An
// interrupt for the device as a whole has none: virtio2-config, mlx5_async0@pci...,
// ena-mgmnt@pci..., i40e-0000:3b:00.0:misc. -1 then.
func queueOf(name string) int {
	name, _, _ = strings.Cut(name, "@")
	lower := strings.ToLower(name)
	for _, other := range []string{"async", "mgmnt", "config", "control", "ctrl", "misc", "event", "fdir"} {
		if strings.Contains(lower, other) {
			return -1
		}
	}
	digits := len(name)
	for digits > 0 && name[digits-1] >= '0' && name[digits-1] <= '9' {
		digits--
	}
	queue, err := strconv.Atoi(name[digits:])
	if err != nil {
		return -1
	}
	return queue
}

// parseCPUMask reads the kernel's mask, "ff,00000003": 32 CPUs in a group, the
// highest first.
func parseCPUMask(mask string) (CPUSet, error) {
	var ids []int
	groups := strings.Split(mask, ",")
	for i, group := range groups {
		if group == "" && len(groups) == 1 {
			break
		}
		bits, err := strconv.ParseUint(group, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a mask of CPUs", clip(mask))
		}
		for bit := range 32 {
			if bits&(1<<bit) != 0 {
				ids = append(ids, 32*(len(groups)-1-i)+bit)
			}
		}
	}
	return newCPUSet(ids), nil
}

// Mask is the set in the form that the kernel's mask files take.
func (s CPUSet) Mask() string {
	groups := make(map[int]uint32)
	for _, id := range s {
		groups[id/32] |= 1 << (id % 32)
	}
	if len(groups) == 0 {
		return "0"
	}
	highest := slices.Max(slices.Collect(maps.Keys(groups)))
	text := strconv.FormatUint(uint64(groups[highest]), 16)
	for g := highest - 1; g >= 0; g-- {
		text += fmt.Sprintf(",%08x", groups[g])
	}
	return text
}

// Running reports whether a process of that name runs, as /proc shows them.
func Running(root, comm string) bool {
	pids, err := readNumbers(filepath.Join(root, "proc"))
	if err != nil {
		return false
	}
	for _, pid := range pids {
		name, _, _ := readOptional(filepath.Join(root, "proc", strconv.Itoa(pid), "comm"))
		if name == comm {
			return true
		}
	}
	return false
}
