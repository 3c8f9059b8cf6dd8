package queue

import (
	"math/bits"

	"github.com/mtakit/mtakit/internal/intern"
)

// summand is what something adds to the sum of its key, which is one or two labels. none is that it adds nothing.
type summand struct {
	key  [2]string
	hash uint32 // of the first label, if it is known without reading it; then, if it is needed, hashKey
	n    int64
	none bool

	ahead byte // of what is needed next, read so that it is near
}

// hashKey is the hash of a key. first is that of its first label, or 0.
func hashKey(key [2]string, first uint32) uint32 {
	if first == 0 {
		first = intern.Hash(key[0])
	}
	if key[1] == "" {
		return first
	}
	return first ^ bits.RotateLeft32(intern.Hash(key[1]), 1)
}

// summer is room for sums by key, to be used for one family after the other, and for the next scrape.
type summer struct {
	sums  map[[2]string]int64
	large bool // there is room for as many as are ever kept
	seen  hashes
	part  [scrapeBatch]summand
}

// maxSums is how many sums a scrape keeps at a time.
const maxSums = 1 << 16

// sumBy gives the sum of each key, once, until yield returns false. each calls its argument for all that have something to add, about n of them, at most
// scrapeBatch at a time; it is called once if there are at most most keys, and several times otherwise, since the sums are not all kept then. What is the
// only one with its hash is its own sum, and is given as it is met. Of the others, if they are still too many, those with some hashes are summed up at a
// time.
func sumBy[R any](sm *summer, n, most int, each func(func([]R) bool), of func(*R) summand, yield func([2]string, int64) bool) {
	defer sm.clear()
	if large := n > most; sm.sums == nil || large && !sm.large {
		sm.sums, sm.large = make(map[[2]string]int64, min(n, most)), large
	}
	fits := true
	each(func(batch []R) bool {
		for i := range batch {
			if s := of(&batch[i]); !s.none {
				sm.sums[s.key] += s.n
			}
		}
		fits = len(sm.sums) <= most
		return fits
	})
	if fits {
		sm.give(yield)
		return
	}
	clear(sm.sums)
	sm.seen.reset(n)
	each(func(batch []R) bool {
		part := summands(sm, batch, of)
		for i := range part {
			if !part[i].none {
				sm.seen.see(part[i].hash)
			}
		}
		return true
	})
	const all = 1 << 32
	for low, width, stopped := uint64(0), uint64(all), false; low < all; low += width {
		outside := func(hash uint32) bool { return uint64(hash)-low >= width } // below low it is far above
		each(func(batch []R) bool {
			part := summands(sm, batch, of)
			for i := range part {
				part[i].ahead = first(part[i].key[0])
			}
			for i := range part {
				s := &part[i]
				if s.none || outside(s.hash) {
					continue
				}
				switch sm.seen.take(s.hash) {
				case seenOnce:
					if stopped = !yield(s.key, s.n); stopped {
						return false
					}
					continue
				case taken: // by one that was there before
					continue
				}
				sm.sums[s.key] += s.n
				for len(sm.sums) > most && width > 1 {
					width /= 2
					for k := range sm.sums {
						if outside(hashKey(k, 0)) {
							delete(sm.sums, k)
						}
					}
				}
			}
			return true
		})
		if stopped || !sm.give(yield) {
			return
		}
	}
}

// summands of a batch. They are fetched together, and what is known of their hashes with them, so that many misses of the cache are under way at a time.
func summands[R any](sm *summer, batch []R, of func(*R) summand) []summand {
	part := sm.part[:len(batch)]
	for i := range batch {
		part[i] = of(&batch[i])
	}
	for i := range part {
		part[i].hash = hashKey(part[i].key, part[i].hash)
		part[i].ahead = byte(sm.seen.get(part[i].hash))
	}
	return part
}

// first is the first byte of s, or 0. A name that is read from far away takes longer than to write it.
func first(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

// give yields the sums, and begins anew.
func (sm *summer) give(yield func([2]string, int64) bool) bool {
	for k, n := range sm.sums {
		if !yield(k, n) {
			return false
		}
	}
	clear(sm.sums)
	return true
}

// clear lets go of names.
func (sm *summer) clear() {
	clear(sm.sums)
	clear(sm.part[:])
}

// hashes knows which hashes were seen once: two bits for each of the parts into which it divides them.
type hashes []uint64

// States of a part.
const (
	neverSeen uint64 = iota
	seenOnce
	seenAgain
	taken
)

// reset makes h ready for n hashes, of which one in sixteen or fewer is taken for another. It takes 4 bytes for each, 8 MiB at most.
func (h *hashes) reset(n int) {
	if words := 1 << min(bits.Len(uint(n/2)), 20); len(*h) == words {
		clear(*h)
	} else {
		*h = make(hashes, words)
	}
}

func (h hashes) at(hash uint32) (word *uint64, shift uint) {
	n := hash & uint32(32*len(h)-1)
	return &h[n/32], uint(n % 32 * 2)
}

func (h hashes) get(hash uint32) uint64 {
	w, shift := h.at(hash)
	return *w >> shift & 3
}

func (h hashes) see(hash uint32) {
	w, shift := h.at(hash)
	switch *w >> shift & 3 {
	case neverSeen:
		*w |= seenOnce << shift
	case seenOnce:
		*w ^= (seenOnce ^ seenAgain) << shift
	}
}

// take says whether hash was seen once, or again, or is taken. If it was seen once, or if it is new, it is taken from now on.
func (h hashes) take(hash uint32) uint64 {
	w, shift := h.at(hash)
	state := *w >> shift & 3
	if state <= seenOnce {
		*w |= taken << shift
		return seenOnce
	}
	return state
}
