package queue

import (
	"context"
	"errors"
	"sort"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// limits are what a session has to take before it connects, in the order in which they are taken: the tightest first.
type limits struct {
	leases atomic.Pointer[[]mtakit.NamedLimit]
}

func newLimits(p *mtakit.Path) *limits {
	l := &limits{}
	l.set(p)
	return l
}

func (l *limits) set(p *mtakit.Path) {
	all := append([]mtakit.NamedLimit{{Name: "kumomta.connection_limit." + p.Name, Limit: p.ConnectionLimit}}, p.AdditionalConnectionLimits...)
	sort.SliceStable(all, func(i, j int) bool { return all[i].Limit.N < all[j].Limit.N })
	l.leases.Store(&all)
}

// leaseWaiter is a Throttles that tells when a place is free; others are asked again every few seconds.
type leaseWaiter interface {
	LeaseWait(ctx context.Context, key string, l mtakit.Limit, ttl time.Duration) (mtakit.Lease, error)
}

const leasePoll = 3 * time.Second

// acquire takes every lease, waiting for each until ctx ends. The own limit needs none where this process is the only one that counts: the
// number of sessions is it.
func (s *session) acquire(ctx context.Context) error {
	p := s.r.path.Load()
	ttl := p.TotalConnectionLifetime()
	own := "kumomta.connection_limit." + p.Name
	for _, l := range *s.r.limits.leases.Load() {
		if l.Name == own && (l.Limit.Local || s.q.localThrottles) {
			continue
		}
		lease, err := s.q.throttles.Lease(ctx, l.Name, l.Limit, ttl)
		for errors.Is(err, mtakit.ErrLimited) {
			s.r.slow("connection_limited", "acquiring connection lease "+l.Name)
			s.setPhase("AcquiringLease " + l.Name)
			if w, ok := s.q.throttles.(leaseWaiter); ok {
				lease, err = w.LeaseWait(ctx, l.Name, l.Limit, ttl)
				break
			}
			if err := sleep(ctx, leasePoll); err != nil {
				break
			}
			lease, err = s.q.throttles.Lease(ctx, l.Name, l.Limit, ttl)
		}
		if err != nil {
			return err
		}
		s.leases = append(s.leases, lease)
	}
	s.r.slow("", "")
	return nil
}

// extend keeps the leases for as long as another message may take.
func (s *session) extend(ctx context.Context) error {
	if len(s.leases) == 0 {
		return nil
	}
	ttl := s.r.path.Load().TotalConnectionLifetime()
	for _, l := range s.leases {
		if err := l.Extend(ctx, ttl); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) releaseLeases() {
	for _, l := range s.leases {
		l.Release()
	}
	s.leases = nil
}

// takeAll takes one unit of each rate, the tightest first.
func (q *Queue) takeAll(ctx context.Context, more mtakit.NamedRates, key string, own mtakit.Rate) (time.Duration, error) {
	if len(more) == 0 {
		return q.throttles.Take(ctx, key, own, 1)
	}
	rates := append(mtakit.NamedRates(nil), more...)
	if !own.IsZero() {
		rates = append(rates, mtakit.NamedRate{Name: key, Rate: own})
	}
	sort.SliceStable(rates, func(i, j int) bool { return rates[i].Rate.PerSecond() < rates[j].Rate.PerSecond() })
	for _, r := range rates {
		if wait, err := q.throttles.Take(ctx, r.Name, r.Rate, 1); err != nil || wait > 0 {
			return wait, err
		}
	}
	return 0, nil
}

// slow notes why a ready queue doesn't open connections; what "" is that nothing holds it up.
func (r *ready) slow(what, why string) {
	if what == "" {
		if r.state.Load() != nil {
			r.state.Store(nil)
		}
		return
	}
	if old := r.state.Load(); old == nil || old.what != what || old.why != why {
		r.state.Store(&readyState{what, why, r.q.now()})
	}
}

// sleep waits for d, or for the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
