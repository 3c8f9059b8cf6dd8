package spool

import (
	"fmt"
	"time"

	"github.com/mtakit/mtakit"
)

// replay applies the log from the position of the index on, and cuts off what is torn.
func (s *Spool) replay() error {
	start := time.Now()
	var n, torn int64
	for i, g := range s.segments {
		from := int64(segmentHeader)
		switch {
		case g.number < s.position.number:
			continue
		case g.number == s.position.number:
			from = max(from, s.position.off)
		}
		var next *segment
		if i+1 < len(s.segments) {
			next = s.segments[i+1]
		}
		m, t, err := s.replaySegment(g, next, from)
		if err != nil {
			return err
		}
		n, torn = n+m, torn+t
	}
	if n > 0 || torn > 0 {
		s.stats.torn.Add(torn)
		s.log.Info("spool has read its log", "dir", s.dir, "frames", n, "torn_bytes", torn, "messages", s.live.Load(),
			"duration", time.Since(start))
	}
	return nil
}

// replaySegment applies g from off on. It returns how many frames that were, and how many bytes were torn and cut off.
func (s *Spool) replaySegment(g, next *segment, off int64) (n, torn int64, err error) {
	r := &frames{g: g, size: g.size}
	for {
		f, raw, err := r.frame(off, true)
		if err == nil {
			if err := s.replayFrame(g, off, f, raw); err == nil {
				off += f.length
				n++
				continue
			} else if err != errBadFrame {
				return n, 0, err
			}
		} else if err != errBadFrame {
			return n, 0, err
		}
		// Either nothing was written here, or it did not get to the disk whole before a crash, or it was damaged later.
		// Only in the last case is there something behind it that was written when this was durable already.
		durable, last, err := s.attested(r, next, off)
		if err != nil {
			return n, 0, err
		}
		if off >= durable {
			torn = last - off
			break
		}
		to, err := r.next(off)
		if err != nil {
			return n, 0, err
		}
		if to = min(to, max(durable, off+8)); to == r.size {
			to = durable
		}
		if err := s.replayDamage(g, off, to); err != nil {
			return n, 0, err
		}
		off = to
	}
	g.end = off
	if torn > 0 {
		s.log.Warn("end of a segment was torn and is cut off", "segment", g.number, "offset", off, "bytes", torn)
	}
	if off < g.size {
		if err := g.file.Truncate(off); err != nil {
			return n, torn, err
		}
		g.size = off
	}
	if n > 0 || torn > 0 { // after the end of a process it may be in the system's memory only
		if err := g.file.Sync(); err != nil {
			return n, torn, err
		}
	}
	g.synced.Store(off)
	return n, torn, nil
}

// attested says how far g is known to have been durable, from frames behind off and in the next segment; and where the last
// frame behind off ends, or seems to.
func (s *Spool) attested(r *frames, next *segment, off int64) (durable, last int64, err error) {
	last = off
	if r.g.number == s.position.number {
		durable = s.position.off
	}
	if b, err := r.bytes(off, frameSize); err != nil {
		return 0, 0, err
	} else if f, ok := parseFrame(b, r.g.salt); ok {
		last = min(off+f.length, r.size)
	}
	for p, err := r.next(off); p < r.size; p, err = r.next(p) {
		if err != nil {
			return 0, 0, err
		}
		f, _, err := r.frame(p, false)
		if err != nil {
			return 0, 0, err
		}
		durable, last = max(durable, f.synced), max(last, p+f.length)
	}
	if next == nil {
		return durable, last, nil
	}
	nr := &frames{g: next, size: next.size}
	f, raw, err := nr.frame(segmentHeader, false)
	if err != nil || f.kind != kindRotate || le.Uint64(raw[frameSize:]) != r.g.number {
		return durable, last, ignoreBad(err)
	}
	length := int64(le.Uint64(raw[frameSize+8:]))
	for p := int64(segmentHeader); p < nr.size; {
		if f, _, err := nr.frame(p, false); err == nil && f.synced > segmentHeader {
			return max(durable, length), last, nil // one cannot be synced before the other
		} else if ignoreBad(err) != nil {
			return 0, 0, err
		}
		if p, err = nr.next(p); err != nil {
			return 0, 0, err
		}
	}
	return durable, last, nil
}

func ignoreBad(err error) error {
	if err == errBadFrame {
		return nil
	}
	return err
}

// replayDamage sets aside what is between two offsets.
func (s *Spool) replayDamage(g *segment, off, to int64) error {
	e := &DamagedError{Segment: g.number, Offset: off, Length: to - off, Err: errBadFrame}
	if h, err := readHead(g, off+frameSize, headBuffer()); err == nil {
		e.ID = h.id
	}
	name, err := s.setAside(fmt.Sprintf("%016x-%d", g.number, off), []part{{g, off, to - off}})
	if err != nil {
		return err
	}
	e.File = name
	s.found = append(s.found, e)
	s.noteDamage(e)
	return nil
}

// replayFrame applies a frame that may have been applied before.
func (s *Spool) replayFrame(g *segment, off int64, f frame, raw []byte) error {
	switch f.kind {
	case kindPut:
		return eachHead(f, raw, func(at int64, h *head) error {
			g.puts++
			bodySlot := uint32(noSlot)
			if h.split {
				b := s.numbered(h.segment)
				if b == nil {
					return nil // what follows has put it elsewhere, or removed it
				}
				bodySlot = b.slot
			}
			s.replayPut(h.id, entry{makePlace(g.slot, off+at, h.split, sizeClass(h.size)).with(h.tries), h.due}, bodySlot)
			return nil
		})
	case kindRemove, kindReschedule:
		r, err := parseRef(f.kind, raw[frameSize:])
		if err != nil {
			return errBadFrame
		}
		g.noteRef(r.oldest, f.length)
		s.replayRef(f.kind, r)
	}
	return nil
}

func (s *Spool) replayPut(id mtakit.ID, e entry, bodySlot uint32) {
	old := s.index.put(id, e, func(old entry) bool { return s.isRecordOf(old, id) })
	switch {
	case old.place == 0:
		s.live.Add(1)
	case old.record() == e.record():
		return
	default:
		s.drop(old.place, s.bodySlotOf(old))
	}
	s.hold(e.place, bodySlot)
}

func (s *Spool) replayRef(k kind, r ref) {
	e, ok := s.index.get(r.id)
	if !ok {
		return
	}
	g := s.at(e.slot())
	if k == kindReschedule {
		s.index.put(r.id, entry{e.with(r.tries), r.due}, func(old entry) bool { return s.isRecordOf(old, r.id) })
		g.dirty |= chunkBit(e.off())
		return
	}
	s.drop(e.place, s.bodySlotOf(e))
	s.index.remove(r.id)
	s.live.Add(-1)
}

// bodySlotOf reads from the record at e which segment has its body.
func (s *Spool) bodySlotOf(e entry) uint32 {
	if !e.split() {
		return noSlot
	}
	h, err := readHead(s.at(e.slot()), e.off(), headBuffer())
	if err != nil || !h.split {
		return noSlot
	}
	if b := s.numbered(h.segment); b != nil {
		return b.slot
	}
	return noSlot
}
