package spool

import (
	"errors"

	"github.com/mtakit/mtakit"
)

// compact copies the live records of one mostly dead segment to the end of the log, and says whether there was one. The segment is
// freed after the next checkpoint.
func (s *Spool) compact() bool {
	if s.scans.Load() > 0 || s.sick() != nil {
		return false
	}
	g := s.victim()
	if g == nil {
		return false
	}
	if err := s.copyForward(g); err != nil {
		if s.Err() != mtakit.ErrClosed {
			s.log.Warn("spool cannot copy a segment forward now", "dir", s.dir, "segment", g.number, "err", err)
		}
		return false
	}
	return true
}

// needed estimates how much of a segment has to be kept.
func (g *segment) needed() int64 { return min(g.liveBytes+g.refBytes, g.end) }

// victim chooses the sealed segment that has the most to give. Copying is worth it when a segment is at least half dead, and
// all that is dead in the log is more than all that lives, or a limit presses.
//
// How many of the removes and reschedules in a segment are out of date is not known without reading it. But of each record in
// the log at most one is needed. When there are twice as many, the oldest segment that is made of them is next.
func (s *Spool) victim() *segment {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	var best, refs *segment
	var dead, live, refBytes, puts int64
	for _, g := range s.segments {
		refBytes, puts = refBytes+g.refBytes, puts+g.puts
		if g == s.active || g.live == 0 && g.oldest == g.number { // goes by itself
			continue
		}
		n := g.needed()
		dead, live = dead+g.end-n, live+n
		switch {
		case g.stuck:
		case n < g.end/2 && (best == nil || n*best.end < best.needed()*g.end):
			best = g
		case refs == nil && g.refBytes > g.end/2:
			refs = g
		}
	}
	switch {
	case best != nil && (dead >= live+best.end || s.full.Load() != nil || s.bytes.over.Load()):
		return best
	case refBytes > 2*(frameSize+reschSize)*puts+2*s.o.SegmentSize:
		return refs
	}
	return nil
}

// copyForward writes again what is needed of g. Messages are copied only if they are where they were when the write comes
// to it, so that nothing that was removed meanwhile comes back.
func (s *Spool) copyForward(g *segment) error {
	if !g.acquire() {
		return nil
	}
	defer g.release()
	end := s.endOf(g)
	r := &frames{g: g, size: end}
	for off := int64(segmentHeader); off < end; {
		select {
		case <-s.stop:
			return nil
		default:
		}
		f, raw, err := r.frame(off, false)
		if err == errBadFrame {
			// Damage. The messages in it are found by Load, or by the next Scan.
			if off, err = r.next(off); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := s.copyFrame(g, off, f, raw); err != nil && err != errBadFrame {
			return err
		}
		off += f.length
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	g.oldest, g.refBytes = g.number, 0 // said again behind
	g.stuck = g.live > 0               // something in it cannot be read
	return nil
}

func (s *Spool) copyFrame(g *segment, off int64, f frame, raw []byte) error {
	if f.kind == kindPut {
		return eachHead(f, raw, func(at int64, h *head) error {
			e, ok := s.index.get(h.id)
			if ok && (e.split() || e.slot() == g.slot && e.off() == off+at) {
				return unlessDamaged(s.again(func() error { return s.copyMessage(h.id, g) }))
			}
			return nil
		})
	}
	if f.kind != kindRemove && f.kind != kindReschedule {
		return nil
	}
	ref, err := parseRef(f.kind, raw[frameSize:])
	if err != nil {
		return nil
	}
	if f.kind == kindReschedule {
		e, ok := s.index.get(ref.id)
		if !ok || e.due != ref.due || e.tries() != ref.tries {
			return nil // said again later
		}
		if at := s.at(e.slot()); at == nil || at.number >= g.number {
			return nil // a later record of the message has it
		}
		err := s.refer(kindReschedule, ref.id, unpackDue(ref.due, 0), int(ref.tries), true)
		return unlessGone(err)
	}
	s.writeMu.Lock()
	needed := s.numbered(ref.oldest) != nil
	s.writeMu.Unlock()
	if !needed {
		return nil
	}
	o := newOp(kindRemove)
	defer o.free()
	o.copied, o.ref = true, ref
	o.frame = appendRemove(o.frame, ref.id)
	setOldest(o.frame, ref.oldest)
	o.finish()
	return unlessGone(s.writeLast(o))
}

// unlessGone forgives what happens when the owner of a message is quicker.
func unlessGone(err error) error {
	if errors.Is(err, mtakit.ErrNotFound) || err == errMoved {
		return nil
	}
	return err
}

// unlessDamaged is unlessGone, and forgives what was set aside.
func unlessDamaged(err error) error {
	var d *DamagedError
	if errors.As(err, &d) && d.File != "" {
		return nil
	}
	return unlessGone(err)
}

// copyMessage writes a message again of which g has something. A body that is elsewhere stays there: so a message has its body in one
// segment only, and with it the one record from which, were the index lost, it could come back after its removal is no longer in the log.
func (s *Spool) copyMessage(id mtakit.ID, g *segment) error {
	r, err := s.read(id)
	if err != nil {
		return err
	}
	defer r.release()
	if r.segment != g && r.other != g {
		return nil
	}
	o := newOp(kindPut)
	defer o.free()
	h := r.head
	if h.due != r.entry.due {
		h.dueNS = 0
	}
	h.due, h.tries = r.entry.due, r.entry.tries()
	if r.bodySegment() == g {
		var body mtakit.Body
		if body, err = s.openBody(r); err != nil {
			return err
		}
		defer body.Close()
		h.split, h.segment = false, 0
		if err = o.addBody(&h, body); err != nil {
			return err
		}
		o.frame = appendHead(o.frame, &h)
		o.puts = append(o.puts, put{id: id, at: frameSize, due: h.due, tries: h.tries, class: sizeClass(h.size)})
		o.expect, o.expectBody = r.entry, g.slot
		err = o.sealBodies()
	} else {
		o.frame = appendHead(o.frame, &h)
		err = o.put(r, &h)
	}
	if err != nil {
		return err
	}
	if err := s.writeLast(o); err != nil {
		return err
	}
	s.stats.copied.Inc()
	return nil
}
