package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"srs-proxy/srsconf"
	"srs-proxy/testkit"
)

const kubernetesFolder = "deploy/kubernetes"

// manifest is what the tests look at in a document; objects that they do not know have
// none of it.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		Selector                 yaml.Node
		PodSelector              selector `yaml:"podSelector"`
		Template                 podTemplate
		Ports                    []servicePort
		PublishNotReadyAddresses bool   `yaml:"publishNotReadyAddresses"`
		ExternalTrafficPolicy    string `yaml:"externalTrafficPolicy"`
	}
	file string
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type podTemplate struct {
	Metadata struct{ Labels map[string]string }
	Spec     struct {
		EnableServiceLinks            *bool `yaml:"enableServiceLinks"`
		TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
		Containers                    []container
		Volumes                       []struct {
			Name   string
			Secret struct {
				SecretName string `yaml:"secretName"`
			}
		}
	}
}

type container struct {
	Name, Image   string
	Command, Args []string
	Env           []envVar
	Ports         []containerPort
	VolumeMounts  []struct{ Name string } `yaml:"volumeMounts"`
	Rest          map[string]yaml.Node    `yaml:",inline"`
}

type envVar struct {
	Name, Value string
	ValueFrom   struct {
		SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		FieldRef     struct {
			FieldPath string `yaml:"fieldPath"`
		} `yaml:"fieldRef"`
	} `yaml:"valueFrom"`
}

type containerPort struct {
	Name          string
	ContainerPort int `yaml:"containerPort"`
	HostPort      int `yaml:"hostPort"`
	Protocol      string
}

type servicePort struct {
	Name, Protocol string
	Port           int
	TargetPort     string `yaml:"targetPort"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// manifests reads every document of the folder.
func manifests(t *testing.T) []manifest {
	t.Helper()
	files, err := filepath.Glob(kubernetesFolder + "/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var all []manifest
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := yaml.NewDecoder(bytes.NewReader(b))
		for {
			m := manifest{file: file}
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, m)
		}
	}
	return all
}

func named(t *testing.T, all []manifest, kind, name string) manifest {
	t.Helper()
	i := slices.IndexFunc(all, func(m manifest) bool { return m.Kind == kind && m.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return all[i]
}

// pods is what a selector finds.
func pods(all []manifest, labels map[string]string) []manifest {
	var found []manifest
	for _, m := range all {
		have := m.Spec.Template.Metadata.Labels
		missing := func(k string) bool { return have[k] != labels[k] }
		if m.Kind == "Deployment" && len(labels) > 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(labels)), missing) {
			found = append(found, m)
		}
	}
	return found
}

// Every object is of a kind that is known, and what it refers to is there.
func TestManifests(t *testing.T) {
	versions := map[string]string{
		"Namespace": "v1", "Secret": "v1", "Service": "v1", "Deployment": "apps/v1", "NetworkPolicy": "networking.k8s.io/v1",
		"PodDisruptionBudget": "policy/v1", "Kustomization": "kustomize.config.k8s.io/v1beta1",
	}
	all := manifests(t)
	seen := make(map[string]bool)
	for _, m := range all {
		id := m.Kind + " " + m.Metadata.Name
		if versions[m.Kind] == "" || versions[m.Kind] != m.APIVersion {
			t.Errorf("%s: %s of %s", m.file, id, m.APIVersion)
		}
		if m.Kind != "Kustomization" && m.Metadata.Name == "" || seen[id] {
			t.Errorf("%s: %s has no name, or another one's", m.file, id)
		}
		seen[id] = true
		switch m.Kind {
		case "Deployment":
			checkDeployment(t, all, m)
		case "Service":
			checkService(t, all, m)
		case "PodDisruptionBudget":
			var s selector
			if err := m.Spec.Selector.Decode(&s); err != nil || len(pods(all, s.MatchLabels)) != 1 {
				t.Errorf("%s selects no pods: %v", id, err)
			}
		case "NetworkPolicy":
			if len(pods(all, m.Spec.PodSelector.MatchLabels)) != 1 {
				t.Errorf("%s selects no pods", id)
			}
		}
	}
	for _, id := range []string{"Deployment srs-proxy", "Deployment srs-origin", "Deployment redis", "Service srs-proxy", "Service srs-proxy-srt", "Service srs-proxy-system", "Service redis"} {
		if !seen[id] {
			t.Errorf("there is no %s", id)
		}
	}
}

func checkDeployment(t *testing.T, all []manifest, m manifest) {
	t.Helper()
	var s selector
	if err := m.Spec.Selector.Decode(&s); err != nil {
		t.Errorf("%s: selector: %v", m.Metadata.Name, err)
	}
	if found := pods(all, s.MatchLabels); len(found) != 1 || found[0].Metadata.Name != m.Metadata.Name {
		t.Errorf("%s selects the pods of %d Deployments", m.Metadata.Name, len(found))
	}
	// Kubernetes' own variables for Services look like settings of ours and of SRS.
	if links := m.Spec.Template.Spec.EnableServiceLinks; links == nil || *links {
		t.Errorf("%s: enableServiceLinks is not false", m.Metadata.Name)
	}
	volumes := make(map[string]bool)
	for _, v := range m.Spec.Template.Spec.Volumes {
		volumes[v.Name] = true
		if v.Secret.SecretName != "" {
			named(t, all, "Secret", v.Secret.SecretName)
		}
	}
	for _, c := range m.Spec.Template.Spec.Containers {
		checkContainer(t, all, m, c, volumes)
	}
}

func checkContainer(t *testing.T, all []manifest, m manifest, c container, volumes map[string]bool) {
	t.Helper()
	ports := make(map[string]bool)
	for _, p := range c.Ports {
		if ports[p.Name] || p.Name == "" || len(p.Name) > 15 || p.ContainerPort == 0 {
			t.Errorf("%s: port %+v", m.Metadata.Name, p)
		}
		ports[p.Name] = true
	}
	for _, v := range c.VolumeMounts {
		if !volumes[v.Name] {
			t.Errorf("%s: there is no volume %s", m.Metadata.Name, v.Name)
		}
	}
	for name, node := range c.Rest {
		if !strings.HasSuffix(name, "Probe") {
			continue
		}
		var p probe
		if err := node.Decode(&p); err != nil || p.HTTPGet.Port != "" && !ports[p.HTTPGet.Port] {
			t.Errorf("%s: %s: %+v, %v", m.Metadata.Name, name, p, err)
		}
	}
	for _, e := range c.Env {
		if ref := e.ValueFrom.SecretKeyRef; ref.Name != "" && named(t, all, "Secret", ref.Name).StringData[ref.Key] == "" {
			t.Errorf("%s: secret %s has no %s", m.Metadata.Name, ref.Name, ref.Key)
		}
	}
}

func checkService(t *testing.T, all []manifest, m manifest) {
	t.Helper()
	var labels map[string]string
	if err := m.Spec.Selector.Decode(&labels); err != nil {
		t.Fatal(err)
	}
	found := pods(all, labels)
	if len(found) != 1 {
		t.Fatalf("service %s selects %d Deployments", m.Metadata.Name, len(found))
	}
	for _, p := range m.Spec.Ports {
		i := slices.IndexFunc(found[0].Spec.Template.Spec.Containers[0].Ports, func(c containerPort) bool {
			return c.Name == p.TargetPort && protocolOf(c.Protocol) == protocolOf(p.Protocol)
		})
		if i < 0 {
			t.Errorf("service %s: no container has the port %s over %s", m.Metadata.Name, p.TargetPort, protocolOf(p.Protocol))
		}
	}
}

func protocolOf(s string) string {
	if s == "" {
		return "TCP"
	}
	return s
}

// flagsIn are the flags of a command line that has them as --name value.
func flagsIn(t *testing.T, args []string) map[string]string {
	t.Helper()
	flags := make(map[string]string)
	for ; len(args) >= 2; args = args[2:] {
		name, ok := strings.CutPrefix(args[0], "--")
		if !ok {
			break
		}
		flags[name] = args[1]
	}
	if len(args) > 0 {
		t.Errorf("left of the command line: %q", args)
	}
	return flags
}

// resolveDeployed reads settings as the program would: all of them must exist, and make sense.
func resolveDeployed(t *testing.T, flags, env map[string]string) *resolved {
	t.Helper()
	all := proxySettings("")
	for name := range flags {
		if settingNamed(name, all) == nil {
			t.Errorf("there is no flag --%s", name)
		}
	}
	for name := range env {
		ours := strings.HasPrefix(name, "PROXY_") || strings.HasPrefix(name, "SRS_")
		if ours && !slices.ContainsFunc(all, func(s setting) bool { return s.env == name }) {
			t.Errorf("there is no variable %s", name)
		}
	}
	cfg, err := resolve(proxySources(flags, env))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The proxy's settings are ours, its ports those that it listens on, and its end has the
// time that it takes.
func TestManifestOfTheProxy(t *testing.T) {
	all := manifests(t)
	m := named(t, all, "Deployment", "srs-proxy")
	pod := m.Spec.Template.Spec
	c := pod.Containers[0]
	if len(c.Args) == 0 || c.Args[0] != proxyCommand {
		t.Fatalf("args %q", c.Args)
	}
	dir := t.TempDir()
	for key, v := range named(t, all, "Secret", "srs-proxy").StringData {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(v+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	values := map[string]string{"HOST_IP": "192.0.2.7"}
	env := map[string]string{}
	for _, e := range c.Env {
		v := strings.ReplaceAll(e.Value, "/etc/srs-proxy", dir)
		for name, value := range values {
			v = strings.ReplaceAll(v, "$("+name+")", value)
		}
		if strings.Contains(v, "$(") {
			t.Errorf("%s: %s is not known there", e.Name, v)
		}
		env[e.Name] = v
	}
	cfg := resolveDeployed(t, flagsIn(t, c.Args[1:]), env)
	if cfg.Redis.Balancer != balancerRedis || len(cfg.Register.Tokens) != 1 || len(cfg.Candidates) != 1 {
		t.Errorf("balancer %s, %d tokens, candidates %v", cfg.Redis.Balancer, len(cfg.Register.Tokens), cfg.Candidates)
	}
	if rc, err := cfg.Redis.config(); err != nil || rc.Password == "" {
		t.Errorf("no password for Redis: %v", err)
	}
	if need := (cfg.ShutdownDelay + cfg.DrainTimeout + 5*time.Second).Seconds(); float64(pod.TerminationGracePeriodSeconds) < need+5 {
		t.Errorf("killed after %d s, which the end may need: %.0f s", pod.TerminationGracePeriodSeconds, need)
	}
	want := map[string]string{"rtmp": cfg.RTMP, "http": cfg.HTTP, "api": cfg.API, "srt": cfg.SRT, "webrtc": cfg.WebRTC, "webrtc-tcp": cfg.WebRTC, "system": cfg.SystemAPI}
	for _, p := range c.Ports {
		a, err := splitAddress(want[p.Name])
		if err != nil || a.port != p.ContainerPort || a.host == "127.0.0.1" {
			t.Errorf("port %s is %d, it listens on %s", p.Name, p.ContainerPort, want[p.Name])
		}
		delete(want, p.Name)
	}
	if len(want) > 0 {
		t.Errorf("listens where nobody gets to: %v", want)
	}
	var ready, live probe
	for name, p := range map[string]*probe{"readinessProbe": &ready, "livenessProbe": &live} {
		node := c.Rest[name]
		if err := node.Decode(p); err != nil {
			t.Error(err)
		}
	}
	if ready.HTTPGet.Path != "/readyz" || live.HTTPGet.Path != "/healthz" {
		t.Errorf("probes %+v %+v", ready, live)
	}
	system := named(t, all, "Service", "srs-proxy-system")
	if !system.Spec.PublishNotReadyAddresses {
		t.Error("the first origin finds no proxy: none is ready before there is one")
	}
	if s := named(t, all, "Service", "srs-proxy").Spec; s.ExternalTrafficPolicy != "Local" {
		t.Error("all clients of a node have one address")
	}
}

// Origins register at the proxies' Service, with the token in the path, and their config
// is SRS's.
func TestManifestOfOrigins(t *testing.T) {
	all := manifests(t)
	c := named(t, all, "Deployment", "srs-origin").Spec.Template.Spec.Containers[0]
	env := make(map[string]envVar)
	for _, e := range c.Env {
		env[e.Name] = e
	}
	system := named(t, all, "Service", "srs-proxy-system")
	if url := env["SRS_HEARTBEAT_URL"].Value; !strings.HasPrefix(url, "http://"+system.Metadata.Name+":12025/api/v1/srs/register/$(REGISTER_TOKEN)") ||
		env["REGISTER_TOKEN"].ValueFrom.SecretKeyRef.Key != "register-token" || env["SRS_DEVICE_IP"].ValueFrom.FieldRef.FieldPath != "status.podIP" {
		t.Errorf("registers at %s", url)
	}
	for _, file := range []string{kubernetesFolder + "/origin.conf", "deploy/srs/edge.conf"} {
		root, err := srsconf.ParseFile(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if len(root.Children) < 5 {
			t.Errorf("%s: %d directives", file, len(root.Children))
		}
		t.Run(filepath.Base(file), func(t *testing.T) { checkBySRS(t, file) })
	}
	kustomization, err := os.ReadFile(kubernetesFolder + "/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		Resources          []string
		ConfigMapGenerator []struct {
			Name  string
			Files []string
		} `yaml:"configMapGenerator"`
	}
	if err := yaml.Unmarshal(kustomization, &k); err != nil {
		t.Fatal(err)
	}
	for _, r := range k.Resources {
		if _, err := os.Stat(filepath.Join(kubernetesFolder, r)); err != nil {
			t.Error(err)
		}
	}
	if g := k.ConfigMapGenerator; len(g) != 1 || g[0].Name != "srs-origin" || !slices.Equal(g[0].Files, []string{"srs.conf=origin.conf"}) {
		t.Errorf("config maps %+v", g)
	}
}

// What kubectl makes of the folder: every object in the one namespace, and the origins'
// config under the name by which they mount it.
func TestManifestsRendered(t *testing.T) {
	out := kubectl(t, nil, "kustomize", kubernetesFolder).out
	rendered := make(map[string]map[string]any)
	for _, o := range objects(t, yaml.NewDecoder(bytes.NewReader(out))) {
		meta, _ := o["metadata"].(map[string]any)
		if o["kind"] != "Namespace" && meta["namespace"] != "srs-proxy" {
			t.Errorf("%v %v is in the namespace %v", o["kind"], meta["name"], meta["namespace"])
		}
		rendered[fmt.Sprint(o["kind"], " ", meta["name"])] = o
	}
	for _, m := range manifests(t) {
		if id := m.Kind + " " + m.Metadata.Name; m.Kind != "Kustomization" && rendered[id] == nil {
			t.Errorf("%s is not rendered", id)
		}
	}
	conf, err := os.ReadFile(kubernetesFolder + "/origin.conf")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for id, o := range rendered {
		name, ok := strings.CutPrefix(id, "ConfigMap ")
		if !ok {
			continue
		}
		data, _ := o["data"].(map[string]any)
		origin, err := yaml.Marshal(rendered["Deployment srs-origin"])
		if err != nil {
			t.Fatal(err)
		}
		found = data["srs.conf"] == string(conf) && strings.Contains(string(origin), "name: "+name+"\n")
	}
	if !found {
		t.Error("the origins mount another config than the one that is rendered")
	}
}

// kubectl knows the types of all that is deployed. What it cannot read of a value it says; a
// field that it has not is gone when it writes an object of pods again.
func TestManifestsHaveKubernetesTypes(t *testing.T) {
	const field = "terminationGracePeriodSeconds"
	rendered := kubectl(t, nil, "kustomize", kubernetesFolder).out
	for name, tt := range map[string]struct {
		in   []byte
		well bool
	}{
		"as it is":         {rendered, true},
		"an unknown field": {bytes.ReplaceAll(rendered, []byte(field), []byte("terminationGraceSeconds")), false},
		"a wrong type":     {bytes.ReplaceAll(rendered, []byte("maxUnavailable: 1"), []byte("maxUnavailable: {}")), false},
	} {
		t.Run(name, func(t *testing.T) {
			if !tt.well && bytes.Equal(tt.in, rendered) {
				t.Fatal("nothing was changed")
			}
			read := kubectl(t, tt.in, "set", "env", "--local", "-f", "-", "-o", "json", "ANY=thing")
			got := make(map[string]any)
			for _, o := range objects(t, json.NewDecoder(bytes.NewReader(read.out))) {
				meta, _ := o["metadata"].(map[string]any)
				got[fmt.Sprint(meta["name"])] = o
			}
			var wrong []string
			if strings.Contains(read.err, "unable to decode") {
				wrong = append(wrong, read.err)
			}
			for _, o := range objects(t, yaml.NewDecoder(bytes.NewReader(tt.in))) {
				if o["kind"] == "Deployment" {
					meta, _ := o["metadata"].(map[string]any)
					name := fmt.Sprint(meta["name"])
					wrong = append(wrong, lost(name, o, got[name])...)
				}
			}
			if (len(wrong) == 0) != tt.well {
				t.Errorf("wrong: %q", wrong)
			}
		})
	}
}

// objects are all documents of a text.
func objects(t *testing.T, dec interface{ Decode(any) error }) (all []map[string]any) {
	t.Helper()
	for {
		var o map[string]any
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
}

// lost are the fields that one value has and the other has not.
func lost(at string, from, to any) (all []string) {
	switch v := from.(type) {
	case map[string]any:
		got, ok := to.(map[string]any)
		if !ok && len(v) > 0 {
			return []string{at}
		}
		for name, field := range v {
			all = append(all, lost(at+"."+name, field, got[name])...)
		}
	case []any:
		got, _ := to.([]any)
		if len(got) < len(v) {
			return []string{at}
		}
		for i := range v {
			all = append(all, lost(fmt.Sprintf("%s[%d]", at, i), v[i], got[i])...)
		}
	default:
		// What is nothing need not be written.
		if to == nil && from != nil && !reflect.ValueOf(from).IsZero() {
			return []string{at}
		}
	}
	return all
}

// said is what a program printed.
type said struct {
	out []byte
	err string
}

// kubectl calls it where no cluster can be asked. That it ends with an error is for the
// caller to judge by what it says.
func kubectl(t *testing.T, in []byte, args ...string) said {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("kubectl is not installed, which reads the folder as a cluster gets it")
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HOME="+t.TempDir())
	cmd.Stdin = bytes.NewReader(in)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if len(out) == 0 && err != nil && in == nil {
		t.Fatalf("kubectl %s: %v\n%s", args[0], err, errs.String())
	}
	return said{out, errs.String()}
}

func checkBySRS(t *testing.T, file string) {
	binary := testkit.SRSBinary(t)
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-t", "-c", path)
	cmd.Dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(cmd.Dir, "objs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Two proxies on one machine: one unit, two files of settings, no port twice.
func TestSystemdProxies(t *testing.T) {
	unit, err := os.ReadFile("deploy/systemd/srs-proxy@.service")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stop time.Duration
	var command []string
	for line := range strings.Lines(string(unit)) {
		key, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "TimeoutStopSec":
			if stop, err = time.ParseDuration(v + "s"); err != nil {
				t.Fatal(err)
			}
		case "ExecStart":
			command = strings.Fields(strings.NewReplacer("%d", dir, "%i", "a").Replace(v))
		}
	}
	if len(command) < 2 || filepath.Base(command[0]) != "srs-proxy" || command[1] != proxyCommand {
		t.Fatalf("ExecStart=%q", command)
	}
	files, err := filepath.Glob("deploy/systemd/*.env")
	if err != nil || len(files) != 2 {
		t.Fatalf("%v %v", files, err)
	}
	used := make(map[int]string)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		env := make(map[string]string)
		for line := range strings.Lines(string(b)) {
			if name, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
				env[name] = v
			}
		}
		cfg := resolveDeployed(t, flagsIn(t, command[2:]), env)
		for _, addr := range []string{cfg.RTMP, cfg.HTTP, cfg.API, cfg.WebRTC, cfg.SRT, cfg.SystemAPI} {
			a, err := splitAddress(addr)
			if err != nil || used[a.port] != "" {
				t.Errorf("%s: port %d is that of %s too, %v", file, a.port, used[a.port], err)
			}
			used[a.port] = file
		}
		if cfg.Redis.Balancer != balancerRedis {
			t.Errorf("%s: they do not know of each other", file)
		}
		if need := cfg.ShutdownDelay + cfg.DrainTimeout + 5*time.Second; stop < need+5*time.Second {
			t.Errorf("%s: systemd kills after %s, which the end may need: %s", file, stop, need)
		}
	}
}
