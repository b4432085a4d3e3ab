package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// tool is a client program that runs while a test goes on.
type tool struct {
	name  string
	cmd   *exec.Cmd
	out   output
	ended chan struct{}
}

// startTool runs a program until the test ends. It has no stdin: ffmpeg would
// read commands from it.
func startTool(t *testing.T, name string, args ...string) *tool {
	t.Helper()
	c := &tool{name: name, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // its outcome is in ProcessState
		close(c.ended)
	}()
	t.Cleanup(func() {
		c.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", name, c.out.String())
		}
	})
	return c
}

func (c *tool) stop() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

func (c *tool) running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// waitEnd returns the exit code of a program that ends by itself.
func (c *tool) waitEnd(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-c.ended:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("%s still runs after %s:\n%s", c.name, within, c.out.String())
		return -1
	}
}

// ffmpegPublish streams the clip in a loop, as a user's ffmpeg does.
func ffmpegPublish(t *testing.T, url string, more ...string) *tool {
	t.Helper()
	args := []string{"-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", suite.clip.path, "-c", "copy"}
	return startTool(t, "ffmpeg", append(append(args, more...), "-f", "flv", url)...)
}

// codecs is what ffprobe finds in a stream, sorted.
func codecs(t *testing.T, url string, args ...string) ([]string, error) {
	t.Helper()
	cmd := exec.Command("ffprobe", append(args, "-hide_banner", "-loglevel", "error", "-rw_timeout", "15000000", "-analyzeduration", "3000000", "-show_entries", "stream=codec_name", "-of", "json", url)...)
	r := run(t, cmd)
	if r.code != 0 {
		return nil, fmt.Errorf("ffprobe %s: exit code %d: %s", url, r.code, r.err)
	}
	var reply struct {
		Streams []struct {
			Name string `json:"codec_name"`
		}
	}
	if err := json.Unmarshal([]byte(r.out), &reply); err != nil {
		return nil, fmt.Errorf("ffprobe %s: %w: %s", url, err, r.out)
	}
	var names []string
	for _, s := range reply.Streams {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names, nil
}

// checkCodecs waits until a URL plays, with these codecs.
func checkCodecs(t *testing.T, url string, want ...string) {
	t.Helper()
	eventually(t, 40*time.Second, fmt.Sprintf("ffprobe %s finds %v", url, want), func() (bool, string) {
		got, err := codecs(t, url)
		if err != nil {
			return false, err.Error()
		}
		return slices.Equal(got, want), strings.Join(got, " ")
	})
}

// hasEscapes says that bytes have terminal codes.
func hasEscapes(b string) bool { return bytes.ContainsRune([]byte(b), '\x1b') }
