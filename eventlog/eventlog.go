// Package eventlog keeps the records of an MTA in segment files: one JSON object a line, compressed with zstd, named by
// time, read-only once complete. [Log] writes them, [Tailer] follows them.
//
//	log, err := eventlog.Open(eventlog.Config{Dir: "logs", Headers: []string{"Subject"}})
//	q, err := queue.New(queue.Config{Record: log /* … */})
//	…
//	err = log.Close() // when nothing records any more
//
// # Nothing is dropped, nothing waits
//
// Record copies the record into memory and returns; one goroutine per Log, started by Open and ended by Close, compresses
// and writes. While the disk is full or fails, records stay in memory, the writer tries again, and [Log.Pace] holds new
// work back, as it does while more records wait than [Config.BackPressure] allows. A second goroutine looks at the free
// space every five seconds; [Log.Err] tells the gates.
//
// # What a crash costs
//
// A record reaches the operating system within about [Config.FlushInterval] and from then on survives the end of the
// process; kill -9 costs the records of that interval at most. Who must not lose even those calls [Log.Flush] between an
// event and the step that makes it irreversible (the queue does, before it removes a message from the spool); all who
// wait share one write. A power failure may cost what the system has not written yet, unless [Config.Sync] is set.
//
// # Streams
//
// Each record has the name of its stream and its number in it, from 1. There is a stream for each directory and suffix.
// Numbers go on over restarts: after a crash they are recovered from the segment that was open. Numbers of records that
// a crash cost were never seen by anybody, and are given again; where that cannot be known (the machine went down, or
// the segment is gone) a new stream begins. So within a stream, a missing number is a lost record and a repeated one
// is a repeated record: the writer repeats records when a file fails under it and it turns to a new one.
package eventlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
)

// Any in [Config.PerRecord] stands for all kinds without an entry of their own.
const Any mtakit.Kind = "Any"

// Config says where and how a Log writes. The zero value of each field is its default.
type Config struct {
	Dir string // of the segments; required, created if missing

	// MaxFileSize closes a segment that holds so many bytes before compression. Default 1,000,000,000.
	MaxFileSize int64
	// MaxSegmentDuration closes a segment that has been open so long, whether or not records come. Default: no limit.
	MaxSegmentDuration time.Duration
	// CompressionLevel is zstd's, from 1 to 21. Default 3.
	CompressionLevel int

	// BackPressure is how many records may wait for the writer, and MaxPending how many bytes, before Pace holds new work
	// back. Defaults 128,000 and 256 MiB.
	BackPressure int
	MaxPending   int64
	// FlushInterval is how long a record may wait for others before it is written. Default 10ms.
	FlushInterval time.Duration
	// Sync puts each write on stable storage before Flush returns.
	Sync bool

	// Meta names metadata to capture, Headers header fields. A * at the end makes a name a prefix. Names of headers are
	// compared without regard to case.
	Meta, Headers []string
	// Filter lets a record through or not. It is not asked about Rejection, may be called concurrently, and must not
	// block; a record about which it panics is let through.
	Filter func(*mtakit.Record) bool
	// PerRecord is what holds for one kind of record, or for Any kind without an own entry.
	PerRecord map[mtakit.Kind]KindConfig

	// MinFreeSpace and MinFreeInodes are limits for the file system of each directory: a share ("10%") or a number of bytes
	// or inodes. Below one, Err is not nil. Default "10%"; "0" is no limit.
	MinFreeSpace, MinFreeInodes string

	Logger *slog.Logger // nil is slog.Default
}

// KindConfig is what holds for one kind of record. The zero value is: written, to Config.Dir, without a suffix.
type KindConfig struct {
	Disable       bool
	Suffix        string // after the time in the segment's name
	Dir           string // "" is Config.Dir
	SegmentHeader string // written as it is at the start of a segment that this kind opens
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("eventlog: Config.Dir is required")
	}
	for _, n := range []struct {
		name string
		v    *int64
		def  int64
	}{{"MaxFileSize", &c.MaxFileSize, 1e9}, {"MaxPending", &c.MaxPending, 256 << 20}} {
		if *n.v < 0 {
			return c, fmt.Errorf("eventlog: Config.%s is %d, want 1 or more", n.name, *n.v)
		} else if *n.v == 0 {
			*n.v = n.def
		}
	}
	if c.CompressionLevel < 0 || c.CompressionLevel > 21 {
		return c, fmt.Errorf("eventlog: Config.CompressionLevel is %d, want 1 to 21", c.CompressionLevel)
	}
	if c.BackPressure < 0 {
		return c, fmt.Errorf("eventlog: Config.BackPressure is %d, want 1 or more", c.BackPressure)
	}
	if c.MaxSegmentDuration < 0 || c.FlushInterval < 0 {
		return c, errors.New("eventlog: Config has a negative duration")
	}
	if c.CompressionLevel == 0 {
		c.CompressionLevel = 3
	}
	if c.BackPressure == 0 {
		c.BackPressure = 128_000
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = 10 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	for _, names := range [][]string{c.Meta, c.Headers} {
		for _, n := range names {
			if n == "" {
				return c, errors.New("eventlog: Config.Meta or Headers has an empty name")
			}
		}
	}
	c.Meta, c.Headers, c.PerRecord = slices.Clone(c.Meta), slices.Clone(c.Headers), maps.Clone(c.PerRecord)
	return c, nil
}

// Log is an open event log. It implements [mtakit.Recorder], [mtakit.Pacer], [mtakit.BodyRecorder], [mtakit.Flusher] and
// [mtakit.Collector]; all methods may be called concurrently.
type Log struct {
	cfg Config
	system
	dirs    []*directory
	streams []*stream
	routes  map[mtakit.Kind]route
	other   route
	meta    []pattern
	headers []pattern
	counts  counts

	scratch sync.Pool // of *scratch
	queue   queue
	failing atomic.Pointer[error] // the last write failed

	wake   chan struct{} // there is something to write
	urgent chan struct{} // and it should not wait for more
	quit   chan struct{} // Close was called
	done   sync.WaitGroup
	closed sync.Once
	err    error // of Close
}

// route is where records of a kind go.
type route struct {
	disable bool
	stream  *stream
	header  string
}

// system is what a Log stands on.
type system struct {
	fs   vfs.FS
	boot string // changes when the machine restarts; "" is not known
	// frameSize is how many bytes before compression go into a zstd frame. After a crash no more than one is read.
	frameSize int64
}

// Open opens the log for writing and creates its directories. Segments that a crash left open are marked complete. It fails
// if another Log, in this process or another, has one of the directories.
func Open(cfg Config) (*Log, error) {
	return open(cfg, system{fs: vfs.OS, boot: bootID(), frameSize: 64 << 20})
}

func open(cfg Config, sys system) (_ *Log, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, system: sys, routes: map[mtakit.Kind]route{},
		meta: patterns(cfg.Meta), headers: patterns(cfg.Headers),
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	l.scratch.New = func() any { return new(scratch) }
	l.queue.progress = make(chan struct{})
	l.counts.init("dir-" + cfg.Dir)
	space, err := parseLimits(cfg.MinFreeSpace, cfg.MinFreeInodes)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.unlock()
		}
	}()
	if l.other, err = l.route(cfg.PerRecord[Any], space); err != nil {
		return nil, err
	}
	for kind, kc := range cfg.PerRecord {
		if l.routes[kind], err = l.route(kc, space); err != nil {
			return nil, err
		}
	}
	for _, d := range l.dirs {
		if err := d.recover(l); err != nil {
			return nil, err
		}
	}
	l.checkSpace()
	l.done.Go(func() {
		l.write()
		l.queue.end()
	})
	l.done.Go(l.watchSpace)
	return l, nil
}

// route makes the stream of a kind, and its directory, unless they are there.
func (l *Log) route(kc KindConfig, space limits) (route, error) {
	if kc.Disable {
		return route{disable: true}, nil
	}
	path := filepath.Clean(cmp.Or(kc.Dir, l.cfg.Dir))
	if i := slices.IndexFunc(l.streams, func(s *stream) bool { return s.dir.path == path && s.suffix == kc.Suffix }); i >= 0 {
		return route{stream: l.streams[i], header: kc.SegmentHeader}, nil
	}
	i := slices.IndexFunc(l.dirs, func(d *directory) bool { return d.path == path })
	if i < 0 {
		d, err := openDirectory(l.fs, path, space)
		if err != nil {
			return route{}, err
		}
		i, l.dirs = len(l.dirs), append(l.dirs, d)
	}
	s := &stream{log: l, dir: l.dirs[i], suffix: kc.Suffix}
	l.streams = append(l.streams, s)
	s.dir.streams = append(s.dir.streams, s)
	return route{stream: s, header: kc.SegmentHeader}, nil
}

func (l *Log) routeOf(kind mtakit.Kind) route {
	if r, ok := l.routes[kind]; ok {
		return r
	}
	return l.other
}

func (l *Log) unlock() {
	for _, d := range l.dirs {
		d.lock.Close()
	}
}

// Close writes what has been recorded, completes the segments and gives the directories free. What is recorded
// afterwards is lost. If the disk does not take what is left, the error says how many records that cost.
func (l *Log) Close() error {
	l.closed.Do(func() {
		l.queue.close()
		close(l.quit)
		l.done.Wait()
		l.unlock()
	})
	return l.err
}

var _ interface {
	mtakit.Pacer
	mtakit.BodyRecorder
	mtakit.Collector
	Flush(context.Context) error
	Err() error
} = (*Log)(nil)
