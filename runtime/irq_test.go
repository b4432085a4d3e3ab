package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// linkedTree is hostTree with symbolic links: "-- PATH -> TARGET --".
func linkedTree(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	var file, content string
	flush := func() {
		if file != "" {
			overwrite(t, root, file, content)
		}
		file, content = "", ""
	}
	for line := range strings.Lines(string(data)) {
		path, found := strings.CutPrefix(strings.TrimSpace(line), "-- ")
		if !found {
			content += line
			continue
		}
		flush()
		path = strings.TrimSuffix(path, " --")
		at, target, isLink := strings.Cut(path, " -> ")
		if !isLink {
			file, content = path, ""
			continue
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, at)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, at)); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	return root
}

func TestReadNICs(t *testing.T) {
	nics, err := ReadNICs(linkedTree(t, "irq-two-nics"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range nics {
		line := fmt.Sprintf("%s driver=%s node=%d up=%v rx=%v tx=%v rps=%v", n.Name, n.Driver, n.Node, n.Up, n.RX, n.TX, n.RPS)
		for _, i := range n.IRQs {
			line += fmt.Sprintf(" %d:%s:%d:%s:%d", i.Number, i.Name, i.Queue, i.CPUs, i.Count)
		}
		got = append(got, line)
	}
	want := []string{
		// Vector 120 is for the device as a whole, 125 is not in use.
		"ens5f0 driver=i40e node=1 up=true rx=[rx-0 rx-1 rx-2 rx-10] tx=[tx-0] rps=[   32]" +
			" 121:i40e-ens5f0-TxRx-0:0:0:100000 122:i40e-ens5f0-TxRx-1:1:1:200000 123:i40e-ens5f0-TxRx-2:2:2:300000 124:i40e-ens5f0-TxRx-3:3:3:400000",
		"ens5f1 driver= node=-1 up=false rx=[] tx=[] rps=[]",
		"eth0 driver=virtio_net node=-1 up=true rx=[rx-0] tx=[tx-0] rps=[2-3] 39:virtio2-input.0:0:0-3:10230 40:virtio2-output.0:0:2:9315",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !Running(linkedTree(t, "irq-two-nics"), "irqbalance") || Running(linkedTree(t, "irq-two-nics"), "irq") {
		t.Error("Running does not see who runs")
	}
}

func TestReadNICsOfThisMachine(t *testing.T) {
	nics, err := ReadNICs("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nics {
		if n.Name == "lo" {
			t.Error("lo has no device")
		}
		for _, i := range n.IRQs {
			if len(i.CPUs) == 0 || i.Name == "" {
				t.Errorf("%s: interrupt %+v", n.Name, i)
			}
		}
	}
}

func TestReadNICsOfNothing(t *testing.T) {
	nics, err := ReadNICs(t.TempDir())
	if err != nil || len(nics) != 0 {
		t.Errorf("%v, %v", nics, err)
	}
}

func TestReadNICsNamesTheBadFile(t *testing.T) {
	for _, tc := range []struct{ file, content string }{
		{"proc/interrupts", "  CPU0\n 39: many PCI-MSI 1-edge virtio2-input.0\n"},
		{"sys/devices/pci0000:00/0000:00:03.0/virtio2/net/eth0/queues/rx-0/rps_cpus", "xyz"},
		{"proc/irq/39/smp_affinity_list", "all"},
	} {
		root := linkedTree(t, "irq-two-nics")
		overwrite(t, root, tc.file, tc.content)
		if _, err := ReadNICs(root); err == nil || !strings.Contains(err.Error(), filepath.Base(tc.file)) {
			t.Errorf("%s: %v", tc.file, err)
		}
	}
}

func TestQueueOf(t *testing.T) {
	for name, want := range map[string]int{
		"eth0-TxRx-3": 3, "virtio2-input.0": 0, "virtio2-output.11": 11, "mlx5_comp7@pci:0000:3b:00.0": 7,
		"ens5-Tx-Rx-15": 15, "iavf-eth0-TxRx-2": 2, "eth0-rx-1": 1,
		"virtio2-config": -1, "mlx5_async0@pci:0000:3b:00.0": -1, "ena-mgmnt@pci:0000:00:05.0": -1,
		"i40e-0000:3b:00.0:misc": -1, "i40e-ens5f0-fdir-TxRx-0": -1, "eth0": 0, "nothing": -1, "": -1,
		"x99999999999999999999": -1,
	} {
		if got := queueOf(name); got != want {
			t.Errorf("queueOf(%q) = %d, want %d", name, got, want)
		}
	}
}

func TestCPUMask(t *testing.T) {
	for mask, list := range map[string]string{
		"0": "", "1": "0", "c": "2-3", "80000000": "31", "1,00000000": "32", "ff,00000000,00000001": "0,64-71",
	} {
		set, err := parseCPUMask(mask)
		if err != nil || set.String() != list {
			t.Errorf("parseCPUMask(%q) = %s, %v, want %s", mask, set, err, list)
		}
		if got := set.Mask(); got != mask {
			t.Errorf("Mask of %s = %q, want %q", set, got, mask)
		}
	}
	for _, bad := range []string{"x", "1,", "100000000", "-1"} {
		if set, err := parseCPUMask(bad); err == nil {
			t.Errorf("parseCPUMask(%q) = %s", bad, set)
		}
	}
}

func FuzzCPUMask(f *testing.F) {
	for _, seed := range []string{"0", "ff,00000000", "", "x", "1,", "80000000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, mask string) {
		set, err := parseCPUMask(mask)
		if err != nil {
			return
		}
		again, err := parseCPUMask(set.Mask())
		if err != nil || !again.Equal(set) {
			t.Errorf("%q is %s, back as %q it is %s, %v", mask, set, set.Mask(), again, err)
		}
	})
}
