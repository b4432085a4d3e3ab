package main

import (
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"srs-proxy/runtime"
)

// developmentVersion is what a build without version control says of itself.
const developmentVersion = "devel"

// version is the module's version or, in a work tree, its commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return developmentVersion
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if revision == "" {
		return developmentVersion
	}
	return developmentVersion + "-" + revision + dirty
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: noArguments(func(*cli.Context) error {
			return printf(p.term.out, "srs-proxy %s (%s, %s)\n", version(), runtime.GoVersion(), runtime.Platform())
		}),
	}
}
