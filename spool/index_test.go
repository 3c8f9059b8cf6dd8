package spool

import (
	"math/rand/v2"
	"testing"

	"github.com/mtakit/mtakit"
)

// The index against a map, with a good hash and with one that gives many ids the same.
func TestIndexIsAMap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		hash func(mtakit.ID) uint64
	}{
		{"good hash", hashID},
		{"equal hashes", func(id mtakit.ID) uint64 { return hashID(mtakit.ID{id[15] & 0x3f}) }},
		{"one shard", func(id mtakit.ID) uint64 { return hashID(id)>>shardBits | 1 }},
		{"one home", func(id mtakit.ID) uint64 { return hashID(id)>>40 | 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(1, 2))
			x := &index{hash: c.hash}
			m := map[mtakit.ID]entry{}
			owner := map[place]mtakit.ID{}
			var list []mtakit.ID
			for step := range 9_000 {
				grow := step/1500%2 == 0
				if n := rnd.IntN(10); len(list) == 0 || n < 3 || grow && n < 8 {
					var id mtakit.ID
					le.PutUint64(id[:], rnd.Uint64())
					le.PutUint64(id[8:], rnd.Uint64())
					e := entry{place(step+1) << offsetShift, uint32(step)}
					owner[e.place] = id
					if old := x.put(id, e, func(old entry) bool { return owner[old.place] == id }); old != (entry{}) {
						t.Fatalf("step %d: a new id replaced %v", step, old)
					}
					m[id] = e
					list = append(list, id)
					continue
				}
				i := rnd.IntN(len(list))
				id := list[i]
				if got, ok := x.get(id); !ok || got != m[id] {
					t.Fatalf("step %d: get is %v %v, want %v", step, got, ok, m[id])
				}
				if step%7 == 0 { // replace
					e := entry{m[id].place, uint32(step)}
					if old := x.put(id, e, func(old entry) bool { return owner[old.place] == id }); old != m[id] {
						t.Fatalf("step %d: put returns %v, want %v", step, old, m[id])
					}
					m[id] = e
					continue
				}
				if got, ok := x.remove(id); !ok || got != m[id] {
					t.Fatalf("step %d: remove is %v %v, want %v", step, got, ok, m[id])
				}
				delete(m, id)
				list[i] = list[len(list)-1]
				list = list[:len(list)-1]
			}
			n := 0
			x.each(func(e entry) {
				n++
				if id := owner[e.place]; m[id] != e {
					t.Errorf("each gives %v for %s, want %v", e, id, m[id])
				}
			})
			if n != len(m) {
				t.Errorf("each gives %d entries, want %d", n, len(m))
			}
			for id, e := range m {
				if got, ok := x.get(id); !ok || got != e {
					t.Errorf("get is %v %v, want %v", got, ok, e)
				}
			}
		})
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slot  uint32
		off   int64
		split bool
		class uint8
		tries uint16
	}{{0, 64, false, 0, 0}, {maxSlots - 1, maxSegment - 8, true, maxSize, maxTries}, {7, 4096, true, 3, 9}, {1, 8, false, 15, 65535}} {
		p := makePlace(c.slot, c.off, c.split, c.class).with(c.tries)
		if p.slot() != c.slot || p.off() != c.off || p.split() != c.split || p.tries() != c.tries || p.size() != 96<<c.class {
			t.Errorf("%+v comes back as slot %d off %d split %v tries %d size %d", c, p.slot(), p.off(), p.split(), p.tries(), p.size())
		}
	}
}

func TestSizeClass(t *testing.T) {
	t.Parallel()
	for size := int64(1); size < 3<<20; size += size/7 + 1 {
		est := makePlace(0, 64, false, sizeClass(size)).size()
		if real := size + headSize; est > real*3/2+32 || est < real*2/3-32 {
			t.Errorf("%d bytes are taken for %d", real, est)
		}
	}
}

func BenchmarkIndex(b *testing.B) {
	x := &index{hash: hashID}
	var src mtakit.IDSource
	ids := make([]mtakit.ID, 1<<16)
	for i := range ids {
		ids[i] = src.New(mtakit.FirstID(mtakit.ID{}.Time()).Time())
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := ids[i%len(ids)]
		x.put(id, entry{64 << offsetShift, 1}, nil)
		x.get(id)
		if i%2 == 0 {
			x.remove(id)
		}
	}
}
