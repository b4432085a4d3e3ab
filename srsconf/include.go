package srsconf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Bounds of `include`: generous for a hand-written tree, small enough that a
// file which includes itself ends at once.
const (
	maxIncludeDepth = 8
	maxIncludeFiles = 256
)

// ParseFile parses a file and puts in place what it includes. A relative
// include is relative to the file it stands in. (SRS takes it from its working
// folder, which for an origin is nobody's choice: a template should include by
// absolute path.)
func ParseFile(path string) (*Directive, error) {
	in := includer{}
	root := &Directive{}
	if err := in.file(root, path, 0); err != nil {
		return nil, err
	}
	return root, nil
}

type includer struct{ files, bytes int }

func (in *includer) file(into *Directive, path string, depth int) error {
	if in.files++; in.files > maxIncludeFiles {
		return fmt.Errorf("more than %d files are included", maxIncludeFiles)
	}
	text, err := readBounded(path)
	if err != nil {
		return err
	}
	if in.bytes += len(text); in.bytes > maxSize {
		return fmt.Errorf("%s: with what it includes the config has more than %d bytes", path, maxSize)
	}
	root, err := Parse(path, text)
	if err != nil {
		return err
	}
	return in.expand(into, root.Children, filepath.Dir(path), depth)
}

// expand moves directives under a parent, the included files' in place of the
// include.
func (in *includer) expand(into *Directive, from []*Directive, dir string, depth int) error {
	for _, d := range from {
		if d.Name != "include" {
			children := d.Children
			d.Children = nil
			into.Children = append(into.Children, d)
			if err := in.expand(d, children, dir, depth); err != nil {
				return err
			}
			continue
		}
		if len(d.Args) == 0 || len(d.Children) > 0 {
			return fmt.Errorf("%s: include takes file names", d.Pos())
		}
		if depth == maxIncludeDepth {
			return fmt.Errorf("%s: files include each other more than %d deep", d.Pos(), maxIncludeDepth)
		}
		for _, name := range d.Args {
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			if err := in.file(into, name, depth+1); err != nil {
				return fmt.Errorf("%s: include: %w", d.Pos(), err)
			}
		}
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err // names the path
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("%s has more than the %d bytes that are read", path, maxSize)
	}
	return text, nil
}
