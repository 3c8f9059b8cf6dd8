package queue

import (
	"sync"
	"testing"
)

// Elements that are there all the time are seen once, whatever comes and goes meanwhile.
func TestSlots(t *testing.T) {
	t.Parallel()
	var (
		mu sync.Mutex
		s  slots[int]
		at = map[int]uint32{}
	)
	for i := 1; i <= 10*scrapeBatch; i++ {
		at[i] = s.add(i)
	}
	seen, next := map[int]int{}, 1_000_000
	s.each(&mu, func(all []int) bool {
		for _, i := range all {
			seen[i]++
			if i%2 == 0 && i <= 10*scrapeBatch {
				mu.Lock()
				s.remove(at[i])
				s.add(next)
				next++
				mu.Unlock()
			}
		}
		return true
	})
	for i := 1; i <= 10*scrapeBatch; i += 2 {
		if seen[i] != 1 {
			t.Errorf("%d was seen %d times", i, seen[i])
		}
	}
	if len(s.all) > 10*scrapeBatch {
		t.Errorf("%d places for %d elements", len(s.all), 10*scrapeBatch)
	}
}
