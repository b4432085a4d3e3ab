package main

// key is a key that was pressed: a character, or the name of another one.
type key string

const (
	keyUp       key = "up"
	keyDown     key = "down"
	keyLeft     key = "left"
	keyRight    key = "right"
	keyPageUp   key = "page up"
	keyPageDown key = "page down"
	keyHome     key = "home"
	keyEnd      key = "end"
	keyEnter    key = "enter"
	keyTab      key = "tab"
	keyBackTab  key = "back tab"
	keyCtrlC    key = "ctrl-c"
	keyCtrlL    key = "ctrl-l"
	keyCtrlZ    key = "ctrl-z"
)

// keyDecoder turns what a terminal sends into keys. A key may be several bytes
// (ECMA-48, 5.4: ESC [ parameters final; ESC O final in application mode), and
// those may come in pieces.
type keyDecoder struct {
	pending []byte // of a sequence that is not complete, from its ESC on
}

// maxSequence is more than any key sends; what follows of a longer one is
// swallowed to its end.
const maxSequence = 16

// feed takes bytes and returns the keys that they complete. Unknown ones are
// left out.
func (d *keyDecoder) feed(b []byte) []key {
	var keys []key
	for _, c := range b {
		if k := d.next(c); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

func (d *keyDecoder) next(c byte) key {
	if c == 0x1b {
		d.pending = append(d.pending[:0], c)
		return ""
	}
	if len(d.pending) == 0 || c < ' ' { // a control character breaks a sequence off
		d.pending = d.pending[:0]
		return plainKey(c)
	}
	if len(d.pending) < maxSequence {
		d.pending = append(d.pending, c)
	}
	if len(d.pending) == 2 && (c == '[' || c == 'O') {
		return ""
	}
	// Parameters and intermediates are 0x20 to 0x3f, a final is 0x40 to 0x7e. With
	// anything but [ or O after it, ESC stands for Alt, which no key here uses.
	if len(d.pending) > 2 && c >= 0x20 && c < 0x40 {
		return ""
	}
	sequence := string(d.pending[1:])
	d.pending = d.pending[:0]
	return sequenceKey(sequence)
}

func plainKey(c byte) key {
	switch {
	case c == '\r' || c == '\n':
		return keyEnter
	case c == '\t':
		return keyTab
	case c == 'C'-'@':
		return keyCtrlC
	case c == 'L'-'@':
		return keyCtrlL
	case c == 'Z'-'@':
		return keyCtrlZ
	case c >= ' ' && c < 0x7f:
		return key(c)
	}
	return ""
}

func sequenceKey(s string) key {
	switch s {
	case "[A", "OA":
		return keyUp
	case "[B", "OB":
		return keyDown
	case "[C", "OC":
		return keyRight
	case "[D", "OD":
		return keyLeft
	case "[H", "OH", "[1~", "[7~":
		return keyHome
	case "[F", "OF", "[4~", "[8~":
		return keyEnd
	case "[5~":
		return keyPageUp
	case "[6~":
		return keyPageDown
	case "[Z":
		return keyBackTab
	}
	return ""
}
