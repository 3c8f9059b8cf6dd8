package eventlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mtakit/mtakit"
)

// TailerConfig says what a Tailer follows. The zero value of each field is its default.
type TailerConfig struct {
	Dir     string // of the segments; required
	Pattern string // of their names, as [path.Match] has it; default "*". Hidden files are never read

	// Checkpoint is the name under which Commit keeps the place in the directory, and from which the next Tailer goes on.
	// "" is none: Commit does nothing, and reading begins with the oldest segment.
	Checkpoint string
	// FromNewest begins with the newest segment, whatever the checkpoint says.
	FromNewest bool

	BatchSize    int           // lines; default 1000
	BatchLatency time.Duration // how long the first line of a batch may wait for others; default 1s

	Logger *slog.Logger // nil is slog.Default
}

func (c TailerConfig) withDefaults() (TailerConfig, error) {
	switch {
	case c.Dir == "":
		return c, errors.New("eventlog: TailerConfig.Dir is required")
	case c.BatchSize < 0 || c.BatchLatency < 0:
		return c, errors.New("eventlog: TailerConfig has a negative BatchSize or BatchLatency")
	case strings.ContainsAny(c.Checkpoint, `/\`):
		return c, fmt.Errorf("eventlog: TailerConfig.Checkpoint is %q, want a name without a directory", c.Checkpoint)
	}
	if c.Pattern == "" {
		c.Pattern = "*"
	}
	if _, err := path.Match(c.Pattern, ""); err != nil {
		return c, fmt.Errorf("eventlog: TailerConfig.Pattern is %q: %w", c.Pattern, err)
	}
	if c.BatchSize == 0 {
		c.BatchSize = 1000
	}
	if c.BatchLatency == 0 {
		c.BatchLatency = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Tailer gives the lines of the segments in a directory, in the order of their names, and waits for more. It has one
// goroutine, which reads ahead a little, from OpenTailer to Close. Next and Commit are for one goroutine.
//
// A segment is finished when it is read-only or gone. One that ends in the middle of a line, because of a crash, ends with
// the line before; one that is damaged is left at that point, with a word in the diagnostic log. One that cannot be opened is waited for.
type Tailer struct {
	cfg     TailerConfig
	watcher *fsnotify.Watcher // nil if there is none: then we look every pollInterval
	cancel  context.CancelFunc
	done    sync.WaitGroup

	chunks chan chunk // closed when the reader ends
	err    error      // why it did; read after that

	rest chunk // lines that the last batch did not take
}

// pollInterval is how often to look where the system does not tell.
const pollInterval = 200 * time.Millisecond

// maxChunk is how many bytes the reader is ahead by, or a line more.
const maxChunk = 256 << 10

// chunk is some lines of a segment.
type chunk struct {
	file string
	line int // number of lines before the first of these
	buf  []byte
	ends []int
}

// OpenTailer begins to follow a directory, which exists.
func OpenTailer(cfg TailerConfig) (*Tailer, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Tailer{cfg: cfg, chunks: make(chan chunk)}
	start, err := t.start()
	if err != nil {
		return nil, err
	}
	if t.watcher, err = fsnotify.NewWatcher(); err == nil {
		if err = t.watcher.Add(cfg.Dir); err != nil {
			t.watcher.Close()
		}
	}
	if err != nil {
		t.watcher = nil
		cfg.Logger.Info("directory of the event log is polled", "dir", cfg.Dir, "err", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.done.Go(func() {
		defer close(t.chunks)
		if t.err = t.follow(ctx, start); ctx.Err() != nil {
			t.err = mtakit.ErrClosed
		}
	})
	return t, nil
}

// Close ends the reader. Next then gives what had been read, and after that mtakit.ErrClosed.
func (t *Tailer) Close() error {
	t.cancel()
	t.done.Wait()
	if t.watcher != nil {
		return t.watcher.Close()
	}
	return nil
}

// Batch is lines of one or more segments.
type Batch struct {
	t    *Tailer
	buf  []byte
	ends []int
	pos  checkpoint
}

// Len is the number of lines, 1 or more.
func (b *Batch) Len() int { return len(b.ends) }

// Lines yields the lines without their line ends. They are valid as long as the batch is kept.
func (b *Batch) Lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		start := 0
		for _, end := range b.ends {
			if !yield(b.buf[start : end-1 : end-1]) {
				return
			}
			start = end
		}
	}
}

// Records yields the lines decoded, or why one could not be: a segment header, for example.
func (b *Batch) Records() iter.Seq2[mtakit.Record, error] {
	return func(yield func(mtakit.Record, error) bool) {
		for line := range b.Lines() {
			var r mtakit.Record
			err := r.UnmarshalJSON(line)
			if err != nil {
				err = fmt.Errorf("eventlog: line %.100q: %w", line, err)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// Commit notes that the batch, and all before it, need not be given again.
func (b *Batch) Commit() error {
	if b.t.cfg.Checkpoint == "" {
		return nil
	}
	return b.pos.save(b.t.checkpointFile())
}

// Next waits for lines. It returns the error of ctx, or that of reading the directory, which is final; nothing is lost by an
// ended ctx.
func (t *Tailer) Next(ctx context.Context) (*Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := &Batch{t: t}
	var late <-chan time.Time
	for len(b.ends) < t.cfg.BatchSize {
		if len(t.rest.ends) == 0 {
			select {
			case c, ok := <-t.chunks:
				if !ok {
					if b.Len() > 0 {
						return b, nil
					}
					return nil, t.err
				}
				t.rest = c
			case <-late:
				return b, nil
			case <-ctx.Done():
				if b.Len() > 0 {
					return b, nil
				}
				return nil, ctx.Err()
			}
		}
		b.take(&t.rest)
		if late == nil {
			timer := time.NewTimer(t.cfg.BatchLatency)
			defer timer.Stop()
			late = timer.C
		}
	}
	return b, nil
}

// take moves lines from c, as many as there is room for.
func (b *Batch) take(c *chunk) {
	n := min(len(c.ends), b.t.cfg.BatchSize-len(b.ends))
	if len(b.ends) == 0 && n == len(c.ends) { // the common case: the chunk becomes the batch
		b.buf, b.ends = c.buf, c.ends
		b.pos = checkpoint{File: c.file, Line: c.line + n}
		*c = chunk{}
		return
	}
	off, cut := len(b.buf), c.ends[n-1]
	b.buf = append(b.buf, c.buf[:cut]...)
	for _, end := range c.ends[:n] {
		b.ends = append(b.ends, off+end)
	}
	c.buf, c.ends, c.line = c.buf[cut:], c.ends[n:], c.line+n
	for i := range c.ends {
		c.ends[i] -= cut
	}
	b.pos = checkpoint{File: c.file, Line: c.line}
}

// follow is the reader's goroutine.
func (t *Tailer) follow(ctx context.Context, from checkpoint) error {
	last := ""
	for {
		files, err := t.files()
		if err != nil {
			return err
		}
		i, found := slices.BinarySearch(files, from.File)
		if found && last == from.File {
			i++
		}
		if i == len(files) {
			if err := t.wait(ctx); err != nil {
				return err
			}
			continue
		}
		if files[i] != from.File {
			from = checkpoint{File: files[i]}
		}
		if err := t.read(ctx, from); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			t.cfg.Logger.Warn("segment of the event log ends early or is damaged", "file", from.File, "err", err)
		}
		last = from.File
	}
}

// read gives the lines of a segment, from a line on, until it is finished.
func (t *Tailer) read(ctx context.Context, from checkpoint) error {
	f, err := t.open(ctx, from.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since we listed it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return err
	}
	c := chunk{file: from.File, line: from.Line}
	send := func() error {
		if len(c.ends) == 0 {
			return nil
		}
		select {
		case t.chunks <- c:
			c = chunk{file: c.file, line: c.line + len(c.ends), buf: make([]byte, 0, len(c.buf)), ends: make([]int, 0, len(c.ends))}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n := 0
	in := bufio.NewReaderSize(&growing{f: f, wait: func() error { return errors.Join(send(), t.wait(ctx)) }}, 64<<10)
	err = readLines(in, func(line []byte) bool {
		if n++; n <= from.Line {
			return true
		}
		c.buf = append(c.buf, line...)
		c.ends = append(c.ends, len(c.buf))
		return len(c.ends) < t.cfg.BatchSize && len(c.buf) < maxChunk || send() == nil
	})
	return errors.Join(err, send())
}

// open opens a segment. One that is there and does not open, for lack of file descriptors perhaps, is waited for.
func (t *Tailer) open(ctx context.Context, name string) (*os.File, error) {
	var reminded time.Time
	for {
		f, err := os.Open(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if now := time.Now(); now.Sub(reminded) >= remindAfter {
			reminded = now
			t.cfg.Logger.Warn("segment of the event log cannot be opened; waiting for it", "file", name, "err", err)
		}
		if err := t.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// growing reads a file that is being written, to its end when it is finished.
type growing struct {
	f    *os.File
	wait func() error
}

func (g *growing) Read(p []byte) (int, error) {
	for {
		n, err := g.f.Read(p)
		if n > 0 || err != io.EOF {
			return n, err
		}
		if g.finished() {
			return g.f.Read(p) // what came before it was
		}
		if err := g.wait(); err != nil {
			return 0, err
		}
	}
}

func (g *growing) finished() bool {
	st, err := g.f.Stat()
	if err != nil || st.Mode()&0o222 == 0 {
		return true
	}
	now, err := os.Stat(g.f.Name())
	return err != nil || !os.SameFile(st, now)
}

// wait returns when something may have changed.
func (t *Tailer) wait(ctx context.Context) error {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	var events chan fsnotify.Event
	var errs chan error
	if t.watcher != nil {
		events, errs = t.watcher.Events, t.watcher.Errors
	}
	select {
	case <-events:
	case <-errs: // too many events at once, for example: look
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// files lists the segments, sorted.
func (t *Tailer) files() ([]string, error) {
	names, err := fs.Glob(os.DirFS(t.cfg.Dir), t.cfg.Pattern)
	if err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	files := make([]string, 0, len(names))
	for _, n := range names {
		if !strings.HasPrefix(path.Base(n), ".") {
			files = append(files, filepath.Join(t.cfg.Dir, filepath.FromSlash(n)))
		}
	}
	slices.Sort(files)
	return files, nil
}
