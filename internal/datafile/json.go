package datafile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

type jsonReader struct {
	*source
	data []byte
	dec  *json.Decoder
	r    *Report
}

func parseJSON(src *source, data []byte, r *Report) *Value {
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && n == 1 {
			r.Errorf(src.place(i), "invalid UTF-8")
			return nil
		}
		i += n
	}
	j := &jsonReader{source: src, data: data, dec: json.NewDecoder(bytes.NewReader(data)), r: r}
	j.dec.UseNumber()
	v, err := j.value(0)
	if err == nil {
		at := j.next()
		if _, err = j.dec.Token(); err == io.EOF {
			err = nil
		} else if err == nil {
			r.Errorf(j.place(at), "text after the end of the value")
		}
	}
	if err != nil {
		j.report(err)
	}
	return v
}

// errTooDeep has been reported when it is returned.
var errTooDeep = errors.New("values are nested too deep")

func (j *jsonReader) report(err error) {
	var syntax *json.SyntaxError
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		j.r.Errorf(j.place(len(j.data)), "the file ends too early")
	case errors.As(err, &syntax):
		// The decoder counts from the token before if what follows cannot begin one.
		at := max(int(syntax.Offset)-1, j.next())
		j.r.Errorf(j.place(min(at, len(j.data))), "%v", err)
	}
}

// next is where the next token begins.
func (j *jsonReader) next() int {
	i := int(j.dec.InputOffset())
	for i < len(j.data) && bytes.IndexByte([]byte(" \t\r\n,:"), j.data[i]) >= 0 {
		i++
	}
	return i
}

// value reads one value; null is none. With an error it returns what it has so far.
func (j *jsonReader) value(depth int) (*Value, error) {
	v := &Value{Place: j.place(j.next())}
	tok, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Delim:
		if depth >= MaxDepth {
			j.r.Errorf(v.Place, "%v", errTooDeep)
			return nil, errTooDeep
		}
		if tok == '[' {
			v.Kind = Array
			err = j.items(v, depth)
		} else {
			v.Kind = Table
			err = j.entries(v, depth)
		}
		if err == nil {
			_, err = j.dec.Token()
		}
	case string:
		v.Kind, v.Str = String, tok
	case bool:
		v.Kind, v.Bool = Bool, tok
	case json.Number:
		v.Kind = Float
		if v.Int, err = strconv.ParseInt(tok.String(), 10, 64); err == nil {
			v.Kind = Int
		} else if strings.ContainsAny(tok.String(), ".eE") {
			v.Float, err = tok.Float64()
		}
		if err != nil {
			j.r.Errorf(v.Place, "the number %s is out of range", tok)
			err = nil
		}
	case nil:
		j.r.Errorf(v.Place, "null is not a value")
		v = nil
	}
	return v, err
}

func (j *jsonReader) items(v *Value, depth int) error {
	for j.dec.More() {
		item, err := j.value(depth + 1)
		if item != nil {
			v.Items = append(v.Items, item)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *jsonReader) entries(v *Value, depth int) error {
	for j.dec.More() {
		at := j.place(j.next())
		key, err := j.dec.Token()
		if err != nil {
			return err
		}
		e := Entry{Key: key.(string), Place: at}
		old := v.Get(e.Key)
		if old != nil {
			j.r.Errorf(at, "%s is already defined at %s", e.Key, old.Place)
		}
		if e.Value, err = j.value(depth + 1); e.Value != nil && old == nil {
			v.Put(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blankComments is data with comments turned into spaces, so that everything else stays in its place.
func blankComments(data []byte) []byte {
	out := bytes.Clone(data)
	blank := func(from, to int) {
		for i := from; i < to; i++ {
			if out[i] != '\n' && out[i] != '\r' {
				out[i] = ' '
			}
		}
	}
	for i := 0; i < len(out); {
		switch rest := out[i:]; {
		case rest[0] == '"':
			i++
			for i < len(out) && out[i] != '"' {
				if out[i] == '\\' {
					i++
				}
				i++
			}
			i++
		case rest[0] == '#' || bytes.HasPrefix(rest, []byte("//")):
			n := bytes.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			blank(i, i+n)
			i += n
		case bytes.HasPrefix(rest, []byte("/*")):
			n := bytes.Index(rest[2:], []byte("*/"))
			if n < 0 {
				return out // the reader will stop here and say so
			}
			blank(i, i+n+4)
			i += n + 4
		default:
			i++
		}
	}
	return out
}
