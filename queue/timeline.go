package queue

import (
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/wheel"
)

// timeQueue is what a shard needs of a scheduler. The default is the wheel itself, which knows queues by slot; others are wrapped.
type timeQueue interface {
	Add(wheel.Item)
	Pop(now int64, dst []wheel.Item) (due []wheel.Item, next int64)
	Sweep(pos, n int, take func(wheel.Item) bool) int
	Len() int
}

// timeline wraps a mtakit.Scheduler.
type timeline struct {
	s  mtakit.Scheduler
	sh *shard
}

func (t *timeline) entry(i wheel.Item) mtakit.Entry {
	return mtakit.Entry{ID: i.ID, Queue: t.sh.names.Name(i.Queue), Due: dueTime(i.Due), Tries: int(i.Tries)}
}

// item is the inverse. The queue is there, since the entry counts as one of its messages.
func (t *timeline) item(e mtakit.Entry) wheel.Item {
	slot := t.sh.names.Acquire(e.Queue)
	t.sh.names.Release(slot)
	return wheel.Item{ID: e.ID, Queue: slot, Due: dueSecond(e.Due), Tries: uint16(e.Tries)}
}

func (t *timeline) Add(i wheel.Item) { t.s.Add(t.entry(i)) }

func (t *timeline) Pop(now int64, dst []wheel.Item) ([]wheel.Item, int64) {
	due, next := t.s.Pop(time.Unix(now, 0), make([]mtakit.Entry, 0, cap(dst)))
	for _, e := range due {
		dst = append(dst, t.item(e))
	}
	if next.IsZero() {
		return dst, wheel.Never
	}
	return dst, next.Unix()
}

func (t *timeline) Sweep(pos, n int, take func(wheel.Item) bool) int {
	if s, ok := t.s.(Sweeper); ok {
		return s.Sweep(pos, n, func(e mtakit.Entry) bool { return take(t.item(e)) })
	}
	var gone []mtakit.ID
	for e := range t.s.All() {
		if take(t.item(e)) {
			gone = append(gone, e.ID)
		}
	}
	for _, id := range gone {
		t.s.Remove(id)
	}
	return 0
}

func (t *timeline) Len() int { return t.s.Len() }
