package main

import "os"

// environment is the program's only look at its environment variables.
func environment(name string) (string, bool) { return os.LookupEnv(name) }
