package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Loss is what a crash does to operations that were not synced.
type Loss uint8

const (
	LoseAll  Loss = iota // power failure: nothing that was not synced is there
	LoseSome             // power failure: of each write some sectors are there, of the names the first few changes
	LoseNone             // the process was killed: everything is there, and what was not synced still is not durable
)

func (l Loss) String() string { return [...]string{"lose all", "lose some", "lose none"}[l] }

const sector = 512

// Crash returns the disk as it is found after a crash now, and stops this one. rnd chooses what stays, with LoseSome; it may be
// nil otherwise.
func (m *Mem) Crash(loss Loss, rnd *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
	return &Mem{Now: m.Now, capacity: m.capacity, root: m.top().survive(loss, rnd, map[*node]*node{})}
}

// survive copies a tree; seen keeps a file that has two names one file.
func (n *node) survive(loss Loss, rnd *rand.Rand, seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}
	c := &node{name: n.name, dir: n.dir, mode: n.mode, mod: n.mod}
	seen[n] = c
	switch {
	case loss == LoseNone:
		n.copyTo(c, seen)
	case n.dir:
		names := maps.Clone(n.durableKids)
		if loss == LoseSome {
			for _, w := range n.pendingNames[:rnd.IntN(len(n.pendingNames)+1)] {
				w.apply(names)
			}
		}
		c.kids, c.durableKids = map[string]*node{}, map[string]*node{}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			k := names[name].survive(loss, rnd, seen)
			c.kids[name], c.durableKids[name] = k, k
		}
	default:
		b := slices.Clone(n.durable)
		if loss == LoseSome {
			for _, w := range n.pending {
				b = w.survive(b, rnd)
			}
		}
		c.data, c.durable = b, slices.Clone(b)
	}
	return c
}

// copyTo copies n with what is not durable as such: a power failure may still come.
func (n *node) copyTo(c *node, seen map[*node]*node) {
	c.data, c.durable, c.pending = slices.Clone(n.data), slices.Clone(n.durable), slices.Clone(n.pending)
	if !n.dir {
		return
	}
	each := func(m map[string]*node) map[string]*node {
		out := make(map[string]*node, len(m))
		for name, k := range m {
			out[name] = k.survive(LoseNone, nil, seen)
		}
		return out
	}
	c.kids, c.durableKids = each(n.kids), each(n.durableKids)
	for _, w := range n.pendingNames {
		if w.node != nil {
			w.node = w.node.survive(LoseNone, nil, seen)
		}
		c.pendingNames = append(c.pendingNames, w)
	}
}

// survive applies some of a write to b.
func (w change) survive(b []byte, rnd *rand.Rand) []byte {
	if w.data == nil {
		if rnd.IntN(2) == 0 {
			return b
		}
		return w.apply(b)
	}
	for off := int64(0); off < int64(len(w.data)); {
		end := min(int64(len(w.data)), (w.off+off)/sector*sector+sector-w.off)
		if rnd.IntN(2) == 0 {
			b = change{off: w.off + off, data: w.data[off:end]}.apply(b)
		}
		off = end
	}
	return b
}
