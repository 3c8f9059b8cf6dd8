package route

import (
	"strconv"
	"testing"
)

func TestLRUKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	l := newLRU[int](100)
	for i := range 10 {
		l.put("hot"+strconv.Itoa(i), i, 1)
	}
	for i := range 10_000 {
		l.put("cold"+strconv.Itoa(i), i, 1)
		for j := range 10 {
			l.get("hot" + strconv.Itoa(j))
		}
	}
	if l.len() != 100 {
		t.Errorf("%d entries, want 100", l.len())
	}
	for i := range 10 {
		if v, ok := l.get("hot" + strconv.Itoa(i)); !ok || v != i {
			t.Errorf("hot%d = %d, %v, want it kept", i, v, ok)
		}
	}
}

func TestLRUBoundsCost(t *testing.T) {
	t.Parallel()
	l := newLRU[int](100)
	for i := range 1000 {
		l.put(strconv.Itoa(i), i, cost(10*costUnit))
	}
	if l.len() != 9 {
		t.Errorf("%d entries of cost 11 in 100, want 9", l.len())
	}
	l.put("giant", 1, 1000)
	if v, ok := l.get("giant"); !ok || v != 1 || l.len() != 1 {
		t.Errorf("giant = %d, %v among %d entries, want it alone", v, ok, l.len())
	}
	l.put("giant", 2, 1)
	l.put("small", 3, 99)
	if l.len() != 2 {
		t.Errorf("%d entries, want 2: the new cost counts", l.len())
	}
}

// Whatever is put and got, the books agree and what is found is what was put last.
func FuzzLRU(f *testing.F) {
	f.Add([]byte{1, 2, 3, 130, 131, 7, 200, 9})
	f.Fuzz(func(t *testing.T, ops []byte) {
		l := newLRU[int](20)
		s := &l.shards[0]
		last := map[string]int{}
		for i, op := range ops {
			key := strconv.Itoa(int(op) % 32)
			if op >= 128 {
				if v, ok := l.get(key); ok && v != last[key] {
					t.Fatalf("get(%s) = %d, want %d", key, v, last[key])
				}
				continue
			}
			l.put(key, i, 1+int(op)/32)
			last[key] = i
			if v, ok := l.get(key); !ok || v != i {
				t.Fatalf("get(%s) after put = %d, %v, want %d", key, v, ok, i)
			}
			used := 0
			for at, slot := range s.ring {
				if used += slot.cost; slot.at != at || s.slots[slot.key] != slot {
					t.Fatalf("slot %d of the ring is out of place", at)
				}
			}
			if used != s.used || used > s.budget || len(s.ring) != len(s.slots) {
				t.Fatalf("used is %d, want %d, at most %d; %d in the ring, %d in the map", s.used, used, s.budget, len(s.ring), len(s.slots))
			}
		}
	})
}
