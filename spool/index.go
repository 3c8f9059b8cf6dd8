package spool

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/mtakit/mtakit"
)

// place is where the newest record of a message begins, how large about it is, and how often delivery was tried, in one word:
//
//	slot of the segment 20 | offset in the segment in units of 8 bytes 23 | body elsewhere 1 | size class 4 | tries 16
//
// Zero is no place: a segment begins with its header.
type place uint64

const (
	maxSlots    = 1 << 20
	maxSegment  = 1 << 26 // what 23 bits of units address
	maxTries    = 1<<16 - 1
	classShift  = 16
	maxSize     = 15 // class
	splitBit    = place(1 << 20)
	offsetShift = 21
	slotShift   = 44
)

// makePlace leaves tries 0.
func makePlace(slot uint32, off int64, split bool, class uint8) place {
	p := place(slot)<<slotShift | place(off/8)<<offsetShift | place(class)<<classShift
	if split {
		p |= splitBit
	}
	return p
}

func (p place) slot() uint32  { return uint32(p >> slotShift) }
func (p place) off() int64    { return int64(p>>offsetShift&(1<<23-1)) * 8 }
func (p place) split() bool   { return p&splitBit != 0 }
func (p place) tries() uint16 { return uint16(p) }

func (p place) with(tries uint16) place { return p&^maxTries | place(tries) }

// record is p without the tries, and start only where it is, for comparison.
func (p place) record() place { return p &^ maxTries }
func (p place) start() place  { return p &^ (1<<offsetShift - 1) }

// sizeClass is a power of two near the size of a message with its envelope. It is what the index knows of sizes, and is
// good enough to tell how much of a segment is alive.
func sizeClass(size int64) uint8 { return uint8(min(bits.Len64(uint64(size+headSize)/128), maxSize)) }

// size is what a message of the class of p has on average.
func (p place) size() int64 { return 96 << (p >> classShift & maxSize) }

// entry is what memory knows of a message.
type entry struct {
	place
	due uint32 // seconds since 1970; 0 is now
}

// index finds entries by id: 20 bytes each in open-addressing tables of numbers, which the garbage collector does not look
// into and which are kept between 68 and 85 % full. Of the id it keeps a hash of 64 bits. Two stored messages with the same
// hash are next to impossible; the second would live in a map under its whole id.
//
// Lookups may run concurrently with one writer.
type index struct {
	shards [1 << shardBits]shard
	hash   func(mtakit.ID) uint64

	twins  atomic.Int32 // len(twin)
	twinMu sync.Mutex
	twin   map[mtakit.ID]entry
}

const shardBits = 8

type shard struct {
	mu    sync.RWMutex
	n     int
	hash  []uint64 // 0 is free
	place []place
	due   []uint32
}

// hashID spreads an id over 64 bits. The random half alone would do for ids of our own, but those of version 1, which
// come from other systems, end with a constant.
func hashID(id mtakit.ID) uint64 {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(id[:8])^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	hi2, lo2 := bits.Mul64(binary.LittleEndian.Uint64(id[8:])^hi^lo, 0xa0761d6478bd642f)
	return max(hi2^lo2, 1)
}

func (x *index) shard(h uint64) *shard { return &x.shards[h>>(64-shardBits)] }

// home is the slot where the search for h begins.
func (s *shard) home(h uint64) int {
	hi, _ := bits.Mul64(h<<shardBits, uint64(len(s.hash)))
	return int(hi)
}

// find returns the position of h, or of the free slot where it would go.
func (s *shard) find(h uint64) (i int, ok bool) {
	if len(s.hash) == 0 {
		return 0, false
	}
	for i = s.home(h); s.hash[i] != 0; {
		if s.hash[i] == h {
			return i, true
		}
		if i++; i == len(s.hash) {
			i = 0
		}
	}
	return i, false
}

// get returns the entry of id.
func (x *index) get(id mtakit.ID) (entry, bool) {
	return x.pin(id, nil)
}

// pin is get, and calls f with the entry while it cannot change.
func (x *index) pin(id mtakit.ID, f func(entry)) (e entry, ok bool) {
	if x.twins.Load() > 0 {
		x.twinMu.Lock()
		defer x.twinMu.Unlock()
		if e, ok = x.twin[id]; ok {
			if f != nil {
				f(e)
			}
			return e, true
		}
	}
	h := x.hash(id)
	s := x.shard(h)
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.find(h)
	if !ok {
		return entry{}, false
	}
	e = entry{s.place[i], s.due[i]}
	if f != nil {
		f(e)
	}
	return e, true
}

// put sets the entry of id, and returns the one that was there. same is asked whether an entry with the hash of id is that
// of id; nil says yes.
func (x *index) put(id mtakit.ID, e entry, same func(entry) bool) (old entry) {
	if x.twins.Load() > 0 {
		x.twinMu.Lock()
		old, ok := x.twin[id]
		if ok {
			x.twin[id] = e
		}
		x.twinMu.Unlock()
		if ok {
			return old
		}
	}
	h := x.hash(id)
	s := x.shard(h)
	if i, ok := s.find(h); ok { // there is one writer: us
		old = entry{s.place[i], s.due[i]}
		if same != nil && !same(old) {
			x.twinMu.Lock()
			if x.twin == nil {
				x.twin = map[mtakit.ID]entry{}
			}
			x.twin[id] = e
			x.twins.Store(int32(len(x.twin)))
			x.twinMu.Unlock()
			return entry{}
		}
		s.mu.Lock()
		s.place[i], s.due[i] = e.place, e.due
		s.mu.Unlock()
		return old
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n+1 > len(s.hash)*17/20 {
		s.resize(len(s.hash)*5/4 + 8)
	}
	i, _ := s.find(h)
	s.hash[i], s.place[i], s.due[i] = h, e.place, e.due
	s.n++
	return entry{}
}

// remove takes out the entry of id and returns it.
func (x *index) remove(id mtakit.ID) (old entry, ok bool) {
	if x.twins.Load() > 0 {
		x.twinMu.Lock()
		defer x.twinMu.Unlock()
		if old, ok = x.twin[id]; ok {
			delete(x.twin, id)
			x.twins.Store(int32(len(x.twin)))
			return old, true
		}
	}
	h := x.hash(id)
	s := x.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.find(h)
	if !ok {
		return entry{}, false
	}
	old = entry{s.place[i], s.due[i]}
	s.delete(i)
	if s.n--; s.n < len(s.hash)/4 && len(s.hash) > 64 {
		s.resize(s.n*4/3 + 8)
	}
	return old, true
}

// removePlace takes out the entry whose record begins at p, by looking at all.
func (x *index) removePlace(p place) (old entry, ok bool) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		for j, h := range s.hash {
			if h != 0 && s.place[j].start() == p.start() {
				old = entry{s.place[j], s.due[j]}
				s.delete(j)
				s.n--
				s.mu.Unlock()
				return old, true
			}
		}
		s.mu.Unlock()
	}
	return entry{}, false
}

// delete frees slot i and moves what follows it nearer to its home.
func (s *shard) delete(i int) {
	for j := i; ; {
		if j++; j == len(s.hash) {
			j = 0
		}
		if s.hash[j] == 0 {
			break
		}
		// The one at j may fill the hole if its home is not between the two.
		if home := s.home(s.hash[j]); (j-home+len(s.hash))%len(s.hash) >= (j-i+len(s.hash))%len(s.hash) {
			s.hash[i], s.place[i], s.due[i] = s.hash[j], s.place[j], s.due[j]
			i = j
		}
	}
	s.hash[i] = 0
}

func (s *shard) resize(size int) {
	old := shard{hash: s.hash, place: s.place, due: s.due}
	s.hash, s.place, s.due = make([]uint64, size), make([]place, size), make([]uint32, size)
	for i, h := range old.hash {
		if h != 0 {
			j, _ := s.find(h)
			s.hash[j], s.place[j], s.due[j] = h, old.place[i], old.due[i]
		}
	}
}

// reserve makes room for n entries in all.
func (x *index) reserve(n int) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		if want := n/len(x.shards)*13/10 + 8; want > len(s.hash) {
			s.resize(want)
		}
		s.mu.Unlock()
	}
}

// each calls f for every entry, a shard at a time.
func (x *index) each(f func(entry)) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		for j, h := range s.hash {
			if h != 0 {
				f(entry{s.place[j], s.due[j]})
			}
		}
		s.mu.RUnlock()
	}
	x.twinMu.Lock()
	defer x.twinMu.Unlock()
	for _, e := range x.twin {
		f(e)
	}
}

// bytes is the memory that the tables take.
func (x *index) bytes() (n int64) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		n += int64(len(s.hash)) * 20
		s.mu.RUnlock()
	}
	return n
}
