package rtmp

import (
	"strings"
	"testing"

	"srs-proxy/proxy/access"
)

// Who may not publish is told so, and no origin hears of it.
func TestDeniedClientIsTold(t *testing.T) {
	o := newOrigin(t, func(o *originConn) { t.Error("the origin was asked") })
	r := newRig(t, Config{}, o.addr)
	deny, err := access.Parse("publish:127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	r.server.router.SetAccess(access.Rules{Deny: deny})
	c := dial(t, r.addr())
	c.publish("a?token=secret")
	if code, description, _ := c.awaitStatus(); code != "NetStream.Publish.BadName" || description != "not allowed from this address" {
		t.Errorf("status %s: %s", code, description)
	}
	c.conn.Close()
	r.stop()
	if log := r.log.String(); !strings.Contains(log, "session refused") || strings.Contains(log, "secret") {
		t.Errorf("log: %s", log)
	}
}
