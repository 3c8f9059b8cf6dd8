package eventlog

import (
	"fmt"
	"time"
)

const (
	retryAfter  = time.Second // a failed write
	remindAfter = time.Minute // while something fails, in the diagnostic log
)

// write is the writer's goroutine. It alone touches segments.
func (l *Log) write() {
	var work []*block
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Stop()
		if next := l.nextDeadline(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-l.wake:
		case <-timer.C:
		case <-l.quit:
		}
		closing := l.closing() // before take, so that take gets the last records
		work = l.queue.take(work[:0], l.streams)
		err := l.writeBlocks(work)
		if closing || err != nil {
			l.err = l.finish(err)
			return
		}
		if len(work) == 0 {
			continue
		}
		clear(work)
		timer.Reset(l.cfg.FlushInterval) // for records to come together
		select {
		case <-l.urgent:
		case <-timer.C:
		case <-l.quit:
		}
	}
}

func (l *Log) closing() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// nextDeadline is when the first open segment is due, zero if none has a deadline.
func (l *Log) nextDeadline() (next time.Time) {
	for _, s := range l.streams {
		if s.seg != nil && !s.seg.deadline.IsZero() && (next.IsZero() || s.seg.deadline.Before(next)) {
			next = s.seg.deadline
		}
	}
	return next
}

// writeBlocks writes the blocks and completes segments that are due. An error means that the log is closed and the disk does
// not take what is left.
func (l *Log) writeBlocks(work []*block) error {
	for i, b := range work {
		if err := l.retry(func() error { return b.stream.write(b) }); err != nil {
			return err
		}
		l.queue.wrote(b, i == len(work)-1)
	}
	now := time.Now()
	for _, s := range l.streams {
		if s.seg != nil && s.seg.due(now) {
			if err := l.retry(s.finish); err != nil {
				return err
			}
		}
	}
	return nil
}

// retry calls f until it succeeds or the log is closed. Meanwhile records stay in memory and Pace holds.
func (l *Log) retry(f func() error) error {
	var reminded time.Time
	for {
		err := f()
		if err == nil {
			if l.failing.Swap(nil) != nil {
				l.cfg.Logger.Info("event log is written again", "dir", l.cfg.Dir)
				l.queue.recovered()
			}
			return nil
		}
		l.failing.Store(&err)
		if now := time.Now(); now.Sub(reminded) >= remindAfter {
			reminded = now
			l.cfg.Logger.Error("event log cannot be written, new work is held back", "dir", l.cfg.Dir, "err", err,
				"records", l.queue.records.Load())
		}
		wait := time.NewTimer(retryAfter)
		select {
		case <-wait.C:
		case <-l.quit:
			wait.Stop()
			if err = f(); err == nil {
				return nil
			}
			return err
		}
	}
}

// finish completes all segments at close. err is what kept blocks from being written.
func (l *Log) finish(err error) error {
	for _, s := range l.streams {
		if s.seg != nil {
			if ferr := s.finish(); err == nil {
				err = ferr
			}
		}
	}
	for _, d := range l.dirs {
		if serr := d.saveState(l, true); err == nil {
			err = serr
		}
	}
	switch lost := l.queue.records.Load(); {
	case lost > 0:
		return fmt.Errorf("eventlog: %d records could not be written and are lost: %w", lost, err)
	case err != nil:
		return fmt.Errorf("eventlog: %w", err)
	}
	return nil
}
