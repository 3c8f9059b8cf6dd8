package wheel

import "iter"

// node is an item in a ring with others; the ring is closed by a head. It holds no pointer.
type node struct {
	Item
	prev, next uint32
}

// perChunk times the 36 bytes of a node is a whole number of pages, so that a chunk wastes nothing.
const perChunk = 2048

// The first nodes are heads of rings, one for each slot; items follow without a gap.
const (
	dueList uint32 = 0 // slot 0 of level 0
	first   uint32 = levels * slots
)

func head(level, slot uint32) uint32 { return level*slots + slot }

// arena keeps nodes in chunks. They are dense: the last one moves into the place of one that is freed. So the arena's size
// is that of its content, and walking it is walking memory in order.
type arena struct {
	chunks []*[perChunk]node
	n      uint32 // items
}

// Len is the number of items.
func (a *arena) Len() int { return int(a.n) }

func (a *arena) at(i uint32) *node { return &a.chunks[i/perChunk][i%perChunk] }

// nodes yields the index of each item.
func (a *arena) nodes() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i := first; i < first+a.n; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// alloc returns a node for it that is in no ring.
func (a *arena) alloc(it Item) uint32 {
	if a.chunks == nil {
		a.chunks = append(a.chunks, new([perChunk]node))
		for h := range first {
			*a.at(h) = node{prev: h, next: h}
		}
	}
	i := first + a.n
	if i/perChunk == uint32(len(a.chunks)) {
		a.chunks = append(a.chunks, new([perChunk]node))
	}
	a.n++
	a.at(i).Item = it
	return i
}

// free takes node i out of its ring and moves the last node to i.
func (a *arena) free(i uint32) {
	a.unlink(i)
	a.n--
	if last := first + a.n; i != last {
		n := *a.at(last)
		*a.at(i) = n
		a.at(n.prev).next = i
		a.at(n.next).prev = i
	}
	// One chunk stays in reserve, so that coming and going at its border costs nothing.
	if k, keep := len(a.chunks), int((first+a.n)/perChunk)+2; k > keep {
		a.chunks[k-1] = nil
		a.chunks = a.chunks[:k-1]
	}
}

func (a *arena) isEmpty(head uint32) bool { return a.at(head).next == head }

// link puts node i, which is in no ring, at the end of the ring of head.
func (a *arena) link(i, head uint32) {
	n, h := a.at(i), a.at(head)
	n.prev, n.next = h.prev, head
	a.at(h.prev).next = i
	h.prev = i
}

func (a *arena) unlink(i uint32) {
	n := a.at(i)
	a.at(n.prev).next = n.next
	a.at(n.next).prev = n.prev
}

// splice moves all that is in the ring of from to the end of the ring of to.
func (a *arena) splice(from, to uint32) {
	f, t := a.at(from), a.at(to)
	if f.next == from {
		return
	}
	a.at(f.next).prev = t.prev
	a.at(t.prev).next = f.next
	a.at(f.prev).next = to
	t.prev = f.prev
	f.prev, f.next = from, from
}
