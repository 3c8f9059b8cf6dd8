package main

import "slices"

// best keeps the first so many, in an order, of any number of things; 0 keeps all.
type best[T any] struct {
	limit  int
	before func(a, b T) int
	kept   []T // up to twice as many as wanted, so that sorting pays
}

func (t *best[T]) add(v T) {
	t.kept = append(t.kept, v)
	if t.limit > 0 && len(t.kept) >= 2*t.limit {
		t.sorted()
	}
}

// sorted is what was kept, in order.
func (t *best[T]) sorted() []T {
	slices.SortFunc(t.kept, t.before)
	if t.limit > 0 && len(t.kept) > t.limit {
		clear(t.kept[t.limit:])
		t.kept = t.kept[:t.limit]
	}
	return t.kept
}
