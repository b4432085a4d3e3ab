package main

import (
	"testing"

	"github.com/urfave/cli/v2"
)

// A list that is given in several flags is all of them, and the variable is not
// mixed in.
func TestListFlagsAreJoined(t *testing.T) {
	env := func(name string) (string, bool) {
		v := map[string]string{"SRS_PROXY_ALLOW": "10.0.0.1"}[name]
		return v, v != ""
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "10.0.0.1"},
		{[]string{"--allow", "publish:10.0.0.0/8"}, "publish:10.0.0.0/8"},
		{[]string{"--allow", "publish:10.0.0.0/8", "--allow=play:all,192.0.2.7", "--allow", "192.0.2.8"}, "publish:10.0.0.0/8,play:all,192.0.2.7,192.0.2.8"},
		{[]string{"--allow", ""}, ""},
	} {
		var got string
		app := &cli.App{Flags: settingFlags(env), Action: func(c *cli.Context) error {
			cfg, err := resolve(sourcesOf(c, env))
			if err == nil {
				got = cfg.value("allow").text
			}
			return err
		}}
		if err := app.Run(append([]string{"srs-proxy"}, tt.args...)); err != nil {
			t.Fatal(err)
		}
		if got != tt.want {
			t.Errorf("%q gives %q, want %q", tt.args, got, tt.want)
		}
	}
}
