package queue

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// ReadyQueue is what a list tells about a ready queue. It was so at one moment.
type ReadyQueue struct {
	Name, Source, Site, Protocol, Provider string

	Ready, MaxReady              int // messages
	Connections, ConnectionLimit int // open or opening
	Feeders                      int // scheduled queues that have messages in it
	Delivered, Deferred, Failed  int64
	Full                         int64 // so often there was no room
	ConnectFailures              int   // in a row
	Hold                         Hold
}

// orders of ready queues, by the value of ListOptions.Sort. They are called with r.mu held.
var readyOrders = map[string]func(*ready) int64{
	"messages":    func(r *ready) int64 { return int64(r.lanes.n + r.reserved) },
	"connections": func(r *ready) int64 { return int64(r.sessions) },
	"delivered":   func(r *ready) int64 { return r.delivered.Value() },
	"deferred":    func(r *ready) int64 { return r.transfail.Value() },
	"failed":      func(r *ready) int64 { return r.fail.Value() },
	"full":        func(r *ready) int64 { return r.full.Value() },
}

// ReadyQueues lists ready queues as ScheduledQueues lists scheduled ones. Sort is messages, connections, delivered, deferred, failed or full.
func (q *Queue) ReadyQueues(o ListOptions) (list []ReadyQueue, matched int, err error) {
	value, err := sorting(readyOrders, &o)
	if err != nil {
		return nil, 0, err
	}
	best := podium[*ready]{size: o.limit()}
	search := newSearch(o.Search)
	for _, r := range q.allReady() {
		if !search.in(r.name) {
			continue
		}
		matched++
		r.mu.Lock()
		v := value(r)
		r.mu.Unlock()
		best.offer(v, r.name, r)
	}
	for _, e := range best.ranked() {
		list = append(list, e.of.describe())
	}
	return list, matched, nil
}

// ReadyQueue tells about one ready queue; false is that there is none of that name.
func (q *Queue) ReadyQueue(name string) (ReadyQueue, bool) {
	r, err := q.readyNamed(name)
	if err != nil {
		return ReadyQueue{}, false
	}
	return r.describe(), true
}

func (q *Queue) allReady() []*ready {
	q.readyMu.Lock()
	defer q.readyMu.Unlock()
	all := make([]*ready, 0, len(q.ready))
	for _, r := range q.ready {
		all = append(all, r)
	}
	return all
}

func (r *ready) describe() ReadyQueue {
	now, p := r.q.now(), r.path.Load()
	d := ReadyQueue{
		Name: r.name, Source: p.Source.Name, Site: p.Site.Name, Protocol: r.proto.MetricsName(), Provider: p.ProviderName, MaxReady: p.MaxReady,
		ConnectionLimit: p.ConnectionLimit.N, Delivered: r.delivered.Value(), Deferred: r.transfail.Value(), Failed: r.fail.Value(), Full: r.full.Value(),
		ConnectFailures: int(r.failures.Load()), Hold: r.hold(now),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d.Ready, d.Connections, d.Feeders = r.lanes.n+r.reserved, r.sessions, len(r.lanes.byName)
	return d
}

// hold is why the ready queue does not send as fast as it might.
func (r *ready) hold(now time.Time) Hold {
	if h := r.closedTo(now); h.Reason != "" {
		return h
	}
	if s := r.holds(); s != nil {
		if s.State == ConnectionRateThrottled {
			return Hold{HeldRate, s.Context, time.Time{}}
		}
		return Hold{HeldLimit, s.Context, time.Time{}}
	}
	if n := r.failures.Load(); n > 0 {
		return Hold{HeldConnecting, fmt.Sprintf("connecting failed %d times in a row", n), time.Time{}}
	}
	if r.paced() {
		return Hold{HeldRate, "every connection waits for a message rate", time.Time{}}
	}
	return Hold{}
}

// paced says whether all that the sessions do is to wait for a message rate.
func (r *ready) paced() bool {
	r.mu.Lock()
	live := slices.Collect(maps.Keys(r.live))
	r.mu.Unlock()
	for _, s := range live {
		s.progress.mu.Lock()
		waits := s.progress.phase.name == "MessageRateThrottled"
		s.progress.mu.Unlock()
		if !waits {
			return false
		}
	}
	return len(live) > 0
}

// closedTo is why nothing comes in, whatever room there is.
func (r *ready) closedTo(now time.Time) Hold {
	if h := r.q.suspension(r.name, r.path.Load().Source.Name, now); h.Reason != "" {
		return h
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shutLocked() {
		return Hold{HeldRate, "a rate of " + r.name + " is used up", now.Add(r.shut - r.q.uptime())}
	}
	return Hold{}
}

// suspension is that of a ready queue, which need not exist, or of its source.
func (q *Queue) suspension(ready, source string, now time.Time) Hold {
	if rule := q.rules.readyRule(ready, now); rule != nil {
		return Hold{HeldSuspended, rule.Reason, rule.Expires}
	}
	if until := q.sourceSuspended(source, now); !until.IsZero() {
		return Hold{HeldSource, "source " + source + " is suspended: connecting from it failed too often", until}
	}
	return Hold{}
}

// roomless is why nothing of s comes in, lack of room included: who waits for room is let in when it is called.
func (r *ready) roomless(s *sched, now time.Time) Hold {
	if h := r.closedTo(now); h.Reason != "" {
		return h
	}
	limit := r.path.Load().MaxReady
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, waits := r.inRoom[s]; waits || r.lanes.n+r.reserved >= limit {
		return Hold{HeldReadyFull, fmt.Sprintf("waits for room in %s, which has %d of %d messages", r.name, r.lanes.n+r.reserved, limit), time.Time{}}
	}
	return Hold{}
}

// SourceState is what is going on by one egress source.
type SourceState struct {
	Name                        string
	ReadyQueues                 int // of it, in memory
	Ready                       int // messages in them
	Connections                 int
	Delivered, Deferred, Failed int64      // by the ready queues that are in memory
	Suspended                   time.Time  // until then, because connecting from it failed too often; zero is not
	Address                     netip.Addr // invalid is the system's choice
	Proxy                       string     // "" is none
}

// Sources are the sources that ready queues in memory use, by name.
func (q *Queue) Sources() []SourceState {
	sources := make(map[string]*SourceState)
	for _, r := range q.allReady() {
		src := r.path.Load().Source
		s := sources[src.Name]
		if s == nil {
			s = &SourceState{Name: src.Name, Address: src.SourceAddress, Proxy: cmp.Or(src.HAProxyServer, src.SOCKS5Server), Suspended: q.sourceSuspended(src.Name, q.now())}
			sources[src.Name] = s
		}
		s.ReadyQueues++
		s.Delivered += r.delivered.Value()
		s.Deferred += r.transfail.Value()
		s.Failed += r.fail.Value()
		r.mu.Lock()
		s.Ready += r.lanes.n + r.reserved
		s.Connections += r.sessions
		r.mu.Unlock()
	}
	list := make([]SourceState, 0, len(sources))
	for _, s := range sources {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b SourceState) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Summary is how much there is at one moment.
type Summary struct {
	Since           time.Time // start of the queue
	Recovered       bool      // what was in the spool at start is scheduled
	Messages        int64     // all that are not done
	Waiting         int64     // in scheduled queues
	Ready           int64     // in ready queues
	Connections     int64
	ScheduledQueues int64
	ReadyQueues     int
	Resident        int64 // bytes of messages kept in memory for their first attempt

	// Since the start, messages.
	Accepted, FromSpool, Done int64
}

// Summary counts. It looks at each ready queue, but not at scheduled ones.
func (q *Queue) Summary() Summary {
	s := Summary{
		Since: q.now().Add(-q.uptime()), Waiting: q.waiting.Value(), ScheduledQueues: q.schedCount.Value(), Resident: q.resident.Load(),
		Messages: q.alive(), Done: q.done.Value(), Accepted: q.accepted.Value(), FromSpool: q.recovered.Value(),
	}
	select {
	case <-q.scanDone:
		s.Recovered = true
	default:
	}
	all := q.allReady()
	s.ReadyQueues = len(all)
	for _, r := range all {
		r.mu.Lock()
		s.Ready += int64(r.lanes.n + r.reserved)
		s.Connections += int64(r.sessions)
		r.mu.Unlock()
	}
	return s
}
