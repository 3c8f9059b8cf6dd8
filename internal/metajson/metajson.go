// Package metajson reads the JSON of metadata without rounding its numbers: applications number things in 64 bits.
package metajson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
)

// Parse reads one value, with the types that encoding/json gives to any; but a whole number that a float64 can't hold is an int64, or a uint64.
func Parse(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("metajson: something follows the value")
	}
	return exact(v)
}

// exact is v with its numbers made values.
func exact(v any) (_ any, err error) {
	switch v := v.(type) {
	case json.Number:
		return number(string(v))
	case []any:
		for i := range v {
			if v[i], err = exact(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = exact(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

func number(s string) (any, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		if f := float64(i); f >= 1<<63 || int64(f) != i {
			return i, nil
		}
	} else if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		if f := float64(u); f >= 1<<64 || uint64(f) != u {
			return u, nil
		}
	}
	return strconv.ParseFloat(s, 64)
}

// Map is an object that is read as Parse reads it.
type Map map[string]any

// UnmarshalJSON implements json.Unmarshaler.
func (m *Map) UnmarshalJSON(b []byte) error {
	v, err := Parse(b)
	if err != nil {
		return err
	}
	object, ok := v.(map[string]any)
	if !ok && v != nil {
		return errors.New("metajson: want an object")
	}
	*m = object
	return nil
}
