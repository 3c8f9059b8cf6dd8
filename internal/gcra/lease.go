package gcra

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

// ErrLeaseLost is returned by Extend of a lease that has run out or was released.
var ErrLeaseLost = errors.New("the lease is lost")

type leaseTable struct {
	mu   sync.Mutex
	keys map[string]*places
}

// places are the leases of one key, guarded by the table's mutex. There is a record only while there are leases or waiters.
type places struct {
	taken    map[*lease]struct{}
	earliest time.Time // no lease ends before
	waiters  []*waiter // first come, first served
}

type waiter struct {
	limit  int
	ttl    time.Duration
	got    chan *lease   // of one element, sent to under the mutex
	sooner chan struct{} // of one element: a lease may end sooner than it looked
}

type lease struct {
	store *Store
	key   string
	ends  time.Time
}

// Lease implements [mtakit.Throttles]. Leases of one key count together, whatever the limit they were asked with.
func (s *Store) Lease(_ context.Context, key string, l mtakit.Limit, ttl time.Duration) (mtakit.Lease, error) {
	t := &s.shard(key).leases
	t.mu.Lock()
	defer t.mu.Unlock()
	if got := t.at(key).acquire(s, key, l.N, ttl, s.Now()); got != nil {
		return got, nil
	}
	return nil, fmt.Errorf("%w: %d of %d leases of %s are taken", mtakit.ErrLimited, l.N, l.N, key)
}

// LeaseWait is Lease, but waits for a place until ctx ends; the error then wraps both ErrLimited and the cause of that. A place
// goes to the one who has waited longest, at the moment of its Release.
func (s *Store) LeaseWait(ctx context.Context, key string, l mtakit.Limit, ttl time.Duration) (mtakit.Lease, error) {
	t := &s.shard(key).leases
	t.mu.Lock()
	p := t.at(key)
	if got := p.acquire(s, key, l.N, ttl, s.Now()); got != nil {
		t.mu.Unlock()
		return got, nil
	}
	w := &waiter{l.N, ttl, make(chan *lease, 1), make(chan struct{}, 1)}
	p.waiters = append(p.waiters, w)
	next := p.earliest.Sub(s.Now())
	t.mu.Unlock()

	timer := time.NewTimer(next)
	defer timer.Stop()
	for {
		select {
		case got := <-w.got:
			return got, nil
		case <-timer.C:
			timer.Reset(t.serve(s, key, p))
		case <-w.sooner:
			timer.Reset(t.serve(s, key, p))
		case <-ctx.Done():
			t.mu.Lock()
			defer t.mu.Unlock()
			select {
			case got := <-w.got: // it came at the same time, and nobody else would give it back
				return got, nil
			default:
			}
			p.waiters = slices.DeleteFunc(p.waiters, func(o *waiter) bool { return o == w })
			t.drop(key, p)
			return nil, fmt.Errorf("%w: all %d leases of %s are taken: %w", mtakit.ErrLimited, l.N, key, context.Cause(ctx))
		}
	}
}

// LeaseUse implements [mtakit.Gauge].
func (s *Store) LeaseUse(_ context.Context, key string) (n int, _ error) {
	t := &s.shard(key).leases
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.keys[key]; p != nil {
		now := s.Now()
		for l := range p.taken {
			if now.Before(l.ends) {
				n++
			}
		}
	}
	return n, nil
}

// serve gives out what has become free and says how long nothing more will by itself.
func (t *leaseTable) serve(s *Store, key string, p *places) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := s.Now()
	p.serve(s, key, now)
	return max(p.earliest.Sub(now), time.Millisecond)
}

func (t *leaseTable) at(key string) *places {
	p := t.keys[key]
	if p == nil {
		if t.keys == nil {
			t.keys = make(map[string]*places)
		}
		p = &places{taken: make(map[*lease]struct{})}
		t.keys[key] = p
	}
	return p
}

func (t *leaseTable) drop(key string, p *places) {
	if len(p.taken) == 0 && len(p.waiters) == 0 {
		delete(t.keys, key)
	}
}

// acquire takes a place for one who has not waited: those who have come first. A limit of 0 is none.
func (p *places) acquire(s *Store, key string, limit int, ttl time.Duration, now time.Time) *lease {
	p.serve(s, key, now)
	if limit > 0 && len(p.taken) >= limit {
		return nil
	}
	return p.take(s, key, ttl, now)
}

func (p *places) take(s *Store, key string, ttl time.Duration, now time.Time) *lease {
	l := &lease{s, key, now.Add(ttl)}
	p.watch(l)
	p.taken[l] = struct{}{}
	return l
}

// watch notes when l ends; those who wait learn if that is the next end of all.
func (p *places) watch(l *lease) {
	if len(p.taken) > 0 && !l.ends.Before(p.earliest) {
		return
	}
	p.earliest = l.ends
	for _, w := range p.waiters {
		select {
		case w.sooner <- struct{}{}:
		default:
		}
	}
}

// serve drops leases that have run out and gives free places to those who wait.
func (p *places) serve(s *Store, key string, now time.Time) {
	if len(p.taken) > 0 && !now.Before(p.earliest) {
		p.earliest = time.Time{}
		for l := range p.taken {
			switch {
			case !now.Before(l.ends):
				delete(p.taken, l)
			case p.earliest.IsZero() || l.ends.Before(p.earliest):
				p.earliest = l.ends
			}
		}
	}
	for len(p.waiters) > 0 && len(p.taken) < p.waiters[0].limit {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		w.got <- p.take(s, key, w.ttl, now)
	}
}

// Extend keeps the place for ttl from now; the error is ErrLeaseLost.
func (l *lease) Extend(_ context.Context, ttl time.Duration) error {
	t := &l.store.shard(l.key).leases
	t.mu.Lock()
	defer t.mu.Unlock()
	now := l.store.Now()
	p := t.keys[l.key]
	if p == nil {
		return fmt.Errorf("%s: %w", l.key, ErrLeaseLost)
	}
	if _, ok := p.taken[l]; !ok || !now.Before(l.ends) {
		return fmt.Errorf("%s: %w", l.key, ErrLeaseLost)
	}
	l.ends = now.Add(ttl)
	p.watch(l)
	return nil
}

// Release gives the place back, to the first who waits for one.
func (l *lease) Release() {
	t := &l.store.shard(l.key).leases
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.keys[l.key]
	if p == nil {
		return
	}
	delete(p.taken, l)
	p.serve(l.store, l.key, l.store.Now())
	t.drop(l.key, p)
}
