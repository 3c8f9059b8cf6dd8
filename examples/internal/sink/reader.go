package sink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"
)

const (
	bufferSize = 64 << 10
	maxLine    = 4096
	maxSize    = 1 << 30
)

var (
	errLineTooLong = errors.New("line too long")
	errTooBig      = errors.New("message too big")
)

// reader reads commands and bodies in large pieces. What is to be said waits in out until more has to be read, so that the answers
// to pipelined commands leave in one packet.
type reader struct {
	nc   net.Conn
	buf  []byte
	r, w int // buf[r:w] was read and not used
	out  []byte
}

func (b *reader) pending() bool { return b.r < b.w }

func (b *reader) flush() error {
	if len(b.out) == 0 {
		return nil
	}
	b.nc.SetWriteDeadline(time.Now().Add(idle))
	_, err := b.nc.Write(b.out)
	b.out = b.out[:0]
	return err
}

// fill reads what there is, at least one byte. It may move what is in the buffer.
func (b *reader) fill() error {
	if err := b.flush(); err != nil {
		return err
	}
	if b.buf == nil {
		b.buf = make([]byte, bufferSize)
	}
	if b.r > 0 {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	}
	b.nc.SetReadDeadline(time.Now().Add(idle))
	n, err := b.nc.Read(b.buf[b.w:])
	b.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// line returns the next line without its end, LF or CRLF.
func (b *reader) line() (string, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(b.buf[b.r+seen:b.w], '\n'); i >= 0 {
			line := b.buf[b.r : b.r+seen+i]
			b.r += seen + i + 1
			return string(bytes.TrimSuffix(line, []byte("\r"))), nil
		}
		if seen = b.w - b.r; seen > maxLine {
			return "", errLineTooLong
		}
		if err := b.fill(); err != nil {
			return "", err
		}
	}
}

// body gives the message that follows DATA to take, piece by piece: without the final dot, and without those that were stuffed. Only
// CRLF.CRLF ends it.
func (b *reader) body(take func([]byte)) error {
	size := 0
	emit := func(n int) error {
		take(b.buf[b.r : b.r+n])
		b.r += n
		if size += n; size > maxSize {
			return errTooBig
		}
		return nil
	}
	for start := true; ; {
		in := b.buf[b.r:b.w]
		if start {
			switch {
			case len(in) == 0, in[0] == '.' && len(in) < 3:
				if err := b.fill(); err != nil {
					return err
				}
				continue
			case in[0] == '.' && in[1] == '\r' && in[2] == '\n':
				b.r += 3
				return nil
			case in[0] == '.':
				b.r++
			}
			start = false
			continue
		}
		if i := bytes.Index(in, []byte("\r\n.")); i >= 0 {
			if err := emit(i + 2); err != nil {
				return err
			}
			start = true
			continue
		}
		// The end of what is here may be the beginning of such a line end.
		keep := 0
		if bytes.HasSuffix(in, []byte("\r\n")) {
			keep = 2
		} else if bytes.HasSuffix(in, []byte("\r")) {
			keep = 1
		}
		if err := emit(len(in) - keep); err != nil {
			return err
		}
		if err := b.fill(); err != nil {
			return err
		}
	}
}
