package rfc5322

import (
	"fmt"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"
)

// AppendParam appends a parameter of a MIME field (RFC 2045, 5.1): a semicolon, a fold, and name="value". A value with anything but printable
// ASCII is percent-encoded UTF-8 (RFC 2231), and one that would make the line too long is split into sections. An empty value is left out. The name is a
// token.
func AppendParam(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	value = strings.ToValidUTF8(value, "\ufffd")
	mark, prefix := "", `"`
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		mark, prefix = "*", "UTF-8''"
	}
	encoded := func(s string) string { // of the first character of s
		_, n := utf8.DecodeRuneInString(s)
		switch c := s[0]; {
		case mark == "" && (c == '"' || c == '\\'):
			return `\` + s[:1]
		case mark == "" || isAttrChar(c):
			return s[:1]
		}
		return percentEncode(s[:n])
	}
	room := 74 - (len(name) + 4 + len(prefix))
	total := 0
	for s := value; s != "" && total <= room; {
		_, n := utf8.DecodeRuneInString(s)
		total += len(encoded(s))
		s = s[n:]
	}
	split := total > room
	for section := 0; value != ""; section++ {
		dst = append(append(dst, ";\r\n\t"...), name...)
		if split {
			dst = fmt.Appendf(dst, "*%d", section)
		}
		dst = append(append(dst, mark...), '=')
		if mark == "" || section == 0 {
			dst = append(dst, prefix...)
		}
		used := 0
		for value != "" {
			e := encoded(value)
			if split && used > 0 && used+len(e) > room {
				break
			}
			_, n := utf8.DecodeRuneInString(value)
			dst, value = append(dst, e...), value[n:]
			used += len(e)
		}
		if mark == "" {
			dst = append(dst, '"')
		}
	}
	return dst
}

func percentEncode(s string) string {
	b := make([]byte, 0, 12)
	for i := range len(s) {
		b = fmt.Appendf(b, "%%%02X", s[i])
	}
	return string(b)
}

// isAttrChar: RFC 2231, 7.
func isAttrChar(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=*'%`, c) < 0
}

// appendMediaType takes a value of Content-Type apart and appends it in our form, parameters by name. Those named in drop are left out.
func appendMediaType(dst []byte, value string, drop ...string) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(value)
	if err != nil || !strings.Contains(kind, "/") {
		return dst, fmt.Errorf("rfc5322: content type %.80q is %w: want type/subtype", value, ErrBadField)
	}
	if len(kind) > 255 {
		return dst, fmt.Errorf("rfc5322: content type %.80q is %w: it is too long", value, ErrBadField)
	}
	dst = append(dst, kind...)
	names := make([]string, 0, len(params))
	for n := range params {
		if !slices.Contains(drop, n) && len(n) <= nameMax {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		dst = AppendParam(dst, n, params[n])
	}
	return dst, nil
}
