//go:build race

package main

// buildFlags makes the program under test look for races when the test does.
func buildFlags() []string { return []string{"-race"} }
