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
	writers *sync.Pool // of *gzip.Writer, which are large

	mu      sync.Mutex
	readers []*compressor
	closed  bool
}

// reader begins anew.
func (p *payload) reader() *compressor {
	z, ok := p.writers.Get().(*gzip.Writer)
	if !ok {
		z, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	}
	c := &compressor{p: p, z: z, in: io.MultiReader(bytes.NewReader(p.head), io.NewSectionReader(p.body, 0, p.body.Size()))}
	z.Reset(&c.out)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers = append(p.readers, c)
	c.closed = p.closed
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

const compressChunk = 32 << 10

// compressor reads a payload once.
type compressor struct {
	p *payload

	mu     sync.Mutex
	in     io.Reader
	z      *gzip.Writer // nil after the end
	out    bytes.Buffer // what is compressed and not read yet
	chunk  []byte
	err    error // of reading
	closed bool
}

// Read implements [io.Reader].
func (c *compressor) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, errPayloadClosed
	}
	for c.out.Len() == 0 && c.err == nil {
		if c.chunk == nil {
			c.chunk = make([]byte, compressChunk)
		}
		n, err := c.in.Read(c.chunk)
		c.z.Write(c.chunk[:n]) // to memory, which takes all
		if c.err = err; err == io.EOF {
			c.z.Close()
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
	if c.z != nil {
		c.p.writers.Put(c.z)
		c.z = nil
	}
	c.closed = true
	return nil
}
