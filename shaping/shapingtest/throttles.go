// Package shapingtest checks implementations of [mtakit.Throttles].
package shapingtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// TestThrottles checks what open makes against the contract of [mtakit.Throttles], and of [mtakit.Refunder] and [mtakit.Gauge] if it is one, and says which sentence is broken. open is called
// once for each sentence; those it makes must not share keys. The checks take real time, less than two seconds, unless they
// run in a synctest bubble; they run one after the other, without subtests, so that this is possible.
func TestThrottles(t *testing.T, open func() mtakit.Throttles) {
	t.Helper()
	for _, b := range broken(t.Context(), open) {
		t.Error(b)
	}
}

// broken lists the sentences that do not hold, with what happened.
func broken(ctx context.Context, open func() mtakit.Throttles) (all []string) {
	for _, c := range sentences {
		if err := c.check(ctx, open()); err != nil {
			all = append(all, fmt.Sprintf("%v\n\tbroken: %s", err, c.sentence))
		}
	}
	return all
}

var sentences = []struct {
	sentence string
	check    func(context.Context, mtakit.Throttles) error
}{
	{"a wait of 0 means they were taken", takesBurst},
	{"at most Burst at once (0 means N)", keepsBurst},
	{"otherwise nothing was [taken]", refusalTakesNothing},
	{"it is worth asking again after wait", waitSuffices},
	{"a key with another rate is another bucket", rateIsPartOfKey},
	{"the zero Rate is no limit", zeroRate},
	{"it is safe for concurrent use (Take)", takesConcurrently},
	{"Refund gives back n units", refunds},
	{"a unit that has come back by itself meanwhile is not there twice", refundsOnce},
	{"RateUse is how many units of the burst are used up, and how long it takes until one more is given", rateUse},
	{"[a Gauge] takes nothing", gaugeTakesNothing},
	{"LeaseUse is how many leases of key there are", leaseUse},
	{"Lease takes one of l.N places", leases},
	{"or returns an error that wraps ErrLimited", limited},
	{"for at most ttl", expires},
	{"Extend keeps the place for ttl from now", extends},
	{"an error [of Extend] means that it is lost", lost},
	{"Release gives the place back", releases},
	{"calls [of Release] after the first do nothing", releasesOnce},
	{"the zero Limit is no limit", zeroLimit},
	{"it is safe for concurrent use (Lease)", leasesConcurrently},
}

func take(ctx context.Context, th mtakit.Throttles, key string, r mtakit.Rate, n int) (time.Duration, error) {
	wait, err := th.Take(ctx, key, r, n)
	if err != nil {
		return 0, fmt.Errorf("Take(%q, %s, %d): %w", key, r, n, err)
	}
	if wait < 0 {
		return 0, fmt.Errorf("Take(%q, %s, %d): the wait is %v", key, r, n, wait)
	}
	return wait, nil
}

// takeAll expects n units to be there, and no more.
func takeAll(ctx context.Context, th mtakit.Throttles, key string, r mtakit.Rate, n int) error {
	for i := range n {
		if wait, err := take(ctx, th, key, r, 1); err != nil || wait != 0 {
			return errors.Join(err, fmt.Errorf("unit %d of %d under rate %s: wait %v", i+1, n, r, wait))
		}
	}
	if wait, err := take(ctx, th, key, r, 1); err != nil || wait == 0 {
		return errors.Join(err, fmt.Errorf("unit %d under rate %s was given at once", n+1, r))
	}
	return nil
}

var hourly = mtakit.Rate{N: 5, Per: time.Hour}

func takesBurst(ctx context.Context, th mtakit.Throttles) error {
	return takeAll(ctx, th, "k", hourly, 5)
}

func keepsBurst(ctx context.Context, th mtakit.Throttles) error {
	return takeAll(ctx, th, "k", mtakit.Rate{N: 5, Burst: 2, Per: time.Hour}, 2)
}

func refusalTakesNothing(ctx context.Context, th mtakit.Throttles) error {
	if _, err := take(ctx, th, "k", hourly, 3); err != nil {
		return err
	}
	for range 3 {
		if wait, err := take(ctx, th, "k", hourly, 3); err != nil || wait == 0 {
			return errors.Join(err, errors.New("3 of 2 units were given"))
		}
	}
	return takeAll(ctx, th, "k", hourly, 2)
}

func waitSuffices(ctx context.Context, th mtakit.Throttles) error {
	r := mtakit.Rate{N: 10, Burst: 1, Per: time.Second}
	for range 3 {
		wait, err := take(ctx, th, "k", r, 1)
		if err != nil {
			return err
		}
		if wait > 2*time.Second { // a store may count in whole seconds
			return fmt.Errorf("the wait is %v for a unit every 100ms", wait)
		}
		<-time.After(wait)
		if again, err := take(ctx, th, "k", r, 1); err != nil || wait > 0 && again > 0 {
			return errors.Join(err, fmt.Errorf("after the wait of %v it is %v", wait, again))
		}
	}
	return nil
}

func rateIsPartOfKey(ctx context.Context, th mtakit.Throttles) error {
	for _, r := range []mtakit.Rate{hourly, {N: 4, Per: time.Hour}, {N: 5, Per: 2 * time.Hour}, {N: 5, Burst: 3, Per: time.Hour}} {
		n := r.N
		if r.Burst > 0 {
			n = r.Burst
		}
		if err := takeAll(ctx, th, "k", r, n); err != nil {
			return err
		}
	}
	return nil
}

func zeroRate(ctx context.Context, th mtakit.Throttles) error {
	for range 100 {
		if wait, err := take(ctx, th, "k", mtakit.Rate{}, 1000); err != nil || wait != 0 {
			return errors.Join(err, fmt.Errorf("the wait is %v", wait))
		}
	}
	return nil
}

func takesConcurrently(ctx context.Context, th mtakit.Throttles) error {
	r := mtakit.Rate{N: 50, Per: time.Hour}
	var given, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				switch wait, err := th.Take(ctx, "k", r, 1); {
				case err != nil:
					failed.Add(1)
				case wait == 0:
					given.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if given.Load() != 50 || failed.Load() != 0 {
		return fmt.Errorf("%d units of 50 were given, %d calls failed", given.Load(), failed.Load())
	}
	return nil
}

func refunds(ctx context.Context, th mtakit.Throttles) error {
	re, ok := th.(mtakit.Refunder)
	if !ok {
		return nil
	}
	if err := takeAll(ctx, th, "k", hourly, 5); err != nil {
		return err
	}
	if err := re.Refund(ctx, "k", hourly, 2); err != nil {
		return err
	}
	if err := takeAll(ctx, th, "k", hourly, 2); err != nil {
		return fmt.Errorf("after a refund of 2: %w", err)
	}
	return re.Refund(ctx, "k", mtakit.Rate{}, 1)
}

func refundsOnce(ctx context.Context, th mtakit.Throttles) error {
	re, ok := th.(mtakit.Refunder)
	if !ok {
		return nil
	}
	if _, err := take(ctx, th, "k", hourly, 1); err != nil {
		return err
	}
	if err := errors.Join(re.Refund(ctx, "k", hourly, 1), re.Refund(ctx, "k", hourly, 1), re.Refund(ctx, "new", hourly, 1)); err != nil {
		return err
	}
	return errors.Join(takeAll(ctx, th, "k", hourly, 5), takeAll(ctx, th, "new", hourly, 5))
}

func rateUse(ctx context.Context, th mtakit.Throttles) error {
	g, ok := th.(mtakit.Gauge)
	if !ok {
		return nil
	}
	for n := range 6 {
		used, wait, err := g.RateUse(ctx, "k", hourly)
		if err != nil || used != n || (wait > 0) != (n == 5) || wait > 12*time.Minute {
			return fmt.Errorf("after %d of 5 units: %d, %v, %v", n, used, wait, err)
		}
		if _, err := take(ctx, th, "k", hourly, 1); err != nil {
			return err
		}
	}
	if used, wait, err := g.RateUse(ctx, "k", mtakit.Rate{}); used != 0 || wait != 0 || err != nil {
		return fmt.Errorf("without a limit: %d, %v, %v", used, wait, err)
	}
	return nil
}

func gaugeTakesNothing(ctx context.Context, th mtakit.Throttles) error {
	g, ok := th.(mtakit.Gauge)
	if !ok {
		return nil
	}
	for range 10 {
		if _, _, err := g.RateUse(ctx, "k", hourly); err != nil {
			return err
		}
		if _, err := g.LeaseUse(ctx, "k"); err != nil {
			return err
		}
	}
	_, err := fill(ctx, th, 3, time.Hour)
	return errors.Join(err, takeAll(ctx, th, "k", hourly, 5))
}

func leaseUse(ctx context.Context, th mtakit.Throttles) error {
	g, ok := th.(mtakit.Gauge)
	if !ok {
		return nil
	}
	before, err1 := g.LeaseUse(ctx, "k")
	all, err := fill(ctx, th, 3, time.Hour)
	if err != nil {
		return err
	}
	full, err2 := g.LeaseUse(ctx, "k")
	all[0].Release()
	after, err3 := g.LeaseUse(ctx, "k")
	if err := errors.Join(err1, err2, err3); err != nil || before != 0 || full != 3 || after != 2 {
		return fmt.Errorf("%d before, %d of 3, %d after one was released: %w", before, full, after, err)
	}
	return nil
}

// fill takes n places of a limit of n, and expects that to be all.
func fill(ctx context.Context, th mtakit.Throttles, n int, ttl time.Duration) (all []mtakit.Lease, err error) {
	l := mtakit.Limit{N: n}
	for i := range n {
		lease, err := th.Lease(ctx, "k", l, ttl)
		if err != nil {
			return nil, fmt.Errorf("place %d of %d: %w", i+1, n, err)
		}
		all = append(all, lease)
	}
	if _, err := th.Lease(ctx, "k", l, ttl); err == nil {
		return nil, fmt.Errorf("place %d of %d was given", n+1, n)
	}
	return all, nil
}

func leases(ctx context.Context, th mtakit.Throttles) error {
	_, err := fill(ctx, th, 3, time.Hour)
	return err
}

func limited(ctx context.Context, th mtakit.Throttles) error {
	if _, err := fill(ctx, th, 1, time.Hour); err != nil {
		return err
	}
	if _, err := th.Lease(ctx, "k", mtakit.Limit{N: 1}, time.Hour); !errors.Is(err, mtakit.ErrLimited) {
		return fmt.Errorf("the error is %v", err)
	}
	_, err := th.Lease(ctx, "other", mtakit.Limit{N: 1}, time.Hour)
	return err
}

const short, longer = 200 * time.Millisecond, 300 * time.Millisecond

func expires(ctx context.Context, th mtakit.Throttles) error {
	if _, err := fill(ctx, th, 2, short); err != nil {
		return err
	}
	<-time.After(longer)
	_, err := fill(ctx, th, 2, time.Hour)
	return err
}

func extends(ctx context.Context, th mtakit.Throttles) error {
	all, err := fill(ctx, th, 1, short)
	if err != nil {
		return err
	}
	if err := all[0].Extend(ctx, time.Hour); err != nil {
		return err
	}
	<-time.After(longer)
	if _, err := th.Lease(ctx, "k", mtakit.Limit{N: 1}, time.Hour); err == nil {
		return errors.New("the place of a lease that was extended went to another")
	}
	return all[0].Extend(ctx, time.Hour)
}

func lost(ctx context.Context, th mtakit.Throttles) error {
	all, err := fill(ctx, th, 1, short)
	if err != nil {
		return err
	}
	<-time.After(longer)
	if _, err := fill(ctx, th, 1, time.Hour); err != nil {
		return err
	}
	if err := all[0].Extend(ctx, time.Hour); err == nil {
		return errors.New("a lease whose place went to another was extended")
	}
	all[0].Release()
	if _, err := th.Lease(ctx, "k", mtakit.Limit{N: 1}, time.Hour); err == nil {
		return errors.New("the place of another was freed by Release of a lost lease")
	}
	return nil
}

func releases(ctx context.Context, th mtakit.Throttles) error {
	all, err := fill(ctx, th, 2, time.Hour)
	if err != nil {
		return err
	}
	all[0].Release()
	if err := all[0].Extend(ctx, time.Hour); err == nil {
		return errors.New("a lease was extended after its Release")
	}
	_, err = th.Lease(ctx, "k", mtakit.Limit{N: 2}, time.Hour)
	return err
}

func releasesOnce(ctx context.Context, th mtakit.Throttles) error {
	all, err := fill(ctx, th, 2, time.Hour)
	if err != nil {
		return err
	}
	all[0].Release()
	all[0].Release()
	if _, err := th.Lease(ctx, "k", mtakit.Limit{N: 2}, time.Hour); err != nil {
		return err
	}
	if _, err := th.Lease(ctx, "k", mtakit.Limit{N: 2}, time.Hour); err == nil {
		return errors.New("two calls of Release freed two places")
	}
	return nil
}

func zeroLimit(ctx context.Context, th mtakit.Throttles) error {
	for range 100 {
		l, err := th.Lease(ctx, "k", mtakit.Limit{}, time.Hour)
		if err != nil {
			return err
		}
		defer l.Release()
	}
	return nil
}

func leasesConcurrently(ctx context.Context, th mtakit.Throttles) error {
	var held, most, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l, err := th.Lease(ctx, "k", mtakit.Limit{N: 3}, time.Hour)
				if err != nil {
					if !errors.Is(err, mtakit.ErrLimited) {
						failed.Add(1)
					}
					continue
				}
				n := held.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				held.Add(-1)
				l.Release()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || failed.Load() > 0 {
		return fmt.Errorf("%d places of 3 were taken at once, %d calls failed", most.Load(), failed.Load())
	}
	_, err := fill(ctx, th, 3, time.Hour)
	return err
}
