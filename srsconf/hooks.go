package srsconf

import "strings"

// Hook gives the URL that an origin is to call in the place of a hook's, which may be
// the same. With variables, SRS replaces [app] and the like in it before it calls.
type Hook func(url string, variables bool) string

// HookURLs are the URLs that the vhosts of a config have SRS call: those of http_hooks
// and the backends of forward.
func HookURLs(root *Directive) []string {
	var urls []string
	eachHook(root, func(url string, _ bool) string {
		urls = append(urls, url)
		return url
	})
	return urls
}

// eachHook replaces each hook's URL and tells whether one became another.
func eachHook(root *Directive, hook Hook) (changed bool) {
	replace := func(d *Directive, variables bool) {
		for i, url := range d.Args {
			d.Args[i] = hook(url, variables)
			changed = changed || d.Args[i] != url
		}
	}
	for _, vhost := range root.All("vhost") {
		for _, d := range vhost.Get("http_hooks").children() {
			if strings.HasPrefix(d.Name, "on_") {
				replace(d, d.Name == "on_hls_notify")
			}
		}
		if backend := vhost.Get("forward", "backend"); backend != nil {
			replace(backend, false)
		}
	}
	return changed
}

func (d *Directive) children() []*Directive {
	if d == nil {
		return nil
	}
	return d.Children
}
