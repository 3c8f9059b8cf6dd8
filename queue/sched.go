package queue

import (
	"math"
	"sync/atomic"
	"time"
	"unique"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/intern"
)

// sched is a scheduled queue. It has no goroutine and no timer: entries that wait for their time are in the scheduler of its shard,
// those whose time has come are in its due list until a promotion takes them. There may be a million, most of which only wait: these
// should be small.
type sched struct {
	ref  *intern.Ref // its name
	conf atomic.Pointer[conf]

	// Guarded by shard.mu. What a scrape reads comes first, and is side by side.
	provider unique.Handle[string] // who takes the mail, for metrics: what path or site was called when last looked up; zero is not known
	delayed  *delayed              // nil: never
	waiting  int32                 // messages in the scheduler or in the due list
	live     int32                 // messages of this queue, wherever they are
	flow     *flow                 // nil while everything waits
	slot     uint32                // in shard.scheds
	changed  uint32                // when a message last came or left, in seconds of Queue.uptime
	wrr      wrr                   // which source is next
	state    schedState

	unruled atomic.Uint32 // a set of rules of which none is for this queue
	shard   *shard
}

// flow is what a scheduled queue needs while something of it is on its way.
type flow struct {
	due      dueList
	feed     *feed // where its mail goes; nil until needed
	inFlight int   // messages in ready queues and sessions
	wakeAt   time.Duration
	inHeap   time.Duration // the earliest at which shard.blocked has it; 0 is not at all
	called   *ready        // has room, and waits for the outcome; see ready.callIn
}

// schedState says who looks after the due messages of a queue.
type schedState uint8

const (
	schedIdle    schedState = iota // there are none
	schedQueued                    // in the work list
	schedRunning                   // a promotion worker has it
	schedBlocked                   // until flow.wakeAt, or until a ready queue has room
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
	swept uint16
}

func (d *dueList) len() int { return d.hot.len() + d.cold.len() }

func (s *sched) name() mtakit.QueueName { return s.ref.Name() }

// flowing returns what s needs on the way. It is called with shard.mu held, as are those that follow up to departed.
func (s *sched) flowing() *flow {
	if s.flow == nil {
		s.flow = &flow{}
		s.shard.flows++
	}
	return s.flow
}

// rest lets go of that if nothing is on the way.
func (s *sched) rest() {
	if f := s.flow; f != nil && s.state == schedIdle && f.inFlight == 0 && f.due.len() == 0 {
		s.flow = nil
		s.shard.flows--
	}
}

// restIfMany is rest when a message has gone. The next one would have to find the way anew, so queues that have just been busy keep what they know
// until they have been quiet for a while, as long as these are not too many.
func (s *sched) restIfMany() {
	if s.shard.flows > quietFlows {
		s.rest()
	}
}

// quietFlows are for how many queues of a shard the way is kept. It takes about half a kilobyte.
const quietFlows = 8192

// feed is where its mail goes, if that is known.
func (s *sched) feed() *feed {
	if s.flow == nil {
		return nil
	}
	return s.flow.feed
}

// dueLen is how many messages are in the due list.
func (s *sched) dueLen() int {
	if s.flow == nil {
		return 0
	}
	return s.flow.due.len()
}

// count counts n more messages in the scheduler or the due list.
func (s *sched) count(n int32) {
	s.waiting += n
	s.shard.q.waiting.Add(int64(n))
}

// pushDue appends it, which is owned by the scheduled queue, to the due list. Items that aren't in memory, or come behind such, are packed.
func (s *sched) pushDue(it *item) {
	s.count(1)
	d := &s.flowing().due
	if it.saved() && (it.m == nil || d.cold.len() > 0) {
		d.cold.pushBack(s.pack(it))
		return
	}
	d.hot.pushBack(it)
}

// unpopDue puts it back where popDue took it from.
func (s *sched) unpopDue(it *item) {
	s.count(1)
	d := &s.flowing().due
	if it.saved() && it.m == nil && d.hot.len() == 0 {
		d.cold.pushFront(s.pack(it))
		return
	}
	d.hot.pushFront(it)
}

func (s *sched) pack(it *item) coldEntry {
	s.shard.q.shrink(it)
	it.pass(ownedBySched, ownedByNobody)
	return coldEntry{it.id, dueSecond(it.due), uint16(min(it.tries, math.MaxUint16)), it.swept}
}

// popDue takes the first message out of the due list, for its next owner.
func (s *sched) popDue(to owner) *item {
	if s.flow == nil {
		return nil
	}
	it, ok := s.flow.due.hot.popFront()
	if !ok {
		c, ok := s.flow.due.cold.popFront()
		if !ok {
			return nil
		}
		it = newItem(s, c.id, c.due, c.tries, c.swept, ownedBySched)
	}
	s.count(-1)
	it.pass(ownedBySched, to)
	return it
}

// departing counts a message that goes into a ready queue, departed one that has left the ready queues and their sessions for good or for a while.
func (s *sched) departing() { s.flowing().inFlight++ }

func (s *sched) departed(from owner) {
	if from == ownedByReady || from == ownedBySession {
		s.flow.inFlight--
	}
}

// hold takes a queue for a message that is about to join it; drop undoes that, or is called when a message has left the queue for good.
func (q *Queue) hold(name mtakit.QueueName) *sched {
	sh := q.shardOf(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.schedFor(name)
}

func (s *sched) drop() { s.dropFrom(ownedByReception) }

// dropFrom is drop for a message that from had.
func (s *sched) dropFrom(from owner) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.departed(from)
	s.live--
	s.changed = s.shard.q.seconds()
	s.restIfMany()
}

// block lets a queue rest for d, or until unblock if that comes first. It is called with shard.mu held.
func (s *sched) block(d time.Duration) {
	s.state = schedBlocked
	s.flowing().wakeAt = s.shard.q.uptime() + min(d, forever)
	s.shard.wakeLater(s, s.flow)
}

// hasChoice says whether the mail of s may go by several sources.
func (s *sched) hasChoice() bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	f := s.feed()
	return f != nil && len(f.ready) > 1
}

// nudge sees to it that somebody looks after the due messages of a queue.
func (s *sched) nudge() {
	s.shard.mu.Lock()
	if s.state == schedIdle && s.dueLen() > 0 {
		s.shard.enlist(s)
	}
	s.shard.mu.Unlock()
}

// unblock is called when a ready queue that s waits for has room. That is told of the outcome if it is named and unblock returns true.
func (s *sched) unblock(by *ready) bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.state != schedBlocked {
		return false
	}
	s.flow.called = by
	s.shard.enlist(s)
	return true
}
