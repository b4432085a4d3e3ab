package main

import (
	_ "embed"
)

// defaultTemplate is the config template that --template replaces.
//
//go:embed srs.tmpl.conf
var defaultTemplate string
