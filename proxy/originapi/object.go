package originapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Object is a JSON object with its members as they came: in their order, numbers as
// they were written, and those included that only another version of SRS knows.
type Object []Member

// Member is one of an Object.
type Member struct {
	Name  string
	Value json.RawMessage
}

// Get is a member's value.
func (o Object) Get(name string) (json.RawMessage, bool) {
	for _, m := range o {
		if m.Name == name {
			return m.Value, true
		}
	}
	return nil, false
}

// Set replaces a member, or adds it at the end. What cannot be JSON becomes null.
func (o *Object) Set(name string, value any) {
	raw, ok := value.(json.RawMessage)
	if !ok {
		raw = encode(value)
	}
	for i := range *o {
		if (*o)[i].Name == name {
			(*o)[i].Value = raw
			return
		}
	}
	*o = append(*o, Member{name, raw})
}

// encode is json.Marshal without its escapes for HTML: SRS has none either.
func encode(value any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return json.RawMessage("null")
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// Parse reads one object.
func Parse(text []byte) (Object, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var o Object
	err := members(dec, func(name string) error {
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		o = append(o, Member{name, value})
		return nil
	})
	return o, err
}

// Append writes the object behind b.
func (o Object) Append(b []byte) []byte {
	b = append(b, '{')
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, encode(m.Name)...)
		b = append(b, ':')
		b = append(b, m.Value...)
	}
	return append(b, '}')
}

// MarshalJSON is Append.
func (o Object) MarshalJSON() ([]byte, error) { return o.Append(nil), nil }

// Read takes an answer apart. What was read before an error is kept.
func (a *Answer) Read(body io.Reader, q Question) error {
	dec := json.NewDecoder(body)
	hasCode := false
	err := members(dec, func(name string) error {
		if name == q.List && q.List != "" {
			return a.readList(dec, q.Most)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if name == "code" {
			hasCode = true
			if err := json.Unmarshal(value, &a.Code); err != nil {
				return fmt.Errorf("code: %w", err)
			}
		}
		a.Body = append(a.Body, Member{name, value})
		return nil
	})
	if err == nil && !hasCode { // every answer of SRS's API has one
		return ErrNotJSON
	}
	return err
}

// readList keeps the first elements and passes over the others.
func (a *Answer) readList(dec *json.Decoder, most int) error {
	if err := delimiter(dec, '['); err != nil {
		return err
	}
	for dec.More() {
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			return err
		}
		if len(a.Items) < most {
			a.Items = append(a.Items, item)
		}
	}
	return delimiter(dec, ']')
}

// members calls each, which reads the value, for every member of the next object.
func members(dec *json.Decoder, each func(name string) error) error {
	if err := delimiter(dec, '{'); err != nil {
		return err
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name, ok := token.(string)
		if !ok {
			return ErrNotJSON
		}
		if err := each(name); err != nil {
			return err
		}
	}
	return delimiter(dec, '}')
}

func delimiter(dec *json.Decoder, want json.Delim) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return ErrNotJSON
	}
	return nil
}
