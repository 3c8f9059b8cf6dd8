package smtpserver

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	inSize   = 4 << 10  // of the buffer for commands
	outLimit = 16 << 10 // replies are written when there are so many bytes of them, if not before
)

var (
	errLineTooLong = errors.New("smtpserver: line too long")
	errStopping    = errors.New("smtpserver: stopping")
	errBroken      = errors.New("smtpserver: a write failed")
)

// wire is the bytes of a connection: input that has been read and not used, replies that have not been written.
type wire struct {
	conn     net.Conn
	in       []byte // in[pos:] is input
	pos      int
	out      []byte
	pressing bool          // out holds the reply to a message
	broken   bool          // a write failed
	patience time.Duration // for a line, and for a write
	now      time.Time     // when we last began to wait for a line

	stopping *atomic.Bool   // of the Server
	waiting  atomic.Bool    // for a command: Shutdown may move the read deadline into the past
	saw      func(b []byte) // is shown what was read; may be nil
}

// buffered is the input that is there.
func (w *wire) buffered() []byte { return w.in[w.pos:] }

// flush writes the replies, within patience.
func (w *wire) flush() error {
	if len(w.out) > 0 && !w.broken {
		if err := w.conn.SetWriteDeadline(time.Now().Add(w.patience)); err != nil {
			return err
		}
	}
	return w.write()
}

// write writes the replies.
func (w *wire) write() error {
	if w.broken {
		return errBroken
	}
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.conn.Write(w.out)
	if w.out = w.out[:0]; cap(w.out) > 2*outLimit {
		w.out = nil
	}
	w.pressing, w.broken = false, err != nil
	return err
}

// read writes the replies and reads what there is, at least one byte unless it fails.
//
// Shutdown sets stopping and then, if we are waiting, a read deadline in the past. We say that we are waiting and set our deadline before we
// look at stopping: either we see it, or Shutdown sees us and its deadline comes after ours. If it sees us just before we stop waiting,
// its deadline may hit a later read; that one notices that it is too early, and goes on.
func (w *wire) read(p []byte, by time.Time) (n int, err error) {
	for {
		if err := w.conn.SetDeadline(by); err != nil {
			return 0, err
		}
		if err := w.write(); err != nil {
			return 0, err
		}
		if w.waiting.Load() && w.stopping.Load() {
			return 0, errStopping
		}
		n, err = w.conn.Read(p)
		if n > 0 {
			if w.saw != nil {
				w.saw(p[:n])
			}
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(by) {
			return n, err
		}
	}
}

// line returns the next line of input without its line end, valid until the next read; it has to be there within patience. One that is longer
// than limit is passed over, and gives errLineTooLong.
func (w *wire) line(limit int) ([]byte, error) {
	searched := 0    // of the input
	var by time.Time // zero until we have to wait
	for tooLong := false; ; {
		b := w.buffered()
		if i := bytes.IndexByte(b[searched:], '\n'); i >= 0 {
			n := searched + i
			w.pos += n + 1
			line := bytes.TrimSuffix(b[:n], crByte)
			if tooLong || len(line) > limit {
				return nil, errLineTooLong
			}
			return line, nil
		}
		if searched = len(b); searched > limit+len("\r") {
			tooLong = true
			w.pos, searched = len(w.in), 0
		}
		if by.IsZero() {
			w.now = time.Now()
			by = w.now.Add(w.patience)
		}
		if err := w.fill(limit, by); err != nil {
			return nil, err
		}
	}
}

// fill reads more input behind what is there, making room for a line of limit.
func (w *wire) fill(limit int, by time.Time) error {
	n := copy(w.in, w.buffered())
	w.in, w.pos = w.in[:n], 0
	if n == 0 && cap(w.in) > 4*inSize {
		w.in = nil // it grew for what was sent behind a message
	}
	if want := max(inSize, limit+len("\r\n")); cap(w.in) < want {
		w.in = append(make([]byte, 0, want), w.in...)
	}
	w.waiting.Store(true)
	defer w.waiting.Store(false)
	m, err := w.read(w.in[n:cap(w.in)], by)
	w.in = w.in[:n+m]
	return err
}

// unread puts b, which was read beyond what was wanted, in front of the input that follows.
func (w *wire) unread(b []byte) { w.in, w.pos = append(w.in[:0], b...), 0 }
