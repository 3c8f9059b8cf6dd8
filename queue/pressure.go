package queue

import (
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/pressure"
)

// Overloaded is [mtakit.ErrOverloaded] while memory is short, else nil. It costs next to nothing.
func (q *Queue) Overloaded() error {
	if q.memory != nil && q.memory.Status() == pressure.None {
		return mtakit.ErrOverloaded
	}
	return nil
}

// tight says whether memory is short or about to be, so that nothing is kept that can be read again.
func (q *Queue) tight() bool { return q.memory != nil && q.memory.Status() != pressure.OK }

// samplePressure looks at the memory in use. Each time that it gets shorter, what the messages on their way have in memory is let go: bodies, then
// envelopes, and never the entries.
func (q *Queue) samplePressure() {
	if q.memory == nil {
		return
	}
	before := q.memory.Status()
	now := q.memory.Sample()
	if now <= before {
		if up := q.uptime(); now == pressure.None && up-q.freed >= freeAgain {
			q.free()
		}
		return
	}
	q.log.Warn("memory is getting short", "status", now.String(), "resident", q.resident.Load())
	for _, r := range q.allReady() {
		r.shrink(now == pressure.None)
	}
	for _, sh := range q.shards {
		sh.shrinkDue(now == pressure.None)
	}
	q.free()
}

// free gives memory that is not used back to the system. The collector would do so minutes later, as nothing is allocated by an intake that takes nothing.
func (q *Queue) free() {
	runtime.GC() // what is in pools is let go by the second
	debug.FreeOSMemory()
	q.freed = q.uptime()
}

const freeAgain = 30 * time.Second

// shrinkDue lets go of the bodies of messages that are due and wait for room, and of envelopes too if there is no memory at all. What was never saved, or not
// as it is now, is saved first.
func (sh *shard) shrinkDue(none bool) {
	q := sh.q
	for slot := 0; ; slot++ {
		sh.mu.Lock()
		if slot >= len(sh.scheds) {
			sh.mu.Unlock()
			return
		}
		var all []*item
		s := sh.scheds[slot]
		if s != nil && s.flow != nil {
			for range s.flow.due.hot.len() {
				all = append(all, s.popDue(ownedByPromotion))
			}
		}
		q.promoting.Add(int64(len(all)))
		sh.mu.Unlock()
		if len(all) == 0 {
			continue
		}
		for _, it := range all {
			if !it.stored || none && it.changed {
				q.saveOrLog(it)
			}
			if none {
				q.shrink(it)
			} else if it.stored {
				q.shrinkData(it)
			}
		}
		sh.mu.Lock()
		for _, it := range slices.Backward(all) {
			it.pass(ownedByPromotion, ownedBySched)
			s.unpopDue(it)
			q.promoting.Add(-1)
		}
		sh.mu.Unlock()
		s.nudge()
	}
}

// shrink lets go of what the messages in r have in memory, as the path says. What was never saved, or not as it is now, is saved first, once: if that fails
// it stays until the next time that memory gets short.
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
		case !it.stored, it.changed && policy == mtakit.ShrinkDataAndMeta:
			it.pass(ownedByReady, ownedBySession)
			unsaved = append(unsaved, it)
			return false
		case policy == mtakit.ShrinkData:
			r.q.shrinkData(it)
		default:
			r.q.shrink(it)
		}
		return true
	})
	r.mu.Unlock()
	for _, it := range unsaved {
		r.q.saveOrLog(it)
		if policy == mtakit.ShrinkDataAndMeta {
			r.q.shrink(it)
		} else if it.stored {
			r.q.shrinkData(it)
		}
	}
	r.restock(unsaved)
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
