package main

import (
	"fmt"
	"strconv"
	"strings"
)

// template is a text with {n}, {conn} and {domain} in it.
type template []string // text and placeholders, these with their braces

// UnmarshalText reads a template.
func (t *template) UnmarshalText(b []byte) error {
	*t = nil
	for rest := string(b); rest != ""; {
		text, after, ok := strings.Cut(rest, "{")
		*t = append(*t, text)
		if !ok {
			break
		}
		name, after, _ := strings.Cut(after, "}")
		switch name {
		case "n", "conn", "domain":
			*t = append(*t, "{"+name+"}")
		default:
			return fmt.Errorf("%q: {%s} is not known, want {n}, {conn} or {domain}", b, name)
		}
		rest = after
	}
	if strings.ContainsAny(string(b), "<>\r\n ") {
		return fmt.Errorf("%q is not an address", b)
	}
	return nil
}

func (t template) append(dst []byte, n int64, conn int, domain string) []byte {
	for _, s := range t {
		switch s {
		case "{n}":
			dst = strconv.AppendInt(dst, n, 10)
		case "{conn}":
			dst = strconv.AppendInt(dst, int64(conn), 10)
		case "{domain}":
			dst = append(dst, domain...)
		default:
			dst = append(dst, s...)
		}
	}
	return dst
}

// size is a number of bytes, with k for 1024 and M for 1024 k.
type size int

// UnmarshalText reads a size.
func (s *size) UnmarshalText(b []byte) error {
	digits, unit := string(b), 1
	switch {
	case strings.HasSuffix(digits, "k"), strings.HasSuffix(digits, "K"):
		digits, unit = digits[:len(digits)-1], 1<<10
	case strings.HasSuffix(digits, "M"):
		digits, unit = digits[:len(digits)-1], 1<<20
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > 1<<30/unit {
		return fmt.Errorf("%q is not a number of bytes up to 1024M", b)
	}
	*s = size(n * unit)
	return nil
}
