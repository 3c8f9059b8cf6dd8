package spool

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/mtakit/mtakit/internal/vfs"
)

// Options says how a spool works. The zero value of each field is its default.
type Options struct {
	// SegmentSize is the size of a file of the log. Default and most 64 MiB, at least 64 KiB; on a small or nearly full disk new
	// segments are smaller: 1/32 of what is free. A message that is larger has a segment of its own.
	SegmentSize int64

	// MaxMessages and MaxBytes limit how many messages there are, and how much the log takes, with what is dead but not
	// yet freed. Zero is no limit. Once met, messages are refused until 5 % are free again.
	MaxMessages int
	MaxBytes    int64

	// MinFree and MinFreeInodes are what must be free on the file system for messages to be accepted. Default 10 %; Limit{Bytes: 1}
	// is next to nothing. Once it is less, messages are refused until there is a tenth of the limit more.
	MinFree, MinFreeInodes Limit

	// CheckInterval is how often the free space is looked at and whether the directory is still there. Default 5s; while
	// the spool is full, at most every second.
	CheckInterval time.Duration

	// CheckpointInterval is how often the index is written to bbolt, if it has changed. Default 5s. What was written to the
	// log since is read again at start.
	CheckpointInterval time.Duration

	// RetryInterval is how long the spool waits, after storage has failed, before it reopens and checks itself, and between
	// further attempts. Default 5s.
	RetryInterval time.Duration

	Log *slog.Logger // nil: discarded

	// FS is the file system; nil is the operating system's. Package spooltest has one that crashes, fills up and fails.
	FS vfs.FS
}

// Limit is an amount of a resource: a number of bytes (or inodes), or else a percentage of all there is.
type Limit struct {
	Bytes   uint64
	Percent float64
}

const (
	minSegment     = 64 << 10
	maxCheckpoint  = 256 << 20 // bytes of log after which the index is written, whatever the interval
	hysteresisPart = 20        // 5 %
)

func (o Options) withDefaults() (Options, error) {
	if o.SegmentSize == 0 {
		o.SegmentSize = maxSegment
	}
	if o.SegmentSize < minSegment || o.SegmentSize > maxSegment {
		return o, fmt.Errorf("spool: Options.SegmentSize is %d, want %d to %d", o.SegmentSize, minSegment, maxSegment)
	}
	o.SegmentSize = pad8(o.SegmentSize)
	if o.MaxMessages < 0 || o.MaxBytes < 0 {
		return o, fmt.Errorf("spool: Options.MaxMessages is %d and MaxBytes %d, want 0 or more", o.MaxMessages, o.MaxBytes)
	}
	for _, l := range []struct {
		name string
		l    *Limit
	}{{"MinFree", &o.MinFree}, {"MinFreeInodes", &o.MinFreeInodes}} {
		if l.l.Percent < 0 || l.l.Percent > 99 {
			return o, fmt.Errorf("spool: Options.%s.Percent is %v, want 0 to 99", l.name, l.l.Percent)
		}
		if *l.l == (Limit{}) {
			l.l.Percent = 10
		}
	}
	for _, d := range []struct {
		name string
		d    *time.Duration
	}{{"CheckInterval", &o.CheckInterval}, {"CheckpointInterval", &o.CheckpointInterval}, {"RetryInterval", &o.RetryInterval}} {
		if *d.d < 0 {
			return o, fmt.Errorf("spool: Options.%s is %v, want 0 or more", d.name, *d.d)
		}
		if *d.d == 0 {
			*d.d = 5 * time.Second
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.OS
	}
	return o, nil
}
