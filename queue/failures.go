package queue

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// FailureRecord is an attempt, or a message, that failed.
type FailureRecord struct {
	Time     time.Time
	Kind     mtakit.Kind  // TransientFailure, Bounce, Expiration, AdminBounce or Rejection
	Class    mtakit.Class // "" is not classified
	ID       mtakit.ID    // zero for Rejection
	Queue    mtakit.QueueName
	Site     string // as the record has it: the ready queue, or what stands for it when there was none
	Source   string // "" is none
	Peer     string // host name; "" is none
	To       string // the first recipient
	Rcpts    int    // how many recipients
	Tries    int
	Response mtakit.Response // its text is cut at 512 bytes
}

// FailureGroup is the failures that have kind, class, site and code in common.
type FailureGroup struct {
	Kind  mtakit.Kind
	Class mtakit.Class
	Site  string
	Code  int
	Count int64   // recipients in the last hour
	Trend []int64 // of them, in each of the last sixty minutes, the oldest first
	Last  FailureRecord
}

// FailureFilter says which failures are meant: those with all of what is set. The zero value is all.
type FailureFilter struct {
	Class mtakit.Class // Uncategorized is those without a class
	Kind  mtakit.Kind
	Code  int
	Site  string
	Queue string // name of the scheduled queue; of a group, that of its latest failure
}

func (f *FailureFilter) matches(x *FailureRecord) bool {
	return (f.Class == "" || f.Class == classOf(x.Class)) && (f.Kind == "" || f.Kind == x.Kind) &&
		(f.Code == 0 || f.Code == x.Response.Code) && (f.Site == "" || f.Site == x.Site) && (f.Queue == "" || f.Queue == x.Queue.String())
}

func classOf(c mtakit.Class) mtakit.Class { return cmp.Or(c, mtakit.Uncategorized) }

const (
	failuresKept  = 1024
	failureGroups = 1024
	failureText   = 512
	failureName   = 256
	minutesKept   = 60
)

// failures are the last ones, and all of the last hour in groups. When there are too many groups the eighth that has been quiet for the longest is
// forgotten.
type failures struct {
	last   []FailureRecord // a ring, once it is full
	next   int
	groups map[failureKey]*failureGroup
}

type failureKey struct {
	kind  mtakit.Kind
	class mtakit.Class
	site  string
	code  int
}

type failureGroup struct {
	minutes [minutesKept]uint32
	newest  int64 // number of the newest minute
	last    FailureRecord
}

// roll makes minute the newest one. An earlier one stays what it is, unless the clock has been set back by more than is kept.
func (g *failureGroup) roll(minute int64) {
	if minute < g.newest-minutesKept {
		g.newest = 0
	}
	for m := max(g.newest+1, minute-minutesKept+1); m <= minute; m++ {
		g.minutes[m%minutesKept] = 0
	}
	g.newest = max(g.newest, minute)
}

// add is called with the lock held. What is like the last failure of its group shares its texts, so that a storm of the same failure costs little.
func (f *failures) add(r *mtakit.Record, n int64) {
	key := failureKey{r.Kind, r.Class, clip(r.Site, failureName, ""), r.Response.Code}
	g := f.groups[key]
	if g == nil {
		if f.groups == nil {
			f.groups = make(map[failureKey]*failureGroup)
		}
		if len(f.groups) >= failureGroups {
			f.forget()
		}
		key.site = strings.Clone(key.site)
		g = &failureGroup{}
		g.last.Site = key.site
		f.groups[key] = g
	}
	minute := r.Time.Unix() / 60
	g.roll(minute)
	g.minutes[minute%minutesKept] += uint32(n)
	was := &g.last
	x := FailureRecord{Time: r.Time, Kind: r.Kind, Class: r.Class, ID: r.ID, Queue: r.Queue, Site: was.Site, Source: r.Source, Rcpts: int(n), Tries: r.Tries,
		Peer: keep(r.PeerName, failureName, was.Peer), Response: mtakit.Response{Code: r.Response.Code, Enhanced: r.Response.Enhanced,
			Text: keep(r.Response.Text, failureText, was.Response.Text), Command: keep(r.Response.Command, failureName, was.Response.Command)}}
	if len(r.To) > 0 {
		x.To = keep(r.To[0], failureName, was.To)
	}
	g.last = x
	if len(f.last) < failuresKept {
		f.last = append(f.last, x)
		return
	}
	f.last[f.next] = x
	f.next = (f.next + 1) % failuresKept
}

// forget forgets an eighth of the groups, so that it need not be done for each new one.
func (f *failures) forget() {
	times := make([]time.Time, 0, len(f.groups))
	for _, g := range f.groups {
		times = append(times, g.last.Time)
	}
	slices.SortFunc(times, time.Time.Compare)
	quiet := times[len(times)/8]
	for key, g := range f.groups {
		if !g.last.Time.After(quiet) {
			delete(f.groups, key)
		}
	}
}

// clip is the first n bytes of s, and an ellipsis if that is not all.
func clip(s string, n int, more string) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + more
}

// keep is what is kept of s: was if that says the same, else a copy that does not hold on to what s is a part of.
func keep(s string, n int, was string) string {
	if len(s) > n {
		s = clip(s, n, "…")
	}
	if s == was {
		return was
	}
	return strings.Clone(s)
}

// Failures are the last ones that f matches, the latest first, at most limit. Those of the last 1024 failures are known.
func (a *Activity) Failures(f FailureFilter, limit int) []FailureRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []FailureRecord
	last := a.failures.last
	for i := range last {
		if len(found) == limit {
			break
		}
		x := &last[(a.failures.next-1-i+2*len(last))%len(last)]
		if f.matches(x) {
			found = append(found, *x)
		}
	}
	return found
}

// FailureGroups are the groups that failed within the last hour, the largest first, at most limit, and how many there are. Beyond 1024 groups the quietest are
// forgotten.
func (a *Activity) FailureGroups(f FailureFilter, limit int) (groups []FailureGroup, total int) {
	type rank struct {
		key   failureKey
		count int64
	}
	var ranks []rank
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recent(func(key failureKey, g *failureGroup) {
		if f.matches(&g.last) {
			ranks = append(ranks, rank{key, g.count()})
		}
	})
	slices.SortFunc(ranks, func(a, b rank) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.key.class, b.key.class), cmp.Compare(a.key.site, b.key.site),
			cmp.Compare(a.key.code, b.key.code), cmp.Compare(a.key.kind, b.key.kind))
	})
	for _, r := range ranks[:min(max(limit, 0), len(ranks))] {
		g := a.failures.groups[r.key]
		x := FailureGroup{Kind: r.key.kind, Class: r.key.class, Site: r.key.site, Code: r.key.code, Count: r.count, Trend: make([]int64, minutesKept), Last: g.last}
		g.addTrend(x.Trend)
		groups = append(groups, x)
	}
	return groups, len(ranks)
}

// FailureClass is the failures of one kind and class. Those that nothing classifies are told apart by their code.
type FailureClass struct {
	Kind   mtakit.Kind
	Class  mtakit.Class
	Code   int     // 0 if there is a class
	Groups int     // of them, see FailureGroup
	Count  int64   // recipients in the last hour
	Trend  []int64 // as in a FailureGroup
}

// FailureClasses are the classes that failed within the last hour, the largest first.
func (a *Activity) FailureClasses() []FailureClass {
	type key struct {
		kind  mtakit.Kind
		class mtakit.Class
		code  int
	}
	classes := make(map[key]*FailureClass)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recent(func(k failureKey, g *failureGroup) {
		id := key{k.kind, k.class, 0}
		if k.class == "" {
			id.code = k.code
		}
		c := classes[id]
		if c == nil {
			c = &FailureClass{Kind: k.kind, Class: k.class, Code: id.code, Trend: make([]int64, minutesKept)}
			classes[id] = c
		}
		c.Groups++
		c.Count += g.count()
		g.addTrend(c.Trend)
	})
	list := make([]FailureClass, 0, len(classes))
	for _, c := range classes {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b FailureClass) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Kind, b.Kind))
	})
	return list
}

// recent gives each group that failed within the last hour to do, and forgets the others. It is called with the lock held.
func (a *Activity) recent(do func(failureKey, *failureGroup)) {
	minute := a.now().Unix() / 60
	for key, g := range a.failures.groups {
		if g.roll(minute); g.count() == 0 {
			delete(a.failures.groups, key)
			continue
		}
		do(key, g)
	}
}

func (g *failureGroup) count() (sum int64) {
	for _, n := range g.minutes {
		sum += int64(n)
	}
	return sum
}

// addTrend adds the minutes, the oldest first.
func (g *failureGroup) addTrend(to []int64) {
	for i := range to {
		to[i] += int64(g.minutes[(g.newest+1+int64(i))%minutesKept])
	}
}
