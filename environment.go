package main

import "os"

// This file is the program's only look at its environment variables.

func environment(name string) (string, bool) { return os.LookupEnv(name) }

// childEnvironment is what origins inherit, so that hooks and transcoders find
// what the operator gave them. The supervisor takes SRS's own variables out.
func childEnvironment() []string { return withoutServiceManager(os.Environ()) }
