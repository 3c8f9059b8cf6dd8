package xfer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/mtakit/mtakit"
)

// generation is how many ids a file of Arrivals has: that many are remembered at least, and twice as many at most, in some 40 bytes of memory each.
const generation = 1 << 18

// Arrivals remembers which messages have come from other nodes: the last 262,144 at least. It is safe for concurrent use.
type Arrivals struct {
	path string // "" is memory alone

	mu        sync.Mutex
	now, last map[mtakit.ID]struct{}
	file      *os.File // of now
	size      int64    // of file
	most      int
}

// NewArrivals remembers in memory.
func NewArrivals() *Arrivals { return &Arrivals{now: make(map[mtakit.ID]struct{}), most: generation} }

// OpenArrivals remembers in the file of that name too, and in a second one with .old behind it, up to 4 MiB each: what is in them survives the end of the
// process, though perhaps not that of the machine. The caller closes it.
func OpenArrivals(path string) (*Arrivals, error) {
	a := NewArrivals()
	a.path = path
	var err error
	if a.last, err = readIDs(path + oldSuffix); err != nil {
		return nil, err
	}
	if a.now, err = readIDs(path); err != nil {
		return nil, err
	}
	if a.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, fmt.Errorf("xfer: arrivals: %w", err)
	}
	// A write that was cut off by the end of the process left a part of an id.
	st, err := a.file.Stat()
	if err == nil {
		a.size = st.Size() - st.Size()%int64(len(mtakit.ID{}))
		err = a.file.Truncate(a.size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("xfer: arrivals: %w", err), a.file.Close())
	}
	return a, nil
}

const oldSuffix = ".old"

func readIDs(path string) (map[mtakit.ID]struct{}, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("xfer: arrivals: %w", err)
	}
	b = b[max(0, len(b)/len(mtakit.ID{})-generation)*len(mtakit.ID{}):] // more is there only if a turn failed
	ids := make(map[mtakit.ID]struct{}, len(b)/len(mtakit.ID{}))
	for ; len(b) >= len(mtakit.ID{}); b = b[len(mtakit.ID{}):] {
		ids[mtakit.ID(b[:len(mtakit.ID{})])] = struct{}{}
	}
	return ids, nil
}

// Has says whether the message that has the id here is known to have come.
func (a *Arrivals) Has(id mtakit.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, now := a.now[id]
	_, last := a.last[id]
	return now || last
}

// Add remembers a message. After an error it is remembered in memory.
func (a *Arrivals) Add(id mtakit.ID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if len(a.now) >= a.most {
		err = a.turn()
	}
	a.now[id] = struct{}{}
	if a.file != nil {
		if _, werr := a.file.Write(id[:]); werr != nil {
			err = errors.Join(err, fmt.Errorf("xfer: arrivals: %w", werr), a.file.Truncate(a.size))
		} else {
			a.size += int64(len(id))
		}
	}
	return err
}

// turn begins a new generation and forgets the last but one. It is called with mu held.
func (a *Arrivals) turn() error {
	a.last, a.now = a.now, make(map[mtakit.ID]struct{})
	if a.file == nil {
		return nil
	}
	if err := os.Rename(a.path, a.path+oldSuffix); err != nil {
		return fmt.Errorf("xfer: arrivals: %w", err) // the file grows on
	}
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("xfer: arrivals: %w", err)
	}
	a.file.Close() // nothing of it is in a buffer
	a.file, a.size = f, 0
	return nil
}

// Close closes the file. What comes later is remembered in memory.
func (a *Arrivals) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}
