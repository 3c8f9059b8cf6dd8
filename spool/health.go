package spool

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
)

// health is why the spool takes no messages, if it does not.
type health struct {
	failure  atomic.Pointer[failure] // nil is healthy
	full     atomic.Pointer[full]    // nil is room
	messages level
	bytes    level
	logBytes atomic.Int64
	usage    atomic.Pointer[vfs.Usage] // as last seen; nil is unknown
}

type failure struct {
	err error
	at  time.Time
}

// full is a lack of space on the file system.
type full struct {
	err   error
	write bool // a write said so, whatever the limits
}

// level is a limit of what we count ourselves.
type level struct {
	over atomic.Bool
}

// exceeds says whether n is too much, with hysteresis.
func (l *level) exceeds(n, limit int64) bool {
	switch {
	case limit == 0:
		return false
	case n > limit:
		l.over.Store(true)
	case n <= limit-limit/hysteresisPart && l.over.Load():
		l.over.Store(false)
	}
	return l.over.Load()
}

// Err says whether the spool accepts messages: nil, or an error that wraps [mtakit.ErrUnhealthy], [mtakit.ErrSpoolFull] or
// [mtakit.ErrClosed]. It costs a few atomic loads, so ask as often as you like. A spool that is full still updates,
// reschedules and removes; one that is unhealthy only reads.
func (s *Spool) Err() error {
	select {
	case <-s.stop:
		return mtakit.ErrClosed
	default:
		return s.admit(0)
	}
}

// admit says whether n more messages may be stored.
func (s *Spool) admit(n int) error {
	if err := s.sick(); err != nil {
		return err
	}
	if f := s.full.Load(); f != nil {
		return f.err
	}
	if n := s.live.Load() + int64(n); s.messages.exceeds(n, int64(s.o.MaxMessages)) {
		return fmt.Errorf("%w: %d messages, the limit is %d", mtakit.ErrSpoolFull, s.live.Load(), s.o.MaxMessages)
	}
	if n := s.logBytes.Load(); s.bytes.exceeds(n, s.o.MaxBytes) {
		return fmt.Errorf("%w: %d bytes of log, the limit is %d", mtakit.ErrSpoolFull, n, s.o.MaxBytes)
	}
	return nil
}

// sick is the failure that keeps the spool from writing, if any.
func (s *Spool) sick() error {
	if f := s.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// fail records that storage failed with err, and returns what callers get. From now on nothing is written, and above all
// nothing synced: a second sync would succeed without having written what the first one lost.
func (s *Spool) fail(err error) error {
	f := &failure{fmt.Errorf("%w: %w", mtakit.ErrUnhealthy, err), time.Now()}
	if s.failure.CompareAndSwap(nil, f) {
		s.stats.failures.Inc()
		s.log.Error("spool has failed and takes no messages", "dir", s.dir, "err", err)
		s.wake()
	}
	return s.sick()
}

// writeFailed is fail, except for a lack of space: that ends by itself.
func (s *Spool) writeFailed(err error) error {
	if !noSpace(err) {
		return s.fail(err)
	}
	err = fmt.Errorf("%w: %w", mtakit.ErrSpoolFull, err)
	s.setFull(&full{err, true})
	return err
}

func (s *Spool) setFull(f *full) {
	switch old := s.full.Swap(f); {
	case old == nil && f != nil:
		s.stats.fulls.Inc()
		s.log.Warn("spool is full", "dir", s.dir, "err", f.err)
		s.wake()
	case old != nil && f == nil:
		s.log.Info("spool has room again", "dir", s.dir)
	}
}

// check looks at the directory and its file system. It belongs to the background goroutine.
func (s *Spool) check() {
	u, err := s.fs.Usage(s.dir)
	if err == nil {
		_, err = s.fs.Stat(s.dir)
	}
	if err != nil {
		s.fail(fmt.Errorf("check of the directory: %w", err))
		return
	}
	s.usage.Store(&u)
	now := s.full.Load()
	switch short := s.o.MinFree.short(u.Bytes, u.Free, now != nil, "bytes"); {
	case short != nil:
		s.setFull(&full{short, false})
	default:
		if short := s.o.MinFreeInodes.short(u.Inodes, u.FreeInodes, now != nil, "inodes"); short != nil {
			s.setFull(&full{short, false})
			return
		}
		// Where a write found no room, there has to be enough for a segment.
		if now != nil && now.write {
			if _, err := s.prepare(); err != nil {
				return
			}
		}
		s.setFull(nil)
	}
}

// short says whether less than the limit is free; was says whether it was short before.
func (l Limit) short(all, free uint64, was bool, what string) error {
	if all == 0 {
		return nil // not known, or unlimited
	}
	limit := float64(l.Bytes)
	if l.Bytes == 0 {
		limit = float64(all) * l.Percent / 100
	}
	if was {
		limit *= 1.1
	}
	if float64(free) >= limit {
		return nil
	}
	return fmt.Errorf("%w: %d of %d %s of the file system are free, the limit is %.0f", mtakit.ErrSpoolFull, free, all, what, limit)
}
