package template

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF  tokenKind = iota
	tokData           // text outside of tags
	tokOpen           // {{ or {%, which is the text
	tokShut           // }} or %}
	tokName
	tokString
	tokNumber
	tokOp
)

type token struct {
	kind  tokenKind
	text  string
	value any // of a string or number
	line  int
}

// lexer cuts a Jinja template into tokens.
type lexer struct {
	src    string
	pos    int
	line   int
	tokens []token
	trim   bool // white space at the beginning of the next data goes
}

func lexJinja(src string) []token {
	x := &lexer{src: src, line: 1}
	for x.pos < len(x.src) {
		x.next()
	}
	return append(x.tokens, token{kind: tokEOF, line: x.line})
}

func (x *lexer) advance(n int) {
	x.line += strings.Count(x.src[x.pos:x.pos+n], "\n")
	x.pos += n
}

func (x *lexer) emit(k tokenKind, text string, value any) {
	x.tokens = append(x.tokens, token{k, text, value, x.line})
}

// next reads data and the tag after it.
func (x *lexer) next() {
	rest := x.src[x.pos:]
	n := 0
	for {
		i := strings.IndexByte(rest[n:], '{')
		if i < 0 {
			n = len(rest)
			break
		}
		if n += i; n+1 < len(rest) && (rest[n+1] == '{' || rest[n+1] == '%' || rest[n+1] == '#') {
			break
		}
		n++
	}
	text := rest[:n]
	if x.trim {
		text = strings.TrimLeft(text, " \t\r\n")
	}
	x.trim = false
	if n+2 < len(rest) && rest[n+2] == '-' {
		text = strings.TrimRight(text, " \t\r\n")
	}
	if text != "" {
		x.emit(tokData, text, nil)
	}
	x.advance(n)
	if rest = rest[n:]; rest == "" {
		return
	}
	open := rest[:2]
	start := 2
	if len(rest) > 2 && (rest[2] == '-' || rest[2] == '+') {
		start = 3
	}
	switch {
	case open == "{#":
		end := strings.Index(rest, "#}")
		if end < start {
			syntaxError(x.line, "unexpected end of comment")
		}
		x.trim = rest[end-1] == '-' && end > start
		x.advance(end + 2)
	case open == "{%" && x.raw(rest, start):
	default:
		x.emit(tokOpen, open, nil)
		x.advance(start)
		x.tag(map[string]string{"{{": "}}", "{%": "%}"}[open])
	}
}

// raw reads {% raw %} … {% endraw %}.
func (x *lexer) raw(rest string, start int) bool {
	word := func(s, w string) (string, bool) { // s after "w -%}"
		s, ok := strings.CutPrefix(strings.TrimLeft(s, " \t\r\n"), w)
		if !ok {
			return "", false
		}
		s = strings.TrimLeft(s, " \t\r\n")
		s, dash := strings.CutPrefix(s, "-")
		x.trim = dash
		return strings.CutPrefix(s, "%}")
	}
	body, ok := word(rest[start:], "raw")
	trimBody := x.trim
	if !ok {
		x.trim = false
		return false
	}
	for at := 0; ; at += 2 {
		i := strings.Index(body[at:], "{%")
		if i < 0 {
			syntaxError(x.line, "unexpected end of raw block")
		}
		at += i
		tag := body[at+2:]
		tag, dash := strings.CutPrefix(tag, "-")
		after, ok := word(tag, "endraw")
		if !ok {
			continue
		}
		text := body[:at]
		if trimBody {
			text = strings.TrimLeft(text, " \t\r\n")
		}
		if dash {
			text = strings.TrimRight(text, " \t\r\n")
		}
		x.emit(tokData, text, nil)
		x.advance(len(rest) - len(after))
		return true
	}
}

var operators = []string{"//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ".", ",", ":", "|"}

// tagMax is how many tokens a tag may have: a chain of operators is as deep as it is long.
const tagMax = 10_000

// tag reads the tokens of a tag up to shut.
func (x *lexer) tag(shut string) {
	open := 0 // brackets, within which }} is no end
	for first := len(x.tokens); ; {
		if len(x.tokens)-first > tagMax {
			syntaxError(x.line, "expression is too long")
		}
		rest := strings.TrimLeft(x.src[x.pos:], " \t\r\n")
		x.advance(len(x.src) - x.pos - len(rest))
		if rest == "" {
			syntaxError(x.line, "unexpected end of input, expected end of %s", map[string]string{"}}": "variable block", "%}": "block"}[shut])
		}
		if after, dash := strings.CutPrefix(rest, "-"); open == 0 && (strings.HasPrefix(rest, shut) || dash && strings.HasPrefix(after, shut)) {
			x.trim = dash
			x.emit(tokShut, shut, nil)
			x.advance(len(rest) - len(after) + 2)
			return
		}
		c := rest[0]
		switch {
		case c == '"' || c == '\'':
			s, n := x.str(rest)
			x.emit(tokString, s, s)
			x.advance(n)
		case '0' <= c && c <= '9':
			x.number(rest)
		case isNameStart(rest):
			n := 0
			for n < len(rest) && (isNameStart(rest[n:]) || '0' <= rest[n] && rest[n] <= '9') {
				_, size := utf8.DecodeRuneInString(rest[n:])
				n += size
			}
			x.emit(tokName, rest[:n], nil)
			x.advance(n)
		default:
			op := ""
			for _, o := range operators {
				if strings.HasPrefix(rest, o) {
					op = o
					break
				}
			}
			switch op {
			case "":
				r, _ := utf8.DecodeRuneInString(rest)
				syntaxError(x.line, "unexpected character %q", r)
			case "{", "[", "(":
				open++
			case "}", "]", ")":
				open = max(open-1, 0)
			}
			x.emit(tokOp, op, nil)
			x.advance(len(op))
		}
	}
}

func isNameStart(s string) bool {
	c := s[0]
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

// str reads a string literal.
func (x *lexer) str(s string) (string, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == s[0]:
			return b.String(), i + 1
		case c != '\\':
			b.WriteByte(c)
		case i+1 < len(s):
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case 'b':
				b.WriteByte('\b')
			case 'f':
				b.WriteByte('\f')
			case '\\', '/', '"', '\'':
				b.WriteByte(s[i])
			case 'u':
				n, err := uint64(0), strconv.ErrSyntax
				if i+4 < len(s) {
					n, err = strconv.ParseUint(s[i+1:i+5], 16, 16)
				}
				if err != nil {
					syntaxError(x.line, "invalid unicode escape")
				}
				b.WriteRune(rune(n))
				i += 4
			default:
				b.WriteString(s[i-1 : i+1])
			}
		}
	}
	syntaxError(x.line, "unexpected end of string")
	return "", 0
}

func (x *lexer) number(s string) {
	n, float := 0, false
	for n < len(s) {
		c := s[n]
		switch {
		case '0' <= c && c <= '9' || c == '_':
		case c == '.' && !float && n+1 < len(s) && '0' <= s[n+1] && s[n+1] <= '9':
			float = true
		case (c == 'e' || c == 'E') && n+1 < len(s) && ('0' <= s[n+1] && s[n+1] <= '9' || (s[n+1] == '-' || s[n+1] == '+') && n+2 < len(s) && '0' <= s[n+2] && s[n+2] <= '9'):
			float = true
			n++
		default:
			goto done
		}
		n++
	}
done:
	digits := strings.ReplaceAll(s[:n], "_", "")
	if i, err := strconv.ParseInt(digits, 10, 64); err == nil && !float {
		x.emit(tokNumber, s[:n], i)
	} else if f, err := strconv.ParseFloat(digits, 64); err == nil {
		x.emit(tokNumber, s[:n], f)
	} else {
		syntaxError(x.line, "invalid number %s", s[:n])
	}
	x.advance(n)
}
