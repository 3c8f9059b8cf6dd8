package rfc5322

import "bytes"

// Field is one header field: name, colon, value with its folded lines, and the line end, which only the last field of a
// damaged message lacks.
type Field []byte

// Name is the name as it is spelled in the message, without white space before the colon. A line without a colon is a name
// with an empty value if it could be one. It is nil for a line that is no field.
func (f Field) Name() []byte {
	n := f.nameLen()
	if n == 0 {
		return nil
	}
	return f[:n:n]
}

// nameLen is 0 for a line that is no field.
func (f Field) nameLen() int {
	n := 0
	for n < len(f) && f[n] > ' ' && f[n] < 0x7f && f[n] != ':' {
		n++
	}
	i := n
	for i < len(f) && (f[i] == ' ' || f[i] == '\t') {
		i++
	}
	if i < len(f) && f[i] != ':' && lineEnd(f[i:]) == 0 {
		return 0
	}
	return n
}

// Is says whether the field has that name, which is not empty and consists of printable ASCII characters without a colon.
func (f Field) Is(name string) bool {
	if len(f) < len(name) {
		return false
	}
	for i := range len(name) {
		a, b := f[i], name[i]
		if a != b && (a|0x20 != b|0x20 || a|0x20 < 'a' || a|0x20 > 'z') {
			return false
		}
	}
	return f.nameLen() == len(name)
}

// Value is the value as it is in the message: what follows the colon and the spaces after it, folds included, without the
// final line end.
func (f Field) Value() []byte {
	i := bytes.IndexByte(f, ':')
	if i < 0 || f.nameLen() == 0 {
		return nil
	}
	v := f[i+1:]
	for len(v) > 0 && v[0] == ' ' {
		v = v[1:]
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(v, []byte("\n")), []byte("\r"))
}

// Text is the value for people and programs: unfolded, with white space at both ends removed, and with encoded words (RFC
// 2047) decoded. See [DecodeText].
func (f Field) Text() string { return DecodeText(f.Value()) }

// Named is for [Header.Remove]: it says of a field whether it has one of the names.
func Named(names ...string) func(Field) bool {
	return func(f Field) bool {
		for _, n := range names {
			if f.Is(n) {
				return true
			}
		}
		return false
	}
}
