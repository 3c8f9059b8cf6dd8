package smtpserver

import (
	"io"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"

	"github.com/mtakit/mtakit"
)

// Buffers for texts come in powers of two between these; larger ones are made to measure and left to the collector.
const (
	minTextShift = 11 // 2 KiB
	maxTextShift = 20 // 1 MiB
)

// text is the text of a message as it was received. All messages of a transaction share it.
type text struct {
	b    []byte
	refs atomic.Int32
	pool *textPool // nil: not from a pool
}

// textPool hands out texts by size.
type textPool [maxTextShift - minTextShift + 1]sync.Pool

// get returns an empty text with room for n bytes and one reference.
func (p *textPool) get(n int) *text {
	class := max(bits.Len(uint(max(n, 1)-1)), minTextShift) - minTextShift
	if class >= len(p) {
		t := &text{b: make([]byte, 0, n)}
		t.refs.Store(1)
		return t
	}
	t, _ := p[class].Get().(*text)
	if t == nil {
		t = &text{b: make([]byte, 0, 1<<(class+minTextShift)), pool: p}
	}
	t.refs.Store(1)
	return t
}

// release gives up a reference; the last one ends the use of t.
func (t *text) release() {
	if t.refs.Add(-1) > 0 || t.pool == nil {
		return
	}
	t.b = t.b[:0]
	t.pool[bits.Len(uint(cap(t.b)-1))-minTextShift].Put(t)
}

// inbound is a message in the making with all that lives as long as it does, in one allocation.
type inbound struct {
	mtakit.Message
	body body
	to   [1]string
}

// body is a mtakit.ChunkedBody: fields of our own in front of a text.
type body struct {
	head   []byte
	text   *text
	closed atomic.Bool
}

func (b *body) Size() int64 { return int64(len(b.head) + len(b.text.b)) }

func (b *body) ReadAt(p []byte, off int64) (n int, err error) {
	switch {
	case b.closed.Load():
		return 0, os.ErrClosed
	case off < 0 || off >= b.Size():
		return 0, io.EOF
	}
	if off < int64(len(b.head)) {
		n = copy(p, b.head[off:])
	}
	if at := off + int64(n) - int64(len(b.head)); at >= 0 {
		n += copy(p[n:], b.text.b[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b *body) Chunks(dst [][]byte) [][]byte { return append(dst, b.head, b.text.b) }

func (b *body) Close() error {
	if b.closed.Swap(true) {
		return os.ErrClosed
	}
	b.text.release()
	return nil
}

// budget counts bytes of texts that are being received.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes, if there is room.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// full says whether there is no room for a further message.
func (b *budget) full() bool { return b.used.Load()+1<<minTextShift > b.limit }
