package queue

import (
	"unique"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/intern"
)

// scrapeBatch is how many queues a scrape looks at under a lock that mail needs: a few microseconds.
const scrapeBatch = 128

// row is what a scrape sees of a scheduled queue.
type row struct {
	intern.Written
	conf     *conf // nil is not known
	provider unique.Handle[string]
	waiting  int32
	live     int32
	delayed  delayed
	ahead    byte // of the name, read so that it is near
}

// delayed counts how often something due had to stay in its scheduled queue.
type delayed struct{ byRate, byReady, byFull uint32 }

// get is what d counts; nil has counted nothing.
func (d *delayed) get() delayed {
	if d == nil {
		return delayed{}
	}
	return *d
}

// delays is for counting. Most queues never need it. It is called with shard.mu held.
func (s *sched) delays() *delayed {
	if s.delayed == nil {
		s.delayed = &delayed{}
	}
	return s.delayed
}

// eachSched calls f for all scheduled queues, some at a time, with nothing locked, until it returns false. The rows are f's until it returns.
func (q *Queue) eachSched(f func([]row) bool) {
	rows := make([]row, scrapeBatch)
	for _, sh := range q.shards {
		for pos, more := 0, true; more; pos += scrapeBatch {
			n := 0
			sh.mu.Lock()
			end := min(pos+scrapeBatch, len(sh.scheds))
			for _, s := range sh.scheds[min(pos, end):end] {
				if s != nil {
					rows[n] = row{s.ref.Written, s.conf.Load(), s.provider, s.waiting, s.live, s.delayed.get(), 0}
					n++
				}
			}
			more = end < len(sh.scheds)
			sh.mu.Unlock()
			if !f(rows[:n]) {
				return
			}
		}
	}
}

// eachReady calls f for all ready queues, some at a time, until it returns false.
func (q *Queue) eachReady(f func([]*ready) bool) { q.readySlots.each(&q.readyMu, f) }

// who is the provider to which the queue's mail goes, and its hash, if that is at hand: the one that is configured, else what the path or the site was called when it was
// last looked up, else the domain.
func (r *row) who() (string, uint32) {
	name := r.Name()
	who := name.RoutingDomain()
	switch {
	case r.conf != nil && r.conf.err == nil && r.conf.ProviderName != "":
		who = r.conf.ProviderName
	case r.provider != unique.Handle[string]{}:
		who = r.provider.Value()
	case name.Routing == "":
		return who, r.DomainHash()
	}
	return who, 0
}

// pool is the one that the queue's mail leaves by.
func (r *row) pool() string {
	if r.conf != nil && r.conf.err == nil {
		return r.conf.pool
	}
	return mtakit.Unspecified
}
