// Package ledger keeps lists of message ids outside of the mail system under test: the generator writes what was
// acknowledged to it, the destination what it acknowledged. Compared afterwards they show what was lost and what came twice.
package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Header is the field of a message that carries its id.
const Header = "X-Ledger-Id"

// Ledger is a file with one id a line. It is safe for concurrent use.
type Ledger struct {
	file *os.File

	mu      sync.Mutex
	cond    sync.Cond // of mu: a sync has ended
	pending []byte    // to be written by the next leader
	spare   []byte
	round   uint64 // of pending
	done    uint64 // rounds that are on disk
	leading bool   // somebody writes and syncs
	err     error  // for ever
}

// Open opens the file for appending, or makes it. A last line without a line end, left by a writer that died, is cut off.
func Open(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err == nil {
		err = cutTornLine(f)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l := &Ledger{file: f, round: 1}
	l.cond.L = &l.mu
	return l, nil
}

func cutTornLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, min(info.Size(), 64<<10))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && len(tail) > 0 {
		return err
	}
	torn := len(tail) - 1 - bytes.LastIndexByte(tail, '\n')
	if torn == 0 {
		return nil
	}
	return f.Truncate(info.Size() - int64(torn))
}

// Append returns when id is on stable storage. Whoever comes while a sync runs shares the next one. After an error, the ledger
// takes nothing any more.
func (l *Ledger) Append(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(append(l.pending, id...), '\n')
	mine := l.round
	for l.done < mine && l.err == nil {
		if l.leading {
			l.cond.Wait()
			continue
		}
		batch, round := l.pending, l.round
		l.pending, l.round, l.leading = l.spare[:0], l.round+1, true
		l.mu.Unlock()
		_, err := l.file.Write(batch)
		if err == nil {
			err = l.file.Sync()
		}
		l.mu.Lock()
		l.spare, l.done, l.leading = batch, round, false
		if err != nil {
			l.err = fmt.Errorf("ledger: %w", err)
		}
		l.cond.Broadcast()
	}
	return l.err
}

// Close closes the file. No Append may be in progress.
func (l *Ledger) Close() error { return l.file.Close() }

// Comparison is what two ledgers say together.
type Comparison struct {
	Sent     int      // ids in the first
	Received int      // different ids in the second
	Lost     []string // in the first and not in the second, in order
	Repeated int      // lines of the second beyond the first for an id
	Unknown  int      // in the second and not in the first: those whose acknowledgement got lost
}

// Compare reads both to their end. A last line without a line end was being written when its writer died, and does not
// count.
func Compare(sent, received io.Reader) (Comparison, error) {
	var c Comparison
	got := map[string]int{}
	errReceived := lines(received, func(id string) { got[id]++ })
	for _, n := range got {
		c.Repeated += n - 1
	}
	c.Received = len(got)
	known := map[string]bool{}
	errSent := lines(sent, func(id string) {
		if known[id] {
			return
		}
		known[id] = true
		if got[id] == 0 {
			c.Lost = append(c.Lost, id)
		}
	})
	c.Sent = len(known)
	for id := range got {
		if !known[id] {
			c.Unknown++
		}
	}
	return c, errors.Join(errSent, errReceived)
}

func lines(r io.Reader, each func(string)) error {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("ledger: %w", err)
		case len(line) > 1:
			each(line[:len(line)-1])
		}
	}
}
