package queue

import (
	"slices"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
)

// A rule keeps only those queues from the short way that it is for.
func TestRulesClear(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	q := &Queue{now: func() time.Time { return now }}
	q.rules.q, q.rules.ready = q, make(map[string]*ReadyRule)
	sh := newShard(q)
	queues := []*sched{
		sh.schedFor(mtakit.QueueName{Domain: "a.test"}), sh.schedFor(mtakit.QueueName{Tenant: "t", Domain: "b.test"}),
		sh.schedFor(mtakit.QueueName{Domain: "c.test"}),
	}
	want := func(what string, held ...string) {
		t.Helper()
		for range 2 { // the second time it is remembered
			for _, s := range queues {
				if got := !q.rules.clear(s); got != slices.Contains(held, s.name().String()) {
					t.Errorf("%s: rules are for %s: %v", what, s.name(), got)
				}
			}
		}
	}
	domain := func(d string) Match { return Match{Domain: &d} }
	tenant := "t"

	want("no rules")
	q.SuspendReady("some->where@smtp_client", "", time.Time{})
	want("a ready queue is suspended")
	bounce := q.rules.add(&q.rules.bounce, &Rule{Match: domain("a.test")})
	want("one is bounced", "a.test")
	q.rules.add(&q.rules.suspend, &Rule{Match: Match{Tenant: &tenant}, Expires: now.Add(time.Minute)})
	want("another is suspended", "a.test", "t@b.test")
	if err := q.CancelBounce(bounce.ID); err != nil {
		t.Fatal(err)
	}
	want("the bounce is cancelled", "t@b.test")
	now = now.Add(time.Minute)
	q.rules.prune()
	want("the suspension has expired")
	if list := q.Suspensions(); len(list) != 0 {
		t.Errorf("%d suspensions are left", len(list))
	}
	all := q.rules.add(&q.rules.suspend, &Rule{})
	want("all are suspended", "a.test", "t@b.test", "c.test")
	if err := q.CancelSuspension(all.ID); err != nil {
		t.Fatal(err)
	}
	want("none is any more")
	q.rules.add(&q.rules.suspend, &Rule{Match: domain("c.test")})
	want("the last one", "c.test")
}

// Rules that name queues cost a message nothing each but a look into a map.
func TestRulesByName(t *testing.T) {
	q := &Queue{now: time.Now}
	q.rules.q = q
	for range 1000 {
		q.rules.add(&q.rules.suspend, &Rule{Match: Match{QueueNames: []string{uuid.New()}}})
	}
	name := mtakit.QueueName{Campaign: "c", Tenant: "t", Domain: "a.test"}
	n := testing.AllocsPerRun(10, func() {
		if q.rules.find(&q.rules.suspend, name, q.now()) != nil {
			t.Error("a rule is for it")
		}
	})
	if n > 1 {
		t.Errorf("%v allocations to compare one name with a thousand", n)
	}
}

// What a rule for one queue costs another does not depend on how many there are.
func BenchmarkRulesClear(b *testing.B) {
	q := &Queue{now: time.Now}
	q.rules.q = q
	s := newShard(q).schedFor(mtakit.QueueName{Domain: "a.test"})
	for range 1000 {
		q.rules.add(&q.rules.suspend, &Rule{Match: Match{QueueNames: []string{uuid.New()}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		if !q.rules.clear(s) {
			b.Fatal("a rule is for it")
		}
	}
}
