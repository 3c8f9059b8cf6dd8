package xfer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"sync"

	"github.com/mtakit/mtakit"
)

// payload is what is sent for a message: head and body, compressed while it is read. The HTTP transport may go on reading for a moment after the request has ended,
// or begin anew on another connection: close ends all of that before the body goes back to its owner.
type payload struct {
	head    []byte
	body    mtakit.Body
	writers *sync.Pool // of *writer

	mu      sync.Mutex
	readers []*compressor
	closed  bool
}

// reader begins anew.
func (p *payload) reader() *compressor {
	w, ok := p.writers.Get().(*writer)
	if !ok {
		w = new(writer)
		w.z, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	}
	c := &compressor{p: p, w: w, in: io.MultiReader(bytes.NewReader(p.head), io.NewSectionReader(p.body, 0, p.body.Size()))}
	w.z.Reset(&c.out)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers = append(p.readers, c)
	if p.closed {
		c.Close()
	}
	return c
}

// close waits until nobody reads; there is nothing more to read afterwards.
func (p *payload) close() {
	p.mu.Lock()
	p.closed = true
	all := p.readers
	p.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

var errPayloadClosed = errors.New("xfer: the request has ended")

// writer is what a compressor needs that is large and of no use after it.
type writer struct {
	z     *gzip.Writer
	chunk [32 << 10]byte
}

// compressor reads a payload once.
type compressor struct {
	p *payload

	mu  sync.Mutex
	in  io.Reader
	w   *writer      // nil once closed
	out bytes.Buffer // what is compressed and not read yet
	err error        // of reading
}

// Read implements [io.Reader].
func (c *compressor) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.w == nil {
		return 0, errPayloadClosed
	}
	for c.out.Len() == 0 && c.err == nil {
		n, err := c.in.Read(c.w.chunk[:])
		c.w.z.Write(c.w.chunk[:n]) // to memory, which takes all
		if c.err = err; err == io.EOF {
			c.w.z.Close()
		}
	}
	if c.out.Len() == 0 {
		return 0, c.err
	}
	return c.out.Read(b)
}

// Close implements [io.Closer].
func (c *compressor) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.w != nil {
		c.p.writers.Put(c.w)
		c.w = nil
	}
	return nil
}
