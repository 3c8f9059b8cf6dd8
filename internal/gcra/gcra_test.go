package gcra_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func rate(t testing.TB, s string) mtakit.Rate {
	t.Helper()
	r, err := mtakit.ParseRate(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBucket(t *testing.T) {
	t.Parallel()
	type step struct {
		at   time.Duration
		n    int
		wait time.Duration
	}
	tests := []struct {
		name, rate string
		steps      []step
	}{
		{"burst is the limit", "3/s", []step{{0, 1, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 333333334}}},
		{"max_burst", "10/s,max_burst=1", []step{{0, 1, 0}, {0, 1, 100 * time.Millisecond}, {100 * time.Millisecond, 1, 0}}},
		{"units come back one by one", "2/10s", []step{{0, 2, 0}, {time.Second, 1, 4 * time.Second}, {5 * time.Second, 1, 0}, {5 * time.Second, 1, 5 * time.Second}}},
		{"a refusal consumes nothing", "2/s", []step{{0, 1, 0}, {0, 2, 500 * time.Millisecond}, {0, 1, 0}}},
		{"idle does not pile up", "2/s", []step{{0, 2, 0}, {time.Hour, 2, 0}, {time.Hour, 1, 500 * time.Millisecond}}},
		{"zero units ask", "2/s", []step{{0, 0, 0}, {0, 2, 0}, {0, 0, 500 * time.Millisecond}, {500 * time.Millisecond, 0, 0}, {500 * time.Millisecond, 1, 0}}},
		{"too many", "2/s", []step{{0, 3, gcra.Never}, {0, 2, 0}}},
		{"a clock that steps back", "1/s", []step{{time.Second, 1, 0}, {0, 1, 2 * time.Second}, {2 * time.Second, 1, 0}}},
		{"a century", "1/36500d", []step{{0, 1, 0}, {0, 1, 36500 * 24 * time.Hour}}},
		{"faster than the clock", "3000000000/s", []step{{0, 3000000000, 0}, {0, 1, 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := gcra.NewStore().Bucket("k", rate(t, tt.rate))
			for i, s := range tt.steps {
				if got := b.Take(t0.Add(s.at), s.n); got != s.wait {
					t.Errorf("step %d: Take(+%v, %d) = %v, want %v", i, s.at, s.n, got, s.wait)
				}
			}
		})
	}
}

func TestNoLimit(t *testing.T) {
	t.Parallel()
	b := gcra.NewStore().Bucket("k", mtakit.Rate{})
	for range 10 {
		if w := b.Take(t0, 1<<30); w != 0 {
			t.Fatalf("wait = %v without a limit", w)
		}
	}
}

// Over any span, no more than burst + span/interval units are given, and the wait that is told suffices and is not too long.
func FuzzPace(f *testing.F) {
	f.Add(uint16(3), uint16(1), uint16(0), []byte{1, 0, 2, 200, 1, 7})
	f.Add(uint16(1), uint16(3600), uint16(5), []byte{5, 5, 5, 5})
	f.Fuzz(func(t *testing.T, n, secs, burst uint16, ops []byte) {
		r := mtakit.Rate{N: int(n) + 1, Per: time.Duration(secs+1) * time.Second, Burst: int(burst)}
		if r.Burst == 0 {
			r.Burst = r.N
		}
		p := gcra.PaceOf(r)
		interval := (int64(r.Per) + int64(r.N) - 1) / int64(r.N)
		// The model counts what has leaked out of a full bucket of burst units.
		tat, now, level := int64(-1<<62), int64(0), int64(0) // level in nanoseconds of work that is owed
		for i := 0; i+1 < len(ops); i += 2 {
			step := int64(ops[i]) * interval / 16
			now, level = now+step, max(0, level-step)
			ask := int(ops[i+1])%(r.Burst+2) + 1
			next, wait := p.Take(tat, now, ask)
			cost := int64(ask) * interval
			if used, want := p.Used(tat, now), (level+interval-1)/interval; used != want {
				t.Fatalf("op %d: level %d of intervals of %d: Used = %d, want %d", i, level, interval, used, want)
			}
			switch fits := level+cost <= int64(r.Burst)*interval; {
			case ask > r.Burst:
				if wait != gcra.Never {
					t.Fatalf("%d of a burst of %d: wait = %v", ask, r.Burst, wait)
				}
			case fits != (wait == 0):
				t.Fatalf("op %d: level %d cost %d: wait = %v", i, level, cost, wait)
			case fits:
				tat, level = next, level+cost
			default:
				if next != tat {
					t.Fatal("a refusal consumed something")
				}
				if _, w := p.Take(tat, now+int64(wait), ask); w != 0 {
					t.Fatalf("after the wait of %v it is another %v", wait, w)
				}
				if _, w := p.Take(tat, now+int64(wait)-1, ask); w == 0 {
					t.Fatalf("a wait of %v was told, one less suffices", wait)
				}
			}
		}
	})
}

// What is given back at once is as if it had not been taken, and what is given back later makes the bucket no fuller than that, or than an idle one.
func FuzzRefund(f *testing.F) {
	f.Add(uint16(3), uint16(1), uint16(0), uint8(2), uint8(1), uint8(0), uint8(0))
	f.Add(uint16(1), uint16(3600), uint16(5), uint8(5), uint8(3), uint8(40), uint8(7))
	f.Fuzz(func(t *testing.T, n, secs, burst uint16, before, ask, step, extra uint8) {
		r := mtakit.Rate{N: int(n)%100 + 1, Per: time.Duration(secs+1) * time.Second, Burst: int(burst) % 100}
		full := r.Burst
		if full == 0 {
			full = r.N
		}
		p := gcra.PaceOf(r)
		interval := (int64(r.Per) + int64(r.N) - 1) / int64(r.N)
		tat, now := int64(-1<<62), int64(1000)
		for range int(before) % (full + 1) {
			tat, _ = p.Take(tat, now, 1)
		}
		now += int64(extra) * interval / 16
		taken, wait := p.Take(tat, now, int(ask)%full+1)
		if wait > 0 {
			return
		}
		// level is how many units there are at the moment, and how far the next one is.
		level := func(tat int64) (units int, next time.Duration) {
			for {
				after, wait := p.Take(tat, now, 1)
				if wait > 0 || units > full {
					return units, wait
				}
				tat, units = after, units+1
			}
		}
		now += int64(step) * interval / 16
		back, over := p.Refund(taken, now, int(ask)%full+1), p.Refund(taken, now, 1<<30)
		wantUnits, wantNext := level(tat)
		if units, next := level(back); units != wantUnits || next != wantNext {
			t.Errorf("after the refund there are %d units and one more in %v; had they not been taken, %d and %v", units, next, wantUnits, wantNext)
		}
		if units, _ := level(over); units != full {
			t.Errorf("after a refund of too many there are %d units, want those of an idle bucket, %d", units, full)
		}
		if p.Refund(taken, now, 0) != taken || p.Refund(taken, now, -1) != taken {
			t.Error("a refund of nothing changes something")
		}
	})
}

func TestRefundConcurrently(t *testing.T) {
	t.Parallel()
	s := gcra.NewStore()
	s.Now = func() time.Time { return t0 }
	r := mtakit.Rate{N: 1000, Per: time.Hour}
	var kept atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 1000 {
				if w, _ := s.Take(t.Context(), "k", r, 1); w > 0 {
					continue
				}
				if (i+j)%3 == 0 {
					kept.Add(1)
				} else if err := s.Refund(t.Context(), "k", r, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	left := int64(0)
	for w := time.Duration(0); w == 0; left++ {
		w, _ = s.Take(t.Context(), "k", r, 1)
	}
	if left--; kept.Load()+left != 1000 {
		t.Errorf("%d units are kept and %d left, want 1000 in all", kept.Load(), left)
	}
}

func TestStoreForgetsIdleBuckets(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	s := gcra.NewStore()
	s.Now = func() time.Time { return t0.Add(time.Duration(now.Load())) }
	r := rate(t, "1/s")
	kept := s.Bucket("kept", r)
	for i := range 100_000 {
		now.Add(int64(time.Millisecond))
		if w, err := s.Take(t.Context(), strconv.Itoa(i), r, 1); w != 0 || err != nil {
			t.Fatal(w, err)
		}
	}
	if n := s.Buckets(); n > 20_000 {
		t.Errorf("%d buckets are kept, at most 1000 of which are in use", n)
	}
	// The handle was forgotten meanwhile; it still is the one bucket of its key.
	if w := kept.Take(s.Now(), 1); w != 0 {
		t.Errorf("wait = %v", w)
	}
	if w, _ := s.Take(t.Context(), "kept", r, 1); w != time.Second {
		t.Errorf("by key the wait is %v, want 1s", w)
	}
	if w := kept.Take(s.Now(), 1); w != time.Second {
		t.Errorf("by handle the wait is %v, want 1s", w)
	}
}

func TestStoreTakeConcurrently(t *testing.T) {
	t.Parallel()
	s := gcra.NewStore()
	s.Now = func() time.Time { return t0 }
	r := mtakit.Rate{N: 1000, Per: time.Hour}
	var given atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				if w, _ := s.Take(t.Context(), "k", r, 1); w == 0 {
					given.Add(1)
				}
				s.Take(t.Context(), fmt.Sprint("other", i), r, 1)
			}
		})
	}
	wg.Wait()
	if given.Load() != 1000 {
		t.Errorf("%d units were given, want 1000", given.Load())
	}
}

func TestStoreTakeErrors(t *testing.T) {
	t.Parallel()
	_, err := gcra.NewStore().Take(t.Context(), "k", rate(t, "2/s"), 3)
	if want := "3 units of k never fit into the burst of rate 2/s"; err == nil || err.Error() != want {
		t.Errorf("err = %v, want %s", err, want)
	}
}

func TestLeaseWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := gcra.NewStore()
		two := mtakit.Limit{N: 2}
		a, err := s.Lease(t.Context(), "k", two, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.Lease(t.Context(), "k", two, time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err = s.Lease(t.Context(), "k", two, time.Hour); !errors.Is(err, mtakit.ErrLimited) {
			t.Fatal(err)
		}
		start := time.Now()
		var mu sync.Mutex
		var order []string
		wait := func(name string, ttl time.Duration) {
			_, err := s.LeaseWait(t.Context(), "k", two, ttl) // and never given back
			if err != nil {
				t.Error(name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, fmt.Sprint(name, " after ", time.Since(start)))
		}
		go wait("first", time.Second)
		synctest.Wait()
		go wait("second", time.Hour)
		synctest.Wait()
		<-time.After(time.Second)
		a.Release() // first gets it at once; its second runs out, sooner than any other lease
		a.Release()
		synctest.Wait()
		<-time.After(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		want := "[first after 1s second after 2s]"
		if got := fmt.Sprint(order); got != want {
			t.Errorf("order = %s, want %s", got, want)
		}
		if err := a.Extend(t.Context(), time.Second); !errors.Is(err, gcra.ErrLeaseLost) {
			t.Errorf("Extend after Release: %v", err)
		}
	})
}

func TestLeaseWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := gcra.NewStore()
		one := mtakit.Limit{N: 1}
		held, err := s.Lease(t.Context(), "k", one, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err = s.LeaseWait(ctx, "k", one, time.Hour)
		if !errors.Is(err, mtakit.ErrLimited) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("waited %v, want 1m", d)
		}
		held.Release() // goes to nobody
		if _, err := s.Lease(t.Context(), "k", one, time.Hour); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkBucketTake(b *testing.B) {
	bucket := gcra.NewStore().Bucket("k", mtakit.Rate{N: 1_000_000_000, Per: time.Second})
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		bucket.Take(now, 1)
	}
}

func BenchmarkStoreTake(b *testing.B) {
	s := gcra.NewStore()
	r := mtakit.Rate{N: 1_000_000_000, Per: time.Second}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Take(context.Background(), "schedq-tenant@example.com-message-rate", r, 1)
		}
	})
}

func BenchmarkLease(b *testing.B) {
	s := gcra.NewStore()
	b.ReportAllocs()
	for b.Loop() {
		l, err := s.Lease(context.Background(), "k", mtakit.Limit{N: 10}, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
}

func TestTakeAllocatesNothing(t *testing.T) {
	s := gcra.NewStore()
	r := mtakit.Rate{N: 1_000_000_000, Per: time.Second}
	if n := testing.AllocsPerRun(100, func() { s.Take(context.Background(), "k", r, 1) }); n != 0 {
		t.Errorf("%v allocations a Take", n)
	}
}
