package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
)

// The peers, in the order of a round.
const (
	peerDirect   = "direct"
	peerOurs     = "srs-proxy"
	peerHAProxy  = "haproxy"
	peerNginx    = "nginx"
	peerExisting = "existing"
)

func peerNames() []string {
	return []string{peerDirect, peerOurs, peerHAProxy, peerNginx, peerExisting}
}

// startPeer starts a peer in front of the origin. It returns nil where there is no
// such program, and notes that.
func (s *stack) startPeer(ctx context.Context, name string, o options) (*peer, error) {
	if name == peerDirect {
		return &peer{name: name, endpoints: s.origin}, nil
	}
	if name == peerExisting {
		if o.existing == "" {
			s.skip(name, "EXISTING_PROXY names no binary")
			return nil, nil
		}
		return s.startExisting(ctx, o.existing)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		s.skip(name, "it is not installed (apt-get install "+map[string]string{peerHAProxy: "haproxy", peerNginx: "nginx libnginx-mod-stream"}[name]+")")
		return nil, nil
	}
	if name == peerHAProxy {
		return s.startHAProxy(ctx, path)
	}
	return s.startNginx(ctx, path)
}

func (s *stack) skip(name, why string) {
	s.skipped = append(s.skipped, fmt.Sprintf("%s is left out: %s", name, why))
}

// peerConfig is what the templates of configs take.
type peerConfig struct {
	Dir, Module string
	CPUs        int
	Connections int // of clients
	Descriptors int // of a process
	Origin      endpoints
	Own         endpoints
	Stream      string // nginx: HTTP passed through byte by byte
}

const haproxyConfig = `global
	maxconn {{.Connections}}
	nbthread {{.CPUs}}
defaults
	mode tcp
	option splice-auto
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen rtmp
	bind {{.Own.RTMP}}
	server origin {{.Origin.RTMP}}
listen http
	bind {{.Own.HTTP}}
	server origin {{.Origin.HTTP}}
listen api
	bind {{.Own.API}}
	server origin {{.Origin.API}}
`

func (s *stack) startHAProxy(ctx context.Context, path string) (*peer, error) {
	p, conf, err := s.configure(peerHAProxy, haproxyConfig, "")
	if err != nil {
		return nil, err
	}
	return s.runPeer(ctx, p, nil, path, "-db", "-f", conf)
}

// nginxModule is where Debian's libnginx-mod-stream puts its module.
const nginxModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

// HLS goes by the reverse proxy without a cache, everything else by the stream module.
// Without reuseport a client's datagrams would wander between nginx's workers, each of
// which would make a session of its own for them.
const nginxConfig = `{{if .Module}}load_module {{.Module}};
{{end}}daemon off;
worker_processes {{.CPUs}};
pid {{.Dir}}/nginx.pid;
error_log {{.Dir}}/nginx.err warn;
events { worker_connections {{.Descriptors}}; }
stream {
	proxy_timeout 1h;
	server { listen {{.Own.RTMP}}; proxy_pass {{.Origin.RTMP}}; }
	server { listen {{.Stream}}; proxy_pass {{.Origin.HTTP}}; }
	server { listen {{.Own.API}}; proxy_pass {{.Origin.API}}; }
	server { listen {{.Own.RTC}} udp reuseport; proxy_pass {{.Origin.RTC}}; }
	server { listen {{.Own.SRT}} udp reuseport; proxy_pass {{.Origin.SRT}}; }
}
http {
	access_log off;
	client_body_temp_path {{.Dir}}/nginx-body;
	proxy_temp_path {{.Dir}}/nginx-proxy;
	fastcgi_temp_path {{.Dir}}/nginx-fastcgi;
	uwsgi_temp_path {{.Dir}}/nginx-uwsgi;
	scgi_temp_path {{.Dir}}/nginx-scgi;
	upstream origin { server {{.Origin.HTTP}}; keepalive 64; }
	server {
		listen {{.Own.HTTP}};
		location / {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_max_temp_file_size 0;
		}
	}
}
`

func (s *stack) startNginx(ctx context.Context, path string) (*peer, error) {
	module := nginxModule
	if _, err := os.Stat(module); err != nil {
		out, err := exec.CommandContext(ctx, path, "-V").CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--with-stream ")) {
			s.skip(peerNginx, "it has no stream module (apt-get install libnginx-mod-stream)")
			return nil, nil
		}
		module = ""
	}
	p, conf, err := s.configure(peerNginx, nginxConfig, module)
	if err != nil {
		return nil, err
	}
	return s.runPeer(ctx, p, nil, path, "-p", s.dir, "-c", conf)
}

// startExisting runs the existing Go proxy with the origin as its default backend.
func (s *stack) startExisting(ctx context.Context, path string) (*peer, error) {
	p, _, err := s.configure(peerExisting, "", "")
	if err != nil {
		return nil, err
	}
	own, origin := portsOf(p.endpoints), portsOf(s.origin)
	spare, err := freePorts()
	if err != nil {
		return nil, err
	}
	return s.runPeer(ctx, p, []string{
		"PROXY_RTMP_SERVER=" + own.RTMP, "PROXY_HTTP_SERVER=" + own.HTTP, "PROXY_HTTP_API=" + own.API,
		"PROXY_WEBRTC_SERVER=" + own.RTC, "PROXY_SRT_SERVER=" + own.SRT, fmt.Sprintf("PROXY_SYSTEM_API=%d", spare),
		"PROXY_LOAD_BALANCER_TYPE=memory", "PROXY_STATIC_FILES=" + s.dir,
		"PROXY_DEFAULT_BACKEND_ENABLED=on", "PROXY_DEFAULT_BACKEND_IP=127.0.0.1",
		"PROXY_DEFAULT_BACKEND_RTMP=" + origin.RTMP, "PROXY_DEFAULT_BACKEND_HTTP=" + origin.HTTP, "PROXY_DEFAULT_BACKEND_API=" + origin.API,
		"PROXY_DEFAULT_BACKEND_RTC=" + origin.RTC, "PROXY_DEFAULT_BACKEND_SRT=" + origin.SRT,
		fmt.Sprintf("GOMAXPROCS=%d", s.cpuCount()),
	}, path)
}

// configure gives a peer its ports and writes its config.
func (s *stack) configure(name, text, module string) (*peer, string, error) {
	first, err := freePorts()
	if err != nil {
		return nil, "", err
	}
	p := &peer{name: name, endpoints: endpointsFrom(first)}
	if text == "" {
		return p, "", nil
	}
	t, err := template.New(name).Parse(text)
	if err != nil {
		return nil, "", err
	}
	c := peerConfig{Dir: s.dir, Module: module, CPUs: s.cpuCount(), Connections: holdable(), Descriptors: descriptors(), Origin: s.origin, Own: p.endpoints, Stream: loopback(first + 7)}
	if name == peerNginx {
		p.stream = c.Stream
	}
	var b bytes.Buffer
	if err := t.Execute(&b, c); err != nil {
		return nil, "", err
	}
	path := filepath.Join(s.dir, name+".conf")
	return p, path, os.WriteFile(path, b.Bytes(), 0o644)
}

func (s *stack) runPeer(ctx context.Context, p *peer, env []string, path string, args ...string) (_ *peer, err error) {
	if p.child, err = start(s.dir, p.name, env, path, args...); err != nil {
		return nil, err
	}
	s.children = append(s.children, p.child)
	if err := p.child.accepts(ctx, p.RTMP); err != nil {
		return nil, err
	}
	return p, s.adopt(p)
}
