package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// ErrNoSession: the ready queue has no session of that id; it may have ended.
var ErrNoSession = errors.New("queue: no such session")

// errAborted is why a session is cut that an operator has aborted.
var errAborted = errors.New("aborted by the operator")

// ReadyStatus is a ready queue at one moment, with its sessions.
type ReadyStatus struct {
	ReadyQueue
	Path   *mtakit.Path // in force, with source, site and protocol; not to be changed
	Domain string       // that site and path were asked for when it was made
	Pool   string       // of the scheduled queue that it was made for; others may feed it by other pools

	Held            *Held         // what the session that has waited longest to open a connection waits for, not to be changed; nil is: none does
	Suspended       *ReadyRule    // by the operator; nil is: it is not
	SourceSuspended time.Time     // until when its source is, for its health; zero is: it is not
	Shut            time.Time     // until when nothing comes in, because of a rate; zero is: it does
	Watchdog        time.Duration // for how long a session may be in one phase

	Sessions []SessionStatus // oldest first
}

// Held is a reason for which a ready queue is slower than its limits of today would have it.
type Held struct {
	State   string // ConnectionLimited or ConnectionRateThrottled
	Context string // which limit or rate
	Since   time.Time
}

// States of ready queues that are held up.
const (
	ConnectionLimited       = "connection_limited"
	ConnectionRateThrottled = "connection_rate_throttled"
)

// SessionStatus is a session at one moment.
type SessionStatus struct {
	ID      string // a UUID; the one that records have, once it has connected
	Phase   string // Starting, AcquiringLease, Idle, ConnectionRateThrottled, MessageRateThrottled, AttemptingConnection, DeliveringMessage or Closing
	Lease   string // which one, in AcquiringLease
	Detail  string // more about the phase; often ""
	Age     time.Duration
	InPhase time.Duration

	PeerName string // of the host that it last connected to; "" before the first time
	PeerAddr netip.AddrPort

	Message    mtakit.ID // in DeliveringMessage; its age is that of its ID
	Recipients int

	Delivered, Deferred, Failed int64 // recipients so far, by the last answer
	OnConnection                int   // messages on this connection
}

// readyNamed is the ready queue of that name. The error wraps ErrNoQueue.
func (q *Queue) readyNamed(name string) (*ready, error) {
	q.readyMu.Lock()
	defer q.readyMu.Unlock()
	if r := q.ready[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNoQueue, name)
}

// Ready tells about a ready queue and its sessions, of which there are as many as the path's connection_limit at most. The error wraps ErrNoQueue.
func (q *Queue) Ready(name string) (ReadyStatus, error) {
	r, err := q.readyNamed(name)
	if err != nil {
		return ReadyStatus{}, err
	}
	return r.show(), nil
}

func (r *ready) show() ReadyStatus {
	q, now, p := r.q, r.q.now(), r.path.Load()
	st := ReadyStatus{
		ReadyQueue: r.describe(), Path: p, Domain: r.domain, Pool: r.pool, Held: r.holds(), Suspended: q.rules.readyRule(r.name, now),
		SourceSuspended: q.sourceSuspended(p.Source.Name, now), Watchdog: watchdogLimit(p),
	}
	r.mu.Lock()
	up := q.uptime()
	if r.shutLocked() {
		st.Shut = now.Add(r.shut - up)
	}
	sessions := slices.Collect(maps.Keys(r.live))
	r.mu.Unlock()
	for _, s := range sessions { // one of them may have ended just now
		st.Sessions = append(st.Sessions, s.show(q.uptime()))
	}
	slices.SortFunc(st.Sessions, func(a, b SessionStatus) int { return cmp.Or(cmp.Compare(b.Age, a.Age), strings.Compare(a.ID, b.ID)) })
	return st
}

func (s *session) show(up time.Duration) SessionStatus {
	p := s.progress.look()
	st := SessionStatus{
		ID: p.id, Detail: p.detail(), Age: max(up-p.started, 0), InPhase: max(up-p.phase.since, 0), PeerName: p.peer, PeerAddr: p.addr,
		Delivered: p.outcomes[0], Deferred: p.outcomes[1], Failed: p.outcomes[2], OnConnection: p.sent,
	}
	st.Phase, st.Lease, _ = strings.Cut(p.phase.name, " ")
	if st.Phase == "DeliveringMessage" {
		st.Message, st.Recipients = p.message, p.rcpts
	}
	return st
}

// Feeding lists the scheduled queues that have messages in a ready queue, in the order of their names: max_ready of them at most. The error wraps
// ErrNoQueue.
func (q *Queue) Feeding(name string) ([]string, error) {
	r, err := q.readyNamed(name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	queues := make([]mtakit.QueueName, 0, len(r.lanes.byName))
	for s := range r.lanes.byName {
		queues = append(queues, s.name())
	}
	r.mu.Unlock()
	names := make([]string, len(queues))
	for i, n := range queues {
		names[i] = n.String()
	}
	slices.Sort(names)
	return names, nil
}

// HeldQueues yields the ready queues that are held up, and why, in no order; nothing is locked while it yields.
func (q *Queue) HeldQueues() iter.Seq2[string, Held] {
	return func(yield func(string, Held) bool) {
		q.eachReady(func(some []*ready) bool {
			for _, r := range some {
				if h := r.holds(); h != nil && !yield(r.name, *h) {
					return false
				}
			}
			return true
		})
	}
}

// Abort cuts a session of a ready queue, by the id that its SessionStatus has now or had before it connected. The message in hand goes back as if it had not
// been attempted, unless the peer has answered for it already. Errors wrap ErrNoQueue or ErrNoSession. Abort does not wait for the session's end.
func (q *Queue) Abort(name, id string) error {
	r, err := q.readyNamed(name)
	if err != nil {
		return err
	}
	if r.abort(func(s *session) bool { return s.progress.is(id) }) == 0 {
		return fmt.Errorf("%w: %s", ErrNoSession, id)
	}
	return nil
}

// AbortAll is Abort for each session of a ready queue; it returns how many there were. The error wraps ErrNoQueue.
func (q *Queue) AbortAll(name string) (int, error) {
	r, err := q.readyNamed(name)
	if err != nil {
		return 0, err
	}
	return r.abort(func(*session) bool { return true }), nil
}

func (r *ready) abort(which func(*session) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.live {
		if cut := s.cut.Load(); cut != nil && which(s) {
			(*cut)(errAborted)
			n++
		}
	}
	return n
}

// Resolved is where the mail of a scheduled queue goes by one source.
type Resolved struct {
	Queue    mtakit.QueueName
	Settings *mtakit.QueueSettings // not to be changed, nor is Path
	Path     *mtakit.Path          // Name is that of the ready queue
	// RouteErr is why the site could not be found; Path has a site without hosts then, which is named for the domain.
	RouteErr error
}

// Settings are those in force for a scheduled queue, which need not exist: those it was last given, or else what Policy answers now. Nothing is kept. They must not be
// changed.
func (q *Queue) Settings(ctx context.Context, name mtakit.QueueName) (*mtakit.QueueSettings, error) {
	c, err := q.peekConf(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.QueueSettings, nil
}

// Resolve tells which way the mail of a queue takes from a source: settings, site, path. It asks Policy and Router for what is not known, as
// delivery would, but keeps nothing and makes no queue. Errors are those of Policy.
func (q *Queue) Resolve(ctx context.Context, name mtakit.QueueName, source string) (*Resolved, error) {
	c, err := q.peekConf(ctx, name)
	if err != nil {
		return nil, err
	}
	src, err := q.peekSource(ctx, source)
	if err != nil {
		return nil, err
	}
	res := &Resolved{Queue: name, Settings: c.QueueSettings}
	site, err := q.siteOf(ctx, name, c)
	if err != nil {
		res.RouteErr, site = err, &mtakit.Site{Name: name.RoutingDomain()}
	}
	res.Path, err = q.peekPath(ctx, name, c, src, site)
	return res, err
}
