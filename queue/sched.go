package queue

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/wheel"
)

// sched is a scheduled queue. It has no goroutine and no timer: entries that wait for their time are in the scheduler of its shard,
// those whose time has come are in due until a promotion takes them.
type sched struct {
	name  mtakit.QueueName
	slot  uint32 // in shard.scheds
	shard *shard
	conf  atomic.Pointer[conf]

	// Guarded by shard.mu.
	due      dueList
	state    schedState
	wakeAt   time.Time // when a blocked queue goes on
	live     int       // messages of this queue, wherever they are
	waiting  int       // of them, those in the scheduler or in due
	changed  time.Time
	feed     *feed // where its mail goes; nil until needed, and again when nothing is on its way
	inFlight int   // messages in ready queues and sessions
	wrr      wrr   // which source is next

	delayedByRate  uint32 // metrics
	delayedByReady uint32
	delayedByFull  uint32
}

// schedState says who looks after the due messages of a queue.
type schedState uint8

const (
	schedIdle    schedState = iota // due is empty
	schedQueued                    // in the work list
	schedRunning                   // a promotion worker has it
	schedBlocked                   // until wakeAt, or until a ready queue has room
)

// dueList is the messages whose time has come, in order: first those that are items already, then those that are not.
type dueList struct {
	hot  fifo[*item]
	cold fifo[coldEntry]
}

type coldEntry struct {
	id    mtakit.ID
	due   uint32
	tries uint16
}

func (d *dueList) len() int { return d.hot.len() + d.cold.len() }

// push appends it. Items that aren't in memory, or come behind such, are packed.
func (d *dueList) push(q *Queue, it *item) {
	if it.stored && (it.m == nil || d.cold.len() > 0) {
		q.shrink(it)
		d.cold.pushBack(coldEntry{it.id, unix32(it.due), uint16(min(it.tries, 65535))})
		it.pass(ownedBySched, ownedByNobody)
		return
	}
	d.hot.pushBack(it)
}

func (d *dueList) pop(s *sched) (*item, bool) {
	if it, ok := d.hot.popFront(); ok {
		return it, true
	}
	c, ok := d.cold.popFront()
	if !ok {
		return nil, false
	}
	it := &item{id: c.id, sched: s, tries: int(c.tries), due: fromUnix32(c.due), stored: true}
	it.owner.Store(uint32(ownedBySched))
	return it, true
}

// shard is a part of the scheduled queues with one scheduler for all of them.
type shard struct {
	q    *Queue
	wake chan struct{} // capacity 1: there may be something earlier than the loop sleeps for

	mu      sync.Mutex
	names   map[mtakit.QueueName]*sched
	scheds  []*sched // by slot; nil is free
	free    []uint32
	time    timeQueue
	next    int64 // when the scheduler wants to be asked, Unix seconds
	blocked wakeHeap
	reapPos int
}

// timeQueue is what a shard needs of a scheduler. The default is the wheel itself, which knows queues by slot; others are wrapped.
type timeQueue interface {
	Add(wheel.Item)
	Pop(now int64, dst []wheel.Item) (due []wheel.Item, next int64)
	Sweep(pos, n int, take func(wheel.Item) bool) int
	Each(yield func(wheel.Item) bool)
	Len() int
}

// timeline wraps a mtakit.Scheduler.
type timeline struct {
	s  mtakit.Scheduler
	sh *shard
}

func (t *timeline) entry(i wheel.Item) mtakit.Entry {
	return mtakit.Entry{ID: i.ID, Queue: t.sh.scheds[i.Queue].name, Due: fromUnix32(i.Due), Tries: int(i.Tries)}
}

func (t *timeline) item(e mtakit.Entry) wheel.Item {
	return wheel.Item{ID: e.ID, Queue: t.sh.names[e.Queue].slot, Due: unix32(e.Due), Tries: uint16(e.Tries)}
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

func (t *timeline) Sweep(_, _ int, take func(wheel.Item) bool) int {
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

func (t *timeline) Each(yield func(wheel.Item) bool) {
	for e := range t.s.All() {
		if !yield(t.item(e)) {
			return
		}
	}
}

func (t *timeline) Len() int { return t.s.Len() }

func unix32(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	// Rounded up: nothing is due before its time.
	s := t.Add(time.Second - 1).Unix()
	return uint32(max(0, min(s, 1<<32-1)))
}

func fromUnix32(s uint32) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

func newShard(q *Queue) *shard {
	sh := &shard{q: q, wake: make(chan struct{}, 1), names: make(map[mtakit.QueueName]*sched), next: wheel.Never}
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
	s := sh.names[name]
	if s == nil {
		s = &sched{name: name, shard: sh}
		if n := len(sh.free); n > 0 {
			s.slot, sh.free = sh.free[n-1], sh.free[:n-1]
			sh.scheds[s.slot] = s
		} else {
			s.slot = uint32(len(sh.scheds))
			sh.scheds = append(sh.scheds, s)
		}
		sh.names[name] = s
		sh.q.schedCount.Inc()
	}
	s.live++
	s.changed = sh.q.now()
	return s
}

// hold takes a queue for a message that is about to join it; drop undoes that, or is called when a message has left the queue for good.
func (q *Queue) hold(name mtakit.QueueName) *sched {
	sh := q.shardOf(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.schedFor(name)
}

func (s *sched) drop() {
	s.shard.mu.Lock()
	s.live--
	s.changed = s.shard.q.now()
	s.shard.mu.Unlock()
}

// wait puts a message into the scheduler until it is due. It is called with sh.mu held.
func (sh *shard) wait(s *sched, id mtakit.ID, due time.Time, tries int) {
	it := wheel.Item{ID: id, Due: unix32(due), Queue: s.slot, Tries: uint16(min(tries, 65535))}
	sh.time.Add(it)
	s.waiting++
	sh.q.waiting.Inc()
	if int64(it.Due) < sh.next {
		sh.next = int64(it.Due)
		sh.poke()
	}
}

func (sh *shard) poke() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// run moves what is due from the scheduler to the due lists of the queues, and wakes blocked ones. It ends with ctx.
func (sh *shard) run(ctx context.Context) {
	const batch = 256
	buf := make([]wheel.Item, 0, batch)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	reap := time.NewTicker(reapEvery)
	defer reap.Stop()
	for ctx.Err() == nil {
		sleep := sh.step(buf)
		timer.Reset(sleep)
		if sleep > 0 {
			select {
			case <-ctx.Done():
			case <-sh.wake:
			case <-timer.C:
			case <-reap.C:
				sh.reap(4096)
			}
		}
	}
}

const reapEvery = time.Second

// step takes one batch and says how long there is nothing more to do.
func (sh *shard) step(buf []wheel.Item) time.Duration {
	q := sh.q
	now := q.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for len(sh.blocked) > 0 && !sh.blocked[0].at.After(now) {
		w := heap.Pop(&sh.blocked).(wakeup)
		if w.s.state == schedBlocked && w.s.wakeAt.Equal(w.at) {
			sh.enlist(w.s)
		}
	}
	due, next := sh.time.Pop(now.Unix(), buf[:0])
	sh.next = next
	for _, e := range due {
		s := sh.scheds[e.Queue]
		it := &item{id: e.ID, sched: s, tries: int(e.Tries), due: fromUnix32(e.Due), stored: true}
		it.owner.Store(uint32(ownedBySched))
		s.waiting--
		q.waiting.Dec()
		sh.ripe(s, it)
	}
	if len(due) == cap(buf) {
		return 0
	}
	sleep := time.Hour
	if next != wheel.Never {
		sleep = time.Unix(next, 0).Sub(now)
	}
	if len(sh.blocked) > 0 {
		sleep = min(sleep, sh.blocked[0].at.Sub(now))
	}
	return max(sleep, time.Millisecond)
}

// ripe is where a message goes whose time has come: to the due list, unless it can be promoted at once. It is called with sh.mu held, and
// it is owned by the scheduled queue.
func (sh *shard) ripe(s *sched, it *item) {
	if s.state == schedIdle && sh.q.promoteNow(s, it) {
		return
	}
	s.due.push(sh.q, it)
	s.waiting++
	sh.q.waiting.Inc()
	if s.state == schedIdle {
		sh.enlist(s)
	}
}

// enlist puts a queue with due messages into the work list. It is called with sh.mu held.
func (sh *shard) enlist(s *sched) {
	s.state = schedQueued
	sh.q.work.add(s)
}

// block lets a queue rest until at, or until unblock if that comes first. It is called with sh.mu held.
func (sh *shard) block(s *sched, at time.Time) {
	s.state, s.wakeAt = schedBlocked, at
	heap.Push(&sh.blocked, wakeup{at, s})
	if sh.blocked[0].s == s {
		sh.poke()
	}
}

// unblock is called when a ready queue that s waits for has room.
func (s *sched) unblock() {
	s.shard.mu.Lock()
	if s.state == schedBlocked {
		s.shard.enlist(s)
	}
	s.shard.mu.Unlock()
}

// reap forgets queues that have been empty for long, looking at n of them.
func (sh *shard) reap(n int) {
	now := sh.q.now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for range min(n, len(sh.scheds)) {
		if sh.reapPos >= len(sh.scheds) {
			sh.reapPos = 0
		}
		s := sh.scheds[sh.reapPos]
		sh.reapPos++
		if s == nil || s.live > 0 || s.state != schedIdle {
			continue
		}
		after := sh.q.defaultConf.ReapInterval.Std()
		if c := s.conf.Load(); c != nil && c.err == nil {
			after = c.ReapInterval.Std()
		}
		if now.Sub(s.changed) < after {
			continue
		}
		delete(sh.names, s.name)
		sh.scheds[s.slot] = nil
		sh.free = append(sh.free, s.slot)
		sh.q.schedCount.Dec()
	}
}

// wakeHeap is the blocked queues by the time at which they go on. An entry whose queue has another wakeAt by now is void.
type wakeHeap []wakeup

type wakeup struct {
	at time.Time
	s  *sched
}

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)        { *h = append(*h, x.(wakeup)) }
func (h *wakeHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	return w
}
