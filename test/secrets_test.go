package e2e

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSecretsStayOutOfLogs: what comes after the question mark is nobody's business.
func TestSecretsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	in := up(t, 2, "--log-level", "debug")
	const secret = "Hush4711"
	query := "?token=" + secret
	in.publishAs(t, "rtmp://"+in.rtmp()+"/live"+query, "a"+query)
	in.publishAs(t, "rtmp://user:"+secret+"@"+in.rtmp()+"/live", "b")
	p, err := openPlay(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "a"+query)
	if err != nil {
		t.Fatal(err)
	}
	defer p.conn.Close()
	expectMedia(t, p, 5, 5, 0)
	conn, err := net.Dial("tcp", in.http())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	flv, err := openFLV(conn, in.http(), "/live/a.flv"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flv.next(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, path := range []string{"/live/a.m3u8", "/live/none.mp4", "/live/none.flvv", "/%0d%0a/x.ts", "/live/a-99.ts"} {
		_ = get(t, ctx, "http://"+in.http()+path+query, http.Header{"Authorization": {secret}, "Cookie": {secret}})
	}
	if _, err := openPublish(in.rtmp(), "rtmp://"+in.rtmp()+"/"+query, ""); err == nil {
		t.Error("a publish without a name is let in")
	}
	for _, what := range []string{"json", "wide"} {
		if out := srsProxy(t, "status", "-o", what, "--state-dir", in.stateDir).out; strings.Contains(out, secret) {
			t.Errorf("status -o %s tells the secret:\n%s", what, out)
		}
	}
	state, _ := os.ReadFile(filepath.Join(in.stateDir, "state.json"))
	logs := map[string]string{"the log": "", "the state file": string(state)}
	if suite.srs == "" { // SRS writes what it likes
		for _, o := range in.status().Origins {
			b, err := os.ReadFile(o.LogFile)
			if err != nil {
				t.Fatal(err)
			}
			logs["the log of "+o.ID] = string(b)
		}
	}
	in.stop() // the closing lines too
	logs["the log"] = in.err.String() + in.out.String()
	if !strings.Contains(logs["the log"], "live/a") {
		t.Error("the log does not name the stream: nothing was looked at")
	}
	for name, text := range logs {
		for line := range strings.Lines(text) {
			if strings.Contains(line, secret) {
				t.Errorf("%s tells the secret: %s", name, line)
			}
		}
	}
}
