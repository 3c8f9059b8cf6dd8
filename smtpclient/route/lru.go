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

// lru is a bounded map that forgets what was not asked for lately. Which of several such entries goes is left to chance: about as good as
// a list in order of use, and reading changes nothing but one bit.
type lru[V any] struct {
	seed   maphash.Seed
	shards []lruShard[V]
}

type lruShard[V any] struct {
	mu     sync.RWMutex
	slots  map[string]*lruSlot[V]
	used   int // cost of all slots
	budget int // most that used may be
}

type lruSlot[V any] struct {
	value V // never changed
	cost  int
	seen  atomic.Bool // asked for since the last search for something to forget
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
		s.used -= old.cost
		delete(s.slots, key)
	}
	for s.used+cost > s.budget {
		s.evict()
	}
	s.slots[key] = &lruSlot[V]{value: v, cost: cost}
	s.used += cost
}

// evict forgets one of a few entries that chance (the order of a map) puts forward: the first that was not asked for lately, else the last.
// The others lose their bit and are fair game next time.
func (s *lruShard[V]) evict() {
	var victim string
	looked := 0
	for key, slot := range s.slots {
		victim = key
		if looked++; !slot.seen.Swap(false) || looked == 8 {
			break
		}
	}
	s.used -= s.slots[victim].cost
	delete(s.slots, victim)
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
