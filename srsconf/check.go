package srsconf

import "context"

// Check runs `command... -t -c file` and returns the last lines of its output
// as error when it refuses the file. Command is the binary, and the words
// before the flags when there are any (srs-proxy origin).
func Check(ctx context.Context, command []string, file string) error { return errUnimplemented }

// WriteFile replaces a file at once: temporary file, fsync, rename.
func WriteFile(path string, data []byte) error { return errUnimplemented }
