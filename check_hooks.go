package main

import (
	"strings"

	"srs-proxy/srsconf"
)

// checkHooks: where the origins' hooks go.
func checkHooks(f *facts) []finding {
	switch h := f.setup.hooks; {
	case f.hookErr != nil:
		return []finding{fail("hooks", "%v", f.hookErr)}
	case h.sealer != nil:
		return []finding{ok("hooks", "are called through %s, where clients' own addresses are put in", h.addr)}
	}
	return nil
}

// securedVhosts are those whose `security` SRS follows.
func (s *setup) securedVhosts() []string {
	text, err := s.originConfig(0)
	if err != nil {
		return nil
	}
	root, err := srsconf.Parse("config of the first origin", text)
	if err != nil {
		return nil
	}
	var names []string
	for _, v := range root.All("vhost") {
		if v.On(false, "security", "enabled") {
			names = append(names, v.Arg(0))
		}
	}
	return names
}

// checkSecurity: SRS compares the addresses that it sees, and of RTMP and SRT clients
// it sees one that stands for the client.
func checkSecurity(f *facts) []finding {
	if len(f.secured) == 0 {
		return nil
	}
	return []finding{warn("security", "of %s: SRS does not see the addresses of RTMP and SRT clients, so its rules for them do not match; say with --allow and --deny who may publish and play",
		strings.Join(f.secured, ", "))}
}
