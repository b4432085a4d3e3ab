package supervisor

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// A place is what an operator calls an origin: origin-3. The process in it is a
// generation of the place, and for a while there are several:
//
//	origin-3     current ──────────▶ retiring ─▶ gone
//	origin-3.1           successor ─▶ current
//
// Each has an ID, a folder and ports of its own, all the way to the balancer,
// where a stream with a living publisher stays on the process that has it while
// new streams go to the other one. They share the place's CPUs.
//
// The number after the dot is the lowest that is free, so a place goes back and
// forth between two folders and its logs stay where somebody looks for them.

// newGeneration makes a slot for a place, next to those that there are: a free
// name, free ports and no process. It is in no list yet.
func (s *Supervisor) newGeneration(ctx context.Context, cfg *Config, index, places int, cpus runtime.CPUSet, others []*slot) (*slot, error) {
	gen := 0
	for slices.ContainsFunc(others, func(o *slot) bool { return o.index == index && o.gen == gen }) {
		gen++
	}
	ports, err := portsFor(ctx, cfg, index, places, others)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.id(index, gen), err)
	}
	return newSlot(s, cfg, birth{index: index, gen: gen, cpus: cpus, ports: ports}), nil
}

// portsFor finds ports that nobody has: those of the place, as long as no other
// generation has them, else spare ones after those of all places.
func portsFor(ctx context.Context, cfg *Config, index, places int, others []*slot) (srsconf.Ports, error) {
	lo, hi, err := runtime.EphemeralRange()
	if err != nil {
		return srsconf.Ports{}, err
	}
	taken := make(map[int]bool)
	for _, o := range others {
		for _, port := range o.params.Ports.List() {
			taken[port] = true
		}
	}
	fits := func(p srsconf.Ports) bool {
		return !slices.ContainsFunc(p.List(), func(port int) bool {
			return taken[port] || lo <= port && port <= hi || slices.Contains(cfg.Reserved, port)
		})
	}
	var busy error
	for k := index; ; k++ {
		p := cfg.Ports.Ports(k)
		if slices.Max(p.List()) > 65535 {
			break
		}
		if !fits(p) {
			// The next one.
		} else if err := proveFree(ctx, planned(cfg, p)); err == nil {
			return p, nil
		} else if busy == nil {
			busy = err
		}
		if k == index {
			k = max(index, places-1) // the last of the places' own: go on with the spare ones
		}
	}
	if busy != nil {
		return srsconf.Ports{}, fmt.Errorf("%w: no spare ports, the first of them because %w", ErrPortBusy, busy)
	}
	return srsconf.Ports{}, fmt.Errorf("%w: no spare ports outside of the ephemeral range %d-%d; choose a lower --port-base", ErrPortBusy, lo, hi)
}

// planned are the listeners that the ports are meant for, whatever the config
// will use of them.
func planned(cfg *Config, p srsconf.Ports) []srsconf.Listener {
	var all []srsconf.Listener
	for _, port := range p.List() {
		all = append(all, srsconf.Listener{Directive: "spare", Network: "tcp", Addr: cfg.listenAddr(port)})
	}
	for _, port := range []int{p.RTC, p.SRT} {
		all = append(all, srsconf.Listener{Directive: "spare", Network: "udp", Addr: cfg.listenAddr(port)})
	}
	return all
}

// listenAddr is where an origin would listen.
func (c Config) listenAddr(port int) netip.AddrPort {
	addr, err := netip.ParseAddr(c.Listen)
	if err != nil {
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

// prove writes a new slot's config, asks the program about it, and makes sure that
// nothing in it collides with the other processes of its place.
func (s *slot) prove(ctx context.Context, others []*slot) error {
	if err := s.writeConfig(); err != nil {
		return err
	}
	if clash := s.clash(others); clash != "" && !s.bare {
		// A stream_caster listens on a port of the operator's choice, on one process.
		// Until the old one is gone the place does without.
		s.bare = true
		s.params.Overlay = s.cfg.Overlay.For(s.index + 1)
		s.log.Warn("it starts without what its predecessor still has, and is replaced once more when that is gone", "listener", clash)
		if err := s.writeConfig(); err != nil {
			return err
		}
	}
	if clash := s.clash(others); clash != "" {
		return fmt.Errorf("%w: %s listens on %s as the process does that it should replace", ErrConfig, s.id, clash)
	}
	return s.check(ctx)
}

// clash is a listener that another process has too.
func (s *slot) clash(others []*slot) string {
	for _, o := range others {
		for _, l := range o.listeners {
			same := func(m srsconf.Listener) bool { return m.Network == l.Network && m.Addr.Port() == l.Addr.Port() }
			if slices.ContainsFunc(s.listeners, same) {
				return fmt.Sprintf("%s %d (%s)", l.Network, l.Addr.Port(), l.Directive)
			}
		}
	}
	return ""
}

// sameAs says that a config would give the slot's process nothing new.
func (s *slot) sameAs(cfg *Config, cpus runtime.CPUSet) (bool, error) {
	text, err := cfg.Template.Render(cfg.params(birth{index: s.index, gen: s.gen, cpus: cpus, ports: s.params.Ports}))
	if err != nil {
		return false, fmt.Errorf("%w: %s: %w", ErrConfig, s.id, err)
	}
	return hashOf(text) == s.configHash &&
		slices.Equal(s.cfg.Command, cfg.Command) &&
		s.cfg.Program == cfg.Program &&
		s.cfg.Ports == cfg.Ports &&
		s.cfg.Nofile == cfg.Nofile &&
		s.cpuSet.Equal(cpus) &&
		s.cfg.sameLimits(cfg, cpus) &&
		slices.Equal(srsconf.CleanEnv(s.cfg.Env), srsconf.CleanEnv(cfg.Env)), nil
}

// tidy takes what nobody needs any more out of the folder of a slot that is gone:
// live media, of which players keep a minute. Logs stay, and so does what was
// recorded.
func (s *slot) tidy() {
	folders := s.mediaFolders()
	_ = os.Remove(s.params.PIDFile)
	_ = os.Remove(s.configFile)
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && isSegment(d.Name()) {
				_ = os.Remove(path)
			}
			return nil // what cannot be read stays
		})
	}
	removeEmpty(s.params.WorkDir)
}

// mediaFolders are those below the work dir in which the origin kept HLS and DASH.
func (s *slot) mediaFolders() []string {
	folders := []string{filepath.Join(s.params.WorkDir, "objs/nginx/html")} // SRS's default
	root, err := srsconf.ParseFile(s.configFile)
	if err != nil {
		return folders
	}
	var collect func(d *srsconf.Directive)
	collect = func(d *srsconf.Directive) {
		if path := d.Arg(0); d.Name == "hls_path" || d.Name == "dash_path" {
			if !filepath.IsAbs(path) {
				path = filepath.Join(s.params.WorkDir, path)
			}
			if rel, err := filepath.Rel(s.params.WorkDir, path); err == nil && filepath.IsLocal(rel) {
				folders = append(folders, path)
			}
		}
		for _, child := range d.Children {
			collect(child)
		}
	}
	collect(root)
	return folders
}

// removeEmpty removes the folders below one in which nothing is left, and itself.
func removeEmpty(dir string) {
	var folders []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			folders = append(folders, path)
		}
		return nil
	})
	for _, f := range slices.Backward(folders) {
		_ = os.Remove(f) // it fails where something is left
	}
}

// isSegment tells live media from recordings, which SRS makes as flv or mp4.
func isSegment(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".m3u8", ".ts", ".m4s", ".mpd":
		return true
	}
	return name == "init.mp4"
}
