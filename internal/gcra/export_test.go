package gcra

// Buckets is how many buckets are in the table.
func (s *Store) Buckets() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.buckets)
		sh.mu.Unlock()
	}
	return n
}
