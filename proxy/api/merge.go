package api

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"srs-proxy/proxy/originapi"
)

// rule is how one field of several origins becomes one. A field without a rule is
// the first origin's: it is the machine's, or the same everywhere.
type rule int

const (
	first rule = iota
	sum
	most
	least
	every // true if it is everywhere
)

// merge makes one object of several, by the rules for its fields.
func merge(parts []originapi.Object, rules map[string]rule) originapi.Object {
	if len(parts) == 0 {
		return nil
	}
	out := make(originapi.Object, len(parts[0]))
	for i, m := range parts[0] {
		out[i] = m
		if r := rules[m.Name]; r != first {
			out[i].Value = combine(parts, m.Name, r)
		}
	}
	return out
}

// combine applies one rule. Values that are not of its kind are passed over.
func combine(parts []originapi.Object, name string, r rule) json.RawMessage {
	if r == every {
		all := true
		for _, p := range parts {
			v, ok := p.Get(name)
			all = all && ok && bytes.Equal(v, []byte("true"))
		}
		return json.RawMessage(strconv.FormatBool(all))
	}
	var total number
	any := false
	for _, p := range parts {
		v, _ := p.Get(name)
		n, ok := parseNumber(v)
		switch {
		case !ok:
		case !any:
			total, any = n, true
		case r == sum:
			total = total.plus(n)
		case r == most && total.less(n) || r == least && n.less(total):
			total = n
		}
	}
	return total.raw()
}

// member is the object that is the value of a member, if it is one.
func member(o originapi.Object, name string) originapi.Object {
	v, _ := o.Get(name)
	inner, err := originapi.Parse(v)
	if err != nil {
		return nil
	}
	return inner
}

// inner are the objects under one name of several.
func inner(parts []originapi.Object, name string) []originapi.Object {
	var found []originapi.Object
	for _, p := range parts {
		if o := member(p, name); len(o) > 0 {
			found = append(found, o)
		}
	}
	return found
}

// number is SRS's integer, or its number with two digits after the point.
type number struct {
	i       int64
	f       float64
	decimal bool
}

func parseNumber(raw json.RawMessage) (number, bool) {
	if i, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return number{i: i, f: float64(i)}, true
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return number{}, false
	}
	return number{f: f, decimal: true}, true
}

// plus adds; what is too much for an integer stays at the largest.
func (n number) plus(m number) number {
	s := number{i: n.i + m.i, f: n.f + m.f, decimal: n.decimal || m.decimal}
	if !s.decimal && (n.i > 0) == (m.i > 0) && (s.i > 0) != (n.i > 0) {
		s.i = math.MaxInt64
		if n.i < 0 {
			s.i = math.MinInt64
		}
	}
	return s
}

func (n number) less(m number) bool {
	if n.decimal || m.decimal {
		return n.f < m.f
	}
	return n.i < m.i
}

func (n number) raw() json.RawMessage {
	if n.decimal {
		return strconv.AppendFloat(nil, n.f, 'f', 2, 64)
	}
	return strconv.AppendInt(nil, n.i, 10)
}
