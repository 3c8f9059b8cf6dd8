package queue

import (
	"time"

	"github.com/mtakit/mtakit"
)

// Located is a message, and where it is.
type Located struct {
	*mtakit.Message           // as it is in the spool, but for Due and Tries, which are those of now
	Where           Where     // at the moment
	ReadyQueue      string    // in InReadyQueue and InSession
	Session         string    // its id, in InSession
	Ahead           int       // messages of its queue that are due and come before it, in Due and InReadyQueue
	Expires         time.Time // when it is given up; zero is not known
}

// Where is a place of a message.
type Where string

// Places of messages.
const (
	Sleeping     Where = "scheduled"  // its time has not come
	Due          Where = "due"        // waits for its turn, for a rate or for room
	InReadyQueue Where = "ready"      // waits for a session
	InSession    Where = "delivering" // a session sends it
	OnTheWay     Where = "on the way" // from one of these to another; or the queue does not have it
)

// locate finds a message that the spool has.
func (q *Queue) locate(m *mtakit.Message, now time.Time) *Located {
	l := &Located{Message: m, Where: OnTheWay}
	s := q.schedNamed(m.Queue)
	if s == nil {
		return l
	}
	for _, r := range s.feedNow() {
		if r.find(s, l) {
			return l
		}
	}
	ahead := 0
	for e := range q.Waiting(m.Queue) {
		if e.ID != m.ID {
			ahead++
			continue
		}
		if m.Due, m.Tries = e.Due, e.Tries; e.Due.After(now) {
			l.Where = Sleeping
		} else {
			l.Where, l.Ahead = Due, ahead
		}
		break
	}
	return l
}

// feedNow is the ready queues to which the queue's mail goes, if that is known.
func (s *sched) feedNow() []*ready {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if f := s.feed(); f != nil {
		return f.ready
	}
	return nil
}

// find looks for a message of s in r and in its sessions.
func (r *ready) find(s *sched, l *Located) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for o := range r.live {
		if p := o.progress.now(); p.phase.name == "DeliveringMessage" && p.message == l.ID {
			l.Where, l.ReadyQueue, l.Session = InSession, r.name, o.progress.look().id
			return true
		}
	}
	lane := r.lanes.byName[s]
	if lane == nil {
		return false
	}
	for i := range lane.q.len() {
		if it := lane.q.at(i); it.id == l.ID {
			l.Where, l.ReadyQueue, l.Ahead, l.Tries = InReadyQueue, r.name, i, it.tries
			return true
		}
	}
	return false
}

// expires notes when the message is given up.
func (l *Located) expires(c *conf) {
	if s := l.Schedule; s != nil && !s.Expires.IsZero() {
		l.Expires = s.Expires
		return
	}
	if created := l.ID.Time(); !created.IsZero() {
		l.Expires = created.Add(c.MaxAge.Std())
	}
}
