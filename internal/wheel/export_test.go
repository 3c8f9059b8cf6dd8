package wheel

import "fmt"

// Check says which invariant is broken.
func (w *Wheel) Check() error {
	if w.chunks == nil {
		return nil
	}
	if k, want := len(w.chunks), int(first+w.n)/perChunk+2; k > want {
		return fmt.Errorf("%d chunks for %d items, want %d at most", k, w.n, want)
	}
	seen := uint32(0)
	for level := range uint32(levels) {
		for slot := range uint32(slots) {
			h := head(level, slot)
			for i := w.at(h).next; i != h; i = w.at(i).next {
				n := w.at(i)
				if i < first || i >= first+w.n {
					return fmt.Errorf("ring %d/%d holds node %d of %d", level, slot, i, w.n)
				}
				if w.at(n.prev).next != i || w.at(n.next).prev != i {
					return fmt.Errorf("ring %d/%d is broken at node %d", level, slot, i)
				}
				if seen++; seen > w.n {
					return fmt.Errorf("more than the %d items are in rings", w.n)
				}
				if h == dueList {
					if n.Due > w.cur || n.Due > w.late {
						return fmt.Errorf("due %d is in the due list at %d, late %d", n.Due, w.cur, w.late)
					}
					continue
				}
				x := n.Due ^ w.cur
				if n.Due <= w.cur || topByte(x) != level || n.Due>>(8*level)%slots != slot {
					return fmt.Errorf("due %#x lies at %d/%d while cur is %#x", n.Due, level, slot, w.cur)
				}
				if w.used[level][slot/64]>>(slot%64)&1 == 0 {
					return fmt.Errorf("slot %d/%d is not marked as used", level, slot)
				}
			}
		}
	}
	if seen != w.n {
		return fmt.Errorf("%d items are in rings, want %d", seen, w.n)
	}
	return nil
}

// Chunks is how many chunks of memory there are.
func (w *Wheel) Chunks() int { return len(w.chunks) }
