package spool

import (
	"fmt"
	"slices"
	"time"
)

// heal tries to make the spool healthy again after a failure.
//
// What was written since the last good sync may be on disk or not, and no later sync will tell: Linux reports the loss of a
// page once. But it can still be read, and each frame says whether it is sound. So all of it is written once more, to a new
// segment, which is synced and read back from the device. Only then does the index point there.
func (s *Spool) heal() {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if err := s.rewrite(); err != nil {
		f := *s.failure.Load()
		f.at = time.Now()
		s.failure.Store(&f)
		s.log.Warn("spool is still not healthy", "dir", s.dir, "err", err)
		return
	}
	s.failure.Store(nil)
	s.log.Info("spool is healthy again", "dir", s.dir)
}

// moved is a frame that has been written again.
type moved struct {
	from    *segment
	off, to int64
	frame   frame
	raw     []byte
}

// rewrite copies all that is not known to be durable to a new segment; syncMu and writeMu are held.
func (s *Spool) rewrite() error {
	if _, err := s.fs.Stat(s.dir); err != nil {
		return err
	}
	s.createMu.Lock()
	if s.next != nil { // its number would be too low
		s.next.release()
		_ = s.fs.Remove(s.path(segmentName(s.next.number)))
		s.next = nil
	}
	number := s.lastNumber + 1
	spares := s.spares
	s.spares = nil // blocks of their own, and none that may have gone bad
	g, err := s.createSegment(number)
	s.spares = spares
	if err == nil {
		s.lastNumber = number
	}
	s.createMu.Unlock()
	if err != nil {
		return err
	}
	old := append(slices.Clone(s.unsynced), s.active)
	list, err := s.copyUnsynced(old, g)
	if err == nil {
		err = s.readBack(g)
	}
	if err == nil {
		err = s.addSegment(g)
	}
	if err != nil {
		g.release()
		_ = s.fs.Remove(s.path(segmentName(number)))
		return err
	}
	for _, m := range list {
		s.relocate(g, m)
	}
	for _, o := range old {
		s.logBytes.Add(o.synced.Load() - o.end)
		o.end = o.synced.Load()
		o.dirty = ^uint64(0)
		_ = o.file.Truncate(o.end) // what stays there is applied before its copy, to the same end
		o.size = o.end
	}
	s.logBytes.Add(g.end)
	s.active, s.unsynced = g, nil
	return nil
}

// copyUnsynced appends to g the frames of the segments in old that begin behind their last sync.
func (s *Spool) copyUnsynced(old []*segment, g *segment) (list []moved, err error) {
	for _, o := range old {
		r := &frames{g: o, size: o.end}
		for off := o.synced.Load(); off < o.end; {
			f, raw, err := r.frame(off, true)
			if err == errBadFrame {
				to, err := r.next(off)
				if err != nil {
					return nil, err
				}
				if err := s.replayDamage(o, off, to); err != nil {
					return nil, err
				}
				off = to
				continue
			}
			if err != nil {
				return nil, err
			}
			m := moved{o, off, g.end, f, slices.Clone(raw)}
			redirect(&m, list, g.number)
			stampFrame(m.raw, g.salt, g.end, g.synced.Load())
			if _, err := g.file.WriteAt(m.raw, g.end); err != nil {
				return nil, err
			}
			for at := int64(len(m.raw)); at < f.length; {
				b, err := r.bytes(off+at, int(min(f.length-at, readAhead)))
				if err == nil {
					_, err = g.file.WriteAt(b, g.end+at)
				}
				if err != nil {
					return nil, err
				}
				at += int64(len(b))
			}
			list = append(list, m)
			g.end += f.length
			off += f.length
		}
	}
	return list, nil
}

// redirect makes the heads of m that use a body elsewhere use its copy, if there is one in list.
func redirect(m *moved, list []moved, number uint64) {
	if m.frame.kind != kindPut {
		return
	}
	_ = eachHead(m.frame, m.raw, func(at int64, h *head) error { // it was read before
		for i := range list {
			if c := &list[i]; h.split && h.segment == c.from.number && h.body > c.off && h.body < c.off+c.frame.length {
				p := m.raw[at : at+int64(h.len())]
				le.PutUint64(p[56:], number)
				sealHead(p, h.body-c.off+c.to)
				break
			}
		}
		return nil
	})
}

// readBack syncs g and reads it from the device.
func (s *Spool) readBack(g *segment) error {
	if err := g.file.Sync(); err != nil {
		return err
	}
	if err := g.file.DropCache(); err != nil {
		return err
	}
	r := &frames{g: g, size: g.end}
	for off := int64(segmentHeader); off < g.end; {
		f, _, err := r.frame(off, true)
		if err != nil {
			return fmt.Errorf("reading back what was written: %w", err)
		}
		off += f.length
	}
	g.synced.Store(g.end)
	return nil
}

// relocate points the index to a frame's copy in g.
func (s *Spool) relocate(g *segment, m moved) {
	switch m.frame.kind {
	case kindPut:
		_ = eachHead(m.frame, m.raw, func(at int64, h *head) error { // it was read before
			g.puts++
			e, ok := s.index.get(h.id)
			if !ok || e.slot() != m.from.slot || e.off() != m.off+at {
				return nil
			}
			to := entry{makePlace(g.slot, m.to+at, e.split(), sizeClass(h.size)).with(e.tries()), e.due}
			s.index.put(h.id, to, nil)
			s.hold(to.place, s.bodySlotOf(to))
			s.drop(e.place, s.bodySlotOf(e))
			return nil
		})
	case kindRemove, kindReschedule:
		if r, err := parseRef(m.frame.kind, m.raw[frameSize:]); err == nil {
			g.noteRef(r.oldest, m.frame.length)
		}
	}
}
