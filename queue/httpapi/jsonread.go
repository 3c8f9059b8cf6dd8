package httpapi

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
)

// badRequest is an error of the client, with the status that says so.
type badRequest struct {
	status int
	text   string
}

func (e *badRequest) Error() string { return e.text }

// reader reads JSON of a known shape as a stream. Its methods panic with a *badRequest, which catch turns into an error.
type reader struct {
	dec  *jsontext.Decoder
	path []string
}

func newReader(r io.Reader) *reader { return &reader{dec: jsontext.NewDecoder(r)} }

func catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case *badRequest:
		*err = p
	default:
		panic(p)
	}
}

// syntax ends reading because of what the decoder says.
func (r *reader) syntax(err error) {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		r.shape("duplicate field")
	}
	if err == io.EOF {
		err = errors.New("EOF while parsing a value")
	}
	panic(&badRequest{400, "Failed to parse the request body as JSON: " + oneLine(strings.TrimPrefix(err.Error(), "jsontext: "))})
}

// shape ends reading because JSON is well-formed but not what it should be.
func (r *reader) shape(format string, args ...any) {
	s := "Failed to deserialize the JSON body into the target type: "
	if len(r.path) > 0 {
		s += strings.TrimPrefix(strings.Join(r.path, ""), ".") + ": "
	}
	panic(&badRequest{422, oneLine(s+fmt.Sprintf(format, args...)) + " at byte " + strconv.FormatInt(r.dec.InputOffset(), 10)})
}

func (r *reader) kind() jsontext.Kind { return r.dec.PeekKind() }

func (r *reader) token() jsontext.Token {
	t, err := r.dec.ReadToken()
	if err != nil {
		r.syntax(err)
	}
	return t
}

func (r *reader) skip() {
	if err := r.dec.SkipValue(); err != nil {
		r.syntax(err)
	}
}

// want reads the next token, which is of kind k.
func (r *reader) want(k jsontext.Kind, name string) jsontext.Token {
	if got := r.kind(); got != k && got != 0 {
		if got != '{' && got != '[' {
			r.token() // which may be malformed
		}
		r.shape("invalid type: %s, expected %s", describe(got), name)
	}
	return r.token()
}

func describe(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '{':
		return "map"
	case '[':
		return "sequence"
	}
	return "end of value"
}

func (r *reader) str() string { return r.want('"', "a string").String() }

// optional reads a string or null.
func (r *reader) optional(dst **string) {
	if r.kind() == 'n' {
		r.token()
		return
	}
	s := r.str()
	*dst = &s
}

// duration reads the text of a duration, a number of seconds, or null, which leaves dst as it is.
func (r *reader) duration(dst *mtakit.Duration) {
	var err error
	switch r.kind() {
	case 'n':
		r.token()
		return
	case '0':
		f, bad := strconv.ParseFloat(r.token().String(), 64)
		if *dst, err = mtakit.SecondsDuration(f); bad != nil {
			err = bad
		}
	default:
		*dst, err = mtakit.ParseDuration(r.want('"', "a duration").String())
	}
	if err != nil {
		r.shape("%v", err)
	}
}

// time reads a time (RFC 3339) or null.
func (r *reader) time(dst **time.Time) {
	if r.kind() == 'n' {
		r.token()
		return
	}
	s := r.str()
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.shape("invalid value: string %q, expected an RFC 3339 formatted date and time string", s)
	}
	*dst = &t
}

// uuid reads a UUID and writes it as all are written.
func (r *reader) uuid() string {
	s := r.str()
	id, err := mtakit.ParseID(s)
	if err != nil {
		r.shape("UUID parsing failed: %v", err)
	}
	return uuid.String(id)
}

func (r *reader) boolean() bool {
	if k := r.kind(); k == 't' {
		r.token()
		return true
	}
	r.want('f', "a boolean")
	return false
}

// field is a known field of an object, and what reads its value.
type field struct {
	name string
	read func()
}

// object reads an object of known fields. Others are an error, and so is the absence of one of the first required ones.
func (r *reader) object(what string, required int, fields ...field) {
	r.fields(what, required, fields, func(name string) {
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = "`" + f.name + "`"
		}
		r.shape("unknown field `%s`, expected one of %s", name, strings.Join(names, ", "))
	})
}

// lenient is object that passes over unknown fields.
func (r *reader) lenient(what string, required int, fields ...field) {
	r.fields(what, required, fields, func(string) { r.skip() })
}

func (r *reader) fields(what string, required int, fields []field, unknown func(name string)) {
	r.want('{', what)
	var seen uint64
	for r.kind() != '}' {
		name := r.token().String()
		i := 0
		for i < len(fields) && fields[i].name != name {
			i++
		}
		r.path = append(r.path, "."+name)
		if i == len(fields) {
			unknown(name)
		} else {
			fields[i].read()
			seen |= 1 << i
		}
		r.path = r.path[:len(r.path)-1]
	}
	r.token()
	for i, f := range fields[:required] {
		if seen&(1<<i) == 0 {
			r.shape("missing field `%s`", f.name)
		}
	}
}

// array reads an array; each reads an element.
func (r *reader) array(each func(i int)) {
	r.want('[', "a sequence")
	for i := 0; r.kind() != ']'; i++ {
		r.path = append(r.path, "["+strconv.Itoa(i)+"]")
		each(i)
		r.path = r.path[:len(r.path)-1]
	}
	r.token()
}

// each reads an object of any fields.
func (r *reader) each(read func(name string)) {
	r.want('{', "a map")
	for r.kind() != '}' {
		name := r.token().String()
		r.path = append(r.path, "."+name)
		read(name)
		r.path = r.path[:len(r.path)-1]
	}
	r.token()
}

// valueDepth is how deep values may be nested. Nobody prints deeper ones.
const valueDepth = 100

// mapOf reads an object of any values.
func (r *reader) mapOf() map[string]any {
	if r.kind() != '{' {
		r.want('{', "a map")
	}
	m, _ := r.value(0).(map[string]any)
	return m
}

// value reads any value. Whole numbers are int64 or uint64 as long as they fit, so that a large one is not rounded.
func (r *reader) value(depth int) any {
	if depth > valueDepth {
		r.shape("recursion limit exceeded")
	}
	switch t := r.token(); t.Kind() {
	case 't', 'f':
		return t.Bool()
	case '"':
		return t.String()
	case '0':
		s := t.String()
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			return u
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			r.shape("number out of range")
		}
		return f
	case '{':
		m := make(map[string]any)
		for r.kind() != '}' {
			name := r.token().String()
			m[name] = r.value(depth + 1)
		}
		r.token()
		return m
	case '[':
		l := []any{}
		for r.kind() != ']' {
			l = append(l, r.value(depth+1))
		}
		r.token()
		return l
	}
	return nil
}

// end checks that nothing follows.
func (r *reader) end() {
	if _, err := r.dec.ReadToken(); err == nil {
		r.syntax(errors.New("trailing characters"))
	} else if err != io.EOF {
		r.syntax(err)
	}
}
