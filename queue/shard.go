package queue

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/intern"
	"github.com/mtakit/mtakit/internal/wheel"
)

// shard is a part of the scheduled queues with one scheduler for all of them.
type shard struct {
	q    *Queue
	wake chan struct{} // capacity 1: there may be something earlier than the loop sleeps for

	mu      sync.Mutex
	names   intern.Table
	scheds  []*sched // by number of the name; nil is free
	time    timeQueue
	next    int64 // when the scheduler wants to be asked, Unix seconds by Queue.clock
	blocked wakeHeap
	reapPos int
	flows   int // queues that have one

	// unsaved has the messages in the scheduler that the spool could not take, or not as they are now.
	unsaved map[mtakit.ID]*item
}

func newShard(q *Queue) *shard {
	sh := &shard{q: q, wake: make(chan struct{}, 1), next: wheel.Never}
	if q.cfg.Scheduler != nil {
		sh.time = &timeline{q.cfg.Scheduler(), sh}
	} else {
		sh.time = wheel.New()
	}
	return sh
}

func (q *Queue) shardOf(name mtakit.QueueName) *shard {
	return q.shards[mix(hashName(name))&uint64(len(q.shards)-1)]
}

// hashName is FNV-1a of the parts of the name.
func hashName(n mtakit.QueueName) uint64 {
	h := uint64(14695981039346656037)
	for _, part := range [...]string{n.Campaign, n.Tenant, n.Domain, n.Routing} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	return h
}

// schedFor returns the queue called name, made if need be, and counts one more live message in it. It is called with sh.mu held.
func (sh *shard) schedFor(name mtakit.QueueName) *sched {
	n := sh.names.Acquire(name)
	for int(n) >= len(sh.scheds) {
		sh.scheds = append(sh.scheds, nil)
	}
	s := sh.scheds[n]
	if s == nil {
		s = &sched{ref: sh.names.Ref(n), shard: sh, slot: n}
		sh.scheds[n] = s
		sh.q.schedCount.Inc()
	} else {
		sh.names.Release(n) // s holds it once
	}
	s.live++
	s.changed = sh.q.seconds()
	return s
}

// wait puts a message into the scheduler until it is due. It is called with sh.mu held.
func (sh *shard) wait(s *sched, id mtakit.ID, due time.Time, tries int, swept uint16) {
	_, lag := sh.q.clock.look()
	it := wheel.Item{ID: id, Due: shiftDue(dueSecond(due), -lag), Queue: s.slot, Tries: uint16(min(tries, math.MaxUint16)), Flags: swept}
	sh.time.Add(it)
	s.count(1)
	if int64(it.Due) < sh.next {
		sh.next = int64(it.Due)
		sh.poke()
	}
}

// keep keeps in memory a message that is about to wait. It is called with sh.mu held.
func (sh *shard) keep(it *item) {
	if sh.unsaved == nil {
		sh.unsaved = make(map[mtakit.ID]*item)
	}
	sh.unsaved[it.id] = it
}

// revive makes an entry that has been taken out of the scheduler an item again. It is called with sh.mu held.
func (sh *shard) revive(e wheel.Item, to owner) *item {
	s := sh.scheds[e.Queue]
	s.count(-1)
	e.Due = shiftDue(e.Due, sh.q.clock.lag.Load())
	if it := sh.unsaved[e.ID]; it != nil {
		delete(sh.unsaved, e.ID)
		it.pass(ownedByNobody, to)
		return it
	}
	return newItem(s, e.ID, e.Due, e.Tries, e.Flags, to)
}

func (sh *shard) poke() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// run moves what is due from the scheduler to the due lists of the queues, wakes blocked ones and forgets empty ones. It ends with ctx.
func (sh *shard) run(ctx context.Context) {
	const batch = 256
	buf := make([]wheel.Item, 0, batch)
	timer := time.NewTimer(0)
	defer timer.Stop()
	reapAt := sh.q.uptime() + time.Minute
	for ctx.Err() == nil {
		sleep := sh.step(buf)
		if now := sh.q.uptime(); now >= reapAt {
			reapAt = now + sh.reap(now, 4096)
		} else {
			sleep = min(sleep, reapAt-now)
		}
		if sleep <= 0 {
			continue
		}
		timer.Reset(sleep)
		select {
		case <-ctx.Done():
		case <-sh.wake:
		case <-timer.C:
		}
	}
}

// step takes one batch and says how long there is nothing more to do. It is a minute at most, so that a step of the wall clock is noticed soon.
func (sh *shard) step(buf []wheel.Item) time.Duration {
	q := sh.q
	now, up := q.clock.now(), q.uptime()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for len(sh.blocked) > 0 && sh.blocked[0].at <= up {
		w := heap.Pop(&sh.blocked).(wakeup)
		f := w.s.flow
		if f == nil || f.inHeap != w.at {
			continue
		}
		f.inHeap = 0
		switch {
		case w.s.state != schedBlocked:
		case f.wakeAt <= up:
			sh.enlist(w.s)
		default:
			sh.wakeLater(w.s, f)
		}
	}
	due, next := sh.time.Pop(now.Unix(), buf[:0])
	sh.next = next
	for _, e := range due {
		q.timings.tardiness.Observe(lateness(now, dueTime(e.Due)))
		it := sh.revive(e, ownedBySched)
		sh.ripe(it.sched, it)
	}
	if len(due) == cap(buf) {
		return 0
	}
	sleep := time.Minute
	if next != wheel.Never {
		sleep = min(sleep, max(time.Unix(next, 0).Sub(now), time.Millisecond))
	}
	if len(sh.blocked) > 0 {
		sleep = min(sleep, sh.blocked[0].at-up)
	}
	return sleep
}

// ripe is where a message goes whose time has come: to the due list, unless it can be promoted at once. It is called with sh.mu held, and
// it is owned by the scheduled queue.
func (sh *shard) ripe(s *sched, it *item) {
	if s.state == schedIdle && sh.q.promoteNow(s, it) {
		return
	}
	s.pushDue(it)
	if s.state == schedIdle {
		sh.enlist(s)
	}
}

// enlist puts a queue with due messages into the work list. It is called with sh.mu held.
func (sh *shard) enlist(s *sched) {
	s.state = schedQueued
	sh.q.work.add(s)
}

// wakeLater sees to it that a blocked queue goes on at its wakeAt, or is looked at before.
func (sh *shard) wakeLater(s *sched, f *flow) {
	if f.inHeap > 0 && f.inHeap <= f.wakeAt {
		return
	}
	f.inHeap = f.wakeAt
	heap.Push(&sh.blocked, wakeup{f.wakeAt, s})
	if sh.blocked[0].s == s {
		sh.poke()
	}
}

// unload takes out every message that is not only an entry, when nothing moves any more.
func (sh *shard) unload() (out []*item) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, s := range sh.scheds {
		if s == nil || s.flow == nil {
			continue
		}
		for it, ok := s.flow.due.hot.popFront(); ok; it, ok = s.flow.due.hot.popFront() {
			s.count(-1)
			out = append(out, it)
		}
	}
	if len(sh.unsaved) > 0 {
		sh.time.Sweep(sh.time.Len(), sh.time.Len(), func(e wheel.Item) bool {
			if sh.unsaved[e.ID] == nil {
				return false
			}
			out = append(out, sh.revive(e, ownedBySched))
			return true
		})
	}
	return out
}

// reap forgets queues that have been empty for long, and what the others don't need when they have been quiet for a while. It looks at n of them
// and says when to go on: each should be looked at about once a minute.
func (sh *shard) reap(up time.Duration, n int) time.Duration {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for range min(n, len(sh.scheds)) {
		if sh.reapPos >= len(sh.scheds) {
			sh.reapPos = 0
		}
		s := sh.scheds[sh.reapPos]
		sh.reapPos++
		if s == nil {
			continue
		}
		quiet := up - time.Duration(s.changed)*time.Second
		if quiet >= time.Minute {
			s.rest()
		}
		after := sh.q.defaultConf.ReapInterval.Std()
		if c := s.conf.Load(); c != nil && c.err == nil {
			after = c.ReapInterval.Std()
		}
		if s.live == 0 && s.state == schedIdle && quiet >= after {
			s.rest()
			sh.scheds[s.slot] = nil
			sh.names.Release(s.slot)
			sh.q.schedCount.Dec()
		}
	}
	if sh.names.Len() == 0 {
		sh.scheds = nil
	}
	if len(sh.scheds) <= n {
		return time.Minute
	}
	return max(time.Second, time.Minute*time.Duration(n)/time.Duration(len(sh.scheds)))
}

// wakeHeap is queues that are or were blocked by the time at which they are looked at. An entry whose queue has another inHeap by now is void.
type wakeHeap []wakeup

type wakeup struct {
	at time.Duration
	s  *sched
}

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)        { *h = append(*h, x.(wakeup)) }
func (h *wakeHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = wakeup{}
	*h = old[:len(old)-1]
	return w
}
