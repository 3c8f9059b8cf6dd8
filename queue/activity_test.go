package queue_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// activityAt is an Activity whose clock is *now.
func activityAt(now *time.Time) *queue.Activity {
	return &queue.Activity{Now: func() time.Time { return *now }}
}

func sum(h queue.History) (t queue.Tally) {
	for _, s := range h.Steps {
		t.Received += s.Received
		t.Delivered += s.Delivered
		t.Deferred += s.Deferred
		t.Bounced += s.Bounced
		t.Rejected += s.Rejected
	}
	return t
}

// In each resolution what is asked for is all that happened then, and each thing in its step.
func TestHistory(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	now := start
	a := activityAt(&now)
	kinds := []mtakit.Kind{mtakit.Reception, mtakit.Delivered, mtakit.TransientFailure, mtakit.Bounce, mtakit.Expiration, mtakit.AdminBounce, mtakit.Rejection, mtakit.Delayed}
	for ; now.Before(start.Add(50 * time.Hour)); now = now.Add(7 * time.Second) {
		for _, k := range kinds {
			a.Record(&mtakit.Record{Kind: k, Time: now, To: []string{"a@x.test", "b@x.test"}})
		}
	}
	now = now.Add(-7 * time.Second)
	for _, c := range []struct{ span, step time.Duration }{
		{0, time.Second}, {time.Minute, time.Second}, {600 * time.Second, time.Second}, {601 * time.Second, 10 * time.Second}, {2 * time.Hour, 10 * time.Second},
		{2*time.Hour + 1, 5 * time.Minute}, {47 * time.Hour, 5 * time.Minute}, {400 * time.Hour, 5 * time.Minute},
	} {
		h := a.History(c.span)
		if h.Step != c.step || !h.Now.Equal(now) {
			t.Errorf("%v: step %v", c.span, h.Step)
		}
		end := h.Start.Add(time.Duration(len(h.Steps)) * h.Step)
		if !end.After(now) || end.Sub(now) > h.Step || c.span < 48*time.Hour && now.Sub(h.Start) < c.span {
			t.Errorf("%v: from %v to %v, now is %v", c.span, h.Start, end, now)
		}
		var events int64
		for at := start; !at.After(now); at = at.Add(7 * time.Second) {
			if !at.Before(h.Start) {
				events++
			}
		}
		want := queue.Tally{Received: 2 * events, Delivered: 2 * events, Deferred: 2 * events, Bounced: 6 * events, Rejected: 2 * events}
		if got := sum(h); got != want {
			t.Errorf("%v: %+v, want %+v", c.span, got, want)
		}
		for i, s := range h.Steps[1 : len(h.Steps)-1] {
			if d := s.Received/2*7 - int64(h.Step/time.Second); d < -7 || d > 7 {
				t.Errorf("%v: step %d has %d", c.span, i+1, s.Received)
			}
		}
	}
	now = now.Add(time.Hour)
	if got := sum(a.History(10 * time.Minute)); got != (queue.Tally{}) {
		t.Errorf("after an hour of silence: %+v", got)
	}
	if got := sum((&queue.Activity{}).History(time.Minute)); got != (queue.Tally{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func failure(at time.Time, kind mtakit.Kind, class mtakit.Class, site, domain string, code int, text string) *mtakit.Record {
	return &mtakit.Record{Kind: kind, Class: class, Time: at, Site: site, Queue: mtakit.QueueName{Domain: domain}, To: []string{"u@" + domain}, PeerName: "mx." + domain,
		Response: mtakit.Response{Code: code, Text: text}}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := activityAt(&now)
	a.Record(failure(now, mtakit.Delivered, "", "s", "d.test", 250, "ok"))
	for i := range 90 {
		now = now.Add(time.Minute)
		a.Record(failure(now, mtakit.TransientFailure, "Greylisted", "s->a@smtp_client", "a.test", 451, fmt.Sprint("later ", i)))
		a.Record(failure(now, mtakit.TransientFailure, "Greylisted", "s->b@smtp_client", "b.test", 451, "later"))
		if i == 10 || i == 80 {
			a.Record(failure(now, mtakit.Bounce, "", "s->b@smtp_client", "b.test", 550, strings.Repeat("ü", 400)))
		}
	}
	classes := a.FailureClasses()
	if len(classes) != 2 || classes[0].Class != "Greylisted" || classes[0].Count != 120 || classes[0].Groups != 2 || classes[1].Count != 1 || classes[0].Code != 0 || classes[1].Code != 550 ||
		classes[0].Trend[0] != 2 || classes[0].Trend[59] != 2 || classes[1].Trend[50] != 1 {
		t.Errorf("classes: %+v", classes)
	}
	groups, total := a.FailureGroups(queue.FailureFilter{Kind: mtakit.TransientFailure}, 1)
	if total != 2 || len(groups) != 1 || groups[0].Site != "s->a@smtp_client" || groups[0].Count != 60 || groups[0].Last.Response.Text != "later 89" || len(groups[0].Trend) != 60 {
		t.Errorf("%d groups: %+v", total, groups)
	}
	for _, c := range []struct {
		name   string
		filter queue.FailureFilter
		want   int
	}{
		{"all", queue.FailureFilter{}, 182}, {"class", queue.FailureFilter{Class: "Greylisted"}, 180}, {"no class", queue.FailureFilter{Class: mtakit.Uncategorized}, 2},
		{"kind", queue.FailureFilter{Kind: mtakit.Bounce}, 2}, {"code", queue.FailureFilter{Code: 451}, 180}, {"site", queue.FailureFilter{Site: "s->a@smtp_client"}, 90},
		{"queue", queue.FailureFilter{Queue: "b.test"}, 92}, {"both", queue.FailureFilter{Queue: "b.test", Class: "Greylisted"}, 90},
		{"none", queue.FailureFilter{Queue: "c.test"}, 0},
	} {
		got := a.Failures(c.filter, 10_000)
		if len(got) != c.want {
			t.Errorf("%s: %d failures, want %d", c.name, len(got), c.want)
		}
		if !slices.IsSortedFunc(got, func(a, b queue.FailureRecord) int { return b.Time.Compare(a.Time) }) {
			t.Errorf("%s: not the latest first", c.name)
		}
	}
	long := a.Failures(queue.FailureFilter{Kind: mtakit.Bounce}, 1)[0].Response.Text
	if long != strings.Repeat("ü", 256)+"…" {
		t.Errorf("the text of 800 bytes is kept as %d bytes: %q", len(long), long)
	}
	now = now.Add(-3 * time.Hour) // the clock is set back
	a.Record(failure(now, mtakit.TransientFailure, "Greylisted", "s->a@smtp_client", "a.test", 451, "again"))
	if groups, _ := a.FailureGroups(queue.FailureFilter{Class: "Greylisted"}, 5); len(groups) != 1 || groups[0].Count != 1 {
		t.Errorf("after the clock was set back: %+v", groups)
	}
}

// However many sites fail, what is kept is bounded, and the ones that fail at the moment are among it.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := activityAt(&now)
	for i := range 5000 {
		now = now.Add(10 * time.Millisecond)
		site := fmt.Sprintf("s->%d@smtp_client", i)
		a.Record(failure(now, mtakit.Bounce, "BadDomain", site, "d.test", 550, "no"))
		if i%250 != 0 && i != 1024 {
			continue
		}
		if groups, total := a.FailureGroups(queue.FailureFilter{Site: site}, 1); total != 1 || groups[0].Site != site {
			t.Fatalf("%d: the latest is not there", i)
		}
		if _, total := a.FailureGroups(queue.FailureFilter{}, 0); i == 1024 && total < 1024*3/4 {
			t.Errorf("%d groups are left of 1025", total)
		}
	}
	if _, total := a.FailureGroups(queue.FailureFilter{}, 0); total > 1024 || total < 512 {
		t.Errorf("%d groups", total)
	}
	if n := len(a.Failures(queue.FailureFilter{}, 1<<20)); n != 1024 {
		t.Errorf("%d failures", n)
	}
}

func TestActivityConcurrently(t *testing.T) {
	t.Parallel()
	a := &queue.Activity{}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				a.Record(failure(time.Now(), mtakit.Bounce, "", fmt.Sprint(w, i%20), "d.test", 550, "no"))
				a.Failures(queue.FailureFilter{}, 10)
				a.FailureGroups(queue.FailureFilter{}, 10)
				a.FailureClasses()
				a.History(time.Minute)
			}
		})
	}
	wg.Wait()
	if c := a.FailureClasses(); len(c) != 1 || c[0].Count != 2000 {
		t.Errorf("%+v", c)
	}
}

func BenchmarkActivity(b *testing.B) {
	now := time.Now()
	for _, r := range []*mtakit.Record{
		{Kind: mtakit.Delivered, Time: now, To: []string{"u@d.test"}},
		failure(now, mtakit.TransientFailure, "Greylisted", "s->a@smtp_client", "a.test", 451, "4.7.1 come back later"),
	} {
		b.Run(string(r.Kind), func(b *testing.B) {
			a := &queue.Activity{}
			b.ReportAllocs()
			for b.Loop() {
				a.Record(r)
			}
		})
	}
}
