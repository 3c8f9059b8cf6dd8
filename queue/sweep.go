package queue

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/wheel"
)

// sweep is the way of an order through what waits.
type sweep struct {
	match   Match
	except  mtakit.QueueName             // which is passed over
	over    func() bool                  // that the order has ended meanwhile; nil is never
	do      func(context.Context, *item) // has each message of the matching queues, as if by a promotion
	shut    bool                         // ready queues that are shut, too
	ready   bool                         // all ready queues
	writers int                          // how many do at once; each waits for the spool, and those that wait share a commit

	number uint16
	names  map[string]struct{} // of match
}

const (
	sweepStep = 4096 // entries for which a lock is held
	sweepsMax = 8    // at once; further ones wait
	writers   = 64   // of one that writes
)

// sweep carries out an order in the background, a few thousand entries at a time, so that no lock is held for long.
func (q *Queue) sweep(w *sweep) {
	q.admitting.RLock() // stopping waits for those that are counted by then
	defer q.admitting.RUnlock()
	if q.stopping.Load() {
		return
	}
	for w.number == 0 { // which is that of what no sweep has seen
		w.number = uint16(q.sweeps.Add(1))
	}
	w.names = w.match.names()
	q.wg.Go(func() {
		select {
		case q.sweeping <- struct{}{}:
			defer func() { <-q.sweeping }()
		case <-q.workCtx.Done():
			return
		}
		if w.shut {
			for _, r := range q.allReady() {
				q.readmit(r.pull(func(it *item) bool { return w.matches(it.sched) })...)
			}
		}
		for _, sh := range q.shards {
			sh.sweep(q.workCtx, w)
		}
		if w.ready {
			q.sweepReady(q.workCtx, w)
		}
	})
}

// sweepReady goes through the ready queues, at the end: what has left the scheduled queues meanwhile is found there.
func (q *Queue) sweepReady(ctx context.Context, w *sweep) {
	for _, r := range q.allReady() {
		w.each(r.drainOf(w.matches), func(it *item) {
			if it.swept == w.number || ctx.Err() != nil {
				q.readmit(it)
				return
			}
			q.promoting.Add(1)
			defer q.promoting.Add(-1)
			s := it.sched
			s.shard.mu.Lock()
			s.departed(ownedBySession)
			it.pass(ownedBySession, ownedByPromotion)
			s.shard.mu.Unlock()
			it.swept = w.number
			it.dueBy(q.now())
			w.do(ctx, it)
		})
	}
}

// sweepBounce bounces what waits.
func (q *Queue) sweepBounce(r *Rule) {
	q.sweep(&sweep{match: r.Match, shut: true, over: r.ended.Load, do: func(ctx context.Context, it *item) { q.adminBounce(ctx, it, ownedByPromotion, r) }})
}

// each calls fn for each of all.
func (w *sweep) each(all []*item, fn func(*item)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	work := func() {
		for i := next.Add(1); i <= int64(len(all)); i = next.Add(1) {
			fn(all[i-1])
		}
	}
	for range min(w.writers, len(all)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

func (w *sweep) matches(s *sched) bool {
	name := s.name()
	if w.names != nil {
		_, ok := w.names[s.ref.String()]
		return ok && name != w.except
	}
	return w.match.Matches(name) && name != w.except
}

// sweep goes through one shard. What do puts back, perhaps into another queue that matches as well, is not shown again.
func (sh *shard) sweep(ctx context.Context, w *sweep) {
	var out []*item
	handle := func() { // with the lock not held meanwhile
		sh.q.promoting.Add(int64(len(out)))
		sh.mu.Unlock()
		w.each(out, func(it *item) {
			it.swept = w.number
			w.do(ctx, it)
			sh.q.promoting.Add(-1)
		})
		out = out[:0]
		sh.mu.Lock()
	}
	over := func() bool { return ctx.Err() != nil || sh.q.stopping.Load() || w.over != nil && w.over() }
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for pos := sh.time.Len(); pos > 0 && !over(); {
		sh.q.clock.look() // revive has to know of a step
		pos = sh.time.Sweep(pos, sweepStep, func(e wheel.Item) bool {
			s := sh.scheds[e.Queue]
			if e.Flags == w.number || !w.matches(s) {
				return false
			}
			out = append(out, sh.revive(e, ownedByPromotion))
			return true
		})
		handle()
	}
	for slot := 0; !over(); slot++ {
		if slot%sweepStep == 0 {
			handle() // so that others get the lock
		}
		if slot >= len(sh.scheds) {
			break
		}
		s := sh.scheds[slot]
		if s == nil || s.dueLen() == 0 || !w.matches(s) {
			continue
		}
		for n := s.dueLen(); n > 0 && !over(); {
			for ; n > 0 && len(out) < sweepStep; n-- {
				it := s.popDue(ownedByPromotion)
				switch {
				case it == nil:
					n = 1
				case it.swept == w.number:
					it.pass(ownedByPromotion, ownedBySched)
					s.pushDue(it)
				default:
					it.dueBy(sh.q.now())
					out = append(out, it)
				}
			}
			handle()
		}
	}
}
