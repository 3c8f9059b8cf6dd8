package queue

import (
	"maps"
	"sync"

	"github.com/mtakit/mtakit"
)

// outcomes counts what became of recipients.
type outcomes struct{ delivered, transfail, fail mtakit.Counter }

func (o *outcomes) add(kind mtakit.Kind, n int64) {
	switch kind {
	case mtakit.Delivered:
		o.delivered.Add(n)
	case mtakit.TransientFailure:
		o.transfail.Add(n)
	default:
		o.fail.Add(n)
	}
}

// readyCounts is what is counted for a ready queue, and once more for all of its protocol.
type readyCounts struct {
	outcomes
	connections, connected, full, aborted mtakit.Counter
}

// rollup is the sum of all ready queues of a protocol that there have ever been.
type rollup struct {
	readyCounts
	latency *mtakit.Histogram // of a delivery call
}

// tallyKey is what a series of more than one ready queue is named by; for that of a provider the other two are empty.
type tallyKey struct{ provider, source, pool string }

// tally is such a series.
type tally struct {
	tallyKey
	outcomes
	provider *tally // what is counted here counts there too; nil is that this is a provider's
	refs     int    // guarded by the tallies, as slot is
	slot     uint32
}

func (t *tally) add(kind mtakit.Kind, n int64) {
	t.outcomes.add(kind, n)
	t.provider.outcomes.add(kind, n)
}

// tallies are what is counted for more than one ready queue. A ready queue holds those that it counts with until it is forgotten, so that counting
// is an addition; a series is there while somebody holds it, and begins again at zero when it comes back. The lock is taken to hold and to drop and to
// list, never to count.
type tallies struct {
	mu        sync.Mutex
	bySource  tallySet
	byName    tallySet // of providers
	protocols map[string]*rollup
}

// hold returns the tally of key, for the caller to count with until it calls drop.
func (t *tallies) hold(key tallyKey) *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.bySource.hold(key)
	if o.provider == nil {
		o.provider = t.byName.hold(tallyKey{provider: key.provider})
	}
	return o
}

func (t *tallies) drop(o *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bySource.drop(o) {
		t.byName.drop(o.provider)
	}
}

// protocol returns the sums of a protocol by its name in metrics.
func (t *tallies) protocol(name string) *rollup {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.protocols[name]
	if r == nil {
		if t.protocols == nil {
			t.protocols = make(map[string]*rollup)
		}
		r = &rollup{latency: mtakit.NewHistogram()}
		t.protocols[name] = r
	}
	return r
}

// rollups calls f for the sums of each protocol until it returns false. There is a handful of them.
func (t *tallies) rollups(f func(name string, r *rollup) bool) {
	t.mu.Lock()
	all := maps.Clone(t.protocols)
	t.mu.Unlock()
	for name, r := range all {
		if !f(name, r) {
			return
		}
	}
}

// tallySet is the tallies of a kind.
type tallySet struct {
	byKey map[tallyKey]*tally
	slots slots[*tally]
}

func (ts *tallySet) hold(key tallyKey) *tally {
	t := ts.byKey[key]
	if t == nil {
		t = &tally{tallyKey: key}
		if ts.byKey == nil {
			ts.byKey = make(map[tallyKey]*tally)
		}
		ts.byKey[key] = t
		t.slot = ts.slots.add(t)
	}
	t.refs++
	return t
}

// drop undoes hold, and says whether nobody holds t any more.
func (ts *tallySet) drop(t *tally) bool {
	if t.refs--; t.refs > 0 {
		return false
	}
	ts.slots.remove(t.slot)
	if delete(ts.byKey, t.tallyKey); len(ts.byKey) == 0 {
		ts.byKey = nil // the memory of busier times
	}
	return true
}

// slots is a list whose elements keep their places, so that it can be read a part at a time while it changes. The zero value of an element is an
// empty place.
type slots[T comparable] struct {
	all  []T
	free []uint32
}

func (s *slots[T]) add(v T) uint32 {
	if n := len(s.free); n > 0 {
		at := s.free[n-1]
		s.free, s.all[at] = s.free[:n-1], v
		return at
	}
	s.all = append(s.all, v)
	return uint32(len(s.all) - 1)
}

func (s *slots[T]) remove(at uint32) {
	var none T
	s.all[at] = none
	if s.free = append(s.free, at); len(s.free) == len(s.all) {
		*s = slots[T]{} // the memory of busier times
	}
}

// each calls f for all elements, some at a time, until it returns false. mu, which guards s, is held only to copy them.
func (s *slots[T]) each(mu *sync.Mutex, f func([]T) bool) {
	var none T
	batch := make([]T, 0, scrapeBatch)
	for pos, more := 0, true; more; pos += scrapeBatch {
		batch = batch[:0]
		mu.Lock()
		end := min(pos+scrapeBatch, len(s.all))
		for _, v := range s.all[min(pos, end):end] {
			if v != none {
				batch = append(batch, v)
			}
		}
		more = end < len(s.all)
		mu.Unlock()
		if !f(batch) {
			return
		}
	}
}
