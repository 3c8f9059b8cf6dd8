package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/wheel"
)

// ErrNoQueue: there is no scheduled or ready queue of that name; one that has been empty for long is forgotten.
var ErrNoQueue = errors.New("queue: no such queue")

// ScheduledStatus is a scheduled queue at one moment, with its settings.
type ScheduledStatus struct {
	ScheduledQueue
	Settings *mtakit.QueueSettings // in force, not to be changed; nil if they have not been asked for yet, or can't be had
	Err      error                 // why they can't be had
}

// schedNamed is the queue of that name, nil if there is none. It is called with sh.mu held.
func (sh *shard) schedNamed(name mtakit.QueueName) *sched {
	if n, ok := sh.names.Find(name); ok {
		return sh.scheds[n]
	}
	return nil
}

// schedNamed is the queue of that name, nil if there is none.
func (q *Queue) schedNamed(name mtakit.QueueName) *sched {
	sh := q.shardOf(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.schedNamed(name)
}

// Scheduled tells about a scheduled queue. The error wraps ErrNoQueue. It takes constant time, whatever is in the queue.
func (q *Queue) Scheduled(name mtakit.QueueName) (st ScheduledStatus, err error) {
	s := q.schedNamed(name)
	ok := false
	if s != nil {
		st.ScheduledQueue, ok = q.describe(s, name.String())
	}
	if !ok {
		return st, fmt.Errorf("%w: %s", ErrNoQueue, name)
	}
	if c := s.conf.Load(); c != nil {
		st.Settings, st.Err = c.QueueSettings, c.err
	}
	return st, nil
}

// Waiting yields the messages of a scheduled queue that wait, those that are due first, and the others in no order. It holds no more than a few thousand
// entries and locks nothing while it yields. What comes, leaves or becomes due meanwhile may be yielded or not, or twice. If there is no such
// queue there is nothing to yield.
//
// Entries of all queues are in one timing wheel, which is what makes them small; those of one queue are found by going through it, at about 2 ns for
// each entry of the shard, until as many are found as the queue has.
func (q *Queue) Waiting(name mtakit.QueueName) iter.Seq[mtakit.Entry] {
	return func(yield func(mtakit.Entry) bool) {
		sh := q.shardOf(name)
		entry := func(e coldEntry) bool {
			return yield(mtakit.Entry{ID: e.id, Queue: name, Due: dueTime(e.due), Tries: int(e.tries)})
		}
		var batch []coldEntry
		for at, more := 0, true; more; at += inspectStep {
			batch, more = sh.dueFrom(name, at, batch[:0])
			for _, e := range batch {
				if !entry(e) {
					return
				}
			}
		}
		for pos, seen := -1, 0; pos != 0; {
			batch, pos = sh.sleepingFrom(name, pos, seen, batch[:0])
			seen += len(batch)
			for _, e := range batch {
				if !entry(e) {
					return
				}
			}
		}
	}
}

// inspectStep is how many due messages are looked at under the lock.
const inspectStep = 512

// dueFrom appends a step of the due list from place at, and says whether there is more.
func (sh *shard) dueFrom(name mtakit.QueueName, at int, dst []coldEntry) (_ []coldEntry, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.schedNamed(name)
	if s == nil || s.flow == nil {
		return dst, false
	}
	d := &s.flow.due
	end := min(at+inspectStep, d.len())
	for i := at; i < end; i++ {
		if n := d.hot.len(); i >= n {
			dst = append(dst, d.cold.at(i-n))
		} else {
			it := d.hot.at(i)
			dst = append(dst, coldEntry{id: it.id, due: dueSecond(it.due), tries: uint16(min(it.tries, 65535))})
		}
	}
	return dst, end < d.len()
}

// sleepingFrom appends what one step of a sweep through the scheduler from pos finds, and returns where to go on; it begins with -1 and ends with 0. seen is
// how many have been found before.
func (sh *shard) sleepingFrom(name mtakit.QueueName, pos, seen int, dst []coldEntry) ([]coldEntry, int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.schedNamed(name)
	if s == nil {
		return dst, 0
	}
	if pos < 0 {
		pos = sh.time.Len()
	}
	all := int(s.waiting) - s.dueLen()
	if seen >= all {
		return dst, 0
	}
	lag := sh.q.clock.lag.Load()
	pos = sh.time.Sweep(pos, sweepStep, func(e wheel.Item) bool {
		if e.Queue == s.slot {
			dst = append(dst, coldEntry{id: e.ID, due: shiftDue(e.Due, lag), tries: e.Tries})
		}
		return false
	})
	if seen+len(dst) >= all {
		pos = 0
	}
	return dst, pos
}

// Message returns a copy of a message as it is in the spool: with the due time and tries as last stored. The error wraps mtakit.ErrNotFound if it is
// not there, because it is done, never was, or is volatile and has not had to wait.
func (q *Queue) Message(ctx context.Context, id mtakit.ID) (*mtakit.Message, error) {
	return q.cfg.Spool.Load(ctx, id)
}

// Body returns the body of a message, for the caller to close. Errors are those of Message.
func (q *Queue) Body(ctx context.Context, id mtakit.ID) (mtakit.Body, error) {
	return q.cfg.Spool.Open(ctx, id)
}
