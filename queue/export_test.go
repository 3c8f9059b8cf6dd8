package queue

import "time"

// Poke has the shards look at the clock, which they do every minute anyway.
func (q *Queue) Poke() {
	for _, sh := range q.shards {
		sh.poke()
	}
}

// Now is the wall clock.
func (q *Queue) Now() time.Time { return q.now() }

// Rules is how many rules there are, expired ones included.
func (q *Queue) Rules() int { return int(q.rules.n.Load()) }

// Shards is into how many parts the scheduled queues are divided.
func (q *Queue) Shards() int { return len(q.shards) }
