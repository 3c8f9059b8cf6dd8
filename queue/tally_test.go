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
	for i := range s.all {
		if s.all[i] != 0 {
			s.remove(uint32(i))
			if len(s.all) == 0 {
				break
			}
		}
	}
	if s.all != nil || s.free != nil {
		t.Errorf("%d places are left for nothing", cap(s.all))
	}
	if at := s.add(1); at != 0 {
		t.Errorf("the first place is %d", at)
	}
}
