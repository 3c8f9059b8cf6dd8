package queue

import (
	"fmt"
	"maps"
	"sync"
	"testing"
)

// Sums are complete, and a key comes once, however few fit into memory at a time.
func TestSumBy(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{0, 1, 7, 1000} {
		for _, most := range []int{20, 100, 1000} {
			t.Run(fmt.Sprintf("keys=%d/most=%d", keys, most), func(t *testing.T) {
				t.Parallel()
				want, got := map[string]int64{}, map[string]int64{}
				passes := 0
				each := func(f func(int) bool) {
					passes++
					for i := range 3 * keys {
						if !f(i) {
							t.Fatal("stopped")
						}
					}
				}
				of := func(i int) (string, int64, bool) { return fmt.Sprint(i % max(keys, 1)), int64(i), i%5 != 0 }
				for i := range 3 * keys {
					if k, n, ok := of(i); ok {
						want[k] += n
					}
				}
				sumBy(each, most, of, func(k string, n int64) bool {
					if _, twice := got[k]; twice {
						t.Errorf("%s comes twice", k)
					}
					got[k] = n
					return true
				})
				if !maps.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if keys <= most && passes != 1 {
					t.Errorf("%d passes for %d keys", passes, keys)
				}
			})
		}
	}
}

func TestSumByStops(t *testing.T) {
	t.Parallel()
	n := 0
	sumBy(func(f func(int) bool) {
		for i := range 100 {
			f(i)
		}
	}, 10, func(i int) (int, int64, bool) { return i, 1, true }, func(int, int64) bool { n++; return n < 5 })
	if n != 5 {
		t.Errorf("yielded %d times", n)
	}
}

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
	s.each(&mu, func(v int) bool {
		seen[v]++
		if i := v; i%2 == 0 && i <= 10*scrapeBatch {
			mu.Lock()
			s.remove(at[i])
			s.add(next)
			next++
			mu.Unlock()
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
