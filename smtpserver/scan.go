package smtpserver

import "bytes"

// scanner goes over the data of a message as it arrives in one growing slice, finds its end, and takes out the dots that were stuffed, in
// place (RFC 5321, 4.5.2). A line begins after CRLF for the dot, so that only CRLF.CRLF is the end; for the limit of its length a line also
// ends at a bare LF.
type scanner struct {
	limit int // of the length of a line

	line  int  // where the current line begins
	at    int  // what is before was looked at
	dot   bool // the current line begins after CRLF, or is the first
	w     int  // b[:w] is content
	seg   int  // b[seg:line] is content that has not been moved to w as yet
	pairs int  // CRLFs
	long  bool // a line is longer than limit
	bare  bool // there is a bare LF, or at the end a bare CR
}

func newScanner(limit int) scanner { return scanner{limit: limit, dot: true} }

// scan looks at what is new in b. When it finds the end, b[:s.w] is the content and end the index of what follows; else end is -1.
func (s *scanner) scan(b []byte) (end int) {
	for {
		i := bytes.IndexByte(b[s.at:], '\n')
		if i < 0 {
			s.at = len(b)
			return -1
		}
		lf := s.at + i
		n := lf - s.line
		crlf := n > 0 && b[lf-1] == '\r'
		if crlf {
			n--
		}
		if s.dot && b[s.line] == '.' {
			s.move(b, s.line)
			if crlf && n == 1 {
				s.bare = s.bare || bytes.Count(b[:s.w], crByte) != s.pairs
				return lf + 1
			}
			s.seg = s.line + 1
			n--
		}
		s.long = s.long || n > s.limit
		if crlf {
			s.pairs++
		} else {
			s.bare = true
		}
		s.dot, s.line, s.at = crlf, lf+1, lf+1
	}
}

var crByte = []byte{'\r'}

// move puts b[seg:to] behind the content.
func (s *scanner) move(b []byte, to int) {
	if s.w != s.seg {
		copy(b[s.w:], b[s.seg:to])
	}
	s.w += to - s.seg
	s.seg = to
}

// size is how long the content is at least.
func (s *scanner) size(n int) int { return s.w + n - s.seg - len(".\r") }

// tail is what of the b scanned so far could be the beginning of the end.
func (s *scanner) tail(b []byte) []byte {
	t := make([]byte, 0, 2*len(endOfData))
	if s.dot {
		t = append(t, '\r')
	}
	t = append(t, '\n')
	rest := b[s.line:]
	t = append(t, rest[max(0, len(rest)-len(endOfData)+1):]...)
	return t[max(0, len(t)-len(endOfData)+1):]
}

var endOfData = []byte("\r\n.\r\n")

// fixedLen is how much fixLines appends: a buffer from a pool must not grow.
func fixedLen(b []byte) int {
	return len(b) + bytes.Count(b, crByte) + bytes.Count(b, []byte{'\n'}) - 2*bytes.Count(b, []byte("\r\n"))
}

// fixLines makes each bare CR and each bare LF in b a CRLF, and appends the result to dst.
func fixLines(dst, b []byte) []byte {
	for {
		i := bytes.IndexAny(b, "\r\n")
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(append(dst, b[:i]...), '\r', '\n')
		if b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n' {
			i++
		}
		b = b[i+1:]
	}
}
