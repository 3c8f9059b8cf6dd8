package queue

import (
	"cmp"
	"maps"
	"sync/atomic"

	"github.com/mtakit/mtakit"
)

// readyCount is what a ready queue counts. Each count is one addition for the queue, one for its protocol, and for outcomes two more, by source and by
// provider: a sum that was made when somebody asks would fall when a queue is forgotten.
type readyCount struct {
	readyCounts
	rollup  *rollup
	service string // in metrics: protocol and name
	slot    uint32 // in Queue.readySlots
	held    atomic.Pointer[map[tallyKey]*tally]
}

// maxTallies is for how many providers and pools one ready queue counts apart. If policy names more, the counts of those that were begin again.
const maxTallies = 1024

// beginCounting is called before others know of r.
func (r *ready) beginCounting(c *conf) {
	proto := r.proto.MetricsName()
	r.service, r.rollup = proto+":"+r.name, r.q.tallies.protocol(proto)
	key := r.tallyKey(c)
	r.held.Store(&map[tallyKey]*tally{key: r.q.tallies.hold(key)})
}

// endCounting is called with mu held, when r is closed.
func (r *ready) endCounting() {
	r.dropTallies(*r.held.Swap(&map[tallyKey]*tally{}))
}

func (r *ready) dropTallies(all map[tallyKey]*tally) {
	for _, t := range all {
		r.q.tallies.drop(t)
	}
}

// who is the provider that r sends to: the one that the settings of a queue name, which may be "", else that of the path, else the site, else the domain.
func (r *ready) who(configured string) string {
	p := r.path.Load()
	return cmp.Or(configured, p.ProviderName, p.Site.Name, r.domain)
}

// tallyKey is under what r counts the mail of a scheduled queue with the settings c.
func (r *ready) tallyKey(c *conf) tallyKey {
	configured, pool := "", mtakit.Unspecified
	if c != nil && c.err == nil {
		configured, pool = c.ProviderName, c.pool
	}
	return tallyKey{r.who(configured), r.path.Load().Source.Name, pool}
}

// count counts what became of n recipients of a message of s.
func (r *ready) count(s *sched, kind mtakit.Kind, n int) {
	r.outcomes.add(kind, int64(n))
	r.rollup.outcomes.add(kind, int64(n))
	key := r.tallyKey(s.conf.Load())
	t := (*r.held.Load())[key]
	if t == nil {
		t = r.newTally(key)
	}
	t.add(kind, int64(n))
}

func (r *ready) newTally(key tallyKey) *tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := *r.held.Load()
	if t := all[key]; t != nil { // another session was faster
		return t
	}
	if len(all) < maxTallies {
		all = maps.Clone(all)
	} else {
		r.dropTallies(all)
		all = make(map[tallyKey]*tally)
	}
	t := r.q.tallies.hold(key)
	all[key] = t
	r.held.Store(&all)
	return t
}

func (r *ready) countOpened() {
	r.connections.Inc()
	r.connected.Inc()
	r.rollup.connections.Inc()
	r.rollup.connected.Inc()
}

func (r *ready) countClosed() {
	r.connections.Dec()
	r.rollup.connections.Dec()
}

func (r *ready) countFull() {
	r.full.Inc()
	r.rollup.full.Inc()
}

func (r *ready) countAborted() {
	r.aborted.Inc()
	r.rollup.aborted.Inc()
}
