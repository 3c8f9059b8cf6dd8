package queue

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// item is a message that is on its way: due, in a ready queue or in a session. A message that waits for its time is a few
// bytes in the scheduler instead.
type item struct {
	id      mtakit.ID
	sched   *sched
	owner   atomic.Uint32 // an owner; changed by pass alone
	tries   int
	due     time.Time
	stored  bool   // in the spool; a volatile message is not until it has to wait
	charge  int64  // bytes counted against the resident budget
	changed bool   // m has to be written to the spool before it is let go
	swept   uint16 // number of the last sweep that has seen it
	moves   uint8  // to other queues since it last waited

	// m and body are nil until they are needed, or from reception on if memory allows.
	m    *mtakit.Message
	body mtakit.Body
}

// newItem makes an item of what is known of a message in the spool.
func newItem(s *sched, id mtakit.ID, due uint32, tries, swept uint16, o owner) *item {
	it := &item{id: id, sched: s, tries: int(tries), due: dueTime(due), stored: true, swept: swept}
	it.owner.Store(uint32(o))
	return it
}

// owner is who may touch an item. Ownership moves by item.pass and nowhere else, so that a message in two hands is caught where it
// happens and not where it hurts.
type owner uint32

const (
	ownedByReception owner = iota
	ownedBySched           // in the due list of its scheduled queue
	ownedByPromotion
	ownedByReady
	ownedBySession
	ownedByNobody // delivered, bounced, or back in the scheduler as an entry
)

var ownerNames = [...]string{"reception", "scheduled queue", "promotion", "ready queue", "session", "nobody"}

func (o owner) String() string { return ownerNames[o] }

// pass hands it from one owner to the next.
func (it *item) pass(from, to owner) {
	if !it.owner.CompareAndSwap(uint32(from), uint32(to)) {
		panic(fmt.Sprintf("queue: message %v is owned by %v, not by %v, and can't go to %v", it.id, owner(it.owner.Load()), from, to))
	}
}

// age is how long ago the message was created.
func (it *item) age(now time.Time) time.Duration { return min(now.Sub(it.id.Time()), forever) }

// dueBy says that it is due already, whatever the wall clock says, which may have been set back since.
func (it *item) dueBy(now time.Time) {
	if it.due.After(now) {
		it.due = now
	}
}

// keepResident keeps m and body of a new message in memory for its first attempt, if the budget allows and memory is not about to be short.
func (q *Queue) keepResident(it *item, m *mtakit.Message, body mtakit.Body) bool {
	n := m.Size + residentOverhead
	if total := q.resident.Add(n); it.stored && (total > q.cfg.MaxResident || q.tight()) {
		q.resident.Add(-n)
		return false
	}
	q.bring(it, m, body)
	it.charge = n
	return true
}

// residentOverhead is about what envelope and metadata of a message take.
const residentOverhead = 1024

// bring is what brings the envelope of a message into memory that was not there, and with it the body if body is not nil. release is the other way.
func (q *Queue) bring(it *item, m *mtakit.Message, body mtakit.Body) {
	it.m = m
	q.envelopes.Inc()
	if body != nil {
		q.bringBody(it, body)
	}
}

func (q *Queue) bringBody(it *item, body mtakit.Body) {
	it.body = body
	q.bodies.Inc()
}

// saved says whether the spool has what a restart must know of the message, but for its due time and tries.
func (it *item) saved() bool { return it.stored && !it.changed }

// shrink lets go of what is in memory and in the spool as well.
func (q *Queue) shrink(it *item) {
	switch {
	case it.saved():
		q.release(it)
	case it.stored:
		q.shrinkData(it)
	}
}

// release lets go of everything.
func (q *Queue) release(it *item) {
	if it.body != nil {
		it.body.Close()
		q.bodies.Dec()
	}
	if it.m != nil {
		q.envelopes.Dec()
	}
	q.resident.Add(-it.charge)
	it.m, it.body, it.charge = nil, nil, 0
}
