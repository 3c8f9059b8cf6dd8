package shapingtest

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
)

// mutant is a store with something wrong.
type mutant struct {
	mtakit.Throttles
	take  func(mtakit.Throttles, string, mtakit.Rate, int) (string, mtakit.Rate, int)
	back  func(mtakit.Refunder, string, mtakit.Rate, int) error
	limit func(mtakit.Limit, time.Duration) (mtakit.Limit, time.Duration)
	lease func(mtakit.Lease) mtakit.Lease
	gauge func(th mtakit.Throttles, key string, used int) int
}

func (m mutant) Take(ctx context.Context, key string, r mtakit.Rate, n int) (time.Duration, error) {
	if m.take != nil {
		key, r, n = m.take(m.Throttles, key, r, n)
	}
	return m.Throttles.Take(ctx, key, r, n)
}

func (m mutant) Refund(ctx context.Context, key string, r mtakit.Rate, n int) error {
	re := m.Throttles.(mtakit.Refunder)
	if m.back != nil {
		return m.back(re, key, r, n)
	}
	return re.Refund(ctx, key, r, n)
}

func (m mutant) RateUse(ctx context.Context, key string, r mtakit.Rate) (int, time.Duration, error) {
	n, wait, err := m.Throttles.(mtakit.Gauge).RateUse(ctx, key, r)
	if m.gauge != nil {
		n = m.gauge(m.Throttles, key, n)
	}
	return n, wait, err
}

func (m mutant) LeaseUse(ctx context.Context, key string) (int, error) {
	n, err := m.Throttles.(mtakit.Gauge).LeaseUse(ctx, key)
	if m.gauge != nil {
		n = m.gauge(m.Throttles, key, n)
	}
	return n, err
}

func (m mutant) Lease(ctx context.Context, key string, l mtakit.Limit, ttl time.Duration) (mtakit.Lease, error) {
	if m.limit != nil {
		l, ttl = m.limit(l, ttl)
	}
	lease, err := m.Throttles.Lease(ctx, key, l, ttl)
	if err == nil && m.lease != nil {
		lease = m.lease(lease)
	}
	return lease, err
}

type leaseFuncs struct {
	mtakit.Lease
	extend  func(context.Context, time.Duration) error
	release func()
}

func (l leaseFuncs) Extend(ctx context.Context, ttl time.Duration) error {
	if l.extend != nil {
		return l.extend(ctx, ttl)
	}
	return l.Lease.Extend(ctx, ttl)
}

func (l leaseFuncs) Release() {
	if l.release != nil {
		l.release()
		return
	}
	l.Lease.Release()
}

// hoarder is a store that is fuller after a refund than it was at first.
func hoarder() mutant {
	more := false
	return mutant{
		take: func(_ mtakit.Throttles, key string, r mtakit.Rate, n int) (string, mtakit.Rate, int) {
			if more && r.N > 0 {
				r.Burst = r.N + 1
			}
			return key, r, n
		},
		back: func(mtakit.Refunder, string, mtakit.Rate, int) error {
			more = true
			return nil
		},
	}
}

// Each thing that can be wrong is found, under the sentence that says so.
func TestMutants(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, sentence string
		m              mutant
	}{
		{"one unit more", "a wait of 0 means they were taken", mutant{take: func(_ mtakit.Throttles, key string, r mtakit.Rate, n int) (string, mtakit.Rate, int) {
			if r.Burst == 0 && r.N > 0 {
				r.Burst = r.N + 1
			}
			return key, r, n
		}}},
		{"no burst", "at most Burst at once", mutant{take: func(_ mtakit.Throttles, key string, r mtakit.Rate, n int) (string, mtakit.Rate, int) {
			r.Burst = 0
			return key, r, n
		}}},
		{"refusals count", "otherwise nothing was", mutant{take: func(th mtakit.Throttles, key string, r mtakit.Rate, n int) (string, mtakit.Rate, int) {
			if n == 3 {
				th.Take(context.Background(), key, r, 1)
			}
			return key, r, n
		}}},
		{"no Refund", "Refund gives back n units", mutant{back: func(mtakit.Refunder, string, mtakit.Rate, int) error { return nil }}},
		{"units from nowhere", "a unit that has come back by itself", hoarder()},
		{"wrong rate", "RateUse is how many", mutant{gauge: func(_ mtakit.Throttles, _ string, n int) int { return n + 1 }}},
		{"wrong leases", "LeaseUse is how many", mutant{gauge: func(_ mtakit.Throttles, _ string, n int) int { return min(n, 2) }}},
		{"looking costs", "[a Gauge] takes nothing", mutant{gauge: func(th mtakit.Throttles, key string, n int) int {
			th.Take(context.Background(), key, hourly, 1)
			return n
		}}},
		{"places for ever", "for at most ttl", mutant{limit: func(l mtakit.Limit, _ time.Duration) (mtakit.Limit, time.Duration) { return l, time.Hour }}},
		{"a place too many", "Lease takes one of l.N places", mutant{limit: func(l mtakit.Limit, ttl time.Duration) (mtakit.Limit, time.Duration) { l.N++; return l, ttl }}},
		{"no Extend", "Extend keeps the place", mutant{lease: func(l mtakit.Lease) mtakit.Lease {
			return leaseFuncs{Lease: l, extend: func(context.Context, time.Duration) error { return nil }}
		}}},
		{"no Release", "Release gives the place back", mutant{lease: func(l mtakit.Lease) mtakit.Lease { return leaseFuncs{Lease: l, release: func() {}} }}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := broken(t.Context(), func() mtakit.Throttles {
					m := tt.m
					m.Throttles = shaping.NewThrottles()
					return m
				})
				if got := strings.Join(all, "\n"); !strings.Contains(got, "broken: "+tt.sentence) {
					t.Errorf("found %q, and not that %q is broken", got, tt.sentence)
				}
			})
		})
	}
}
