package httpapi

import (
	"io"

	"github.com/mtakit/mtakit"
)

// chunks is a body in memory, in pieces that other messages may share. It is a [mtakit.ChunkedBody].
type chunks struct {
	parts [][]byte
	size  int64
}

func newChunks(parts ...[]byte) *chunks {
	c := &chunks{parts: parts}
	for _, p := range parts {
		c.size += int64(len(p))
	}
	return c
}

func (c *chunks) Size() int64 { return c.size }

func (c *chunks) Close() error { return nil }

func (c *chunks) Chunks(dst [][]byte) [][]byte { return append(dst, c.parts...) }

func (c *chunks) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= c.size {
		return 0, io.EOF
	}
	for _, part := range c.parts {
		if off >= int64(len(part)) {
			off -= int64(len(part))
			continue
		}
		n += copy(p[n:], part[off:])
		off = 0
		if n == len(p) {
			return n, nil
		}
	}
	return n, io.EOF
}

// prepend puts bytes in front of a body.
func prepend(head []byte, b mtakit.Body) mtakit.Body {
	if c, ok := b.(*chunks); ok {
		return newChunks(append([][]byte{head}, c.parts...)...)
	}
	return &headed{head, b}
}

// headed is a body with something in front.
type headed struct {
	head []byte
	mtakit.Body
}

func (h *headed) Size() int64 { return int64(len(h.head)) + h.Body.Size() }

func (h *headed) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, io.EOF
	}
	if off < int64(len(h.head)) {
		n = copy(p, h.head[off:])
		off += int64(n)
	}
	if n == len(p) {
		return n, nil
	}
	m, err := h.Body.ReadAt(p[n:], off-int64(len(h.head)))
	return n + m, err
}
