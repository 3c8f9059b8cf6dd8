package queue

import (
	"fmt"
	"maps"
	"testing"
)

// Sums are complete, and a key comes once, however few fit into memory at a time.
func TestSumBy(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{0, 1, 7, 1000} {
		for _, most := range []int{20, 100, 1000} {
			t.Run(fmt.Sprintf("keys=%d/most=%d", keys, most), func(t *testing.T) {
				t.Parallel()
				want, got := map[[2]string]int64{}, map[[2]string]int64{}
				passes := 0
				each := func(f func([]int) bool) {
					passes++
					for i := range 3 * keys {
						if !f([]int{i}) {
							return
						}
					}
				}
				// One key in three has two elements only, and if there is one key, none.
				of := func(n *int) summand {
					i := *n
					k := i % max(keys, 1)
					return summand{key: [2]string{fmt.Sprint(k), "x"}, n: int64(i), none: k%3 == 0 && i >= keys}
				}
				for i := range 3 * keys {
					if s := of(&i); !s.none {
						want[s.key] += s.n
					}
				}
				sm := &summer{}
				sumBy(sm, 3*keys, most, each, of, func(k [2]string, n int64) bool {
					if len(sm.sums) > most {
						t.Errorf("%d sums are kept", len(sm.sums))
					}
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
	for _, most := range []int{10, 1000} {
		n := 0
		each := func(f func([]int) bool) {
			for i := range 100 {
				if !f([]int{i}) {
					return
				}
			}
		}
		of := func(i *int) summand {
			return summand{key: [2]string{fmt.Sprint(*i)}}
		}
		sumBy(&summer{}, 100, most, each, of, func([2]string, int64) bool { n++; return n < 5 })
		if n != 5 {
			t.Errorf("yielded %d times", n)
		}
	}
}
