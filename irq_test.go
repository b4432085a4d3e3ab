package main

import (
	"strings"
	"testing"

	"srs-proxy/runtime"
)

func cpus(t *testing.T, list string) runtime.CPUSet {
	t.Helper()
	set, err := runtime.ParseCPUSet(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestIRQPlan(t *testing.T) {
	f := irqFacts{
		plan:     runtime.Plan{Proxy: cpus(t, "0-3,32"), Origins: []runtime.CPUSet{cpus(t, "4"), cpus(t, "5"), cpus(t, "6")}},
		balanced: true,
		nics: []runtime.NIC{
			{ // fewer queues than CPUs, on a node where the proxy has three CPUs
				Name: "ens5f0", Driver: "i40e", Node: 1, Up: true, RX: []string{"rx-0", "rx-1"}, TX: []string{"tx-0", "tx-1"},
				RPS: []runtime.CPUSet{nil, cpus(t, "2-3,32")},
				IRQs: []runtime.IRQ{
					{Number: 121, Name: "i40e-ens5f0-TxRx-0", Queue: 0, CPUs: cpus(t, "4"), Count: 100000},
					{Number: 122, Name: "i40e-ens5f0-TxRx-1", Queue: 1, CPUs: cpus(t, "3"), Count: 7},
					{Number: 125, Name: "i40e-ens5f0-TxRx-4", Queue: 4, CPUs: cpus(t, "0-63")},
				},
			},
			{ // as many queues as CPUs: no RPS
				Name: "eth0", Node: runtime.Unknown, Up: true, RX: []string{"rx-0", "rx-1", "rx-2", "rx-3", "rx-4"}, TX: []string{"tx-0"},
				RPS: []runtime.CPUSet{nil, nil, nil, nil, cpus(t, "1")},
			},
			{Name: "eth9", Node: 7, Up: true, RX: []string{"rx-0"}, TX: []string{"tx-0"}, RPS: []runtime.CPUSet{nil}},
			{Name: "down0", Node: runtime.Unknown},
		},
	}
	for id := range 64 {
		node := 0
		if id >= 2 {
			node = 1
		}
		f.host.CPUs = append(f.host.CPUs, runtime.CPU{ID: id, Core: id, Node: node})
	}
	golden(t, "irq-hint.txt", strings.Join(irqPlan(f), "\n")+"\n")
}

// The script touches no CPU of an origin, on any machine.
func TestIRQPlanWithoutAnywhereToGo(t *testing.T) {
	shared := irqFacts{plan: runtime.Plan{Proxy: cpus(t, "0-1"), Origins: []runtime.CPUSet{cpus(t, "0"), cpus(t, "1")}}}
	if got := strings.Join(irqPlan(shared), "\n"); strings.Contains(got, "echo") || !strings.Contains(got, "nowhere to move") {
		t.Error(got)
	}
	none := irqFacts{plan: runtime.Plan{Proxy: cpus(t, "0"), Origins: []runtime.CPUSet{cpus(t, "1")}}}
	if got := strings.Join(irqPlan(none), "\n"); strings.Contains(got, "echo") || !strings.Contains(got, "No network interface") {
		t.Error(got)
	}
}

func TestIRQHintOfThisMachine(t *testing.T) {
	out, errs, code := run(t, command(t, socketDir(t), "check", "--irq-hint"))
	if code != exitOK || !strings.HasPrefix(out, "# The proxy runs on CPUs ") {
		t.Errorf("code %d\n%s%s", code, out, errs)
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "echo ") && !strings.HasPrefix(line, "systemctl ") {
			t.Errorf("not a script: %q", line)
		}
	}
}
