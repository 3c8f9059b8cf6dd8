package rfc5322

import (
	"encoding/base64"
	"strings"
)

const (
	qpLine     = 76 // characters of an encoded line (RFC 2045, 6.7, (5))
	base64Line = 76
	base64Step = base64Line / 4 * 3 // bytes that make a line
)

// AppendQuotedPrintable appends text in quoted-printable encoding (RFC 2045, 6.7) with lines of at most 76 characters. CRLF is a line
// end and stays; a CR or LF alone is encoded, and so is white space at the end of a line.
func AppendQuotedPrintable(dst []byte, text string) []byte {
	dst, _ = appendQP(dst, text, -1)
	return dst
}

// appendQP gives up when it has written more than limit bytes, unless that is negative.
func appendQP(dst []byte, text string, limit int) ([]byte, bool) {
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
		literal := c > ' ' && c < 0x7f && c != '=' || (c == ' ' || c == '\t') && !last
		width, room := 3, qpLine-1
		if literal {
			width = 1
		}
		if last {
			room = qpLine
		}
		if col+width > room {
			dst, col = append(dst, "=\r\n"...), 0
		}
		if literal {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', hex[c>>4], hex[c&15])
		}
		col += width
	}
	return dst, limit < 0 || len(dst)-start <= limit
}

// isIdentity says whether quoted-printable would leave text as it is.
func isIdentity(text string) bool {
	line := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c > ' ' && c < 0x7f && c != '=':
			line++
		case c == ' ' || c == '\t':
			if line++; i+1 == len(text) || text[i+1] == '\r' {
				return false
			}
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
			i, line = i+1, 0
			continue
		default:
			return false
		}
		if line > qpLine {
			return false
		}
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

// CanonicalLines returns text with every line ended by CRLF: a CR or an LF alone becomes one (RFC 2046, 4.1.1). It does not add one at the end.
func CanonicalLines(text string) string {
	bare := 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\n':
			bare++
		case text[i] == '\r' && i+1 < len(text) && text[i+1] == '\n':
			i++
		case text[i] == '\r':
			bare++
		}
	}
	if bare == 0 {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + bare)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
			i++
			fallthrough
		case c == '\r' || c == '\n':
			b.WriteString("\r\n")
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
