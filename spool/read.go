package spool

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/mtakit/mtakit"
)

// reading is a record that was found and read. It keeps its segments open.
type reading struct {
	entry   entry
	segment *segment
	head    head
	other   *segment // that has the body, if it is elsewhere
	buf     *[]byte  // what head.env points to
}

func (r *reading) release() {
	r.segment.release()
	if r.other != nil {
		r.other.release()
	}
	if r.buf != nil && cap(*r.buf) <= maxPooled {
		heads.Put(r.buf)
	}
}

func (r *reading) bodySegment() *segment {
	if r.other != nil {
		return r.other
	}
	return r.segment
}

// bodyAt is where the body is in its segment.
func (r *reading) bodyAt() int64 {
	if r.other != nil {
		return r.head.body
	}
	return r.entry.off() + r.head.body
}

var heads = sync.Pool{New: func() any { return headBuffer() }}

// headBuffer is room for most heads.
func headBuffer() *[]byte { return new(make([]byte, 1024)) }

// read finds the record of id, and checks its head. errMoved asks to try again.
func (s *Spool) read(id mtakit.ID) (*reading, error) {
	r := new(reading)
	e, ok := s.index.pin(id, func(e entry) {
		// The entry keeps the segment in the log as long as it does not change.
		if g := s.at(e.slot()); g.acquire() {
			r.segment = g
		}
	})
	if !ok {
		return nil, s.absent()
	}
	if r.segment == nil {
		return nil, mtakit.ErrClosed
	}
	r.entry = e
	if err := r.readHead(); err != nil {
		if _, ok := err.(ioError); ok {
			r.release()
			return nil, err
		}
		r.head.id = id
		return nil, s.damagedRelease(r, err)
	}
	if r.head.id != id {
		r.release()
		return nil, s.absent() // another message with the same hash
	}
	if r.head.split {
		s.writeMu.Lock()
		g := s.numbered(r.head.segment)
		ok := g != nil && g.acquire()
		s.writeMu.Unlock()
		if !ok {
			now, still := s.index.get(id)
			r.release()
			if still && now.record() != e.record() {
				return nil, errMoved
			}
			return nil, s.absent()
		}
		r.other = g
	}
	return r, nil
}

// ioError is a failure to read, which says nothing about what is stored.
type ioError struct{ error }

func (e ioError) Unwrap() error { return e.error }

// readHead reads the head of the record at r.entry.
func (r *reading) readHead() (err error) {
	if r.buf == nil {
		r.buf = heads.Get().(*[]byte)
	}
	r.head, err = readHead(r.segment, r.entry.off(), r.buf)
	return err
}

// readHead reads the head at off in g into *buf, which grows if need be.
func readHead(g *segment, off int64, buf *[]byte) (head, error) {
	b := *buf
	n, err := g.file.ReadAt(b, off)
	if err != nil && err != io.EOF {
		return head{}, ioError{fmt.Errorf("spool: read of segment %016x: %w", g.number, err)}
	}
	if n < headSize {
		return head{}, errBadHead
	}
	env, ok := envLen(b)
	if !ok {
		return head{}, errBadHead
	}
	if want := headSize + pad8(env); want > n {
		if want > len(b) {
			b = append(b, make([]byte, want-len(b))...)
			*buf = b
		}
		if _, err := g.file.ReadAt(b[n:want], off+int64(n)); err != nil && err != io.EOF {
			return head{}, ioError{fmt.Errorf("spool: read of segment %016x: %w", g.number, err)}
		}
		n = want
	}
	return parseHead(b[:n])
}

// openBody returns the body of r, verified.
func (s *Spool) openBody(r *reading) (mtakit.Body, error) {
	g, off, size := r.bodySegment(), r.bodyAt(), r.head.size
	if size <= maxPooled {
		b := newMemBody(size)
		if err := readFull(g, b.Bytes, off); err != nil {
			b.Close()
			return nil, s.damagedUnlessIO(r, err)
		}
		if crc32.Checksum(b.Bytes, crcTable) != r.head.bodyCRC {
			b.Close()
			return nil, s.damaged(r, errBadBody)
		}
		return b, nil
	}
	if err := verifyBody(g, off, size, r.head.bodyCRC); err != nil {
		return nil, s.damagedUnlessIO(r, err)
	}
	g.acquire() // r has it, so this works
	f := &fileBody{off: off, size: size}
	f.segment.Store(g)
	return f, nil
}

var errBadBody = fmt.Errorf("%w: the body does not have its checksum", errBadHead)

func readFull(g *segment, b []byte, off int64) error {
	n, err := g.file.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == io.EOF:
		return fmt.Errorf("%w: the segment ends within it", errBadHead)
	}
	return ioError{fmt.Errorf("spool: read of segment %016x: %w", g.number, err)}
}

func verifyBody(g *segment, off, size int64, want uint32) error {
	b := newMemBody(maxPooled)
	defer b.Close()
	var crc uint32
	for size > 0 {
		p := b.Bytes[:min(size, maxPooled)]
		if err := readFull(g, p, off); err != nil {
			return err
		}
		crc = crc32.Update(crc, crcTable, p)
		off, size = off+int64(len(p)), size-int64(len(p))
	}
	if crc != want {
		return errBadBody
	}
	return nil
}

// memBody is a body in a pooled buffer.
type memBody struct {
	mtakit.Bytes
	from atomic.Pointer[buffer]
}

// buffer has a length that is a power of two.
type buffer struct{ b []byte }

const minClass = 12 // 4 KiB

var buffers [7]sync.Pool // to maxPooled

func newMemBody(size int64) *memBody {
	class := max(bits.Len64(uint64(max(size, 1)-1)), minClass) - minClass
	f, _ := buffers[class].Get().(*buffer)
	if f == nil {
		f = &buffer{make([]byte, 1<<(class+minClass))}
	}
	b := &memBody{Bytes: f.b[:size]}
	b.from.Store(f)
	return b
}

// Close gives the buffer back.
func (b *memBody) Close() error {
	if f := b.from.Swap(nil); f != nil {
		buffers[bits.Len64(uint64(len(f.b)-1))-minClass].Put(f)
	}
	return nil
}

// fileBody is a body in the log.
type fileBody struct {
	segment   atomic.Pointer[segment]
	off, size int64
}

func (f *fileBody) Size() int64 { return f.size }

func (f *fileBody) ReadAt(p []byte, off int64) (int, error) {
	g := f.segment.Load()
	if g == nil {
		return 0, mtakit.ErrClosed
	}
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > f.size-off
	if short {
		p = p[:f.size-off]
	}
	n, err := g.file.ReadAt(p, f.off+off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Close lets the segment go.
func (f *fileBody) Close() error {
	if g := f.segment.Swap(nil); g != nil {
		g.release()
	}
	return nil
}
