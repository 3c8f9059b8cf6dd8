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
