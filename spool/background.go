package spool

import "time"

// background is the one goroutine of a spool. It prepares segments, looks after the disk, writes the index, copies mostly
// dead segments forward, and after a failure reopens the log.
func (s *Spool) background() {
	defer s.ended.Done()
	t := time.NewTimer(0)
	defer t.Stop()
	now := time.Now()
	nextCheck, nextCheckpoint := now.Add(s.o.CheckInterval), now.Add(s.o.CheckpointInterval)
	for {
		select {
		case <-s.stop:
			return
		case o := <-s.orders:
			s.carryOut(o)
		case <-s.wakeup:
		case <-t.C:
		}
		now = time.Now()
		if f := s.failure.Load(); f != nil {
			if now.Sub(f.at) >= s.o.RetryInterval {
				s.heal()
			}
		} else if made, err := s.prepare(); err != nil {
			_ = s.writeFailed(err)
		} else if made {
			nextCheck = now // that took space
		}
		if s.full.Load() != nil {
			nextCheck = earlier(nextCheck, now.Add(time.Second))
		}
		if !now.Before(nextCheck) {
			s.check()
			nextCheck = now.Add(s.o.CheckInterval)
			if s.full.Load() != nil {
				nextCheck = now.Add(min(s.o.CheckInterval, time.Second))
			}
		}
		if s.sick() == nil && (!now.Before(nextCheckpoint) || s.behind() > maxCheckpoint) {
			if err := s.checkpoint(false); err != nil {
				s.log.Warn("spool cannot write its index or free segments now", "dir", s.dir, "err", err)
			}
			pause := s.o.CheckpointInterval
			if s.compact() {
				pause /= 10 // there may be more, but mail comes first
			}
			nextCheckpoint = time.Now().Add(pause)
		}
		next := earlier(nextCheck, nextCheckpoint)
		if f := s.failure.Load(); f != nil {
			next = earlier(nextCheck, f.at.Add(s.o.RetryInterval))
		}
		t.Reset(max(time.Until(next), time.Millisecond))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// wake makes the background goroutine look.
func (s *Spool) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// behind is how much log there is that the index on disk does not cover.
func (s *Spool) behind() (n int64) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	for _, g := range s.segments {
		switch {
		case g.number > s.position.number:
			n += g.end
		case g.number == s.position.number:
			n += g.end - s.position.off
		}
	}
	return n
}
