package spool

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool/internal/envelope"
)

// Scan implements [mtakit.Spool]. It yields in the order of the log. Damage that Open found comes first, as
// [*DamagedError]s. While it runs it takes 4 bytes of memory per message; names of queues are shared by the entries of a call.
func (s *Spool) Scan(ctx context.Context, before mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {
		if err := s.closedErr(); err != nil {
			yield(mtakit.Entry{}, err)
			return
		}
		for _, err := range s.found {
			if !yield(mtakit.Entry{}, err) {
				return
			}
		}
		// Nothing is copied forward or freed meanwhile, so that each message is met once.
		s.scans.Add(1)
		defer s.scans.Add(-1)
		c := scan{s: s, ctx: ctx, before: before, yield: yield, names: map[string]mtakit.QueueName{}, buf: headBuffer()}
		s.writeMu.Lock()
		segments := slices.DeleteFunc(slices.Clone(s.segments), func(g *segment) bool { return !g.acquire() })
		places := s.places()
		s.writeMu.Unlock()
		for i, g := range segments {
			ok := c.segment(g, places[g.slot])
			delete(places, g.slot)
			g.release()
			if !ok {
				for _, g := range segments[i+1:] {
					g.release()
				}
				return
			}
		}
	}
}

// places are the units of 8 bytes at which live records begin, ascending, by slot.
func (s *Spool) places() map[uint32][]uint32 {
	count := map[uint32]int{}
	s.index.each(func(e entry) { count[e.slot()]++ })
	m := make(map[uint32][]uint32, len(count))
	for slot, n := range count {
		m[slot] = make([]uint32, 0, n)
	}
	var last uint32 = noSlot
	var list []uint32
	s.index.each(func(e entry) {
		if slot := e.slot(); slot != last {
			if last != noSlot {
				m[last] = list
			}
			list, last = m[slot], slot
		}
		list = append(list, uint32(e.off()/8))
	})
	if last != noSlot {
		m[last] = list
	}
	return m
}

// scan is the state of a Scan.
type scan struct {
	s      *Spool
	ctx    context.Context
	before mtakit.ID
	yield  func(mtakit.Entry, error) bool
	names  map[string]mtakit.QueueName
	buf    *[]byte
	value  []byte
}

// segment yields what is in g at the offsets of list, and says whether to go on.
func (c *scan) segment(g *segment, list []uint32) bool {
	slices.Sort(list)
	for len(list) > 0 {
		if err := c.ctx.Err(); err != nil {
			c.yield(mtakit.Entry{}, err)
			return false
		}
		chunk := int(int64(list[0]) * 8 >> chunkShift)
		n, _ := slices.BinarySearchFunc(list, int64(chunk+1)<<chunkShift, func(u uint32, off int64) int { return cmp.Compare(int64(u)*8, off) })
		if !c.chunk(g, chunk, list[:n]) {
			return false
		}
		list = list[n:]
	}
	return true
}

// chunk takes what it can from the index on disk, and reads the rest from the log.
func (c *scan) chunk(g *segment, chunk int, list []uint32) bool {
	v, ok := c.s.stored(chunkKey(g.number, chunk), c.value[:0])
	c.value = v
	more := true
	upTo := func(off int64) bool {
		for len(list) > 0 && int64(list[0])*8 < off && more {
			more = c.record(g, int64(list[0])*8)
			list = list[1:]
		}
		return more
	}
	if v, err := openValue(v); ok && err == nil {
		// A bad value costs time only: the log has all of it.
		_ = parseEntries(v, func(e *saved) error {
			if !upTo(e.off) {
				return errStop
			}
			if len(list) > 0 && int64(list[0])*8 == e.off {
				list = list[1:]
				if more = c.entry(g, e.off, e.id, e.queue); !more {
					return errStop
				}
			}
			return nil
		})
	}
	return more && upTo(maxSegment)
}

// errStop ends a loop from within.
var errStop = errors.New("stop")

// record yields the message at off, read from the log.
func (c *scan) record(g *segment, off int64) bool {
	h, err := readHead(g, off, c.buf)
	var queue []byte
	if err == nil {
		queue, err = envelope.CutQueue(h.env)
	}
	if err == nil {
		return c.entry(g, off, h.id, queue)
	}
	if _, ok := err.(ioError); ok {
		return c.yield(mtakit.Entry{}, err)
	}
	return c.yield(mtakit.Entry{}, c.s.damagedAt(g, off, err))
}

// entry yields a message, as it is now.
func (c *scan) entry(g *segment, off int64, id mtakit.ID, queue []byte) bool {
	if id.Compare(c.before) >= 0 {
		return true
	}
	e, ok := c.s.index.get(id)
	if !ok {
		return true
	}
	if e.slot() != g.slot || e.off() != off { // updated meanwhile
		var r *reading
		err := c.s.again(func() (err error) { r, err = c.s.read(id); return err })
		if err != nil {
			return errors.Is(err, mtakit.ErrNotFound) || c.yield(mtakit.Entry{}, err)
		}
		defer r.release()
		e = r.entry
		if queue, err = envelope.CutQueue(r.head.env); err != nil {
			return c.yield(mtakit.Entry{}, c.s.damaged(r, err))
		}
	}
	q, ok := c.names[string(queue)]
	if !ok {
		var err error
		if q, err = envelope.ParseQueue(queue); err != nil {
			return c.yield(mtakit.Entry{}, c.s.damagedAt(g, off, err))
		}
		c.names[string(queue)] = q
	}
	return c.yield(mtakit.Entry{ID: id, Queue: q, Due: unpackDue(e.due, 0), Tries: int(e.tries())}, nil)
}
