package srsconf

// Directive is one directive of a config: a name, its arguments and, in
// braces, its children. The root has neither name nor arguments.
type Directive struct {
	Name     string
	Args     []string
	Children []*Directive
	Line     int
}

// Parse reads SRS's config syntax. Errors begin with "name:line: ".
func Parse(name string, text []byte) (*Directive, error) { return nil, errUnimplemented }

// Get walks down by names, the first child of each name; nil when there is
// none. All accessors work on a nil Directive.
func (d *Directive) Get(names ...string) *Directive { return nil }

// All children of that name.
func (d *Directive) All(name string) []*Directive { return nil }

// Arg is the i-th argument, or "".
func (d *Directive) Arg(i int) string { return "" }

// Value is the first argument of the directive that Get finds, or "".
func (d *Directive) Value(names ...string) string { return "" }

// On reports whether the directive that Get finds says "on"; def when there is none.
func (d *Directive) On(def bool, names ...string) bool { return def }

// Int is the first argument of the directive that Get finds as a number; def when there is none.
func (d *Directive) Int(def int, names ...string) int { return def }

// String writes the directive back as config text.
func (d *Directive) String() string { return "" }

// Vhosts are the names of the enabled vhosts, in order.
func Vhosts(d *Directive) []string { return nil }
