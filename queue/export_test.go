package queue

import (
	"time"

	"github.com/mtakit/mtakit/internal/pressure"
)

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

// ReapReady forgets the ready queues that have nothing to do.
func (q *Queue) ReapReady() { q.reapReady(0) }

// Shards is into how many parts the scheduled queues are divided.
func (q *Queue) Shards() int { return len(q.shards) }

// Passed says that the next step of the wall clock by d is no step: the time passes.
func (q *Queue) Passed(d time.Duration) { q.clock.ahead.Add(int64(d)) }

// Lag is by how much what waits is behind the wall clock.
func (q *Queue) Lag() time.Duration {
	_, lag := q.clock.look()
	return time.Duration(lag) * time.Second
}

// SetSweeps says how many sweeps there have been.
func (q *Queue) SetSweeps(n uint32) { q.sweeps.Store(n) }

// SetMemory has the queue go by m.
func (c *Config) SetMemory(m *pressure.Memory) { c.memory = m }

// InMemory is how many bodies and envelopes are in memory.
func (q *Queue) InMemory() (bodies, envelopes int64) { return q.bodies.Value(), q.envelopes.Value() }

// Kept is for how many messages ready queues keep room.
func (q *Queue) Kept() (n int) {
	for _, r := range q.allReady() {
		r.mu.Lock()
		n += r.reserved + r.called
		r.mu.Unlock()
	}
	return n
}

// Flows is how many scheduled queues there are, as the shards count, of which something is on its way or was lately.
func (q *Queue) Flows() (n int) {
	for _, sh := range q.shards {
		sh.mu.Lock()
		n += sh.flows
		sh.mu.Unlock()
	}
	return n
}
