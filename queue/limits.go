package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// limits are what has to be taken for a ready queue, in the order in which it is taken.
type limits struct {
	leases   atomic.Pointer[[]mtakit.NamedLimit] // before a session connects: the tightest first
	messages atomic.Pointer[mtakit.NamedRates]   // before a message is sent: see Queue.takeAll
	source   atomic.Pointer[mtakit.NamedRates]   // before the source is selected
}

func newLimits(p *mtakit.Path) *limits {
	l := &limits{}
	l.set(p)
	return l
}

// set puts those of p in force and says whether the rates of messages are others than before.
func (l *limits) set(p *mtakit.Path) (changed bool) {
	all := append([]mtakit.NamedLimit{{Name: "kumomta.connection_limit." + p.Name, Limit: p.ConnectionLimit}}, p.AdditionalConnectionLimits...)
	slices.SortStableFunc(all, func(a, b mtakit.NamedLimit) int { // by name too, so that two paths don't wait for what the other has
		return cmp.Or(cmp.Compare(a.Limit.N, b.Limit.N), cmp.Compare(a.Name, b.Name))
	})
	l.leases.Store(&all)
	rates := ratesOf("kumomta.max_message_rate."+p.Name, p.MaxMessageRate, p.AdditionalMessageRateThrottles)
	old := l.messages.Swap(rates)
	l.source.Store(ratesOf("kumomta.source_selection_rate."+p.Name+"."+p.Source.Name, p.SourceSelectionRate, p.AdditionalSourceSelectionRates))
	return old == nil || !slices.Equal(*old, *rates)
}

// schedRateKey and connectionRateKey are the names under which rates are counted.
func schedRateKey(name mtakit.QueueName) string { return "schedq-" + name.String() + "-message-rate" }

func connectionRateKey(ready string) string { return ready + "-connection-rate" }

// ratesOf is the own rate and the others, the tightest first.
func ratesOf(key string, own mtakit.Rate, more mtakit.NamedRates) *mtakit.NamedRates {
	all := append(slices.Clone(more), mtakit.NamedRate{Name: key, Rate: own})
	all = slices.DeleteFunc(all, func(r mtakit.NamedRate) bool { return r.Rate.IsZero() })
	slices.SortStableFunc(all, func(a, b mtakit.NamedRate) int { return cmp.Compare(a.Rate.PerSecond(), b.Rate.PerSecond()) })
	return &all
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
			s.hold(ConnectionLimited, "acquiring connection lease "+l.Name)
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
			s.hold(ConnectionLimited, "Error acquiring "+l.Name+": "+err.Error())
			return err
		}
		s.leases = append(s.leases, lease)
	}
	s.held.Store(nil)
	return nil
}

// extend keeps the leases for as long as another message, and the idle time after it, may take.
func (s *session) extend(ctx context.Context) error {
	up := s.q.uptime()
	if len(s.leases) == 0 || up < s.extendAt {
		return nil
	}
	p := s.r.path.Load()
	ttl := p.TotalConnectionLifetime()
	for _, l := range s.leases {
		if err := l.Extend(ctx, ttl); err != nil {
			return err
		}
	}
	s.extendAt = up + ttl - p.TotalMessageSend() - p.IdleTimeout.Std()
	return nil
}

func (s *session) releaseLeases() {
	for _, l := range s.leases {
		l.Release()
	}
	s.leases = nil
}

// takeAll takes one unit of each rate, or none of any: what was taken when another one refuses is given back. The tightest is asked first, since it is the
// one that refuses most. Throttles that take nothing back lose what was taken before.
func (q *Queue) takeAll(ctx context.Context, rates mtakit.NamedRates) (time.Duration, error) {
	for i, r := range rates {
		if wait, err := q.throttles.Take(ctx, r.Name, r.Rate, 1); err != nil || wait > 0 {
			q.refundAll(ctx, rates[:i])
			return wait, err
		}
	}
	return 0, nil
}

// refundAll gives back what takeAll took and what was not used.
func (q *Queue) refundAll(ctx context.Context, rates mtakit.NamedRates) {
	for _, r := range rates {
		q.refund(ctx, r.Name, r.Rate)
	}
}

func (q *Queue) refund(ctx context.Context, key string, r mtakit.Rate) {
	if q.refunder == nil || r.IsZero() {
		return
	}
	if err := q.refunder.Refund(ctx, key, r, 1); err != nil {
		q.log.Error("throttle does not take a unit back", "key", key, "err", err)
	}
}

// hold notes why the session opens no connection.
func (s *session) hold(state, why string) {
	since := s.q.now()
	if old := s.held.Load(); old != nil && old.State == state {
		since = old.Since
	}
	s.held.Store(&Held{state, why, since})
}

// holds is what the session that has waited longest to open a connection waits for; nil is that none does.
func (r *ready) holds() (first *Held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.live {
		if h := s.held.Load(); h != nil && (first == nil || h.Since.Before(first.Since)) {
			first = h
		}
	}
	return first
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
