package smtpclient

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// outSize is how much is gathered before it is written. A message that fits goes out in one write, with its end and the next
// message's envelope.
const outSize = 64 << 10

var outPool = sync.Pool{New: func() any { b := make([]byte, 0, outSize); return &b }}

// wire is the bottom of a connection: bytes gather in out until they are flushed. TLS, if there is any, lies on top and its
// records gather too. One goroutine uses it, besides the one that flush may start.
type wire struct {
	net.Conn
	raw    syscall.RawConn // nil if it isn't a socket
	gather bool            // Write appends to out
	out    *[]byte         // from outPool, nil while there is nothing to write

	// writeNow and peek leave what they find here, so that the functions they hand to raw are made only once.
	attempt func(fd uintptr) bool
	look    func(fd uintptr)
	tried   []byte
	triedN  int
	triedE  error

	flying chan error // result of the background write that is under way; nil is none
	done   chan error // what flying is when it isn't nil; made once
	rest   []byte     // what the background write has to write, a part of hand
	hand   *[]byte
}

func newWire(nc net.Conn) *wire {
	w := &wire{Conn: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	return w
}

// buf is what gathers.
func (w *wire) buf() *[]byte {
	if w.out == nil {
		w.out = outPool.Get().(*[]byte)
	}
	return w.out
}

func release(b *[]byte) {
	if cap(*b) > 2*outSize {
		return
	}
	*b = (*b)[:0]
	outPool.Put(b)
}

// Write implements [net.Conn] for TLS, which encrypts into it.
func (w *wire) Write(p []byte) (int, error) {
	if !w.gather {
		return w.Conn.Write(p)
	}
	b := w.buf()
	*b = append(*b, p...)
	return len(p), nil
}

// flush writes what has gathered. If background is set and not everything can be written at once, a goroutine writes the rest, so
// that the caller can read meanwhile: with pipelining both sides may have more to say than fits between them, and whoever only
// writes then waits for ever.
func (w *wire) flush(background bool) error {
	if w.out == nil {
		return nil
	}
	b := w.out
	w.out = nil
	err := w.join()
	rest := *b
	if err == nil && background && w.raw != nil {
		var n int
		n, err = w.writeNow(rest)
		rest = rest[n:]
	}
	if err == nil && len(rest) > 0 {
		if background {
			if w.done == nil {
				w.done = make(chan error, 1)
			}
			w.flying, w.rest, w.hand = w.done, rest, b
			go w.fly()
			return nil
		}
		_, err = w.Conn.Write(rest)
	}
	release(b)
	return err
}

func (w *wire) fly() {
	_, err := w.Conn.Write(w.rest)
	w.done <- err
}

// join waits for the background write.
func (w *wire) join() error {
	if w.flying == nil {
		return nil
	}
	return w.landed(<-w.flying)
}

// written says whether the background write, if there was one, has ended, without waiting.
func (w *wire) written() (bool, error) {
	if w.flying == nil {
		return true, nil
	}
	select {
	case err := <-w.flying:
		return true, w.landed(err)
	default:
		return false, nil
	}
}

func (w *wire) landed(err error) error {
	release(w.hand)
	w.flying, w.rest, w.hand = nil, nil, nil
	return err
}

// pendinger is implemented by connections that aren't sockets and yet can be looked at without waiting, as those of smtptest.
type pendinger interface {
	Pending() (n int, eof bool)
}

// pending says what a read would give now: some bytes, or the end.
func (w *wire) pending() (some, eof bool) {
	if w.raw != nil {
		return w.peek()
	}
	if p, ok := w.Conn.(pendinger); ok {
		n, eof := p.Pending()
		return n > 0, n == 0 && eof
	}
	// A read whose deadline is over sees the end of a net.Pipe, and nothing else.
	if w.Conn.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false, true
	}
	_, err := w.Conn.Read(make([]byte, 1))
	return err == nil, err != nil && !os.IsTimeout(err)
}
