package srsconf

import (
	"fmt"
	"strings"
)

// Bounds of a config file. SRS's own full.conf is 120 KB and 5 levels deep.
const (
	maxSize  = 4 << 20
	maxDepth = 32
)

// Parse reads SRS's config syntax as SRS reads it (SrsConfDirective::read_token):
//
//   - a directive is words up to `;`, or up to `{`, its children and `}`
//   - all its words are on one line
//   - `#` where a word could begin starts a comment
//   - a word in double or single quotes may hold blanks and ; { } #, has no
//     escapes, must end on its line and be followed by a space, `;` or `{`; an empty one is no word
//   - quotes inside a word are part of it
//
// `include` stays a directive: Parse opens no file, ParseFile does. Errors
// begin with "name:line: ".
func Parse(name string, text []byte) (*Directive, error) {
	p := &parser{name: name, text: text, line: 1}
	if len(text) > maxSize {
		return nil, p.errorf("the file has %d bytes, more than the %d that are read", len(text), maxSize)
	}
	root := &Directive{}
	if err := p.block(root, 0); err != nil {
		return nil, err
	}
	return root, nil
}

type parser struct {
	name string
	text []byte
	pos  int
	line int
}

// end says how a directive ended.
type end int

const (
	endFile  end = iota
	endEntry     // ;
	endOpen      // {
	endClose     // }
)

func (p *parser) block(parent *Directive, depth int) error {
	for {
		d, how, err := p.directive()
		switch {
		case err != nil:
			return err
		case how == endClose && depth == 0:
			return p.errorf(`unexpected "}"`)
		case how == endFile && depth > 0:
			return p.errorf(`unexpected end of file, "}" expected for %s of line %d`, parent.Name, parent.Line)
		case how == endClose || how == endFile:
			return nil
		}
		parent.Children = append(parent.Children, d)
		if how != endOpen {
			continue
		}
		if depth+1 > maxDepth {
			return p.errorf("%s is nested deeper than %d levels", d.Name, maxDepth)
		}
		if err := p.block(d, depth+1); err != nil {
			return err
		}
	}
}

// directive reads the words of one directive and what ends them.
func (p *parser) directive() (*Directive, end, error) {
	var words []string
	d := &Directive{file: p.name}
	for {
		if p.space() && len(words) > 0 {
			return nil, 0, p.at(d.Line).errorf(`unexpected end of line after %q, ";" or "{" expected`, words[len(words)-1])
		}
		if p.pos == len(p.text) {
			if len(words) > 0 {
				return nil, 0, p.errorf(`unexpected end of file, ";" or "}" expected`)
			}
			return nil, endFile, nil
		}
		switch c := p.text[p.pos]; c {
		case ';', '{':
			if len(words) == 0 {
				return nil, 0, p.errorf("unexpected %q", string(c))
			}
			p.pos++
			d.Name, d.Args = words[0], words[1:]
			if c == '{' {
				return d, endOpen, nil
			}
			return d, endEntry, nil
		case '}':
			if len(words) > 0 {
				return nil, 0, p.errorf(`unexpected "}"`)
			}
			p.pos++
			return nil, endClose, nil
		}
		line := p.line
		word, err := p.word()
		if err != nil {
			return nil, 0, err
		}
		if word == "" { // `""`
			continue
		}
		if len(words) == 0 {
			d.Line = line
		}
		words = append(words, word)
	}
}

// space skips blanks, line ends and comments, and reports whether it left the line.
func (p *parser) space() (newline bool) {
	comment := false
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == '\n' || c == '\r':
			comment, newline = false, true
			if c == '\n' {
				p.line++
			}
		case comment || c == ' ' || c == '\t':
		case c == '#':
			comment = true
		default:
			return newline
		}
	}
	return newline
}

func (p *parser) word() (string, error) {
	quote := p.text[p.pos]
	if quote == '"' || quote == '\'' {
		return p.quotedWord(quote)
	}
	start := p.pos
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ';' || c == '{':
			return string(p.text[start:p.pos]), nil
		case control(c):
			return "", p.errorf("control character %#02x", c)
		}
	}
	return "", p.errorf(`unexpected end of file, ";" or "}" expected`)
}

func (p *parser) quotedWord(quote byte) (string, error) {
	line := p.line
	p.pos++
	start := p.pos
	for ; ; p.pos++ {
		if p.pos == len(p.text) {
			return "", p.at(line).errorf("the quote %c is not closed", quote)
		}
		c := p.text[p.pos]
		if c == quote {
			break
		}
		if control(c) {
			return "", p.at(line).errorf("the quote %c is not closed on its line", quote)
		}
	}
	word := string(p.text[start:p.pos])
	p.pos++
	if p.pos < len(p.text) && !strings.ContainsRune(" \t\r\n;{", rune(p.text[p.pos])) {
		return "", p.errorf(`unexpected %q after a quoted word, a space, ";" or "{" expected`, string(p.text[p.pos]))
	}
	return word, nil
}

// at is the parser as it was on that line, for an error.
func (p *parser) at(line int) *parser { return &parser{name: p.name, line: line} }

func (p *parser) errorf(format string, args ...any) error {
	return &SyntaxError{Name: p.name, Line: p.line, Msg: redact(fmt.Sprintf(format, args...))}
}

// SyntaxError is what Parse does not understand, and where.
type SyntaxError struct {
	Name string
	Line int
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Msg) }

func control(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }
