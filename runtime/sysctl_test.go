package runtime

import (
	"fmt"
	"strings"
	"testing"
)

func TestReadKernel(t *testing.T) {
	root := t.TempDir()
	for file, content := range map[string]string{
		"net/core/rmem_max": "212992\n", "net/core/wmem_max": "4194304\n", "net/core/somaxconn": "128\n",
		"net/ipv4/ip_local_port_range": "32768\t60999\n", "net/ipv4/ip_local_reserved_ports": "35000,40000-40009\n",
		"net/ipv4/ip_unprivileged_port_start": "1024\n", "fs/pipe-user-pages-soft": "16384\n", "vm/overcommit_memory": "2\n",
	} {
		overwrite(t, root, "proc/sys/"+file, content)
	}
	k, err := ReadKernel(root)
	if err != nil {
		t.Fatal(err)
	}
	want := Kernel{
		RmemMax: 212992, WmemMax: 4194304, Somaxconn: 128, EphemeralLo: 32768, EphemeralHi: 60999,
		Reserved: PortRanges{{35000, 35000}, {40000, 40009}}, FirstFreePort: 1024, PipeUserPages: 16384, Overcommit: OvercommitNever,
	}
	if fmt.Sprint(k) != fmt.Sprint(want) {
		t.Errorf("got %+v\nwant %+v", k, want)
	}
	if n := k.EphemeralPorts(); n != 28232-11 {
		t.Errorf("%d ephemeral ports", n)
	}
	for port, is := range map[int]bool{32767: false, 32768: true, 60999: true, 61000: false, 35000: false, 40005: false, 40010: true} {
		if k.Ephemeral(port) != is {
			t.Errorf("Ephemeral(%d) = %v", port, !is)
		}
	}
	overwrite(t, root, "proc/sys/net/core/somaxconn", "many")
	if _, err := ReadKernel(root); err == nil || !strings.Contains(err.Error(), "somaxconn") {
		t.Errorf("a bad file: %v", err)
	}
}

func TestReadKernelThatShowsNothing(t *testing.T) {
	k, err := ReadKernel(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if k.RmemMax != Unknown || k.EphemeralLo != Unknown || k.EphemeralPorts() != Unknown || k.Ephemeral(40000) || len(k.Reserved) != 0 {
		t.Errorf("%+v", k)
	}
}

func TestReadKernelOfThisMachine(t *testing.T) {
	k, err := ReadKernel("/")
	if err != nil {
		t.Fatal(err)
	}
	lo, hi, err := EphemeralRange()
	if err != nil || k.EphemeralLo != lo || k.EphemeralHi != hi {
		t.Errorf("ephemeral range %d-%d, want %d-%d, %v", k.EphemeralLo, k.EphemeralHi, lo, hi, err)
	}
	if k.Somaxconn <= 0 {
		t.Errorf("somaxconn %d", k.Somaxconn)
	}
}

func TestParsePortRanges(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]", "\n": "[]", "8080": "[{8080 8080}]", "8080,9148-9150": "[{8080 8080} {9148 9150}]",
		"5-9,1-6": "[{1 9}]", "1-2,3-4": "[{1 4}]", "7,7": "[{7 7}]", "1-9,3-4": "[{1 9}]",
	} {
		got, err := ParsePortRanges(text)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"x", "9-1", "70000", "1-", "-1"} {
		if got, err := ParsePortRanges(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzPortRanges(f *testing.F) {
	for _, seed := range []string{"", "8080,9148-9150", "5-9,1-6", "9-1", "65535-65535,0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := ParsePortRanges(text)
		if err != nil {
			return
		}
		last := -2
		for _, r := range ranges {
			if r.Lo <= last+1 || r.Hi < r.Lo || r.Hi > 65535 {
				t.Fatalf("%q: %v is out of order", text, ranges)
			}
			last = r.Hi
		}
		if n := ranges.Within(0, 65535); n > 65536 || n < len(ranges) {
			t.Errorf("%q: %d ports", text, n)
		}
	})
}
