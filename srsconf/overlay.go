package srsconf

import (
	"fmt"
	"slices"
	"strings"
)

// Overlay is what the user adds to every origin's config: vhosts, mostly.
//
// It is spread over the origins like this:
//
//   - A vhost is on all origins, with its http_hooks, hls, dash, dvr, forward,
//     transcode, exec, security... A published stream lives on one origin, so
//     what works per stream runs once by nature.
//   - ingest and stream_caster begin a stream by themselves, or listen on a
//     port of their own. They are on slot 0 alone: on all, every origin would
//     pull the same source and share one port. Their output should be the
//     proxy's public RTMP port (a number, not SRS's [port], which is the
//     origin's own), so that the stream is placed and found like any other.
//   - Relative paths are below the origin's work dir, so they are unique. An
//     absolute hls_path, dash_path... is shared by all origins.
//
// An overlay that declares the vhost __defaultVhost__ replaces the template's.
type Overlay struct{ root *Directive }

// overlayRoot are the directives that an overlay may have beside vhosts: what
// neither listens nor must differ between the origins, and what the template
// does not set. SRS takes the first of two, so a second would be lost in silence.
var overlayRoot = []string{
	"vhost", "stream_caster",
	"circuit_breaker", "empty_ip_ok", "ff_log_level", "pithy_print_ms", "stats", "tcmalloc_release_rate",
	"tencentcloud_apm", "tencentcloud_cls", "threads", "utc_time",
}

// LoadOverlay reads an overlay file and what it includes; "" gives an empty overlay.
func LoadOverlay(path string) (*Overlay, error) {
	if path == "" {
		return &Overlay{}, nil
	}
	root, err := ParseFile(path)
	if err != nil {
		return nil, fmt.Errorf("vhost overlay: %w", err)
	}
	if err := checkOverlay(root); err != nil {
		return nil, fmt.Errorf("vhost overlay: %w", err)
	}
	return &Overlay{root: root}, nil
}

func checkOverlay(root *Directive) error {
	for _, d := range root.Children {
		if !slices.Contains(overlayRoot, d.Name) {
			return fmt.Errorf("%s: %s cannot be in an overlay, which holds vhosts and %s; the rest belongs in a template",
				d.Pos(), d.Name, strings.Join(overlayRoot[1:], ", "))
		}
	}
	return onlyOnce(root)
}

// For is the overlay's text for one slot.
func (o *Overlay) For(slot int) string {
	if o == nil || o.root == nil {
		return ""
	}
	if slot == 0 {
		return o.root.String()
	}
	return without(without(o.root, "stream_caster"), "vhost", "ingest").String()
}

// Vhosts are the names of the enabled vhosts of the overlay.
func (o *Overlay) Vhosts() []string {
	if o == nil {
		return nil
	}
	return Vhosts(o.root)
}

// without is a copy of the tree that lacks what the path of names leads to.
func without(d *Directive, path ...string) *Directive {
	c := *d
	c.Children = nil
	for _, child := range d.Children {
		switch {
		case child.Name != path[0]:
			c.Children = append(c.Children, child)
		case len(path) > 1:
			c.Children = append(c.Children, without(child, path[1:]...))
		}
	}
	return &c
}
