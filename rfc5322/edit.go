package rfc5322

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrBadField is wrapped by the errors about fields that a message must not have.
var ErrBadField = errors.New("not a header field")

// Prepend returns the header with the fields, in the order given, before all others. It is where trace fields and
// signatures go. A damaged header that begins with white space continues the last of them.
func (h Header) Prepend(fields ...Field) Header {
	out := make(Header, 0, h.grown(fields))
	for _, f := range fields {
		out = f.appendTo(out)
	}
	return append(out, h...)
}

// Append returns the header with the fields after all others.
func (h Header) Append(fields ...Field) Header {
	out := append(make(Header, 0, h.grown(fields)), h...)
	if len(h) > 0 && h[len(h)-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	for _, f := range fields {
		out = f.appendTo(out)
	}
	return out
}

// Remove returns the header without the fields of which drop says so. If there are none, it is h itself.
func (h Header) Remove(drop func(Field) bool) Header {
	out, changed := h, false
	pos := 0
	for f := range h.Fields() {
		switch d := drop(f); {
		case d && !changed:
			out, changed = append(make(Header, 0, len(h)), h[:pos]...), true
		case !d && changed:
			out = append(out, f...)
		}
		pos += len(f)
	}
	return out
}

// Replace returns the header with f in the place of the first field of that name; if there is none, f is appended.
// Further fields of the name stay.
func (h Header) Replace(f Field) Header {
	pos := 0
	for old := range h.Fields() {
		if old.Is(string(f.Name())) {
			out := append(make(Header, 0, len(h)+len(f)+2), h[:pos]...)
			return append(f.appendTo(out), h[pos+len(old):]...)
		}
		pos += len(old)
	}
	return h.Append(f)
}

func (h Header) grown(fields []Field) int {
	n := len(h) + 2
	for _, f := range fields {
		n += len(f) + 2
	}
	return n
}

// appendTo appends the field with a line end.
func (f Field) appendTo(h Header) Header {
	h = append(h, f...)
	if len(f) == 0 || f[len(f)-1] == '\n' {
		return h
	}
	return append(h, "\r\n"...)
}

// NewField makes a field of a name and a text in UTF-8: encoded (RFC 2047) if it is not plain ASCII, and folded. White space
// is collapsed, line ends included, so that no text can bring in another field. The error wraps [ErrBadField] and is about
// the name.
func NewField(name, text string) (Field, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	f := append(append(make(Field, 0, len(name)+len(text)+len(text)/64*3+4), name...), ": "...)
	return append(AppendText(f, text), "\r\n"...), nil
}

// RawField makes a field of a name and a value that is already encoded and folded. The error wraps [ErrBadField] if the
// value holds a NUL, a line end that is not CRLF followed by a space or tab, or a line of white space only, or if the name is not
// one. One CRLF at the end of the value is allowed.
func RawField(name, value string) (Field, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	f := append(append(make(Field, 0, len(name)+len(value)+4), name...), ": "...)
	f = append(f, value...)
	if !bytes.HasSuffix(f, []byte("\r\n")) {
		f = append(f, "\r\n"...)
	}
	if err := checkField(f); err != nil {
		return nil, fmt.Errorf("rfc5322: value of %s is %w: %v", name, ErrBadField, err)
	}
	return f, nil
}

// nameMax leaves room on the line for the longest word that AppendFolded writes.
const nameMax = 76

func checkName(name string) error {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("rfc5322: %.80q is the name of %w: it has the byte %q", name, ErrBadField, c)
		}
	}
	switch {
	case name == "":
		return fmt.Errorf("rfc5322: %w: the name is empty", ErrBadField)
	case len(name) > nameMax:
		return fmt.Errorf("rfc5322: %.80q is the name of %w: it has more than %d characters", name, ErrBadField, nameMax)
	}
	return nil
}

// checkField looks at a field that ends with CRLF.
func checkField(f Field) error {
	if bytes.IndexByte(f, 0) >= 0 {
		return errors.New("it has a NUL")
	}
	for first := true; len(f) > 0; first = false {
		line, rest, _ := bytes.Cut(f, []byte("\r\n"))
		switch {
		case bytes.ContainsAny(line, "\r\n"):
			return errors.New("it has a line end that is not CRLF")
		case !first && line == nil, !first && len(line) > 0 && line[0] != ' ' && line[0] != '\t':
			return errors.New("a line end is not followed by a space or tab")
		case !first && len(bytes.Trim(line, " \t")) == 0:
			return errors.New("a line is empty")
		}
		f = Field(rest)
	}
	return nil
}
