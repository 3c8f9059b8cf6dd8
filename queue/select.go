package queue

import "math"

// wrr picks candidates in proportion to their weights, interleaved: with weights 5, 2 and 3, of each ten picks exactly so many.
// The zero value starts a cycle.
type wrr struct{ index, weight int32 }

// weights are those of the candidates, positive.
type weights struct {
	of      []int32
	highest int32
	step    int32 // greatest common divisor
}

func (w *weights) add(n int) {
	v := int32(min(n, math.MaxInt32))
	w.of = append(w.of, v)
	w.highest, w.step = max(w.highest, v), gcd(v, w.step)
}

// pick returns the index of the next candidate. Candidates may be left out from one pick to the next; the state is kept over that.
func (r *wrr) pick(w *weights) int {
	if len(w.of) == 1 {
		return 0
	}
	for {
		r.index++
		if int(r.index) >= len(w.of) {
			r.index = 0
			r.weight -= w.step
		}
		if r.weight <= 0 || r.weight > w.highest { // a cycle begins, or the heaviest is left out
			r.weight = w.highest
		}
		if w.of[r.index] >= r.weight {
			return int(r.index)
		}
	}
}

func gcd(a, b int32) int32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
