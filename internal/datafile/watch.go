package datafile

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watch says how files are kept an eye on.
type Watch[T any] struct {
	Files []string
	// Load reads the files and makes a T of them. One goroutine at a time calls it.
	Load func(ctx context.Context) (T, error)
	// Same says that a version is no other than the one before, which then stays. Default: none is.
	Same func(a, b T) bool
	// Tell is called with each new version once it is in force, or with the error of one that did not load. Nil: nobody is told.
	Tell func(T, error)
	// Poll is how often the contents are compared, in case the file system tells nothing. Default 10 s.
	Poll time.Duration
	// Refresh is how often Load is called even though no file changed. Default: never.
	Refresh time.Duration
}

// Watched keeps the last good version of something made from files.
type Watched[T any] struct {
	cfg     Watch[T]
	current atomic.Pointer[T]

	mu     sync.Mutex // one reload at a time; guards what follows
	seen   [sha256.Size]byte
	broken bool // what was seen did not load
}

// Open loads the first version; without one there is an error.
func Open[T any](ctx context.Context, cfg Watch[T]) (*Watched[T], error) {
	if cfg.Poll <= 0 {
		cfg.Poll = 10 * time.Second
	}
	if cfg.Tell == nil {
		cfg.Tell = func(T, error) {}
	}
	w := &Watched[T]{cfg: cfg, seen: hashFiles(cfg.Files)}
	v, err := cfg.Load(ctx)
	if err != nil {
		return nil, err
	}
	w.current.Store(&v)
	return w, nil
}

// Current is the version in force.
func (w *Watched[T]) Current() T { return *w.current.Load() }

// Reload loads the files now, whether they changed or not. With an error the old version stays.
func (w *Watched[T]) Reload(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = hashFiles(w.cfg.Files)
	return w.load(ctx)
}

// reloadIfChanged does nothing if the contents are those of the last try, good or bad: a broken version is reported once.
func (w *Watched[T]) reloadIfChanged(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := hashFiles(w.cfg.Files); h != w.seen {
		w.seen = h
		w.load(ctx)
	}
}

// refresh is Reload, but leaves files alone that did not load.
func (w *Watched[T]) refresh(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.broken {
		w.seen = hashFiles(w.cfg.Files)
		w.load(ctx)
	}
}

func (w *Watched[T]) load(ctx context.Context) error {
	v, err := w.cfg.Load(ctx)
	w.broken = err != nil
	switch {
	case err != nil:
		if ctx.Err() == nil {
			var none T
			w.cfg.Tell(none, err)
		}
		return err
	case w.cfg.Same != nil && w.cfg.Same(w.Current(), v):
		return nil
	}
	w.current.Store(&v)
	w.cfg.Tell(v, nil)
	return nil
}

// settle is how long the file system has to be quiet before the files are read: editors write in several steps.
const settle = 100 * time.Millisecond

// Run reloads the files when they change, until ctx ends; it returns nil.
func (w *Watched[T]) Run(ctx context.Context) error {
	poll := time.NewTicker(w.cfg.Poll)
	defer poll.Stop()
	var refresh <-chan time.Time
	if w.cfg.Refresh > 0 {
		t := time.NewTicker(w.cfg.Refresh)
		defer t.Stop()
		refresh = t.C
	}
	var events chan fsnotify.Event
	var errors chan error
	if n := notifier(w.cfg.Files); n != nil {
		defer n.Close()
		events, errors = n.Events, n.Errors
		w.reloadIfChanged(ctx) // what changed before the notifier listened
	}
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			quiet.Reset(settle)
		case <-errors: // events were lost
			quiet.Reset(settle)
		case <-quiet.C:
			w.reloadIfChanged(ctx)
		case <-poll.C:
			w.reloadIfChanged(ctx)
		case <-refresh:
			w.refresh(ctx)
		}
	}
}

// notifier watches the directories of the files, since a file that is replaced by renaming is another file. It is nil where the
// system has no watches left: then there is polling.
func notifier(files []string) *fsnotify.Watcher {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil
	}
	for _, f := range files {
		if n.Add(filepath.Dir(f)) != nil {
			continue // the directory is not there yet, perhaps: polling finds it
		}
	}
	return n
}

// hashFiles covers names and contents; a file that cannot be read counts as its name.
func hashFiles(files []string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range files {
		io.WriteString(h, name+"\x00")
		one := sha256.New()
		if f, err := os.Open(name); err == nil {
			_, err = io.Copy(one, io.LimitReader(f, MaxSize+1))
			f.Close()
			if err == nil {
				h.Write(one.Sum(nil))
			}
		}
	}
	h.Sum(sum[:0])
	return sum
}
