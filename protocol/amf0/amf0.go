// Package amf0 reads and writes AMF0, the values of RTMP commands (Adobe's
// "Action Message Format -- AMF 0", 2007).
//
//	number  boolean  string  object  null  ECMA array  strict array ...
//	float64 bool     string  Object  nil   ECMAArray   []any
//
// The input is a stranger's: nesting and the number of values are bounded, and
// nothing is allocated by a length that the data does not back.
package amf0

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Bounds of one decoded message.
const (
	MaxDepth = 32
	MaxNodes = 1024
)

// Errors of decoding.
var (
	ErrShort    = errors.New("amf0: data ends inside a value")
	ErrTooDeep  = errors.New("amf0: nested deeper than 32")
	ErrTooMany  = errors.New("amf0: more than 1024 values")
	ErrMarker   = errors.New("amf0: unknown type marker")
	ErrEncoding = errors.New("amf0: value of a type that AMF0 does not have")
)

// Type markers (section 2.1).
const (
	markerNumber      = 0x00
	markerBoolean     = 0x01
	markerString      = 0x02
	markerObject      = 0x03
	markerNull        = 0x05
	markerUndefined   = 0x06
	markerReference   = 0x07
	markerECMAArray   = 0x08
	markerObjectEnd   = 0x09
	markerStrictArray = 0x0a
	markerDate        = 0x0b
	markerLongString  = 0x0c
	markerUnsupported = 0x0d
	markerXML         = 0x0f
	markerTypedObject = 0x10
)

// Undefined is the AMF0 undefined value; references and unsupported values decode
// to it as well.
type Undefined struct{}

// Date is milliseconds since the Unix epoch, UTC (section 2.13).
type Date float64

// Property is one member of an object.
type Property struct {
	Key   string
	Value any
}

// Object is an anonymous or typed object, in the order of the wire.
type Object []Property

// ECMAArray is an associative array; its members are those of an object.
type ECMAArray []Property

// Get returns the value under key, or nil.
func (o Object) Get(key string) any {
	for _, p := range o {
		if p.Key == key {
			return p.Value
		}
	}
	return nil
}

// Text returns the string under key, or "".
func (o Object) Text(key string) string {
	s, _ := o.Get(key).(string)
	return s
}

// AsObject returns the members of an Object or ECMAArray, and nil for any other value.
func AsObject(v any) Object {
	switch o := v.(type) {
	case Object:
		return o
	case ECMAArray:
		return Object(o)
	}
	return nil
}

// Decode reads values until the data ends. On an error it also returns the values
// before it.
func Decode(data []byte) ([]any, error) {
	d := decoder{data: data}
	var out []any
	for len(d.data) > 0 {
		v, err := d.value(0)
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

type decoder struct {
	data  []byte
	nodes int
}

func (d *decoder) take(n int) ([]byte, error) {
	if n > len(d.data) {
		return nil, ErrShort
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b, nil
}

func (d *decoder) value(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, ErrTooDeep
	}
	if d.nodes++; d.nodes > MaxNodes {
		return nil, ErrTooMany
	}
	m, err := d.take(1)
	if err != nil {
		return nil, err
	}
	switch m[0] {
	case markerNumber:
		return d.number()
	case markerBoolean:
		b, err := d.take(1)
		if err != nil {
			return nil, err
		}
		return b[0] != 0, nil
	case markerString:
		return d.text(2)
	case markerLongString, markerXML:
		return d.text(4)
	case markerObject:
		return d.properties(depth)
	case markerTypedObject:
		if _, err := d.text(2); err != nil { // the class name
			return nil, err
		}
		return d.properties(depth)
	case markerECMAArray:
		if _, err := d.take(4); err != nil { // the count is a hint only
			return nil, err
		}
		o, err := d.properties(depth)
		return ECMAArray(o), err
	case markerStrictArray:
		return d.strictArray(depth)
	case markerDate:
		n, err := d.number()
		if err != nil {
			return nil, err
		}
		_, err = d.take(2) // time zone: reserved, zero
		return Date(n), err
	case markerReference:
		_, err := d.take(2)
		return Undefined{}, err
	case markerNull:
		return nil, nil
	case markerUndefined, markerUnsupported:
		return Undefined{}, nil
	}
	return nil, fmt.Errorf("%w 0x%02x", ErrMarker, m[0])
}

func (d *decoder) number() (float64, error) {
	b, err := d.take(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

func (d *decoder) text(size int) (string, error) {
	b, err := d.take(size)
	if err != nil {
		return "", err
	}
	n := uint64(0)
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	if n > uint64(len(d.data)) {
		return "", ErrShort
	}
	b, err = d.take(int(n))
	return string(b), err
}

func (d *decoder) properties(depth int) (Object, error) {
	o := Object{}
	for {
		key, err := d.text(2)
		if err != nil {
			return nil, err
		}
		if key == "" && len(d.data) > 0 && d.data[0] == markerObjectEnd {
			d.data = d.data[1:]
			return o, nil
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o = append(o, Property{key, v})
	}
}

func (d *decoder) strictArray(depth int) ([]any, error) {
	b, err := d.take(4)
	if err != nil {
		return nil, err
	}
	a := []any{}
	for range binary.BigEndian.Uint32(b) {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	return a, nil
}

// Append encodes values onto dst: float64, int, bool, string, nil, Undefined,
// Date, Object, ECMAArray and []any.
func Append(dst []byte, values ...any) ([]byte, error) {
	var err error
	for _, v := range values {
		if dst, err = appendValue(dst, v, 0); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendValue(dst []byte, v any, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, ErrTooDeep
	}
	switch v := v.(type) {
	case float64:
		return appendNumber(append(dst, markerNumber), v), nil
	case int:
		return appendNumber(append(dst, markerNumber), float64(v)), nil
	case bool:
		if v {
			return append(dst, markerBoolean, 1), nil
		}
		return append(dst, markerBoolean, 0), nil
	case string:
		if len(v) > math.MaxUint16 {
			dst = binary.BigEndian.AppendUint32(append(dst, markerLongString), uint32(len(v)))
			return append(dst, v...), nil
		}
		return appendKey(append(dst, markerString), v), nil
	case nil:
		return append(dst, markerNull), nil
	case Undefined:
		return append(dst, markerUndefined), nil
	case Date:
		return append(appendNumber(append(dst, markerDate), float64(v)), 0, 0), nil
	case Object:
		return appendProperties(append(dst, markerObject), v, depth)
	case ECMAArray:
		dst = binary.BigEndian.AppendUint32(append(dst, markerECMAArray), uint32(len(v)))
		return appendProperties(dst, Object(v), depth)
	case []any:
		dst = binary.BigEndian.AppendUint32(append(dst, markerStrictArray), uint32(len(v)))
		var err error
		for _, e := range v {
			if dst, err = appendValue(dst, e, depth+1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	}
	return nil, fmt.Errorf("%w: %T", ErrEncoding, v)
}

func appendProperties(dst []byte, o Object, depth int) ([]byte, error) {
	var err error
	for _, p := range o {
		if len(p.Key) > math.MaxUint16 {
			return nil, fmt.Errorf("%w: key of %d bytes", ErrEncoding, len(p.Key))
		}
		if dst, err = appendValue(appendKey(dst, p.Key), p.Value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, 0, 0, markerObjectEnd), nil
}

func appendKey(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendNumber(dst []byte, n float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(n))
}
