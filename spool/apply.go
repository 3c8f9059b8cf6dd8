package spool

import "github.com/mtakit/mtakit"

// apply changes the index as the frame o at off in g says; writeMu is held.
func (s *Spool) apply(g *segment, off int64, o *op) {
	switch o.kind {
	case kindPut:
		for i := range o.puts {
			p := &o.puts[i]
			s.applyPut(g, off, p, o.expect, o.expectBody)
		}
	case kindRemove:
		g.noteRef(o.ref.oldest, o.length)
		if e, ok := s.index.remove(o.ref.id); ok {
			s.drop(e.place, o.expectBody)
			s.live.Add(-1)
		}
	case kindReschedule:
		g.noteRef(o.ref.oldest, o.length)
		e := entry{o.expect.with(o.ref.tries), o.ref.due}
		s.index.put(o.ref.id, e, nil)
		s.at(e.slot()).dirty |= chunkBit(e.off())
	}
}

func (s *Spool) applyPut(g *segment, off int64, p *put, expect entry, oldBody uint32) {
	e := entry{makePlace(g.slot, off+p.at, p.split, p.class).with(p.tries), p.due}
	old := s.index.put(p.id, e, func(old entry) bool { return s.isRecordOf(old, p.id) })
	s.hold(e.place, p.bodySlot)
	g.puts++
	switch {
	case old.place == 0:
		s.live.Add(1)
	case old.record() == expect.record():
		s.drop(old.place, oldBody)
	default: // it was stored under an id that is there
		s.drop(old.place, s.bodySlotOf(old))
	}
}

// hold counts a record as live, and the body it uses in another segment; drop is the inverse.
func (s *Spool) hold(p place, bodySlot uint32) { s.account(p, bodySlot, 1) }
func (s *Spool) drop(p place, bodySlot uint32) { s.account(p, bodySlot, -1) }

func (s *Spool) account(p place, bodySlot uint32, n int64) {
	g := s.at(p.slot())
	g.live += n
	g.dirty |= chunkBit(p.off())
	if !p.split() {
		g.liveBytes += n * p.size()
		return
	}
	g.liveBytes += n * envelopeSize
	if b := s.at(bodySlot); b != nil {
		b.live += n
		b.liveBytes += n * p.size()
	}
}

// isRecordOf reads the record at e, to tell messages whose hashes are equal.
func (s *Spool) isRecordOf(e entry, id mtakit.ID) bool {
	var b [24]byte
	g := s.at(e.slot())
	if g == nil {
		return false
	}
	_, err := g.file.ReadAt(b[:], e.off())
	return err == nil && mtakit.ID(b[8:24]) == id
}
