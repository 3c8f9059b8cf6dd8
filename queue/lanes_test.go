package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
)

func lanesOf(counts map[string]int, settings map[string]mtakit.QueueSettings) (*lanes, []string) {
	var names []string
	for n := range counts {
		names = append(names, n)
	}
	slices.Sort(names)
	ls := &lanes{}
	for _, n := range names {
		set := settings[n]
		s := &sched{}
		s.conf.Store(&conf{QueueSettings: &set})
		for range counts[n] {
			ls.pushBack(&item{sched: s, m: &mtakit.Message{Sender: n}})
		}
	}
	return ls, names
}

func order(ls *lanes, n int) (got string) {
	for range n {
		it, ok := ls.take()
		if !ok {
			break
		}
		got += it.m.Sender
	}
	return got
}

func TestLanesTakeTurns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		counts   map[string]int
		settings map[string]mtakit.QueueSettings
		n        int
		want     string
	}{
		{"equal", map[string]int{"a": 5, "b": 2, "c": 1}, nil, 8, "abcabaaa"},
		{"weights", map[string]int{"a": 6, "b": 3}, map[string]mtakit.QueueSettings{"a": {Weight: 2}}, 9, "aabaabaab"},
		{"priority", map[string]int{"a": 10, "b": 10}, map[string]mtakit.QueueSettings{"b": {Priority: 1}}, 12, "bbbbbbbabbba"},
		{"the lowest of three", map[string]int{"a": 200, "b": 200, "c": 200}, map[string]mtakit.QueueSettings{"b": {Priority: -3}, "c": {Priority: 5}}, 128,
			strings.Repeat(strings.Repeat("ccccccca", 7)+"cccccccb", 2)},
		{"three priorities", map[string]int{"a": 9, "b": 9, "c": 9}, map[string]mtakit.QueueSettings{"b": {Priority: -3}, "c": {Priority: 5}}, 9, "cccccccac"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ls, _ := lanesOf(tt.counts, tt.settings)
			if got := order(ls, tt.n); got != tt.want {
				t.Errorf("order is %s, want %s", got, tt.want)
			}
		})
	}
}

// A message that is taken and given back changes nothing.
func TestLanesUntake(t *testing.T) {
	t.Parallel()
	const want = "aabaabaab"
	for n := range len(want) {
		ls, _ := lanesOf(map[string]int{"a": 6, "b": 3}, map[string]mtakit.QueueSettings{"a": {Weight: 2}})
		got := order(ls, n)
		it, _ := ls.take()
		ls.untake(it)
		if got += order(ls, len(want)); got != want {
			t.Errorf("when message %d was given back the order is %s, want %s", n, got, want)
		}
	}
}

// A lane whose messages take several transactions pays for them with its turns, as long as there are others that want these.
func TestLanesPayDebts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		counts       map[string]int
		settings     map[string]mtakit.QueueSettings
		transactions map[string]int // of each message; 0 is 1
		n            int
		want         string
	}{
		{"one costs four", map[string]int{"a": 5, "b": 9}, nil, map[string]int{"a": 4}, 12, "abbbbabbbbab"},
		{"and has weight", map[string]int{"a": 5, "b": 9}, map[string]mtakit.QueueSettings{"a": {Weight: 2}}, map[string]int{"a": 4}, 12, "aabbbbaabbbb"},
		{"the other has weight", map[string]int{"a": 5, "b": 9}, map[string]mtakit.QueueSettings{"b": {Weight: 2}}, map[string]int{"a": 3}, 9, "abbbbbbab"},
		{"both cost as much", map[string]int{"a": 5, "b": 5}, nil, map[string]int{"a": 7, "b": 7}, 10, "ababababab"},
		{"nobody else", map[string]int{"a": 5}, nil, map[string]int{"a": 100}, 9, "aaaaa"},
		{"a new lane owes nothing", map[string]int{"a": 1, "b": 2}, nil, map[string]int{"a": 50}, 9, "abb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ls, _ := lanesOf(tt.counts, tt.settings)
			got := ""
			for range tt.n {
				it, ok := ls.take()
				if !ok {
					break
				}
				got += it.m.Sender
				for range tt.transactions[it.m.Sender] - 1 {
					ls.charge(it.sched)
				}
			}
			if got != tt.want {
				t.Errorf("order is %s, want %s", got, tt.want)
			}
			ls.pushBack(&item{sched: &sched{}, m: &mtakit.Message{}})
			if l := ls.levels[0].turns.at(ls.levels[0].turns.len() - 1); l.debt != 0 {
				t.Errorf("a new lane owes %d", l.debt)
			}
		})
	}
}

// Whatever the others have, a queue's message waits for at most weight messages of each other lane of its priority.
func TestLanesBound(t *testing.T) {
	t.Parallel()
	for _, others := range []int{1, 10, 1000} {
		counts := make(map[string]int)
		for i := range others {
			counts[fmt.Sprintf("a%04d", i)] = 50
		}
		ls, _ := lanesOf(counts, nil)
		order(ls, 7) // somewhere in the middle of a round
		set := mtakit.QueueSettings{}
		s := &sched{}
		s.conf.Store(&conf{QueueSettings: &set})
		ls.pushBack(&item{sched: s, m: &mtakit.Message{Sender: "b"}})
		for n := 0; ; n++ {
			if it, _ := ls.take(); it.m.Sender == "b" {
				break
			}
			if n > others {
				t.Fatalf("with %d other queues the message waits for more than %d messages", others, n)
			}
		}
	}
}

func TestLanesTakeLastAndFilter(t *testing.T) {
	t.Parallel()
	ls, _ := lanesOf(map[string]int{"a": 3, "b": 2}, map[string]mtakit.QueueSettings{"b": {Priority: 1}})
	if it, _ := ls.takeLast(); it.m.Sender != "a" {
		t.Errorf("the last is of %s, want the lowest priority", it.m.Sender)
	}
	n := 0
	ls.filter(func(*item) bool { n++; return n%2 == 0 })
	if n != 4 || ls.n != 2 {
		t.Errorf("filter saw %d messages and kept %d, want 4 and 2", n, ls.n)
	}
	if got := order(ls, 9); len(got) != 2 || ls.n != 0 || len(ls.byName) != 0 {
		t.Errorf("took %q, and %d messages in %d lanes are left", got, ls.n, len(ls.byName))
	}
	if _, ok := ls.takeLast(); ok {
		t.Error("takeLast of none gives one")
	}
}

func BenchmarkLanes(b *testing.B) {
	for _, queues := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(queues), func(b *testing.B) {
			ls := &lanes{}
			items := make([]*item, queues)
			for i := range items {
				s := &sched{}
				s.conf.Store(&conf{QueueSettings: &mtakit.QueueSettings{}})
				items[i] = &item{sched: s}
				ls.pushBack(items[i])
				ls.pushBack(&item{sched: s})
			}
			b.ReportAllocs()
			for b.Loop() {
				it, _ := ls.take()
				ls.pushBack(it)
			}
		})
	}
}
