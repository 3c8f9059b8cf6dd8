package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// What is printed as TOML is read by a reader of TOML as what it was, but for what is null.
func FuzzTOML(f *testing.F) {
	f.Add(`{"a":1,"b":"x\"\\\n\t\u0001é","c":[1,[true]],"d":{"e f":{}},"g":null,"":0.5,"h":[null,{"i":null}]}`)
	f.Add(`{"a":[]} x`)
	f.Add(`{"a":-1.5e3,"b":1e300}`)
	f.Fuzz(func(t *testing.T, object string) {
		var want map[string]any
		if !strings.HasPrefix(strings.TrimSpace(object), "{") || json.Unmarshal([]byte(object), &want) != nil || ambiguous(object) {
			return
		}
		var b strings.Builder
		if err := printTOML(&b, "  ", json.RawMessage(object)); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := toml.Unmarshal([]byte(b.String()), &got); err != nil {
			t.Fatalf("%s\nbecomes\n%s\n%v", object, &b, err)
		}
		if got == nil {
			got = map[string]any{}
		}
		if want := withoutNull(want); !reflect.DeepEqual(floats(got), want) {
			t.Fatalf("%s\nbecomes\n%s\nwhich is\n%#v, want\n%#v", object, &b, got, want)
		}
	})
}

// ambiguous says whether a text has what TOML can't have: integers of more than 64 bits, and a key twice, of which JSON takes the last.
func ambiguous(object string) bool {
	d := json.NewDecoder(strings.NewReader(object))
	d.UseNumber()
	var value func() bool
	value = func() bool {
		tok, err := d.Token()
		if n, ok := tok.(json.Number); ok && !strings.ContainsAny(n.String(), ".eE") {
			_, err = n.Int64()
		}
		if _, ok := tok.(json.Delim); !ok || err != nil {
			return err != nil
		}
		seen := map[string]bool{}
		for d.More() {
			if tok == json.Delim('{') {
				key, err := d.Token()
				if err != nil || seen[key.(string)] {
					return true
				}
				seen[key.(string)] = true
			}
			if value() {
				return true
			}
		}
		_, err = d.Token()
		return err != nil
	}
	return value()
}

// withoutNull is v without members and elements that are null.
func withoutNull(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			if e != nil {
				m[k] = withoutNull(e)
			}
		}
		return m
	case []any:
		list := []any{}
		for _, e := range v {
			if e != nil {
				list = append(list, withoutNull(e))
			}
		}
		return list
	}
	return v
}

// floats is v with all numbers as JSON has them.
func floats(v any) any {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case map[string]any:
		for k, e := range v {
			v[k] = floats(e)
		}
	case []any:
		for i, e := range v {
			v[i] = floats(e)
		}
	}
	return v
}
