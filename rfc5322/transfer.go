package rfc5322

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
)

const (
	qpLine     = 76 // characters of an encoded line (RFC 2045, 6.7, (5))
	base64Line = 76
	base64Step = base64Line / 4 * 3 // bytes that make a line
)

// AppendQuotedPrintable appends text in quoted-printable encoding (RFC 2045, 6.7) with lines of at most 76 characters. CRLF is a line
// end and stays; a CR or LF alone is encoded, and so is white space at the end of a line.
func AppendQuotedPrintable(dst, text []byte) []byte {
	dst, _ = appendQP(dst, text, -1)
	return dst
}

// appendQP gives up when it has written more than limit bytes, unless that is negative.
func appendQP(dst, text []byte, limit int) ([]byte, bool) {
	const hex = "0123456789ABCDEF"
	start, col := len(dst), 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\r' && i+1 < len(text) && text[i+1] == '\n' {
			dst = append(dst, "\r\n"...)
			i, col = i+1, 0
			if limit >= 0 && len(dst)-start > limit {
				return dst, false
			}
			continue
		}
		last := i+1 == len(text) || text[i+1] == '\r' && i+2 < len(text) && text[i+2] == '\n'
		plain := literal[c] && !(last && (c == ' ' || c == '\t'))
		width, room := 3, qpLine-1
		if plain {
			width = 1
		}
		if last {
			room = qpLine
		}
		if col+width > room {
			dst, col = append(dst, "=\r\n"...), 0
		}
		if plain {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', hex[c>>4], hex[c&15])
		}
		col += width
	}
	return dst, limit < 0 || len(dst)-start <= limit
}

// literal has the bytes that stand for themselves within a line.
var literal = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '='
	}
	t['\t'] = true
	return t
}()

// isIdentity says whether quoted-printable would leave text as it is, whose lines end with CRLF.
func isIdentity(text []byte) bool {
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\r\n"))
		if n := len(line); n > qpLine || n > 0 && (line[n-1] == ' ' || line[n-1] == '\t') {
			return false
		}
		for _, c := range line {
			if !literal[c] {
				return false
			}
		}
		text = rest
	}
	return true
}

// AppendBase64 appends data in base64 (RFC 2045, 6.8) in lines of 76 characters, each ended with CRLF.
func AppendBase64(dst, data []byte) []byte {
	for len(data) > 0 {
		n := min(base64Step, len(data))
		dst = append(base64.StdEncoding.AppendEncode(dst, data[:n]), "\r\n"...)
		data = data[n:]
	}
	return dst
}

// base64Len is how much AppendBase64 appends for n bytes.
func base64Len(n int) int {
	return base64.StdEncoding.EncodedLen(n) + 2*((n+base64Step-1)/base64Step)
}

// AppendLines appends text with every line ended by CRLF: a CR or an LF alone becomes one (RFC 2046, 4.1.1). It does not add one at the end.
func AppendLines(dst []byte, text string) []byte {
	dst = slices.Grow(dst, len(text)+strings.Count(text, "\n"))
	for text != "" {
		line, rest, ended := strings.Cut(text, "\n")
		if ended {
			line = strings.TrimSuffix(line, "\r")
		}
		for {
			part, more, bare := strings.Cut(line, "\r")
			dst = append(dst, part...)
			if !bare {
				break
			}
			dst, line = append(dst, "\r\n"...), more
		}
		if ended {
			dst = append(dst, "\r\n"...)
		}
		text = rest
	}
	return dst
}
