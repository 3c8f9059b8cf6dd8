package queue

// Poke has the shards look at the clock, which they do every minute anyway.
func (q *Queue) Poke() {
	for _, sh := range q.shards {
		sh.poke()
	}
}
