package main

import (
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
)

// pages serves the folder of --static-files, which a reload replaces while requests go
// on. No link leads out of it (os.Root).
type pages struct {
	root atomic.Pointer[os.Root]
}

// open takes a folder, in place of the one that there was. An error leaves that one.
func (p *pages) open(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("static files: %w", err)
	}
	p.swap(root)
	return nil
}

// swap closes the folder before. A request that is about to open a file there gets a 500
// at worst; files that are open stay so.
func (p *pages) swap(root *os.Root) {
	if old := p.root.Swap(root); old != nil {
		_ = old.Close()
	}
}

func (p *pages) close() { p.swap(nil) }

// ServeHTTP serves a file.
func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	root := p.root.Load()
	if root == nil {
		http.NotFound(w, r)
		return
	}
	http.FileServerFS(root.FS()).ServeHTTP(w, r)
}
