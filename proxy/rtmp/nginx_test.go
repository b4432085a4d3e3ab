package rtmp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/testkit"
)

// nginxModule is where Debian's libnginx-mod-rtmp puts its module.
const nginxModule = "/usr/lib/nginx/modules/ngx_rtmp_module.so"

// nginx-rtmp compresses its chunk headers and does not name itself, so nothing
// about its encoder can be taken for granted.
func TestNginxOrigin(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("no nginx")
	}
	if _, err := os.Stat(nginxModule); err != nil {
		t.Skip("no libnginx-mod-rtmp")
	}
	dir, addr := t.TempDir(), testkit.FreeAddr(t)
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("load_module %s;\ndaemon off; master_process off; pid %s/pid; error_log %s/err info;\nevents { worker_connections 100; }\nrtmp { access_log off; server { listen %s; application live { live on; } } }\n",
		nginxModule, dir, dir, addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nginx, "-c", conf, "-p", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, "err"))
			t.Logf("nginx log:\n%s", b)
		}
	})
	waitFor(t, 10*time.Second, "nginx listens", func() bool { return testkit.Listens(addr) })
	r := newRig(t, Config{}, addr)
	early := make(chan string, 1)
	go func() {
		out, err := exec.Command("timeout", "15", "ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", r.url("/live/a")).CombinedOutput()
		early <- fmt.Sprint(string(out), err)
	}()
	waitFor(t, 5*time.Second, "player waits", func() bool { return r.origins()[0].Players == 1 })
	publish(t, r.url("/live/a"))
	if got := <-early; !strings.Contains(got, "h264") || !strings.Contains(got, "aac") {
		t.Errorf("the player that came first: codecs %q", got)
	}
	wantCodecs(t, r.url("/live/a"))
}
