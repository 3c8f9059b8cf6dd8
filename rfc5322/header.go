// Package rfc5322 reads and edits message headers over the original bytes, and builds messages.
//
// A [Header] is the bytes of a header block as they are in the message. It is scanned, not parsed: a look-up compares
// names and goes on, and what nobody asks for is never decoded. Edits copy the fields that stay byte for byte, so that
// signatures over them remain valid.
//
//	h, rest, err := rfc5322.ReadHeader(body, nil, rfc5322.DefaultLimit)
//	subject, _ := h.Text("Subject")
//	h = h.Remove(rfc5322.Named("Bcc")).Prepend(field)
//	// h, then CRLF, then the message from offset rest
//
// A [Builder] makes new messages of text, HTML, attachments and fields; nothing that is put in can add a field or a part.
//
// Names are compared without regard to case. Damaged headers are read as far as they go: every byte of a block belongs to
// exactly one field, and a line that is no field is one without a name. The package has no state and no goroutine.
package rfc5322

import (
	"bytes"
	"errors"
	"io"
	"iter"
)

// Header is a header block (RFC 5322, 2.2): whole fields with their line ends, without the empty line that ends the
// block. Its methods do not change it; they are safe for concurrent use.
type Header []byte

// DefaultLimit is a limit for [ReadHeader] that no honest header comes near.
const DefaultLimit = 1 << 20

// ErrTooLong: no empty line came within the limit.
var ErrTooLong = errors.New("rfc5322: header is too long")

// Split takes a message apart. The header is a part of msg; the body is what follows the first empty line, which may be
// ended by CRLF or LF. A message without an empty line is all header.
func Split(msg []byte) (h Header, body []byte) {
	end, rest, _ := blockEnd(msg, 0)
	return Header(msg[:end:end]), msg[rest:]
}

// ReadHeader reads the header of a message and no more than about that, and says at which offset the body begins. Where r
// has its bytes in memory (a Chunks method as mtakit.ChunkedBody has) and the header lies within the first chunk, the
// header is a part of that chunk, else it is in buf, if that is large enough, or a new slice.
// The error is [ErrTooLong] or one of r.
func ReadHeader(r io.ReaderAt, buf []byte, limit int) (h Header, body int64, err error) {
	if c, ok := r.(interface{ Chunks([][]byte) [][]byte }); ok {
		var space [4][]byte
		if chunks := c.Chunks(space[:0]); len(chunks) > 0 {
			first := chunks[0]
			end, rest, ok := blockEnd(first[:min(len(first), limit)], 0)
			if ok || len(chunks) == 1 && len(first) <= limit {
				return Header(first[:end:end]), int64(rest), nil
			}
		}
	}
	buf, from := buf[:cap(buf)], 0
	for n := 0; ; {
		if n == len(buf) {
			buf = append(buf, make([]byte, max(4096, n))...)
		}
		got, err := r.ReadAt(buf[n:min(len(buf), limit+4)], int64(n))
		n += got
		if end, rest, ok := blockEnd(buf[:n], from); ok && end <= limit || err == io.EOF && n <= limit {
			return Header(buf[:end:end]), int64(rest), nil
		}
		if n > limit {
			return nil, 0, ErrTooLong
		}
		if err != nil {
			return nil, 0, err
		}
		from = max(0, n-2) // an empty line may be split: LF | CR LF, or LF CR | LF
	}
}

// blockEnd finds the empty line that ends the block. A search may be taken up again at from, two bytes before what is new.
func blockEnd(b []byte, from int) (end, rest int, ok bool) {
	if n := lineEnd(b); n > 0 {
		return 0, n, true
	}
	for i := from; ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return len(b), len(b), false
		}
		i += j + 1
		if n := lineEnd(b[i:]); n > 0 {
			return i, i + n, true
		}
	}
}

// lineEnd is the length of the CRLF or LF at the beginning of b, 0 if there is none.
func lineEnd(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}

// Fields yields the fields from top to bottom. Joined they are the header.
func (h Header) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(h) > 0 {
			n := fieldLen(h)
			if !yield(Field(h[:n:n])) {
				return
			}
			h = h[n:]
		}
	}
}

// fieldLen is the length of the field at the beginning of h, folded lines included.
func fieldLen(h []byte) int {
	for n := 0; ; {
		i := bytes.IndexByte(h[n:], '\n')
		if i < 0 {
			return len(h)
		}
		n += i + 1
		if n == len(h) || h[n] != ' ' && h[n] != '\t' {
			return n
		}
	}
}

// Get returns the first field of that name, nil if there is none.
func (h Header) Get(name string) Field {
	for len(h) > 0 {
		n := fieldLen(h)
		if f := Field(h[:n:n]); f.Is(name) {
			return f
		}
		h = h[n:]
	}
	return nil
}

// Text returns the decoded value of the first field of that name, and whether there is one.
func (h Header) Text(name string) (string, bool) {
	if f := h.Get(name); f != nil {
		return f.Text(), true
	}
	return "", false
}

// All yields the fields of that name from top to bottom.
func (h Header) All(name string) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for f := range h.Fields() {
			if f.Is(name) && !yield(f) {
				return
			}
		}
	}
}
