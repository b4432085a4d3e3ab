// Package srsconf makes and reads the configuration files of SRS origins.
//
//	port plan ──┐
//	version   ──┼─> Params ─> Template.Render ─> conf text ─> WriteFile ─> Check (srs -t -c)
//	overlay   ──┘                                   │
//	                                                └─> Parse ─> Directive tree ─> Vhosts, paths
//
// It starts no origin and holds no port: it computes what the supervisor and
// the built-in origin need, and all of it is a pure function of its input but
// for the few calls that say otherwise (DetectVersion, Check, LoadOverlay,
// WriteFile).
package srsconf
