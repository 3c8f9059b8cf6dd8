package smtpclient

import (
	"bytes"
	"fmt"

	"github.com/mtakit/mtakit"
)

// Limits on what a peer may answer.
const (
	maxReplyLine  = 4096
	maxReplyLines = 100
	maxReplySize  = 64 << 10
)

// rawReply is a reply as it came. Its bytes are those of the read buffer and valid until the next read.
type rawReply struct {
	code int
	raw  []byte
}

func (r rawReply) ok() bool { return r.code/100 == 2 }

// replyScanner finds the end of a reply in bytes that come bit by bit. The zero value is at the start of a reply.
type replyScanner struct {
	code    int
	lines   int
	line    int // where the current line starts
	scanned int // up to here there is no line end
}

// scan looks at b, which begins where the reply does and only ever grows, and gives the length of the reply once it is whole, or 0.
func (s *replyScanner) scan(b []byte) (n int, err error) {
	for {
		i := bytes.IndexByte(b[s.scanned:], '\n')
		if i < 0 {
			s.scanned = len(b)
			if len(b)-s.line > maxReplyLine {
				return 0, fmt.Errorf("%w: a line of it has over %d bytes", ErrReplyTooLong, maxReplyLine)
			}
			return 0, nil
		}
		end := s.scanned + i
		line := bytes.TrimSuffix(b[s.line:end], crlf[:1])
		s.line, s.scanned = end+1, end+1
		if len(line) > maxReplyLine {
			return 0, fmt.Errorf("%w: a line of it has over %d bytes", ErrReplyTooLong, maxReplyLine)
		}
		code, more, ok := lineCode(line)
		if !ok {
			return 0, fmt.Errorf("%w: %w: %.80q", ErrProtocol, mtakit.ErrBadReply, line)
		}
		if s.lines++; s.lines == 1 {
			s.code = code
		} else if code != s.code {
			return 0, fmt.Errorf("%w: %w: the code changes from %d to %d", ErrProtocol, mtakit.ErrBadReply, s.code, code)
		}
		if !more {
			return s.line, nil
		}
		if s.lines >= maxReplyLines || s.line > maxReplySize {
			return 0, fmt.Errorf("%w: %d lines and %d bytes, and no end of it", ErrReplyTooLong, s.lines, s.line)
		}
	}
}

var crlf = []byte("\r\n")

// lineCode reads the start of a line: three digits, then a space, a hyphen (more lines follow) or nothing.
func lineCode(line []byte) (code int, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1]-'0' > 9 || line[2]-'0' > 9 {
		return 0, false, false
	}
	if len(line) > 3 {
		if more = line[3] == '-'; !more && line[3] != ' ' {
			return 0, false, false
		}
	}
	return int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0'), more, true
}

// parseReply turns a whole reply into a Response. The text of the last one is used again if it is the same, since peers that
// answer every message alike are common.
func (c *Conn) parseReply(r rawReply, command string) mtakit.Response {
	resp := mtakit.Response{Code: r.code, Command: command}
	for i, raw := 0, r.raw; len(raw) > 0; i++ {
		line, rest, _ := bytes.Cut(raw, crlf[1:])
		raw, line = rest, bytes.TrimSuffix(line, crlf[:1])
		if len(line) < 4 {
			line = append(line[:len(line):len(line)], ' ')
		}
		if i == 0 && len(rest) == 0 {
			if string(line[4:]) != c.lastText {
				c.lastText = string(line[4:])
			}
			resp.AddLine(c.lastText, true)
		} else {
			resp.AddLine(string(line[4:]), i == 0)
		}
	}
	return resp
}
