package queue

import "fmt"

// Census is where the messages are at one moment.
type Census struct {
	Accepted  int64 // by Submit, since the start
	Recovered int64 // found in the spool at start
	Done      int64 // delivered, bounced, expired
	Left      int64 // left in the spool by the end of Run
	Waiting   int64 // in scheduled queues
	Ready     int64 // in ready queues
	InHand    int64 // in promotions and sessions
	Promoting int64 // of those, in promotions and in the hands of the operator's orders
	Queues    int64 // scheduled queues
	Sessions  int64
}

// Err says whether a message is missing or there twice: accepted and recovered ones are done, left, or somewhere. It is exact when nothing
// moves; while messages move, those in hand are inferred and only a surplus shows.
func (c Census) Err() error {
	if c.InHand < 0 {
		return fmt.Errorf("queue: %d messages more than there should be: %+v", -c.InHand, c)
	}
	return nil
}

// alive is how many messages there are. What is gone is read first, so that there are never less than none.
func (q *Queue) alive() int64 {
	gone := q.done.Value() + q.left.Value()
	return q.accepted.Value() + q.recovered.Value() - gone
}

// Census counts. What waits and what is in ready queues is counted where it is, not from the counters of what came and went.
func (q *Queue) Census() Census {
	c := Census{Queues: q.schedCount.Value()}
	for _, sh := range q.shards {
		sh.mu.Lock()
		c.Waiting += int64(sh.time.Len())
		for _, s := range sh.scheds {
			if s != nil {
				c.Waiting += int64(s.dueLen())
			}
		}
		sh.mu.Unlock()
	}
	q.readyMu.Lock()
	for _, r := range q.ready {
		r.mu.Lock()
		c.Ready += int64(r.lanes.n)
		c.Sessions += int64(r.sessions)
		r.mu.Unlock()
	}
	q.readyMu.Unlock()
	c.Done, c.Left = q.done.Value(), q.left.Value()
	c.Promoting = q.promoting.Load()
	c.Accepted, c.Recovered = q.accepted.Value(), q.recovered.Value()
	c.InHand = c.Accepted + c.Recovered - c.Done - c.Left - c.Waiting - c.Ready
	return c
}
