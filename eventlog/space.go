package eventlog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
)

// ErrDiskFull: a directory's file system has less room than [Config.MinFreeSpace] or [Config.MinFreeInodes] asks for. Take no
// new messages; it is looked at again every five seconds.
var ErrDiskFull = errors.New("eventlog: storage is too full")

const spaceInterval = 5 * time.Second

// limit is what must be free: a number, or a share in percent.
type limit struct {
	n       uint64
	percent bool
}

type limits struct{ bytes, inodes limit }

func parseLimits(bytes, inodes string) (ls limits, err error) {
	if ls.bytes, err = parseLimit("MinFreeSpace", bytes); err != nil {
		return ls, err
	}
	ls.inodes, err = parseLimit("MinFreeInodes", inodes)
	return ls, err
}

func parseLimit(name, s string) (limit, error) {
	if s == "" {
		s = "10%"
	}
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || percent && n > 100 {
		return limit{}, fmt.Errorf("eventlog: Config.%s is %q, want a number or a share like \"10%%\"", name, s)
	}
	return limit{n, percent}, nil
}

// below says whether free of total is less than the limit. A total of 0 is not known.
func (l limit) below(free, total uint64) bool {
	if l.percent {
		return total > 0 && percent(free, total) < l.n
	}
	return total > 0 && free < l.n
}

func percent(free, total uint64) uint64 {
	if total == 0 {
		return 0
	}
	return uint64(float64(free) / float64(total) * 100)
}

// space is how full a directory's file system is.
type space struct {
	limits limits
	usage  atomic.Pointer[vfs.Usage] // nil if it is not known
	full   atomic.Pointer[error]     // what is wrong
}

// Err says why no new work should be taken: an error that wraps [ErrDiskFull], or what the last write failed with. nil is all
// well.
func (l *Log) Err() error {
	for _, d := range l.dirs {
		if err := d.space.full.Load(); err != nil {
			return *err
		}
	}
	if err := l.failing.Load(); err != nil {
		return fmt.Errorf("eventlog: %w", *err)
	}
	return nil
}

// watchSpace is the goroutine that looks at the free space.
func (l *Log) watchSpace() {
	tick := time.NewTicker(spaceInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.checkSpace()
		case <-l.quit:
			return
		}
	}
}

func (l *Log) checkSpace() {
	for _, d := range l.dirs {
		was := d.space.full.Load()
		is := d.space.check(l.fs, d.path)
		switch {
		case is != nil && was == nil:
			l.cfg.Logger.Error("event log is short of space, new work is held back", "dir", d.path, "err", *is)
		case is == nil && was != nil:
			l.cfg.Logger.Info("event log has space again", "dir", d.path)
		}
		d.space.full.Store(is)
	}
}

func (s *space) check(fsys vfs.FS, path string) *error {
	u, err := fsys.Usage(path)
	switch {
	case err != nil:
		s.usage.Store(nil)
		err = fmt.Errorf("eventlog: %w", err)
	default:
		s.usage.Store(&u)
		switch {
		case s.limits.bytes.below(u.Free, u.Bytes):
			err = fmt.Errorf("%w: %s has %d bytes free, %d%%", ErrDiskFull, path, u.Free, percent(u.Free, u.Bytes))
		case s.limits.inodes.below(u.FreeInodes, u.Inodes):
			err = fmt.Errorf("%w: %s has %d inodes free, %d%%", ErrDiskFull, path, u.FreeInodes, percent(u.FreeInodes, u.Inodes))
		default:
			return nil
		}
	}
	return &err
}

// counts is what the log counts.
type counts struct {
	logger  []string
	full    mtakit.Counter
	latency *mtakit.Histogram
}

func (c *counts) init(logger string) {
	c.logger = []string{logger}
	c.latency = mtakit.NewHistogram()
}

// Families implements [mtakit.Collector].
func (l *Log) Families() []mtakit.MetricFamily {
	family := func(name, help string, typ mtakit.MetricType, label string) mtakit.MetricFamily {
		return mtakit.MetricFamily{Name: name, Help: help, Type: typ, Labels: []string{label}}
	}
	return []mtakit.MetricFamily{
		family("log_submit_full", "logger queue was full", mtakit.CounterType, "logger"),
		family("log_submit_latency", "time to hand a record to the logger", mtakit.HistogramType, "logger"),
		family("disk_free_bytes", "available bytes", mtakit.GaugeType, "name"),
		family("disk_free_percent", "available space, floored percent", mtakit.GaugeType, "name"),
		family("disk_free_inodes", "available inodes", mtakit.GaugeType, "name"),
		family("disk_free_inodes_percent", "available inodes, floored percent", mtakit.GaugeType, "name"),
	}
}

// Collect implements [mtakit.Collector].
func (l *Log) Collect(family string, yield func(mtakit.Sample) bool) {
	switch family {
	case "log_submit_full":
		yield(mtakit.Sample{Labels: l.counts.logger, Value: float64(l.counts.full.Value())})
		return
	case "log_submit_latency":
		yield(mtakit.Sample{Labels: l.counts.logger, Histogram: l.counts.latency})
		return
	}
	for _, d := range l.dirs {
		u := d.space.usage.Load()
		if u == nil {
			continue
		}
		var v uint64
		switch family {
		case "disk_free_bytes":
			v = u.Free
		case "disk_free_percent":
			v = percent(u.Free, u.Bytes)
		case "disk_free_inodes":
			v = u.FreeInodes
		case "disk_free_inodes_percent":
			v = percent(u.FreeInodes, u.Inodes)
		default:
			return
		}
		if !yield(mtakit.Sample{Labels: []string{"log dir " + d.path}, Value: float64(v)}) {
			return
		}
	}
}
