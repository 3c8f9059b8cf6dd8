package queue

// wrr picks candidates in proportion to their weights, interleaved: with weights 5, 2 and 3, of each ten picks exactly so many.
// The zero value starts a cycle.
type wrr struct{ index, weight int }

// pick returns the index of the next candidate; weights are positive. Candidates may be left out from one pick to the next; the state
// is kept over that.
func (w *wrr) pick(weights []int) int {
	if len(weights) == 1 {
		return 0
	}
	highest, step := 0, 0
	for _, n := range weights {
		highest, step = max(highest, n), gcd(n, step)
	}
	for {
		w.index++
		if w.index >= len(weights) {
			w.index = 0
			if w.weight -= step; w.weight <= 0 {
				w.weight = highest
			}
		}
		if w.weight == 0 {
			w.weight = highest
		}
		if weights[w.index] >= w.weight {
			return w.index
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
