// Package wheel orders millions of small items by the second at which they are due: a hierarchical timing wheel
// (Varghese and Lauck, scheme 7) of 4 levels with 256 slots each, whose unit is a second.
//
//	w := wheel.New()
//	w.Add(wheel.Item{ID: id, Due: uint32(now + 1200), Queue: 7})
//	due, next := w.Pop(now, make([]wheel.Item, 0, 256)) // sleep until next
//
// The levels are the four bytes of a due time, so that the wheel spans every time that fits into 32 bits (until
// 2106) and nothing is ever out of its reach. Add takes constant time; so does Pop for each item, amortised: an item
// is moved at most three times before it is due.
//
// Items are 36 bytes each, links included, in an arena without pointers and without holes: the garbage collector skips
// it, and it shrinks as the wheel drains.
//
// A Wheel has no goroutine and no clock; one goroutine uses it at a time.
package wheel

import (
	"math"
	"math/bits"

	"github.com/mtakit/mtakit"
)

// Item stands for something that is due at a time. Queue, Tries and Flags are the caller's.
type Item struct {
	ID    mtakit.ID
	Due   uint32 // Unix seconds
	Queue uint32
	Tries uint16
	Flags uint16
}

// Never is the next time of a [Wheel] that is empty.
const Never = math.MaxInt64

const (
	levels = 4
	slots  = 256 // per level
)

// Wheel is a set of items. The zero value is an empty Wheel; it must not be copied after use.
type Wheel struct {
	arena

	// cur is the second up to which the wheel has turned; it never runs ahead of the latest Pop. An item that is due
	// later lies at the level of the highest byte in which its due time differs from cur, in the slot of that byte's
	// value. That value is above cur's, so a slot 0 is never used by its level: slot 0 of level 0 holds what is due.
	cur uint32

	// late is not below the due time of any item in the list of those that are due.
	late uint32

	// used has a bit for each slot that may hold something; it is cleared when a slot is found to be empty.
	used [levels][slots / 64]uint64
}

// New returns an empty Wheel, as new(Wheel) does.
func New() *Wheel { return new(Wheel) }

// Add puts it in. An item that is due already is found by the next Pop.
func (w *Wheel) Add(it Item) { w.file(w.alloc(it), it.Due) }

// Pop appends to dst items that are due at now, as many as its capacity allows, and says when to call again: now if
// more are due, [Never] if no items are left, else a time after now at which something may be due, and before which
// nothing is. Both times are Unix seconds. now may be earlier than at the last call: what is not due then has to wait.
// Going back costs time for each item that was due but had not been popped.
func (w *Wheel) Pop(now int64, dst []Item) (due []Item, next int64) {
	if w.Len() == 0 {
		w.cur = clamp(now)
		return dst, Never
	}
	if t := clamp(now); t < w.cur {
		w.rewind(t)
	}
	for next = w.turn(now); !w.isEmpty(dueList) && len(dst) < cap(dst); next = w.turn(now) {
		for i := w.at(dueList).next; i != dueList && len(dst) < cap(dst); i = w.at(dueList).next {
			dst = append(dst, w.at(i).Item)
			w.free(i)
		}
	}
	return dst, next
}

// Sweep shows up to n items that come before position pos to take, and removes those for which it returns true. It
// returns the position from which to go on, 0 at the end; a sweep starts at Len. A sweep meets every item that is there
// from its start to its end, whatever is added, popped or removed between its steps; it may meet an item twice, or one that
// was added meanwhile. take must not use the Wheel.
func (w *Wheel) Sweep(pos, n int, take func(Item) bool) int {
	// From the top down: the hole that a removal leaves is filled with the last item, which was shown already.
	for pos = min(pos, w.Len()); pos > 0 && n > 0; n-- {
		pos--
		if i := first + uint32(pos); take(w.at(i).Item) {
			w.free(i)
		}
	}
	return pos
}

// RemoveID takes out one item and says whether it was there. It looks at each item, a few milliseconds for a million.
func (w *Wheel) RemoveID(id mtakit.ID) (Item, bool) {
	for i := range w.nodes() {
		if it := w.at(i).Item; it.ID == id {
			w.free(i)
			return it, true
		}
	}
	return Item{}, false
}

// Each yields every item, in no order; the Wheel must not be changed meanwhile.
func (w *Wheel) Each(yield func(Item) bool) {
	for i := range w.nodes() {
		if !yield(w.at(i).Item) {
			return
		}
	}
}

// file links node i, which is in no list, into that of its due time.
func (w *Wheel) file(i, due uint32) {
	if due <= w.cur {
		w.late = max(w.late, due)
		w.link(i, dueList)
		return
	}
	level := topByte(due ^ w.cur)
	slot := due >> (8 * level) % slots
	w.used[level][slot/64] |= 1 << (slot % 64)
	w.link(i, head(level, slot))
}

// turn moves the wheel forward until something is due, but not beyond now. It returns now if something is, else the time
// until which it may rest.
func (w *Wheel) turn(now int64) (next int64) {
	for w.isEmpty(dueList) {
		w.late = 0
		level, slot, ok := w.nextSlot()
		if !ok {
			w.cur = max(w.cur, clamp(now))
			return Never
		}
		// Nothing is due before the slot begins, so stopping short of it leaves every item where it belongs.
		start := w.cur>>(8*level)&^(slots-1)<<(8*level) | slot<<(8*level)
		if int64(start) > now {
			w.cur = max(w.cur, clamp(now))
			return int64(start)
		}
		w.cur = start
		h := head(level, slot)
		if level == 0 { // all of it is due at this second
			w.splice(h, dueList)
			w.late = start
			break
		}
		for i := w.at(h).next; i != h; i = w.at(h).next {
			w.unlink(i)
			w.file(i, w.at(i).Due)
		}
	}
	return now
}

// nextSlot finds the slot that begins first. Whatever lies at a lower level is due before what lies at a higher one.
func (w *Wheel) nextSlot() (level, slot uint32, ok bool) {
	for level = range levels {
		used := &w.used[level]
		for i := range used {
			for used[i] != 0 {
				bit := uint32(bits.TrailingZeros64(used[i]))
				slot = uint32(i)*64 + bit
				if !w.isEmpty(head(level, slot)) {
					return level, slot, true
				}
				used[i] &^= 1 << bit
			}
		}
	}
	return 0, 0, false
}

// rewind turns the wheel back to now. Let k be the highest byte in which now differs from cur. An item at level k or above
// lies right for now too. One below agrees with cur in byte k, so all of those belong into one slot of level k.
func (w *Wheel) rewind(now uint32) {
	k := topByte(now ^ w.cur)
	slot := w.cur >> (8 * k) % slots
	for level := range k {
		for s := uint32(1); s < slots; s++ {
			w.splice(head(level, s), head(k, slot))
		}
		w.used[level] = [slots / 64]uint64{}
	}
	w.used[k][slot/64] |= 1 << (slot % 64)
	w.cur = now
	if w.late <= now {
		return
	}
	w.late = 0
	last := w.at(dueList).prev
	for i := w.at(dueList).next; i != dueList; {
		it := w.at(i)
		next := it.next
		w.unlink(i)
		w.file(i, it.Due)
		if i == last {
			break // what follows was filed back just now
		}
		i = next
	}
}

// topByte is the number, from 0, of the highest byte of x that is not zero.
func topByte(x uint32) uint32 { return uint32(bits.Len32(x)-1) / 8 }

// clamp is t in the range of due times.
func clamp(t int64) uint32 { return uint32(min(max(t, 0), math.MaxUint32)) }
