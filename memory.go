package main

import (
	"context"

	"srs-proxy/runtime"
)

// trimHeap keeps the process small until ctx ends, unless whoever started it has said
// how Go is to collect its garbage.
func trimHeap(ctx context.Context, env func(name string) (string, bool)) error {
	if _, set := env("GOGC"); set {
		return nil
	}
	return runtime.TrimHeap(ctx)
}
