package queue

import (
	"errors"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/pressure"
)

// ErrOverloaded: memory is short. Answer 452, try later; what was accepted goes on.
var ErrOverloaded = errors.New("queue: load shedding: memory is short")

// Overloaded is ErrOverloaded while memory is short, else nil. It costs next to nothing.
func (q *Queue) Overloaded() error {
	if q.memory != nil && q.memory.Status() == pressure.None {
		return ErrOverloaded
	}
	return nil
}

// samplePressure looks at the memory in use. When it gets short, messages in ready queues are let go: bodies and envelopes, never the entries.
func (q *Queue) samplePressure() {
	if q.memory == nil {
		return
	}
	before := q.memory.Status()
	now := q.memory.Sample()
	if now == before || now == pressure.OK {
		return
	}
	q.log.Warn("memory is getting short", "status", now.String(), "resident", q.resident.Load())
	q.readyMu.Lock()
	all := make([]*ready, 0, len(q.ready))
	for _, r := range q.ready {
		all = append(all, r)
	}
	q.readyMu.Unlock()
	for _, r := range all {
		r.shrink(now == pressure.None)
	}
}

// shrink lets go of what the messages in r have in memory, as the path says. What was never saved is saved first, once: if that fails it stays
// until the next time that memory gets short.
func (r *ready) shrink(none bool) {
	p := r.path.Load()
	policy := p.LowMemoryReductionPolicy
	if none {
		policy = p.NoMemoryReductionPolicy
	}
	if policy == mtakit.NoShrink {
		return
	}
	var unsaved []*item
	r.mu.Lock()
	r.lanes.filter(func(it *item) bool {
		switch {
		case !it.stored:
			it.pass(ownedByReady, ownedBySession)
			unsaved = append(unsaved, it)
			return false
		case policy == mtakit.ShrinkData:
			r.q.shrinkData(it)
		case !it.changed:
			r.q.shrink(it)
		}
		return true
	})
	r.mu.Unlock()
	for _, it := range unsaved {
		if err := r.q.save(it); err != nil {
			r.q.log.Error("volatile message not saved; it stays in memory", "id", it.id.String(), "err", err)
		} else {
			r.q.shrink(it)
		}
		r.q.readmit(it)
	}
}

// shrinkData lets go of the body only.
func (q *Queue) shrinkData(it *item) {
	if it.body != nil {
		it.body.Close()
		it.body = nil
		q.bodies.Dec()
	}
	if it.charge > residentOverhead {
		q.resident.Add(residentOverhead - it.charge)
		it.charge = residentOverhead
	}
}

// idealNow is ideal, but for a time in which memory is short.
func (q *Queue) idealNow(n, limit int) int {
	i := ideal(n, limit)
	if q.Overloaded() != nil {
		return min(i, 2)
	}
	return i
}
