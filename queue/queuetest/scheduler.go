package queuetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// TestScheduler checks that new makes Schedulers that keep the contract of [mtakit.Scheduler]. A failure names the sentence of the
// contract that was broken. A Scheduler with a method Sweep, as queue.Sweeper has it, is checked for that too.
//
//	func TestMine(t *testing.T) { queuetest.TestScheduler(t, NewMine) }
func TestScheduler(t *testing.T, new func() mtakit.Scheduler) {
	for _, test := range []struct {
		name     string
		sentence string
		run      func(s *scheduler)
	}{
		{"Empty", "Pop says when to call again: the zero time if none are left. Len is the number of entries.", testEmpty},
		{"Add", "Add puts e in. Pop appends to dst entries that are due at now.", testAdd},
		{"Fields", "ID, Queue, Due and Tries come out as they went in; Due is to the second, and the zero time is now.", testFields},
		{"Capacity", "Pop appends to dst entries that are due at now, as many as its capacity allows.", testCapacity},
		{"Second", "Pop never gives an entry before its due time, and gives it at the first Pop whose now is a second or more after.", testSecond},
		{"Next", "Pop says when to call again: now or earlier if more are due.", testNext},
		{"Far", "Pop never gives an entry before its due time, however far that is.", testFar},
		{"Back", "now may step back.", testBack},
		{"Remove", "Remove takes out one entry and says whether it was there.", testRemove},
		{"All", "All yields every entry, in no order.", testAll},
		{"Sweep", "Every entry that is there from the start of the sweep to its end is shown.", testSweep},
		{"Random", "whatever the order of calls", testRandom},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(&scheduler{Scheduler: new(), t: t, sentence: test.sentence, in: map[mtakit.ID]mtakit.Entry{}})
		})
	}
}

// start is the time at which the checks begin; it is no whole second.
var start = time.Date(2026, 2, 3, 4, 5, 6, 700_000_000, time.UTC)

// scheduler is a Scheduler with a model beside it, a map of what is in.
type scheduler struct {
	mtakit.Scheduler
	t        *testing.T
	sentence string
	ids      mtakit.IDSource
	in       map[mtakit.ID]mtakit.Entry
}

func (s *scheduler) broken(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\nbreaks the contract: %s", fmt.Sprintf(format, args...), s.sentence)
}

func (s *scheduler) add(due time.Time) mtakit.Entry {
	id := s.ids.New(start)
	e := mtakit.Entry{ID: id, Due: due, Tries: int(id[15]) % 5, Queue: mtakit.QueueName{
		Tenant: fmt.Sprint("t", id[14]%4), Domain: fmt.Sprintf("d%d.example", id[13]%8),
	}}
	s.addEntry(e)
	return e
}

func (s *scheduler) addEntry(e mtakit.Entry) {
	s.t.Helper()
	s.Add(e)
	s.in[e.ID] = e
	s.wantLen()
}

func (s *scheduler) wantLen() {
	s.t.Helper()
	if s.Len() != len(s.in) {
		s.broken("Len is %d, want %d", s.Len(), len(s.in))
	}
}

// pop calls Pop with room for n entries and checks everything that holds for each call.
func (s *scheduler) pop(now time.Time, n int) (due []mtakit.Entry, next time.Time) {
	s.t.Helper()
	must, may := 0, 0 // be given: the due times of less than a second ago are up to the Scheduler
	for _, e := range s.in {
		if !e.Due.After(now) {
			may++
		}
		if e.Due.IsZero() || !e.Due.Add(time.Second).After(now) {
			must++
		}
	}
	due, next = s.Pop(now, make([]mtakit.Entry, 0, n))
	for _, e := range due {
		was, ok := s.in[e.ID]
		if !ok {
			s.broken("Pop(%v) gave %v, which is not in", now, e.ID)
		}
		if was.Due.After(now) {
			s.broken("Pop(%v) gave an entry %v before its due time %v", now, was.Due.Sub(now), was.Due)
		}
		s.same(e, was)
		delete(s.in, e.ID)
	}
	if len(due) < min(must, n) {
		s.broken("Pop(%v) with room for %d gave %d entries, although %d were due", now, n, len(due), must)
	}
	s.wantLen()
	switch more := may > len(due); {
	case len(s.in) == 0 && !next.IsZero():
		s.broken("Pop(%v): next is %v although none are left", now, next)
	case len(s.in) > 0 && next.IsZero():
		s.broken("Pop(%v): next is the zero time although %d are left", now, len(s.in))
	case must > len(due) && next.After(now):
		s.broken("Pop(%v): next is %v although %d are due", now, next, must-len(due))
	case !more && len(s.in) > 0 && !next.After(now):
		s.broken("Pop(%v): next is %v although no more are due", now, next)
	}
	return due, next
}

func (s *scheduler) same(got, want mtakit.Entry) {
	s.t.Helper()
	if got.ID != want.ID || got.Queue != want.Queue || got.Tries != want.Tries {
		s.broken("an entry came out as %+v, went in as %+v", got, want)
	}
	if d := got.Due.Sub(want.Due); got.Due.IsZero() != want.Due.IsZero() || d <= -time.Second || d >= time.Second {
		s.broken("a due time came out as %v, went in as %v", got.Due, want.Due)
	}
}

func testEmpty(s *scheduler) {
	s.wantLen()
	s.pop(start, 0)
	s.pop(start, 1)
	if s.Remove(s.ids.New(start)) {
		s.broken("Remove found an entry in an empty Scheduler")
	}
	for e := range s.All() {
		s.broken("All yields %v", e.ID)
	}
}

func testAdd(s *scheduler) {
	s.add(start)
	s.add(start.Add(-time.Hour))
	s.add(time.Time{})
	s.pop(start.Add(time.Second), 8)
	if len(s.in) > 0 {
		s.broken("%d entries that are due were not given", len(s.in))
	}
}

func testFields(s *scheduler) {
	due := start.Truncate(time.Second)
	for i, q := range []mtakit.QueueName{
		{}, {Domain: "example.com"}, {Campaign: "c", Tenant: "t", Domain: "d", Routing: "r"}, {Campaign: "ct", Domain: "dr"},
		{Tenant: "", Domain: "c:t@d!r"}, {Tenant: "\x00\xff", Domain: "ü"},
	} {
		s.addEntry(mtakit.Entry{ID: s.ids.New(start), Queue: q, Due: due.Add(time.Duration(i) * time.Second), Tries: i * 1000})
		s.addEntry(mtakit.Entry{ID: s.ids.New(start), Queue: q, Tries: 65535})
	}
	for e := range s.All() {
		s.same(e, s.in[e.ID])
	}
	due = due.Add(time.Minute)
	s.pop(due, 100)
}

func testCapacity(s *scheduler) {
	for range 1000 {
		s.add(start.Add(-time.Minute))
	}
	first := mtakit.Entry{Tries: 42}
	got, _ := s.Pop(start, append(make([]mtakit.Entry, 0, 301), first))
	if len(got) != 301 || got[0] != first {
		s.broken("Pop appended %d entries to one, want 300; the first is %+v", len(got)-1, got[0])
	}
	for _, e := range got[1:] {
		delete(s.in, e.ID)
	}
	for _, n := range []int{0, 1, 600, 600} {
		s.pop(start, n)
	}
}

func testSecond(s *scheduler) {
	for i := range 40 {
		s.add(start.Add(time.Duration(i) * 77 * time.Millisecond))
	}
	for now := start.Add(-time.Second); len(s.in) > 0; now = now.Add(99 * time.Millisecond) {
		if now.After(start.Add(time.Minute)) {
			s.broken("%d entries were not given within a minute", len(s.in))
		}
		s.pop(now, 100)
	}
}

// testNext calls Pop only when it is told to: each entry comes within a second of its due time, and in few calls.
func testNext(s *scheduler) {
	const n = 400
	last := start
	for i := range n {
		due := start.Add(time.Duration(i*i) * 4 * time.Second) // a week
		s.add(due)
		last = due
	}
	calls := 0
	for now := start; len(s.in) > 0; calls++ {
		if now.After(last.Add(time.Second)) {
			s.broken("%d entries are left at %v, the last was due at %v", len(s.in), now, last)
		}
		if calls > 10*n {
			s.broken("%d calls of Pop at the times it asked for gave %d entries", calls, n-len(s.in))
		}
		_, next := s.pop(now, 7)
		if next.After(now) {
			now = next
		}
		for _, e := range s.in {
			if now.Sub(e.Due) > time.Second {
				s.broken("next is %v, an entry is due at %v", now, e.Due)
			}
		}
	}
}

func testFar(s *scheduler) {
	now := start
	for d := time.Second; d < 20*365*24*time.Hour; d = d*3 + 1 {
		s.add(start.Add(d))
	}
	for len(s.in) > 0 {
		first := slices.MinFunc(slices.Collect(maps.Values(s.in)), func(a, b mtakit.Entry) int { return a.Due.Compare(b.Due) })
		s.pop(now, 100)
		s.pop(first.Due.Add(-time.Millisecond), 100)
		now = first.Due.Add(time.Second)
		s.pop(now, 100)
	}
}

func testBack(s *scheduler) {
	for i := range 200 {
		s.add(start.Add(time.Duration(i) * 10 * time.Minute))
	}
	s.pop(start.Add(12*time.Hour), 10) // more are due, and are not given
	for _, back := range []time.Duration{time.Second, time.Hour, 100 * time.Hour} {
		now := start.Add(12 * time.Hour).Add(-back)
		s.pop(now, 1)
		s.add(now.Add(time.Minute))
		s.pop(now.Add(59*time.Second), 1)
	}
	s.pop(start.Add(-time.Second), 500)
	s.pop(start.Add(6*time.Hour), 500)
	s.pop(start.Add(100*time.Hour), 500)
}

func testRemove(s *scheduler) {
	var ids []mtakit.ID
	for i := range 50 {
		ids = append(ids, s.add(start.Add(time.Duration(i-25)*time.Minute)).ID)
	}
	s.pop(start, 5)
	for i, id := range ids {
		if _, there := s.in[id]; i%3 != 0 {
			continue
		} else if s.Remove(id) != there {
			s.broken("Remove said %v, want %v", !there, there)
		}
		delete(s.in, id)
		if s.Remove(id) {
			s.broken("Remove took an entry out twice")
		}
		s.wantLen()
	}
	s.pop(start.Add(time.Hour), 100)
}

func testAll(s *scheduler) {
	for i := range 300 {
		s.add(start.Add(time.Duration(i*i) * time.Second))
	}
	s.pop(start.Add(time.Hour), 20)
	seen := map[mtakit.ID]bool{}
	for e := range s.All() {
		was, ok := s.in[e.ID]
		if !ok || seen[e.ID] {
			s.broken("All yields %v, which is not in or came before", e.ID)
		}
		seen[e.ID] = true
		s.same(e, was)
	}
	if len(seen) != len(s.in) {
		s.broken("All yields %d entries, want %d", len(seen), len(s.in))
	}
	n := 0
	for range s.All() {
		if n++; n == 3 {
			break
		}
	}
}

func testSweep(s *scheduler) {
	sw, ok := s.Scheduler.(interface {
		Sweep(pos, n int, take func(mtakit.Entry) bool) int
	})
	if !ok {
		s.t.Skip("it has no Sweep")
	}
	for i := range 1000 {
		s.add(start.Add(time.Duration(i) * time.Second))
	}
	before, met := maps.Clone(s.in), map[mtakit.ID]bool{}
	now := start
	for pos := s.Len(); pos > 0; now = now.Add(5 * time.Second) {
		steps := 0
		pos = sw.Sweep(pos, 10, func(e mtakit.Entry) bool {
			steps++
			met[e.ID] = true
			s.same(e, s.in[e.ID])
			gone := e.Queue.Tenant == "t1"
			if gone {
				delete(s.in, e.ID)
			}
			return gone
		})
		if steps > 10 {
			s.broken("Sweep showed %d entries, want 10 at most", steps)
		}
		s.wantLen()
		s.pop(now, 3)
		s.add(now.Add(time.Hour))
	}
	for id, e := range before {
		if _, there := s.in[id]; there && !met[id] {
			s.broken("Sweep did not show %+v", e)
		} else if there && e.Queue.Tenant == "t1" {
			s.broken("Sweep left %+v, although take returned true", e)
		}
	}
}

func testRandom(s *scheduler) {
	const seed = 1
	s.t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	now := start
	for range 5000 {
		switch rnd.IntN(10) {
		case 0:
			for id := range s.in {
				if !s.Remove(id) {
					s.broken("Remove did not find %v", id)
				}
				delete(s.in, id)
				break
			}
		case 1:
			now = now.Add(-time.Duration(rnd.Int64N(int64(time.Hour))))
		case 2, 3:
			now = now.Add(time.Duration(rnd.Int64N(int64(40 * time.Minute))))
		case 4, 5:
			s.pop(now, rnd.IntN(20))
		default:
			s.add(now.Add(time.Duration(rnd.ExpFloat64()*float64(20*time.Minute)) - 5*time.Minute))
		}
	}
	s.pop(now.Add(100*24*time.Hour), 5000)
	if len(s.in) > 0 {
		s.broken("%d entries never became due", len(s.in))
	}
}
