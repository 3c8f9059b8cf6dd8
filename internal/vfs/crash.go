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
	LoseNone             // the process was killed: everything is there
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
	c := &node{dir: n.dir, mode: n.mode, mod: n.mod}
	seen[n] = c
	if !n.dir {
		b := slices.Clone(n.durable)
		for _, w := range n.pending {
			b = w.survive(b, loss, rnd)
		}
		c.data, c.durable = b, slices.Clone(b)
		return c
	}
	names := maps.Clone(n.durableKids)
	keep := 0
	switch loss {
	case LoseNone:
		keep = len(n.pendingNames)
	case LoseSome:
		keep = rnd.IntN(len(n.pendingNames) + 1)
	}
	for _, w := range n.pendingNames[:keep] {
		w.apply(names)
	}
	c.kids, c.durableKids = map[string]*node{}, map[string]*node{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		k := names[name].survive(loss, rnd, seen)
		c.kids[name], c.durableKids[name] = k, k
	}
	return c
}

func (w change) survive(b []byte, loss Loss, rnd *rand.Rand) []byte {
	switch loss {
	case LoseAll:
		return b
	case LoseNone:
		return w.apply(b)
	}
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
