package queue

import (
	"runtime/debug"
	"sync"
)

// workList is the scheduled queues with messages to promote, in order. Workers exist while there is work; each takes a queue, promotes some of
// its messages and puts it back at the end, so that queues take turns. Promotion may wait for the DNS or for a callback, so there may be many
// workers; what they have to do for themselves is little.
type workList struct {
	q *Queue

	mu      sync.Mutex
	scheds  fifo[*sched]
	workers int
	stopped bool
}

const (
	maxWorkers = 2048 // promotions that wait for something at the same time; many domains may have a name server that does not answer
	turn       = 64   // messages of one queue at a time
)

// add is called under the lock of a shard.
func (w *workList) add(s *sched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scheds.pushBack(s)
	if w.workers < maxWorkers && !w.stopped {
		w.workers++
		w.q.wg.Add(1)
		go w.run()
	}
}

func (w *workList) run() {
	defer w.q.wg.Done()
	for {
		w.mu.Lock()
		s, ok := w.scheds.popFront()
		if !ok || w.stopped {
			w.workers--
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		w.turn(s)
	}
}

// turn promotes some messages of s. Whatever happens, s has an owner afterwards: a later turn, a wake-up, or nobody if it is empty.
func (w *workList) turn(s *sched) {
	sh := s.shard
	sh.mu.Lock()
	s.state = schedRunning
	var called *ready
	if s.flow != nil {
		called, s.flow.called = s.flow.called, nil
	}
	sh.mu.Unlock()
	more := w.next(s)
	if called != nil {
		called.tried()
	}
	for n := 1; more && n < turn; n++ {
		more = w.next(s)
	}
	if !more {
		return
	}
	sh.mu.Lock()
	if s.dueLen() > 0 {
		sh.enlist(s)
	} else {
		s.state = schedIdle
	}
	sh.mu.Unlock()
}

// next promotes the first message of s. false means that there is none, or that s has to rest.
func (w *workList) next(s *sched) bool {
	s.shard.mu.Lock()
	it := s.popDue(ownedByPromotion)
	if it == nil {
		s.state = schedIdle
		s.shard.mu.Unlock()
		return false
	}
	w.q.promoting.Add(1)
	s.shard.mu.Unlock()
	defer w.q.promoting.Add(-1)
	return !w.promote(s, it)
}

// promote is Queue.promote with a net: a message that a panic leaves in the hands of the promotion goes back.
func (w *workList) promote(s *sched, it *item) (blocked bool) {
	defer func() {
		if p := recover(); p != nil {
			w.q.log.Error("promotion panicked", "id", it.id.String(), "queue", s.name().String(), "panic", p, "stack", string(debug.Stack()))
			if owner(it.owner.Load()) == ownedByPromotion {
				w.q.giveBack(it, ownedByPromotion, Reasons{FailedToInsertIntoReadyQueue})
			}
			blocked = false
		}
	}()
	start := w.q.timings.readyInsert.start(w.q, it.id)
	if blocked = w.q.promote(w.q.workCtx, s, it); !blocked {
		w.q.timings.readyInsert.end(w.q, start)
	}
	return blocked
}

// stop lets no worker begin another turn.
func (w *workList) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
}
