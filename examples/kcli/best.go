package main

import (
	"container/heap"
	"slices"
)

// best keeps the first so many, in an order, of any number of things; 0 keeps all.
type best[T any] struct {
	limit  int
	before func(a, b T) int
	kept   []T // a heap once it is full, the last on top
}

func (t *best[T]) add(v T) {
	switch {
	case t.limit == 0 || len(t.kept) < t.limit:
		t.kept = append(t.kept, v)
		if len(t.kept) == t.limit {
			heap.Init(t)
		}
	case t.before(v, t.kept[0]) < 0:
		t.kept[0] = v
		heap.Fix(t, 0)
	}
}

// sorted is what was kept, in order.
func (t *best[T]) sorted() []T {
	slices.SortFunc(t.kept, t.before)
	return t.kept
}

// Len, Less, Swap, Push and Pop implement [heap.Interface]; the last two are not used by what best calls.
func (t *best[T]) Len() int           { return len(t.kept) }
func (t *best[T]) Less(i, j int) bool { return t.before(t.kept[i], t.kept[j]) > 0 }
func (t *best[T]) Swap(i, j int)      { t.kept[i], t.kept[j] = t.kept[j], t.kept[i] }
func (t *best[T]) Push(any)           {}
func (t *best[T]) Pop() any           { return nil }
