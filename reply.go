package mtakit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Response is one SMTP reply, the peer's or ours. Code 0 is no reply.
type Response struct {
	Code     int       // 2xx to 5xx
	Enhanced [3]uint16 // RFC 3463; zero if absent
	Text     string    // lines joined with "\n", codes removed
	Command  string    // the command it answers, without CRLF ("." is the end of the data); "" for the banner and for ours
}

// Internal is how the text of replies begins that mtakit made up itself, without a peer having answered.
const Internal = "KumoMTA internal: "

// IsInternal says whether the reply is of our own making.
func (r Response) IsInternal() bool { return strings.HasPrefix(r.Text, Internal) }

// OK says whether Code is 2xx, Temporary whether it is 4xx, Permanent whether it is 5xx.
func (r Response) OK() bool        { return r.Code/100 == 2 }
func (r Response) Temporary() bool { return r.Code/100 == 4 }
func (r Response) Permanent() bool { return r.Code/100 == 5 }

// String is the reply on one line: code, enhanced code if there is one, and text, with line ends turned into spaces.
func (r Response) String() string { return string(r.Append(nil)) }

// Append appends what String returns.
func (r Response) Append(dst []byte) []byte {
	dst = append(strconv.AppendInt(dst, int64(r.Code), 10), ' ')
	if r.Enhanced[0] != 0 {
		dst = append(AppendEnhanced(dst, r.Enhanced), ' ')
	}
	return AppendOneLine(dst, r.Text)
}

// AppendEnhanced appends an enhanced status code as 5.1.1 is written.
func AppendEnhanced(dst []byte, e [3]uint16) []byte {
	dst = append(strconv.AppendUint(dst, uint64(e[0]), 10), '.')
	dst = append(strconv.AppendUint(dst, uint64(e[1]), 10), '.')
	return strconv.AppendUint(dst, uint64(e[2]), 10)
}

// AppendOneLine appends s with each CRLF, LF or CR turned into one space.
func AppendOneLine(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\r':
			if i+1 < len(s) && s[i+1] == '\n' {
				i++
			}
			fallthrough
		case c == '\n':
			dst = append(dst, ' ')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// ErrBadReply is wrapped by the errors of [ParseResponse].
var ErrBadReply = errors.New("malformed reply")

// ParseResponse reads a reply as it comes over the wire, of one or more lines that end with LF or CRLF (RFC 5321,
// 4.2). All lines have the same code; the enhanced code is taken from the first line if its class goes with the reply's
// and is removed from each line that repeats it.
func ParseResponse(s string) (Response, error) {
	var r Response
	more := true
	for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
		if !more {
			return Response{}, fmt.Errorf("mtakit: %w: text after the last line", ErrBadReply)
		}
		var (
			code int
			text string
			err  error
		)
		if code, text, more, err = SplitReplyLine(strings.TrimSuffix(line, "\r")); err != nil {
			return Response{}, err
		}
		first := r.Code == 0
		if !first && code != r.Code {
			return Response{}, fmt.Errorf("mtakit: %w: code changes from %d to %d", ErrBadReply, r.Code, code)
		}
		r.Code = code
		r.AddLine(text, first)
	}
	if more {
		return Response{}, fmt.Errorf("mtakit: %w: the last line is marked as continued", ErrBadReply)
	}
	return r, nil
}

// SplitReplyLine takes one line, without its line end, apart: three digits, then a space, a hyphen (more lines follow) or
// nothing, then text.
func SplitReplyLine(line string) (code int, text string, more bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) ||
		len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, "", false, fmt.Errorf("mtakit: %w: %.80q", ErrBadReply, line)
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) > 3 {
		text, more = line[4:], line[3] == '-'
	}
	return code, text, more, nil
}

// AddLine adds the text of a further line of the reply, whose Code is set. From the first line it takes the enhanced code;
// from the others it removes it where it is repeated.
func (r *Response) AddLine(text string, first bool) {
	if e, rest, ok := CutEnhanced(text); ok && int(e[0]) == r.Code/100 && (first || e == r.Enhanced) {
		r.Enhanced, text = e, rest
	}
	if first {
		r.Text = text
	} else {
		r.Text += "\n" + text
	}
}

// CutEnhanced splits "5.1.1 text" into the code and the text. Only classes 2, 4 and 5 exist (RFC 3463, 2).
func CutEnhanced(s string) (e [3]uint16, rest string, ok bool) {
	rest = s
	for i := range e {
		n := 0
		for n < len(rest) && n < 4 && isDigit(rest[n]) {
			e[i] = e[i]*10 + uint16(rest[n]-'0')
			n++
		}
		if n == 0 || n > 3 {
			return [3]uint16{}, s, false
		}
		rest = rest[n:]
		if i < 2 {
			if rest == "" || rest[0] != '.' {
				return [3]uint16{}, s, false
			}
			rest = rest[1:]
		}
	}
	if e[0] != 2 && e[0] != 4 && e[0] != 5 || rest != "" && rest[0] != ' ' {
		return [3]uint16{}, s, false
	}
	return e, strings.TrimPrefix(rest, " "), true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
