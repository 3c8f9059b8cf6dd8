// Package answerfile keeps the answers to requests with an Idempotency-Key on disk, so that a repeat gets the answer of the first request also after a
// restart, a crash or a power failure in between.
//
//	kept, err := answerfile.Open("data/answers", answerfile.Options{})
//	api, err := httpapi.New(httpapi.Config{Queue: q, Answers: kept})
//
// The answers are in two files of checksummed records, an older and a newer one. When the newer has half of what may be kept, or begins with an answer
// that is older than answers must be kept for, it becomes the older one, and what was that is deleted. So nothing is ever copied, and at any time the last half of
// what may be kept is there. In memory is where each answer is, some 100 bytes.
//
// There is no goroutine: of the callers of Keep that wait, one writes and syncs for all.
package answerfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
	"github.com/mtakit/mtakit/queue/httpapi"
)

// Options says what is kept. Fields may be zero.
type Options struct {
	// For is how long answers are kept. Default one day.
	For time.Duration
	// Max and MaxBytes are how many answers there may be, and how much room they may take. Default 100,000 and 64 MiB. At least half of it is used
	// before anything is forgotten that is not older than For.
	Max      int
	MaxBytes int64
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Log is for what was found damaged. Nil: discarded.
	Log *slog.Logger
	// FS is the file system; nil is the operating system's.
	FS vfs.FS
}

func (o *Options) withDefaults() error {
	if o.For < 0 || o.Max < 0 || o.MaxBytes < 0 {
		return errors.New("answerfile: Options has a negative number")
	}
	if o.For == 0 {
		o.For = 24 * time.Hour
	}
	if o.Max == 0 {
		o.Max = 100_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.OS
	}
	return nil
}

type key = [sha256.Size]byte

// Answers is a [httpapi.Answers] in a directory. It is safe for concurrent use.
type Answers struct {
	dir  string
	o    Options
	lock io.Closer

	writing sync.Mutex // held while the newer file is written; outermost

	mu      sync.RWMutex
	closed  bool
	files   []*file // at most two, the newer last
	known   map[key]place
	waiting []*write
}

// place is where an answer is.
type place struct {
	file *file
	off  int64
	size int
}

// write is an answer on its way to the disk. err may be read once done is.
type write struct {
	key    key
	record []byte
	done   bool
	err    error
}

// ErrTooLarge is an answer that is larger than half of MaxBytes.
var ErrTooLarge = errors.New("answerfile: the answer is too large to be kept")

// Open opens the directory, which is made if need be, and reads where answers are. What is damaged, or was torn by a crash, is left out. Nobody else may have
// the directory open.
func Open(dir string, o Options) (*Answers, error) {
	if err := o.withDefaults(); err != nil {
		return nil, err
	}
	a := &Answers{dir: dir, o: o, known: make(map[key]place)}
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("answerfile: opening %s: %w", dir, err)
	}
	return a, nil
}

func (a *Answers) open() (err error) {
	if err := vfs.MakeDir(a.o.FS, a.dir, 0o700); err != nil {
		return err
	}
	if a.lock, err = a.o.FS.Lock(filepath.Join(a.dir, "lock")); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.release())
		}
	}()
	entries, err := a.o.FS.ReadDir(a.dir)
	if err != nil {
		return err
	}
	for _, e := range entries { // ascending
		hex, ok := strings.CutSuffix(e.Name(), suffix)
		number, err := strconv.ParseUint(hex, 16, 64)
		if !ok || err != nil || e.Name() != fileName(number) {
			continue
		}
		f, err := a.o.FS.OpenFile(filepath.Join(a.dir, e.Name()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		g := &file{File: f, number: number}
		a.files = append(a.files, g)
		if len(a.files) > 2 { // the oldest should have been deleted
			if err := a.forget(); err != nil {
				return err
			}
		}
		if err := a.read(g); err != nil {
			return err
		}
	}
	return nil
}

// read learns where the answers of a file are.
func (a *Answers) read(g *file) error {
	size, err := g.Size()
	if err != nil {
		return err
	}
	err = g.each(size, func(off int64, r *record) {
		g.add(r)
		a.known[r.key] = place{g, off, r.size()}
	})
	if errors.Is(err, errDamaged) {
		a.o.Log.Warn("answers are left out that were damaged or not written to their end", "file", filepath.Join(a.dir, fileName(g.number)), "bytes", size-g.end)
		return nil
	}
	return err
}

// Answer implements [httpapi.Answers].
func (a *Answers) Answer(_ context.Context, k [sha256.Size]byte) (*httpapi.Answer, error) {
	a.mu.RLock() // so that the file stays
	defer a.mu.RUnlock()
	if a.closed {
		return nil, mtakit.ErrClosed
	}
	p, ok := a.known[k]
	if !ok {
		return nil, nil
	}
	b := make([]byte, p.size)
	if _, err := p.file.ReadAt(b, p.off); err != nil {
		return nil, fmt.Errorf("answerfile: %w", err)
	}
	r, err := parse(b)
	if err != nil || r.key != k {
		return nil, fmt.Errorf("answerfile: %s at %d: %w", fileName(p.file.number), p.off, errDamaged)
	}
	if a.o.Now().Sub(r.at) > a.o.For {
		return nil, nil
	}
	return &httpapi.Answer{Request: r.request, Body: r.body, Done: r.done}, nil
}

// Keep implements [httpapi.Answers]. The answer is on stable storage when it returns nil.
func (a *Answers) Keep(_ context.Context, k [sha256.Size]byte, answer *httpapi.Answer) error {
	r := record{at: a.o.Now(), done: answer.Done, key: k, request: answer.Request, body: answer.Body}
	if int64(r.size()) > min(a.o.MaxBytes/2, bodyMax) {
		return ErrTooLarge
	}
	w := &write{key: k, record: r.append(nil)}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return mtakit.ErrClosed
	}
	a.waiting = append(a.waiting, w)
	a.mu.Unlock()
	a.writing.Lock()
	defer a.writing.Unlock()
	if !w.done { // else somebody took it along
		a.write(r.at)
	}
	return w.err
}

// write writes what is waiting. It is called with writing held.
func (a *Answers) write(now time.Time) {
	a.mu.Lock()
	all := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	for len(all) > 0 {
		var buf []byte
		n := 0
		g, err := a.room(now, len(all[0].record))
		for err == nil && n < len(all) && (n == 0 || a.fits(g, n+1, len(buf)+len(all[n].record))) {
			buf = append(buf, all[n].record...)
			n++
		}
		if err == nil {
			if _, err = g.WriteAt(buf, g.end); err == nil {
				err = g.Datasync()
			}
		} else {
			n = len(all)
		}
		a.mu.Lock()
		for _, w := range all[:n] {
			if w.done = true; err != nil {
				w.err = fmt.Errorf("answerfile: %w", err)
				continue
			}
			a.known[w.key] = place{g, g.end, len(w.record)}
			g.add(&record{at: now, key: w.key, body: w.record[headerSize:]})
		}
		a.mu.Unlock()
		all = all[n:]
	}
}

// fits says whether a file may have so many more answers of so many bytes.
func (a *Answers) fits(g *file, count, bytes int) bool {
	return len(g.keys)+count <= max(a.o.Max/2, 1) && g.end+int64(bytes) <= a.o.MaxBytes/2
}

// room is the newer file, which is a new one if an answer of that size does not belong into the one there was.
func (a *Answers) room(now time.Time, size int) (*file, error) {
	number := uint64(1)
	if n := len(a.files); n > 0 {
		g := a.files[n-1]
		if a.fits(g, 1, size) && (len(g.keys) == 0 || now.Sub(g.first) <= a.o.For) {
			return g, nil
		}
		number = g.number + 1
	}
	f, err := a.o.FS.OpenFile(filepath.Join(a.dir, fileName(number)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := a.o.FS.SyncDir(a.dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	g := &file{File: f, number: number}
	a.files = append(a.files, g)
	for len(a.files) > 2 {
		if err := a.forget(); err != nil {
			a.o.Log.Warn("old answers can't be deleted", "dir", a.dir, "err", err)
		}
	}
	return g, nil
}

// forget deletes the oldest file. It is called with mu held for writing.
func (a *Answers) forget() error {
	g := a.files[0]
	a.files = a.files[1:]
	for _, k := range g.keys {
		if a.known[k].file == g {
			delete(a.known, k)
		}
	}
	err := errors.Join(g.Close(), a.o.FS.Remove(filepath.Join(a.dir, fileName(g.number))))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Len is how many answers there are, those that are too old included.
func (a *Answers) Len() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.known)
}

// Close gives the directory back. Calls that come later return ErrClosed.
func (a *Answers) Close() error {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return mtakit.ErrClosed
	}
	a.closed = true
	for _, w := range a.waiting {
		w.done, w.err = true, mtakit.ErrClosed
	}
	return a.release()
}

func (a *Answers) release() error {
	var errs []error
	for _, g := range a.files {
		errs = append(errs, g.Close())
	}
	return errors.Join(append(errs, a.lock.Close())...)
}
