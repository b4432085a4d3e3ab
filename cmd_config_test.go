package main

import (
	"strings"
	"testing"
)

// What config prints is a configuration file that gives the same again.
func TestConfigYAMLRoundTrip(t *testing.T) {
	flags := map[string]string{
		"rtmp": "[::1]:1935", "http": "127.0.0.1:80", "control": "/tmp/a #b: c", "state-dir": "/tmp/'x\" y",
		"origins": "12", "lease-idle": "90s", "real-ip-prefix": "on", "origin-cpus": "0-3,8", "proxy-cpus": "07",
	}
	cfg, err := resolve(fakeSources(flags, map[string]string{"PROXY_HTTP_SERVER": "81"}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := configYAML(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# flag --rtmp", "# default", "# Limits"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
	again, err := resolve(fakeSources(map[string]string{"config": writeTemp(t, "c.yaml", string(text))}, nil))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if got, want := configString(again.Config), configString(cfg.Config); got != want {
		t.Errorf("read back\n got %s\nwant %s", got, want)
	}
}

func TestConfigYAMLNamesSources(t *testing.T) {
	file := writeTemp(t, "c.yaml", "\nport-base: 21000\n")
	cfg, err := resolve(fakeSources(map[string]string{"config": file}, map[string]string{"PROXY_HTTP_SERVER": "81"}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := configYAML(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"http: 81 # env PROXY_HTTP_SERVER\n",
		"port-base: 21000 # file " + file + ":2\n",
		"rtmp: 1935 # default\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
}
