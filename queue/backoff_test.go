package queue

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

func TestDelayFor(t *testing.T) {
	t.Parallel()
	const m, h = time.Minute, time.Hour
	for _, c := range []struct {
		name       string
		base, most time.Duration
		want       map[int]time.Duration // by tries
	}{
		{"default", 20 * m, 0, map[int]time.Duration{0: 20 * m, 1: 40 * m, 2: 80 * m, 5: 640 * m, 12: 81920 * m}},
		{"capped", 20 * m, h, map[int]time.Duration{0: 20 * m, 1: 40 * m, 2: h, 3: h, 24: h, 64: h, 65535: h}},
		{"constant", 5 * m, 5 * m, map[int]time.Duration{0: 5 * m, 1: 5 * m, 9: 5 * m}},
		{"cap below the interval", 5 * m, m, map[int]time.Duration{0: m, 1: m}},
		{"short", 2 * time.Second, 0, map[int]time.Duration{0: 2 * time.Second, 1: 4 * time.Second, 2: 8 * time.Second}},
		{"a shift is negative from 24, and zero from 64", 20 * m, 0, map[int]time.Duration{24: forever, 63: forever, 64: forever, 65535: forever}},
		{"cap beyond everything", 20 * m, math.MaxInt64, map[int]time.Duration{64: forever}},
		{"interval beyond everything", math.MaxInt64, 0, map[int]time.Duration{0: forever, 1: forever}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &mtakit.QueueSettings{RetryInterval: mtakit.Duration(c.base), MaxRetryInterval: mtakit.Duration(c.most)}
			for tries, want := range c.want {
				if got := delayFor(s, tries); got != want {
					t.Errorf("after %d tries the delay is %v, want %v", tries, got, want)
				}
			}
		})
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ interval, most time.Duration }{
		{20 * time.Minute, 29 * time.Second}, // 60 s in all, and uniform never gives 1
		{time.Hour, 29 * time.Second},
		{5 * time.Minute, 7 * time.Second}, // 15 s
		{40 * time.Second, 0},
		{39 * time.Second, 0},
		{time.Second, 0},
	} {
		s := &mtakit.QueueSettings{RetryInterval: mtakit.Duration(c.interval)}
		low, high := time.Duration(0), time.Duration(0)
		for i := range 10_000 {
			j := jitter(s, float64(i)/10_000)
			if j%time.Second != 0 {
				t.Errorf("jitter of %v is %v, not whole seconds", c.interval, j)
			}
			low, high = min(low, j), max(high, j)
		}
		if high != c.most || low < -c.most-time.Second || low > -c.most {
			t.Errorf("jitter of %v is from %v to %v, want about %v", c.interval, low, high, c.most)
		}
	}
}

func TestUniform(t *testing.T) {
	t.Parallel()
	var buckets [10]int
	src := &mtakit.IDSource{}
	id := src.New(time.Now())
	for i := range 10_000 {
		u := uniform(1, id, i, 'j')
		if u < 0 || u >= 1 {
			t.Fatalf("%v", u)
		}
		buckets[int(u*10)]++
	}
	for i, n := range buckets {
		if n < 850 || n > 1150 {
			t.Errorf("%d of 10000 are in tenth %d", n, i)
		}
	}
	if uniform(1, id, 3, 'j') != uniform(1, id, 3, 'j') || uniform(1, id, 3, 'j') == uniform(1, id, 3, 's') || uniform(1, id, 3, 'j') == uniform(2, id, 3, 'j') {
		t.Error("it has to depend on its arguments, and on nothing else")
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	if spread(0) != 0 || spread(0.9999999) != 59*time.Second {
		t.Errorf("%v to %v", spread(0), spread(0.9999999))
	}
}

func TestIdeal(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 6: 5, 7: 5, 8: 6, 9: 6, 10: 7, 20: 12, 32: 17, 64: 25, 128: 31, 256: 32, 1024: 32, 1 << 30: 32} {
		if got := ideal(n, 32); got != want {
			t.Errorf("ideal(%d, 32) = %d, want %d", n, got, want)
		}
	}
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 32, 64, 128, 256, 400, 512, 1024} {
		if got := ideal(n, 1024); got != n {
			t.Errorf("ideal(%d, 1024) = %d", n, got)
		}
	}
	for _, limit := range []int{0, -1} {
		if got := ideal(10, limit); got != 0 {
			t.Errorf("ideal(10, %d) = %d", limit, got)
		}
	}
	if got := ideal(5, 1); got != 1 {
		t.Errorf("ideal(5, 1) = %d", got)
	}
}

func weightsOf(n ...int) *weights {
	w := &weights{}
	for _, v := range n {
		w.add(v)
	}
	return w
}

func TestWeightedRoundRobin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		weights []int
		start   int // picks before
		want    string
	}{
		{[]int{5, 2, 3}, 0, "[50 20 30]"},
		{[]int{5, 2, 3}, 7, "[50 20 30]"},
		{[]int{50, 20, 30}, 3, "[50 20 30]"},
		{[]int{1}, 0, "[100]"},
		{[]int{1, 1}, 1, "[50 50]"},
		{[]int{99, 1}, 0, "[99 1]"},
	} {
		var r wrr
		w := weightsOf(c.weights...)
		for range c.start {
			r.pick(w)
		}
		counts := make([]int, len(c.weights))
		for range 100 {
			counts[r.pick(w)]++
		}
		if got := fmt.Sprint(counts); got != c.want {
			t.Errorf("weights %v, after %d picks: %s, want %s", c.weights, c.start, got, c.want)
		}
	}
	// It goes on at once when the heaviest is left out, or with weights beyond all reason.
	var r wrr
	r.pick(weightsOf(math.MaxInt, 1, 1))
	for range 10 {
		r.pick(weightsOf(1, 1))
	}
	r.pick(weightsOf(7))
}

// FuzzFifo compares a fifo with a slice.
func FuzzFifo(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 3})
	f.Add([]byte("000000000000000011112222333331111111111"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		var q fifo[int]
		var want []int
		for i, op := range ops {
			for n := range int(op>>2)%8 + 1 {
				switch v := i*8 + n; op & 3 {
				case 0:
					q.pushBack(v)
					want = append(want, v)
				case 1:
					q.pushFront(v)
					want = append([]int{v}, want...)
				case 2:
					v, ok := q.popFront()
					if ok != (len(want) > 0) || ok && v != want[0] {
						t.Fatalf("op %d: popFront = %d, %v; want %v", i, v, ok, want)
					}
					want = want[min(1, len(want)):]
				case 3:
					v, ok := q.popBack()
					if ok != (len(want) > 0) || ok && v != want[len(want)-1] {
						t.Fatalf("op %d: popBack = %d, %v; want %v", i, v, ok, want)
					}
					want = want[:max(0, len(want)-1)]
				}
			}
			if q.len() != len(want) {
				t.Fatalf("op %d: len = %d, want %d", i, q.len(), len(want))
			}
			for j, v := range want {
				if q.at(j) != v {
					t.Fatalf("op %d: at(%d) = %d, want %d", i, j, q.at(j), v)
				}
			}
		}
	})
}

func TestReasons(t *testing.T) {
	t.Parallel()
	r := Reasons{Received}.with(ScheduledForLater, ScheduledForLater, DueTimeWasReached)
	if got := r.String(); got != "Received, ScheduledForLater, DueTimeWasReached" {
		t.Error(got)
	}
	if !r.has(DueTimeWasReached) || r.has(AdminRebind) {
		t.Error("has is wrong")
	}
	one := Reasons{Received}
	if a, b := one.with(AdminRebind), one.with(DispatcherDrop); a.String() == b.String() || len(one) != 1 {
		t.Errorf("%v and %v share memory", a, b)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	p := func(s string) *string { return &s }
	for _, c := range []struct {
		m    Match
		q    string
		want bool
	}{
		{Match{}, "d.test", true},
		{Match{Domain: p("d.test")}, "d.test", true},
		{Match{Domain: p("d.test")}, "c:t@d.test!r.test", true},
		{Match{Domain: p("D.test")}, "d.test", false},
		{Match{Domain: p("r.test")}, "d.test!r.test", false},
		{Match{Routing: p("r.test")}, "d.test!r.test", true},
		{Match{Tenant: p("t")}, "t@d.test", true},
		{Match{Tenant: p("t")}, "d.test", false},
		{Match{Tenant: p("")}, "d.test", false},
		{Match{Tenant: p("")}, "c:@d.test", true},
		{Match{Campaign: p("c"), Domain: p("d.test")}, "c:t@d.test", true},
		{Match{Campaign: p("c"), Domain: p("e.test")}, "c:t@d.test", false},
		{Match{QueueNames: []string{"t@d.test"}, Domain: p("x")}, "t@d.test", true},
		{Match{QueueNames: []string{"t@d.test"}}, "d.test", false},
	} {
		if got := c.m.Matches(mtakit.ParseQueueName(c.q)); got != c.want {
			t.Errorf("%+v matches %s: %v, want %v", c.m, c.q, got, c.want)
		}
	}
}
