package route

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// costUnit is how many bytes count as one entry of a cache, so that its size bounds memory also where answers are made to be large.
const costUnit = 512

// cost is what an entry of that many bytes costs.
func cost(bytes int) int { return 1 + bytes/costUnit }

// lru is a bounded map that forgets what was not asked for lately. A hand goes around the entries; it takes out those that were not asked for
// since it last came by (the CLOCK algorithm): about as good as a list in order of use, while reading changes no more than one bit.
type lru[V any] struct {
	seed   maphash.Seed
	shards []lruShard[V]
}

type lruShard[V any] struct {
	mu     sync.RWMutex
	slots  map[string]*lruSlot[V]
	ring   []*lruSlot[V]
	hand   int // index in ring
	used   int // cost of all slots
	budget int // most that used may be
}

type lruSlot[V any] struct {
	key   string
	value V // never changed
	cost  int
	at    int         // index in ring
	seen  atomic.Bool // asked for since the hand came by
}

// newLRU makes one whose entries cost at most size together.
func newLRU[V any](size int) *lru[V] {
	shards := 1
	if size >= 1024 {
		shards = 16
	}
	l := &lru[V]{seed: maphash.MakeSeed(), shards: make([]lruShard[V], shards)}
	for i := range l.shards {
		l.shards[i].slots = make(map[string]*lruSlot[V])
		l.shards[i].budget = size / shards
	}
	return l
}

func (l *lru[V]) shard(key string) *lruShard[V] {
	if len(l.shards) == 1 {
		return &l.shards[0]
	}
	return &l.shards[maphash.String(l.seed, key)%uint64(len(l.shards))]
}

func (l *lru[V]) get(key string) (v V, ok bool) {
	s := l.shard(key)
	s.mu.RLock()
	slot := s.slots[key]
	s.mu.RUnlock()
	if slot == nil {
		return v, false
	}
	if !slot.seen.Load() { // a write only where it changes something keeps the cache line shared
		slot.seen.Store(true)
	}
	return slot.value, true
}

// put adds or replaces an entry.
func (l *lru[V]) put(key string, v V, cost int) {
	s := l.shard(key)
	cost = min(cost, s.budget)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.slots[key]; old != nil {
		s.remove(old)
	}
	for s.used+cost > s.budget {
		s.evict()
	}
	slot := &lruSlot[V]{key: key, value: v, cost: cost, at: len(s.ring)}
	s.slots[key] = slot
	s.ring = append(s.ring, slot)
	s.used += cost
}

// evict forgets one entry, of which there is at least one.
func (s *lruShard[V]) evict() {
	for ; ; s.hand++ {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		if slot := s.ring[s.hand]; !slot.seen.Swap(false) {
			s.remove(slot)
			s.hand++ // what came into its place is young
			return
		}
	}
}

func (s *lruShard[V]) remove(slot *lruSlot[V]) {
	last := len(s.ring) - 1
	s.ring[slot.at] = s.ring[last]
	s.ring[slot.at].at = slot.at
	s.ring[last] = nil
	s.ring = s.ring[:last]
	delete(s.slots, slot.key)
	s.used -= slot.cost
}

// len is the number of entries.
func (l *lru[V]) len() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.RLock()
		n += len(s.slots)
		s.mu.RUnlock()
	}
	return n
}
