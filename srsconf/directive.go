package srsconf

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultVhost serves every host that no other vhost names.
const DefaultVhost = "__defaultVhost__"

// Directive is one directive of a config: a name, its arguments and, in
// braces, its children. The root has neither name nor arguments. Like SRS, it
// does not tell `hls;` from `hls {}`.
//
// All accessors work on a nil Directive, so that a path into a config needs
// no checks between its steps.
type Directive struct {
	Name     string
	Args     []string
	Children []*Directive
	Line     int

	file string // where Line is; for errors
}

// Pos is "file:line".
func (d *Directive) Pos() string { return fmt.Sprintf("%s:%d", d.file, d.Line) }

// Get walks down by names, taking the first child of each name as SRS does;
// nil when there is none.
func (d *Directive) Get(names ...string) *Directive {
	for _, name := range names {
		d = d.child(name)
	}
	return d
}

func (d *Directive) child(name string) *Directive {
	if d == nil {
		return nil
	}
	for _, c := range d.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// All children of that name, in order.
func (d *Directive) All(name string) []*Directive {
	if d == nil {
		return nil
	}
	var found []*Directive
	for _, c := range d.Children {
		if c.Name == name {
			found = append(found, c)
		}
	}
	return found
}

// Arg is the i-th argument, or "".
func (d *Directive) Arg(i int) string {
	if d == nil || i < 0 || i >= len(d.Args) {
		return ""
	}
	return d.Args[i]
}

// Value is the first argument of the directive that Get finds, or "".
func (d *Directive) Value(names ...string) string { return d.Get(names...).Arg(0) }

// On reads the switch that Get finds; def when there is none or it has no
// argument. What is neither "on" nor "off" is the default, as in SRS.
func (d *Directive) On(def bool, names ...string) bool {
	switch d.Value(names...) {
	case "on":
		return true
	case "off":
		return false
	}
	return def
}

// Int reads the number that Get finds; def when there is none.
func (d *Directive) Int(def int, names ...string) int {
	n, err := strconv.Atoi(d.Value(names...))
	if err != nil {
		return def
	}
	return n
}

// Vhost is the vhost of that name, or nil.
func (d *Directive) Vhost(name string) *Directive {
	for _, v := range d.All("vhost") {
		if v.Arg(0) == name {
			return v
		}
	}
	return nil
}

// Vhosts are the names of the enabled vhosts, in order. A host that is not
// among them belongs to DefaultVhost.
func Vhosts(d *Directive) []string {
	var names []string
	for _, v := range d.All("vhost") {
		if v.Arg(0) != "" && v.On(true, "enabled") {
			names = append(names, v.Arg(0))
		}
	}
	return names
}

// String writes the directive back as config text that Parse reads to the
// same tree.
func (d *Directive) String() string {
	if d == nil {
		return ""
	}
	var b strings.Builder
	if d.Name == "" {
		for _, c := range d.Children {
			c.write(&b, 0)
		}
	} else {
		d.write(&b, 0)
	}
	return b.String()
}

func (d *Directive) write(b *strings.Builder, depth int) {
	indent := strings.Repeat("    ", depth)
	b.WriteString(indent)
	b.WriteString(quoted(d.Name))
	for _, a := range d.Args {
		b.WriteByte(' ')
		b.WriteString(quoted(a))
	}
	if len(d.Children) == 0 {
		b.WriteString(";\n")
		return
	}
	b.WriteString(" {\n")
	for _, c := range d.Children {
		c.write(b, depth+1)
	}
	b.WriteString(indent + "}\n")
}
