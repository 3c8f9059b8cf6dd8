package smtpclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/mtakit/mtakit"
)

// source reads a body from its start to its end, in pieces. Bodies in memory are not copied; others that fit into a buffer are read
// once, when they are opened.
type source struct {
	chunks [][]byte // what is left of a body in memory
	body   mtakit.Body
	off    int64
	left   int64
	hold   *[]byte // from outPool
	list   [][]byte
}

func (s *source) open(b mtakit.Body) error {
	s.close()
	if b == nil {
		return errors.New("the delivery has no body")
	}
	s.body, s.off, s.left = b, 0, b.Size()
	if c, ok := b.(mtakit.ChunkedBody); ok {
		s.list = c.Chunks(s.list[:0])
		s.chunks = s.list
		n := 0
		for _, p := range s.chunks {
			n += len(p)
		}
		s.left = int64(n)
		return nil
	}
	if s.left > outSize || s.left == 0 {
		return nil
	}
	p, err := s.read(int(s.left))
	if err != nil {
		return err
	}
	s.list = append(s.list[:0], p)
	s.chunks, s.off, s.left = s.list, 0, int64(len(p))
	return nil
}

func (s *source) close() {
	if s.hold != nil {
		release(s.hold)
	}
	clear(s.list)
	*s = source{list: s.list[:0]}
}

// read reads n bytes, at most outSize, from the body at off into the buffer, which the next read uses again.
func (s *source) read(n int) ([]byte, error) {
	if s.hold == nil {
		s.hold = outPool.Get().(*[]byte)
	}
	p := (*s.hold)[:n]
	if m, err := s.body.ReadAt(p, s.off); m < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading the message: %w", err)
	}
	return p, nil
}

// next gives at most limit bytes and at least one, if any are left. They are valid until the call after.
func (s *source) next(limit int) ([]byte, error) {
	if len(s.list) == 0 {
		p, err := s.read(int(min(int64(limit), s.left, outSize)))
		s.off, s.left = s.off+int64(len(p)), s.left-int64(len(p))
		return p, err
	}
	for len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	p := s.chunks[0]
	if len(p) > limit {
		p = p[:limit]
	}
	s.chunks[0] = s.chunks[0][len(p):]
	s.left -= int64(len(p))
	return p, nil
}

// is8bit looks through the body, which has not been read from yet.
func (s *source) is8bit() (bool, error) {
	if len(s.list) > 0 {
		for _, p := range s.chunks {
			if has8bit(p) {
				return true, nil
			}
		}
		return false, nil
	}
	off := s.off
	defer func() { s.off = off }()
	for left := s.left; left > 0; {
		p, err := s.read(int(min(left, outSize)))
		if err != nil || has8bit(p) {
			return err == nil, err
		}
		s.off, left = s.off+int64(len(p)), left-int64(len(p))
	}
	return false, nil
}

func has8bit(p []byte) bool {
	const high = 0x8080808080808080
	le := binary.LittleEndian
	for len(p) >= 32 {
		if (le.Uint64(p)|le.Uint64(p[8:])|le.Uint64(p[16:])|le.Uint64(p[24:]))&high != 0 {
			return true
		}
		p = p[32:]
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

var lineDot = []byte("\n.")

// appendStuffed appends p with each dot at the start of a line doubled; a bare LF starts a line too, since some peers take it so. start
// says whether p begins a line, and the result whether what follows does.
func appendStuffed(dst, p []byte, start bool) ([]byte, bool) {
	if len(p) == 0 {
		return dst, start
	}
	if start && p[0] == '.' {
		dst = append(dst, '.')
	}
	for {
		i := bytes.Index(p, lineDot)
		if i < 0 {
			return append(dst, p...), p[len(p)-1] == '\n'
		}
		dst = append(dst, p[:i+2]...) // up to the dot, with which p begins again
		p = p[i+1:]
	}
}

// appendSegments does the same without copying: the segments, in order, are the stuffed text.
func appendSegments(dst [][]byte, p []byte, start bool) ([][]byte, bool) {
	if len(p) == 0 {
		return dst, start
	}
	if start && p[0] == '.' {
		dst = append(dst, p[:1])
	}
	for {
		i := bytes.Index(p, lineDot)
		if i < 0 {
			return append(dst, p), p[len(p)-1] == '\n'
		}
		dst = append(dst, p[:i+2])
		p = p[i+1:]
	}
}
