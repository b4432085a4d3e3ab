package main

import (
	"context"
	"fmt"

	"srs-proxy/runtime"
)

// irqHint prints what would move the network's interrupts from the origins' CPUs
// to the proxy's. It is a shell script to read first; nothing is changed here.
func (p *program) irqHint(ctx context.Context, cfg *resolved) error {
	host, err := runtime.ReadTopology("/")
	if err != nil {
		return fmt.Errorf("CPUs of this machine: %w", err)
	}
	s := &setup{cfg: cfg}
	if err := s.planCPUs(ctx); err != nil {
		return err
	}
	nics, err := runtime.ReadNICs("/")
	if err != nil {
		return err
	}
	for _, line := range irqPlan(irqFacts{
		nics: nics, host: host, plan: s.cpus, balanced: runtime.Running("/", "irqbalance"),
	}) {
		if err := printf(p.term.out, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

// irqFacts is what the hint depends on.
type irqFacts struct {
	nics []runtime.NIC
	host runtime.Topology
	plan runtime.Plan
	// balanced says that irqbalance runs, which undoes what is set here.
	balanced bool
}

// irqPlan is the script. Packets come in and leave by the proxy alone: it is on
// the CPUs where they are handled, or they cross from one cache to another, and
// an interrupt on an origin's CPU stops its one thread.
func irqPlan(f irqFacts) []string {
	origins := f.plan.OriginCPUs()
	cpus := f.plan.Proxy.Minus(origins)
	lines := []string{
		fmt.Sprintf("# The proxy runs on CPUs %s, the origins on %s.", f.plan.Proxy, origins),
	}
	if len(cpus) == 0 {
		return append(lines, "# The proxy has no CPU of its own, so there is nowhere to move interrupts to; see --proxy-cpus.")
	}
	lines = append(lines, "# As root, after each boot. Read it first; srs-proxy itself changes none of this.")
	if f.balanced {
		lines = append(lines, "", "# irqbalance would move them back.",
			"systemctl disable --now irqbalance   # or IRQBALANCE_BANNED_CPULIST="+origins.String()+" in /etc/default/irqbalance")
	}
	n := 0
	for _, nic := range f.nics {
		if nic.Up {
			lines = append(lines, nicPlan(nic, f.host, cpus)...)
			n++
		}
	}
	if n == 0 {
		lines = append(lines, "# No network interface with hardware behind it is up.")
	}
	return lines
}

func nicPlan(nic runtime.NIC, host runtime.Topology, cpus runtime.CPUSet) []string {
	cpus, where := nearby(nic.Node, host, cpus)
	lines := []string{"", fmt.Sprintf("# %s%s: %d receive and %d transmit queues, %d interrupts, to CPUs %s%s",
		nic.Name, inBrackets(nic.Driver), len(nic.RX), len(nic.TX), len(nic.IRQs), cpus, where)}
	if len(nic.RX) > 0 && len(nic.RX) < len(cpus) {
		lines = append(lines, fmt.Sprintf("# More queues are better than RPS, where the card has them (ethtool -l %s): ethtool -L %[1]s combined %d, then ask again.", nic.Name, len(cpus)))
	}
	for _, irq := range nic.IRQs {
		// The receive and the transmit side of a queue share a CPU.
		target := runtime.CPUSet{cpus[irq.Queue%len(cpus)]}
		if irq.CPUs.Equal(target) {
			lines = append(lines, fmt.Sprintf("# interrupt %d, %s, is on CPU %s already", irq.Number, irq.Name, target))
			continue
		}
		lines = append(lines, fmt.Sprintf("echo %s > /proc/irq/%d/smp_affinity_list   # %s, %d so far, now on %s", target, irq.Number, irq.Name, irq.Count, irq.CPUs))
	}
	// RPS spreads in software what too few queues leave on too few CPUs, and costs
	// an interrupt between CPUs a packet: with enough queues it is off.
	spread := runtime.CPUSet(nil)
	if len(nic.RX) < len(cpus) {
		spread = cpus
	}
	for i, q := range nic.RX {
		if !nic.RPS[i].Equal(spread) {
			lines = append(lines, fmt.Sprintf("echo %s > /sys/class/net/%s/queues/%s/rps_cpus   # CPUs %s", spread.Mask(), nic.Name, q, orNone(spread)))
		}
	}
	// XPS: each CPU sends by a queue of its own. With one queue there is no choice.
	if len(nic.TX) > 1 {
		for i, q := range nic.TX {
			var users runtime.CPUSet
			for k := i % len(cpus); k < len(cpus); k += len(nic.TX) {
				users = append(users, cpus[k])
			}
			lines = append(lines, fmt.Sprintf("echo %s > /sys/class/net/%s/queues/%s/xps_cpus   # CPUs %s", users.Mask(), nic.Name, q, users))
		}
	}
	return lines
}

// nearby are those of cpus on the NIC's NUMA node, or all when none is.
func nearby(node int, host runtime.Topology, cpus runtime.CPUSet) (runtime.CPUSet, string) {
	if node == runtime.Unknown {
		return cpus, ""
	}
	var near runtime.CPUSet
	for _, c := range host.CPUs {
		if c.Node == node && cpus.Contains(c.ID) {
			near = append(near, c.ID)
		}
	}
	if len(near) == 0 {
		return cpus, fmt.Sprintf("; it is at NUMA node %d, where the proxy has no CPU", node)
	}
	return near, fmt.Sprintf(", those of its NUMA node %d", node)
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func orNone(s runtime.CPUSet) string {
	if text := s.String(); text != "" {
		return text
	}
	return "none"
}
