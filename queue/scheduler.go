package queue

import (
	"container/heap"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/intern"
	"github.com/mtakit/mtakit/internal/wheel"
)

// Sweeper is a Scheduler that can be gone through in steps, while it is used between them: that is how a rule reaches those
// that sleep without holding up the others. Without it a sweep goes through All at once.
type Sweeper interface {
	mtakit.Scheduler
	// Sweep shows up to n entries that come before position pos to take, and removes those for which it returns true. It
	// returns the position from which to go on, 0 at the end; a sweep starts at Len. Every entry that is there from the start
	// of the sweep to its end is shown; one may be shown twice, or be shown although it was added meanwhile. take must not use
	// the Scheduler.
	Sweep(pos, n int, take func(mtakit.Entry) bool) int
}

// NewWheel returns the default Scheduler, a timing wheel: Add and Pop take constant time, amortised, and allocate nothing but
// the name of a queue that is new. An entry costs 36 bytes that the garbage collector does not look at, a queue's name 48
// bytes and its text. Remove looks through all entries, about 4 ms for a million. It is a [Sweeper].
//
// Due times after February 2106 count as that, tries above 65,535 likewise.
func NewWheel() mtakit.Scheduler { return &wheelScheduler{batch: make([]wheel.Item, 0, 256)} }

// wheelScheduler is a wheel of items whose Queue is a number in names; each item holds one reference to its name.
type wheelScheduler struct {
	wheel wheel.Wheel
	names intern.Table
	batch []wheel.Item
}

func (s *wheelScheduler) Add(e mtakit.Entry) {
	s.wheel.Add(wheel.Item{
		ID: e.ID, Due: dueSecond(e.Due), Queue: s.names.Acquire(e.Queue), Tries: uint16(min(max(e.Tries, 0), math.MaxUint16)),
	})
}

func (s *wheelScheduler) Remove(id mtakit.ID) bool {
	it, ok := s.wheel.RemoveID(id)
	if ok {
		s.names.Release(it.Queue)
	}
	return ok
}

func (s *wheelScheduler) Pop(now time.Time, dst []mtakit.Entry) (due []mtakit.Entry, next time.Time) {
	sec := now.Unix()
	for {
		room := min(cap(dst)-len(dst), cap(s.batch))
		items, after := s.wheel.Pop(sec, s.batch[:0:room])
		for _, it := range items {
			dst = append(dst, s.entry(it))
			s.names.Release(it.Queue)
		}
		switch {
		case after == wheel.Never:
			return dst, time.Time{}
		case after > sec:
			return dst, time.Unix(after, 0)
		case len(dst) == cap(dst):
			return dst, now
		}
	}
}

func (s *wheelScheduler) All() iter.Seq[mtakit.Entry] {
	return func(yield func(mtakit.Entry) bool) {
		s.wheel.Each(func(it wheel.Item) bool { return yield(s.entry(it)) })
	}
}

func (s *wheelScheduler) Len() int { return s.wheel.Len() }

func (s *wheelScheduler) Sweep(pos, n int, take func(mtakit.Entry) bool) int {
	return s.wheel.Sweep(pos, n, func(it wheel.Item) bool {
		gone := take(s.entry(it))
		if gone {
			s.names.Release(it.Queue)
		}
		return gone
	})
}

func (s *wheelScheduler) entry(it wheel.Item) mtakit.Entry {
	return mtakit.Entry{ID: it.ID, Queue: s.names.Name(it.Queue), Due: dueTime(it.Due), Tries: int(it.Tries)}
}

// NewHeap returns a Scheduler that is a binary heap of entries as they are, ordered by due second and ID: the plain version, for
// comparison and for a few thousand messages.
func NewHeap() mtakit.Scheduler { return new(heapScheduler) }

type heapScheduler struct{ entries entryHeap }

func (s *heapScheduler) Add(e mtakit.Entry) {
	e.Due = dueTime(dueSecond(e.Due))
	heap.Push(&s.entries, e)
}

func (s *heapScheduler) Remove(id mtakit.ID) bool {
	i := slices.IndexFunc(s.entries, func(e mtakit.Entry) bool { return e.ID == id })
	if i >= 0 {
		heap.Remove(&s.entries, i)
	}
	return i >= 0
}

func (s *heapScheduler) Pop(now time.Time, dst []mtakit.Entry) (due []mtakit.Entry, next time.Time) {
	for s.Len() > 0 {
		if first := s.entries[0].Due; first.After(now) {
			return dst, first
		}
		if len(dst) == cap(dst) {
			return dst, now
		}
		dst = append(dst, heap.Pop(&s.entries).(mtakit.Entry))
	}
	return dst, time.Time{}
}

func (s *heapScheduler) All() iter.Seq[mtakit.Entry] { return slices.Values(s.entries) }

func (s *heapScheduler) Len() int { return len(s.entries) }

// entryHeap implements [heap.Interface].
type entryHeap []mtakit.Entry

func (h entryHeap) Len() int      { return len(h) }
func (h entryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h entryHeap) Less(i, j int) bool {
	if c := h[i].Due.Compare(h[j].Due); c != 0 {
		return c < 0
	}
	return h[i].ID.Compare(h[j].ID) < 0
}
func (h *entryHeap) Push(e any) { *h = append(*h, e.(mtakit.Entry)) }
func (h *entryHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = mtakit.Entry{}
	*h = (*h)[:last]
	return e
}

// dueSecond is the first whole second that is not before t. Times before 1970, the zero time among them, are 0.
func dueSecond(t time.Time) uint32 {
	sec := t.Unix()
	if t.Nanosecond() > 0 {
		sec++
	}
	return uint32(min(max(sec, 0), math.MaxUint32))
}

// dueTime is the inverse: 0 is the zero time, which means now.
func dueTime(sec uint32) time.Time {
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(int64(sec), 0)
}
