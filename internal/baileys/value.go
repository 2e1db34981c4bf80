package baileys

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A value is what a Node program has stored, wherever it was: nil, bool, int64, float64, string, []byte,
// []any or object.

// object is a JavaScript object. Its order is kept, as it tells which of several things came last.
type object []field

type field struct {
	name  string
	value any
}

func (o object) get(name string) any {
	for _, f := range o {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

func (o object) has(name string) bool {
	for _, f := range o {
		if f.name == name {
			return true
		}
	}
	return false
}

// object is the field's value where it is an object, and an empty one otherwise.
func (o object) object(name string) object {
	inner, _ := o.get(name).(object)
	return inner
}

// parse reads JSON.
func parse(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := next(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the end")
	}
	return v, nil
}

func next(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Number:
		if n, err := token.Int64(); err == nil {
			return n, nil
		}
		return token.Float64()
	case json.Delim:
		if token == '[' {
			list := []any{}
			for d.More() {
				v, err := next(d)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err := d.Token()
			return list, err
		}
		o := object{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := next(d)
			if err != nil {
				return nil, err
			}
			o = append(o, field{name.(string), v})
		}
		_, err := d.Token()
		return o, err
	}
	return token, nil
}

// fromBSON makes a value of what the driver gives.
func fromBSON(v any) any {
	switch v := v.(type) {
	case bson.D:
		o := make(object, len(v))
		for i, e := range v {
			o[i] = field{e.Key, fromBSON(e.Value)}
		}
		return o
	case bson.A:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = fromBSON(e)
		}
		return list
	case bson.Binary:
		return v.Data
	case int32:
		return int64(v)
	case int64, float64, string, bool:
		return v
	}
	return nil
}

// maxBytes bounds how long a byte string may be that is written as single numbers.
const maxBytes = 1 << 20

// toBytes reads a byte string in any of the forms that Node programs write: BSON's binary; Buffer's own
// JSON, with base64 or numbers; a typed array's JSON, whose fields are indices; numbers; base64.
func toBytes(v any) ([]byte, bool) {
	switch v := v.(type) {
	case []byte:
		return v, true
	case string:
		return fromBase64(v)
	case []any:
		b := make([]byte, len(v))
		for i, e := range v {
			n, ok := e.(int64)
			if !ok || n < 0 || n > math.MaxUint8 {
				return nil, false
			}
			b[i] = byte(n)
		}
		return b, true
	case object:
		if v.get("type") == "Buffer" || v.get("buffer") == true {
			if v.has("data") {
				return toBytes(v.get("data"))
			}
			return toBytes(v.get("value"))
		}
		if binary, ok := v.get("$binary").(object); ok {
			return toBytes(binary.get("base64"))
		}
		list, ok := v.list()
		if !ok {
			return nil, false
		}
		return toBytes(list)
	}
	return nil, false
}

// list reads an object whose fields are the indices of a list.
func (o object) list() ([]any, bool) {
	if len(o) == 0 || len(o) > maxBytes {
		return nil, false
	}
	list := make([]any, len(o))
	for _, f := range o {
		i, err := strconv.Atoi(f.name)
		if err != nil || i < 0 || i >= len(list) || list[i] != nil {
			return nil, false
		}
		list[i] = f.value
	}
	return list, true
}

func fromBase64(text string) ([]byte, bool) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	return b, err == nil
}

// toInt reads a whole number: as such, as text, or as the two halves that long.js keeps.
func toInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	case object:
		low, ok := v.get("low").(int64)
		high, also := v.get("high").(int64)
		return high<<32 | low&math.MaxUint32, ok && also
	}
	return 0, false
}

// toText reads a text: as such, or spread out into its characters as an update by {...text} leaves it.
func toText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case object:
		list, ok := v.list()
		var text strings.Builder
		for _, e := range list {
			part, is := e.(string)
			ok = ok && is
			text.WriteString(part)
		}
		return text.String(), ok
	}
	return "", false
}

// sized reads a byte string that must have a length.
func sized(what string, v any, length int) ([]byte, error) {
	b, ok := toBytes(v)
	if !ok {
		return nil, fmt.Errorf("%s is missing", what)
	}
	if len(b) != length {
		return nil, fmt.Errorf("%s has %d bytes, not %d", what, len(b), length)
	}
	return b, nil
}

// public reads a public key, with or without the byte that gives its kind, and returns it without.
func public(what string, v any) ([]byte, error) {
	b, ok := toBytes(v)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s is missing", what)
	case len(b) == 33 && b[0] == 5:
		return b[1:], nil
	case len(b) == 32:
		return b, nil
	}
	return nil, fmt.Errorf("%s is not a public key", what)
}

// counter reads a number of at most 31 bits, which is -1 at the least.
func counter(what string, v any) (int64, error) {
	n, ok := toInt(v)
	if !ok || n < -1 || n > math.MaxInt32 {
		return 0, fmt.Errorf("%s is not a counter", what)
	}
	return n, nil
}
