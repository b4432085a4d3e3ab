package rtmp

import (
	"encoding/binary"
	"fmt"

	"srs-proxy/protocol/amf0"
)

// Command is an RTMP command (section 7.1.1): a name, a transaction, an object or
// null, and arguments.
type Command struct {
	Name          string
	TransactionID float64
	Object        any // amf0.Object, or nil for null or absent
	Args          []any
}

// ParseCommand decodes an AMF0 command message, or an AMF3 one in its usual form:
// a zero byte and AMF0 after it. Arguments after one that can't be decoded are
// left out.
func ParseCommand(m Message) (Command, error) {
	p := m.Payload
	if m.Type == TypeCommandAMF3 && len(p) > 0 && p[0] == 0 {
		p = p[1:]
	}
	values, err := amf0.Decode(p)
	c := Command{}
	if len(values) < 2 {
		return c, fmt.Errorf("%w: name and transaction expected: %w", ErrCommand, orShort(err))
	}
	var ok bool
	if c.Name, ok = values[0].(string); !ok {
		return c, fmt.Errorf("%w: name is a %T", ErrCommand, values[0])
	}
	if c.TransactionID, ok = values[1].(float64); !ok {
		return c, fmt.Errorf("%w: transaction is a %T", ErrCommand, values[1])
	}
	if len(values) > 2 {
		c.Object, c.Args = values[2], values[3:]
	}
	return c, nil
}

func orShort(err error) error {
	if err == nil {
		return amf0.ErrShort
	}
	return err
}

// Arg returns argument i, or nil.
func (c Command) Arg(i int) any {
	if i < len(c.Args) {
		return c.Args[i]
	}
	return nil
}

// Text returns argument i if it is a string.
func (c Command) Text(i int) (string, bool) {
	s, ok := c.Arg(i).(string)
	return s, ok
}

// Message encodes the command for a chunk stream and message stream.
func (c Command) Message(csid, streamID uint32) (Message, error) {
	values := append([]any{c.Name, c.TransactionID, c.Object}, c.Args...)
	p, err := amf0.Append(nil, values...)
	if err != nil {
		return Message{}, err
	}
	return Message{ChunkStreamID: csid, Type: TypeCommandAMF0, StreamID: streamID, Payload: p}, nil
}

// StatusMessage is onStatus (section 7.2.2), on the chunk stream that SRS uses.
// level is "status", "warning" or "error".
func StatusMessage(streamID uint32, level, code, description string) Message {
	info := amf0.Object{{Key: "level", Value: level}, {Key: "code", Value: code}, {Key: "description", Value: description}}
	// Strings in an object always encode.
	m, _ := Command{Name: "onStatus", Args: []any{info}}.Message(5, streamID)
	return m
}

// User control events (section 7.1.7).
const (
	EventStreamBegin = 0
	EventStreamEOF   = 1
)

// UserControlMessage tells of an event of a message stream.
func UserControlMessage(event uint16, streamID uint32) Message {
	p := binary.BigEndian.AppendUint16(nil, event)
	return Message{ChunkStreamID: 2, Type: TypeUserControl, Payload: binary.BigEndian.AppendUint32(p, streamID)}
}
