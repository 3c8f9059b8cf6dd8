package rfc5322

import (
	"bytes"
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// DecodeText decodes unstructured text as it is in a header: folds and line ends become one space, white space at the ends and
// between two encoded words goes away, and encoded words (RFC 2047) become UTF-8. A word that is malformed or in a charset
// we do not know stays as it is; other bytes that are not UTF-8 stay too. Neighbouring words in one charset are joined before
// they are converted: some writers cut within a character.
func DecodeText(v []byte) string {
	v = bytes.Trim(v, " \t\r\n")
	if !bytes.ContainsAny(v, "\r\n\t") && !bytes.Contains(v, []byte("=?")) {
		return string(v)
	}
	out := make([]byte, 0, len(v))
	var (
		words   []byte // decoded but not yet converted
		raw     []byte // the same as it is in v, in case the conversion fails
		cset    string // of words; "" is none
		pending []byte // white space after words
	)
	flush := func() {
		if cset == "" {
			return
		}
		if u, ok := toUTF8(cset, words); ok {
			out = append(out, u...)
		} else {
			out = append(out, raw...)
		}
		cset, words, raw = "", nil, nil
	}
	for len(v) > 0 {
		if n := spaceLen(v); n > 0 {
			pending = append(pending[:0], foldedSpace(v[:n])...)
			v = v[n:]
			continue
		}
		n := bytes.IndexAny(v, " \t\r\n")
		if n < 0 {
			n = len(v)
		}
		token := v[:n]
		v = v[n:]
		for len(token) > 0 {
			i := bytes.Index(token, []byte("=?"))
			if i < 0 {
				i = len(token)
			}
			cs, text, n, ok := encodedWord(token[i:])
			if !ok { // up to the next candidate as it is
				flush()
				i = min(i+2, len(token))
				out = append(append(out, pending...), token[:i]...)
				pending, token = pending[:0], token[i:]
				continue
			}
			if i > 0 {
				flush()
				out = append(append(out, pending...), token[:i]...)
				pending = pending[:0]
			}
			if cset == "" {
				out = append(out, pending...)
			} else if !strings.EqualFold(cs, cset) {
				flush()
			} else {
				raw = append(raw, pending...)
			}
			pending = pending[:0]
			cset, words = cs, append(words, text...)
			raw = append(raw, token[i:i+n]...)
			token = token[i+n:]
		}
	}
	flush()
	return string(out)
}

func spaceLen(b []byte) int {
	n := 0
	for n < len(b) && (b[n] == ' ' || b[n] == '\t' || b[n] == '\r' || b[n] == '\n') {
		n++
	}
	return n
}

// foldedSpace is what a run of white space stands for.
func foldedSpace(ws []byte) []byte {
	if bytes.ContainsAny(ws, "\t\r\n") {
		return []byte{' '}
	}
	return ws
}

// encodedWord takes the word at the beginning of b apart: =?charset*language?encoding?text?=.
func encodedWord(b []byte) (cset string, text []byte, n int, ok bool) {
	if !bytes.HasPrefix(b, []byte("=?")) {
		return "", nil, 0, false
	}
	cs, rest, ok := bytes.Cut(b[2:], []byte{'?'})
	if !ok || len(cs) == 0 || len(rest) < 2 || rest[1] != '?' {
		return "", nil, 0, false
	}
	text = rest[2:]
	if i := bytes.Index(text, []byte("=?")); i >= 0 { // the next word, or padding and the end: no text goes on behind it, and neither does the search
		text = text[:min(i+3, len(text))]
	}
	end := bytes.Index(text, []byte("?="))
	if end < 0 {
		return "", nil, 0, false
	}
	payload := text[:end]
	switch rest[0] | 0x20 {
	case 'b':
		payload = bytes.TrimRight(payload, "=")
		text = make([]byte, base64.RawStdEncoding.DecodedLen(len(payload)))
		m, err := base64.RawStdEncoding.Decode(text, payload)
		if err != nil {
			return "", nil, 0, false
		}
		text = text[:m]
	case 'q':
		if text, ok = decodeQ(payload); !ok {
			return "", nil, 0, false
		}
	default:
		return "", nil, 0, false
	}
	cs, _, _ = bytes.Cut(cs, []byte{'*'})
	return string(cs), text, 2 + len(b[2:]) - len(rest) + 2 + end + 2, true
}

func decodeQ(p []byte) ([]byte, bool) {
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=':
			if i+2 >= len(p) {
				return nil, false
			}
			hi, ok1 := unhex(p[i+1])
			lo, ok2 := unhex(p[i+2])
			if !ok1 || !ok2 {
				return nil, false
			}
			out = append(out, hi<<4|lo)
			i += 2
		case c < ' ' || c > '~':
			return nil, false
		default:
			out = append(out, c)
		}
	}
	return out, true
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

func toUTF8(cset string, b []byte) ([]byte, bool) {
	if strings.EqualFold(cset, "utf-8") {
		return bytes.ToValidUTF8(b, []byte("\ufffd")), true
	}
	r, err := charset.Reader(cset, bytes.NewReader(b))
	if err != nil {
		return nil, false
	}
	u, err := io.ReadAll(r)
	return u, err == nil
}

const (
	foldAt   = 75  // characters of a line, soft
	foldHard = 900 // a word longer than this is cut
	wordMax  = 60  // characters of an encoded word's text
)

// AppendText appends text as a header has it. Printable ASCII is folded ([AppendFolded]); anything else, and what would read
// as an encoded word, becomes encoded words of UTF-8 in Q encoding, at most 75 characters each, cut between characters, one a
// line. Bytes that are not UTF-8 are replaced by U+FFFD. [DecodeText] gives the text back, with white space collapsed.
func AppendText(dst []byte, text string) []byte {
	if isPlain(text) {
		return AppendFolded(dst, text)
	}
	return appendWords(dst, strings.Join(strings.FieldsFunc(text, isSpace), " "), false)
}

// appendWords appends text as encoded words. In a phrase fewer characters stand for themselves (RFC 2047, 5, (3)).
func appendWords(dst []byte, text string, phrase bool) []byte {
	const open, shut = "=?UTF-8?q?", "?="
	text = strings.ToValidUTF8(text, "\ufffd")
	dst = append(dst, open...)
	start := len(dst)
	for len(text) > 0 {
		_, size := utf8.DecodeRuneInString(text)
		mark := len(dst)
		for _, c := range []byte(text[:size]) {
			switch {
			case c == ' ':
				dst = append(dst, '_')
			case c > ' ' && c < 0x7f && c != '?' && c != '=' && c != '_' && (!phrase || inPhrase(c)):
				dst = append(dst, c)
			default:
				const hex = "0123456789ABCDEF"
				dst = append(dst, '=', hex[c>>4], hex[c&15])
			}
		}
		if len(dst)-start > wordMax {
			dst = slices.Insert(dst, mark, []byte(shut+"\r\n\t"+open)...)
			start = mark + len(shut+"\r\n\t"+open)
		}
		text = text[size:]
	}
	return append(dst, shut...)
}

func inPhrase(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!*+-/", c) >= 0
}

// AppendFolded appends text folded at white space with CRLF and a tab, so that lines have fewer than 76 characters where
// its words allow; words of more than 900 bytes are cut. Runs of white space become one space or one fold.
func AppendFolded(dst []byte, text string) []byte {
	line := 0
	for word := range strings.FieldsFuncSeq(text, isSpace) {
		switch {
		case line == 0:
		case line+len(word) < foldAt:
			dst = append(dst, ' ')
			line++
		default:
			dst, line = append(dst, "\r\n\t"...), 0
		}
		for len(word) > foldHard {
			dst = append(append(dst, word[:foldHard]...), "\r\n\t"...)
			word = word[foldHard:]
		}
		dst = append(dst, word...)
		line += len(word)
	}
	return dst
}

func isSpace(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' }

// isPlain says whether text needs no encoding.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x7f || s[i] < ' ' && !isSpace(rune(s[i])) {
			return false
		}
	}
	return !strings.Contains(s, "=?")
}
