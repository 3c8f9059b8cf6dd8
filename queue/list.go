package queue

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// ListOptions says which queues are listed.
type ListOptions struct {
	// Search is what the name contains, ASCII letters in any case. "" is all.
	Search string
	// Sort is by what the greatest come first; see ScheduledQueues and ReadyQueues. "" is by messages. Those that are equal come by name.
	Sort string
	// Limit is how many there are at most. Default 50, at most 1000.
	Limit int
}

func (o *ListOptions) limit() int { return min(cmp.Or(max(o.Limit, 0), 50), 1000) }

// Hold is why the mail of a queue does not move. The zero value is: nothing holds it.
type Hold struct {
	Reason HoldReason
	Text   string    // for people
	Until  time.Time // when it ends or is looked at again; zero is not known
}

// HoldReason is one of the values below, "" for none.
type HoldReason string

// Reasons for which mail waits that is due.
const (
	HeldBounced    HoldReason = "bounced"         // the operator has it bounced
	HeldSuspended  HoldReason = "suspended"       // by the operator
	HeldNoSettings HoldReason = "settings"        // policy gives no settings
	HeldReadyFull  HoldReason = "ready_full"      // no room where it goes next
	HeldRate       HoldReason = "rate"            // a rate is used up
	HeldSource     HoldReason = "source"          // the source is unwell
	HeldLimit      HoldReason = "connection"      // no more connections for now
	HeldConnecting HoldReason = "connect_failing" // no connection could be made lately
)

// ScheduledQueue is what a list tells about a scheduled queue. It was so at one moment; queues of one list need not have been so at the same one.
type ScheduledQueue struct {
	Name     string
	Messages int // of this queue, wherever they are
	Waiting  int // of them, those that wait here
	Due      int // of these, those whose time has come
	InFlight int // in ready queues and sessions
	Changed  time.Time
	Hold     Hold
	Ready    []string // the ready queues to which its mail goes, if that is known at the moment

	DelayedByRate, DelayedByReady, DelayedByFull int // so often since the queue is there
}

// orders of scheduled queues, by the value of ListOptions.Sort.
var schedOrders = map[string]func(*sched) int64{
	"messages": func(s *sched) int64 { return int64(s.live) },
	"waiting":  func(s *sched) int64 { return int64(s.waiting) },
	"due":      func(s *sched) int64 { return int64(s.dueLen()) },
	"in_flight": func(s *sched) int64 {
		if s.flow == nil {
			return 0
		}
		return int64(s.flow.inFlight)
	},
	"changed": func(s *sched) int64 { return int64(s.changed) },
	"delayed": func(s *sched) int64 {
		d := s.delayed.get()
		return int64(d.byRate) + int64(d.byReady) + int64(d.byFull)
	},
}

// ErrSort: a list can't be sorted by that.
var ErrSort = errors.New("queue: unknown order")

// sorting is the order that the options want.
func sorting[T any](orders map[string]func(T) int64, o *ListOptions) (func(T) int64, error) {
	if value := orders[cmp.Or(o.Sort, "messages")]; value != nil {
		return value, nil
	}
	names := slices.Sorted(maps.Keys(orders))
	return nil, fmt.Errorf("%w %q, expected one of %s", ErrSort, o.Sort, strings.Join(names, ", "))
}

// listStep is how many queues are looked at under one lock.
const listStep = 256

// ScheduledQueues lists the queues that the options want and says how many match. It takes memory for those it returns only, and looks at a few hundred queues
// at a time, so that mail is not held up. Sort is messages, waiting, due, in_flight, changed or delayed; anything else is an error that wraps ErrSort.
func (q *Queue) ScheduledQueues(o ListOptions) (list []ScheduledQueue, matched int, err error) {
	value, err := sorting(schedOrders, &o)
	if err != nil {
		return nil, 0, err
	}
	best := podium[*sched]{size: o.limit()}
	search := newSearch(o.Search)
	for _, sh := range q.shards {
		for pos, more := 0, true; more; {
			sh.mu.Lock()
			end := min(pos+listStep, len(sh.scheds))
			for _, s := range sh.scheds[min(pos, end):end] {
				if s == nil {
					continue
				}
				v := value(s)
				if search.all() && !best.reaches(v) { // for nearly all; their names are not looked at
					matched++
				} else if name := s.ref.String(); search.in(name) {
					matched++
					best.offer(v, name, s)
				}
			}
			more, pos = end < len(sh.scheds), end
			sh.mu.Unlock()
		}
	}
	for _, e := range best.ranked() {
		if s, ok := q.describe(e.of, e.name); ok {
			list = append(list, s)
		}
	}
	return list, matched, nil
}

// ScheduledQueue tells about one queue; false is that there is none of that name.
func (q *Queue) ScheduledQueue(name string) (ScheduledQueue, bool) {
	want := mtakit.ParseQueueName(name)
	s := q.schedNamed(want)
	if s == nil {
		return ScheduledQueue{}, false
	}
	return q.describe(s, want.String())
}

// describe tells about s, if it is still the queue of that name.
func (q *Queue) describe(s *sched, name string) (d ScheduledQueue, ok bool) {
	now, up := q.now(), q.uptime()
	sh := s.shard
	sh.mu.Lock()
	if int(s.slot) >= len(sh.scheds) || sh.scheds[s.slot] != s {
		sh.mu.Unlock()
		return d, false
	}
	full, delays := s.name(), s.delayed.get()
	d = ScheduledQueue{
		Name: name, Messages: int(s.live), Waiting: int(s.waiting), Due: s.dueLen(), Changed: now.Add(time.Duration(s.changed)*time.Second - up),
		DelayedByRate: int(delays.byRate), DelayedByReady: int(delays.byReady), DelayedByFull: int(delays.byFull),
	}
	var f *feed
	var until time.Time
	blocked := s.state == schedBlocked
	if s.flow != nil {
		d.InFlight, f = s.flow.inFlight, s.flow.feed
		if blocked {
			until = now.Add(s.flow.wakeAt - up)
		}
	}
	c := s.conf.Load()
	sh.mu.Unlock()
	if f != nil {
		for _, r := range f.ready {
			d.Ready = append(d.Ready, r.name)
		}
	}
	d.Hold = q.holdOf(s, full, c, f, blocked && d.Due > 0, until, now)
	return d, true
}

// holdOf is why the mail of a scheduled queue, which is called name, does not move.
func (q *Queue) holdOf(s *sched, name mtakit.QueueName, c *conf, f *feed, blocked bool, until, now time.Time) Hold {
	if q.rules.any() {
		if r := q.rules.find(&q.rules.bounce, name, now); r != nil {
			return Hold{HeldBounced, r.Reason, r.Expires}
		}
		if r := q.rules.find(&q.rules.suspend, name, now); r != nil {
			return Hold{HeldSuspended, r.Reason, r.Expires}
		}
	}
	switch {
	case c != nil && c.err != nil:
		return Hold{HeldNoSettings, c.err.Error(), until}
	case !blocked:
		return Hold{}
	}
	if f != nil {
		for _, r := range f.ready {
			if h := r.roomless(s, now); h.Reason != "" {
				return h
			}
		}
	}
	if c != nil && !c.MaxMessageRate.IsZero() {
		return Hold{HeldRate, "max_message_rate of the queue is " + c.MaxMessageRate.String(), until}
	}
	return Hold{HeldReadyFull, "waits for room", until}
}

// search is a substring in any case.
type search struct {
	text string // in small letters
	buf  []byte
}

func newSearch(s string) search { return search{text: string(lower(nil, s))} }

// all says whether every name is wanted.
func (s *search) all() bool { return s.text == "" }

func (s *search) in(name string) bool {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' { // few have any
			s.buf = lower(s.buf[:0], name)
			return bytes.Contains(s.buf, []byte(s.text))
		}
	}
	return strings.Contains(name, s.text)
}

// lower appends s in small letters.
func lower(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// podium keeps the size greatest of what it is offered.
type podium[T any] struct {
	size int
	heap placed[T]
}

type place[T any] struct {
	value int64
	name  string
	of    T
}

func (p *podium[T]) offer(value int64, name string, of T) {
	e := place[T]{value, name, of}
	switch {
	case len(p.heap) < p.size:
		heap.Push(&p.heap, e)
	case behind(&p.heap[0], &e):
		p.heap[0] = e
		heap.Fix(&p.heap, 0)
	}
}

// reaches says whether something of that value might be among them.
func (p *podium[T]) reaches(value int64) bool {
	return len(p.heap) < p.size || value >= p.heap[0].value
}

// ranked takes all out, the first first.
func (p *podium[T]) ranked() []place[T] {
	all := p.heap
	p.heap = nil
	slices.SortFunc(all, func(a, b place[T]) int {
		if behind(&b, &a) {
			return -1
		}
		return 1
	})
	return all
}

func behind[T any](a, b *place[T]) bool {
	if a.value != b.value {
		return a.value < b.value
	}
	return a.name > b.name
}

// placed is a heap with the last in rank on top.
type placed[T any] []place[T]

func (p placed[T]) Len() int           { return len(p) }
func (p placed[T]) Less(i, j int) bool { return behind(&p[i], &p[j]) }
func (p placed[T]) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *placed[T]) Push(x any)        { *p = append(*p, x.(place[T])) }
func (p *placed[T]) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}
