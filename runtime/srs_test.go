package runtime

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// SRS itself, as a child: where it was put, and found as the owner of its port.
func TestSpawnSRS(t *testing.T) {
	binary := os.Getenv("SRS_BINARY")
	if binary == "" {
		t.Skip("SRS_BINARY is not set")
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	conf := filepath.Join(dir, "srs.conf")
	// The listen directive as it was up to 7.0.63.
	text := fmt.Sprintf("listen 127.0.0.1:%d;\nmax_connections 1000;\ndaemon off;\nsrs_log_tank console;\npid %s/srs.pid;\nvhost __defaultVhost__ {}\n", port, dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-c", conf)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cpus := ourCPUs(t)[:1]
	if err := newTestSpawner(t).Start(cmd, cpus, 2000); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed below, or the output tells
	}()
	defer func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-ended
	}()

	for found := false; !found; {
		select {
		case <-ended:
			if strings.Contains(out.String(), "illegal directive") {
				t.Skip("this SRS wants another form of the listen directive")
			}
			t.Fatalf("SRS ended: %s", out.String())
		case <-time.After(10 * time.Millisecond):
		}
		var pid int
		if pid, _, found, err = PortOwner("tcp", port); err != nil {
			t.Fatal(err)
		}
		if found && pid != cmd.Process.Pid {
			t.Fatalf("port %d is held by %d, want %d", port, pid, cmd.Process.Pid)
		}
	}
	if set, err := AllowedCPUs(cmd.Process.Pid); err != nil || !set.Equal(cpus) {
		t.Errorf("SRS is on %s, want %s (%v)", set, cpus, err)
	}
	s := openSampler(t, cmd.Process.Pid)
	if u, err := s.Sample(); err != nil || u.CPUTime == 0 || u.RSS < 1<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
}
