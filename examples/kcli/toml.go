package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// printTOML prints a JSON object as TOML, a key a line in the order it has. What is null is left out, as TOML has no word for it; objects
// within are inline tables.
func printTOML(w io.Writer, indent string, object json.RawMessage) error {
	if len(bytes.TrimSpace(object)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return errors.Join(errors.New("the configuration is no JSON object"), err)
	}
	for d.More() {
		key, value, err := tomlMember(d)
		if err != nil {
			return err
		}
		if value != "" {
			fmt.Fprintf(w, "%s%s = %s\n", indent, key, value)
		}
	}
	_, err := d.Token()
	return err
}

// tomlMember reads a member of an object; the value is empty if it is null.
func tomlMember(d *json.Decoder) (key, value string, err error) {
	tok, err := d.Token()
	if err != nil {
		return "", "", err
	}
	key = tomlKey(tok.(string))
	value, err = tomlValue(d)
	return key, value, err
}

func tomlValue(d *json.Decoder) (string, error) {
	tok, err := d.Token()
	if err != nil {
		return "", err
	}
	switch tok := tok.(type) {
	case json.Delim:
		var parts []string
		for d.More() {
			key, value := "", ""
			if tok == '{' {
				key, value, err = tomlMember(d)
				key += " = "
			} else {
				value, err = tomlValue(d)
			}
			if err != nil {
				return "", err
			}
			if value != "" {
				parts = append(parts, key+value)
			}
		}
		if _, err := d.Token(); err != nil {
			return "", err
		}
		switch body := strings.Join(parts, ", "); {
		case tok == '[':
			return "[" + body + "]", nil
		case body == "":
			return "{}", nil
		default:
			return "{ " + body + " }", nil
		}
	case string:
		return tomlString(tok), nil
	case nil:
		return "", nil
	default:
		return fmt.Sprint(tok), nil
	}
}

func tomlKey(s string) string {
	for _, r := range s {
		if r != '_' && r != '-' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') {
			return tomlString(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

// tomlString writes a basic string (TOML 1.0).
func tomlString(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case !strconv.IsPrint(r):
			b = fmt.Appendf(b, `\U%08X`, r)
		default:
			b = append(b, string(r)...)
		}
	}
	return string(append(b, '"'))
}
