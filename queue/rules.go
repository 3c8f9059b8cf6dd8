package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
)

// Match says which scheduled queues a rule is for. With QueueNames it is those alone; otherwise each field that is not nil must be the
// same as that part of the queue's name. The zero value is all queues.
type Match struct {
	Campaign, Tenant, Domain, Routing *string
	QueueNames                        []string
}

// Matches says whether the rule is for a queue. A part that the queue lacks matches no value, not even an empty one, but for the tenant of a
// queue with a campaign.
func (m *Match) Matches(q mtakit.QueueName) bool {
	if len(m.QueueNames) > 0 {
		return slices.Contains(m.QueueNames, q.String())
	}
	part := func(want *string, has string) bool { return want == nil || *want == has && has != "" }
	return part(m.Campaign, q.Campaign) && (part(m.Tenant, q.Tenant) || q.Campaign != "" && *m.Tenant == "" && q.Tenant == "") &&
		part(m.Domain, q.Domain) && part(m.Routing, q.Routing)
}

// names is QueueNames as a set, for those who ask again and again: there may be thousands.
func (m *Match) names() map[string]struct{} {
	if len(m.QueueNames) == 0 {
		return nil
	}
	names := make(map[string]struct{}, len(m.QueueNames))
	for _, n := range m.QueueNames {
		names[n] = struct{}{}
	}
	return names
}

func (m *Match) equal(o *Match) bool {
	same := func(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
	return same(m.Campaign, o.Campaign) && same(m.Tenant, o.Tenant) && same(m.Domain, o.Domain) && same(m.Routing, o.Routing) &&
		slices.Equal(m.QueueNames, o.QueueNames)
}

// Rule is an order of the operator that holds until it expires.
type Rule struct {
	ID     string // a UUID; made when the rule is added
	Match  Match
	Reason string
	// Expires is when the rule ends. Zero is in five minutes.
	Expires time.Time
	// SuppressLogging writes no AdminBounce records.
	SuppressLogging bool

	names   map[string]struct{} // of Match, while it is in force
	ended   atomic.Bool         // cancelled, or replaced
	mu      sync.Mutex
	bounced map[string]int
	total   int
}

// matches is Match.Matches for a rule in force. text is q as text, made once for all rules: there may be thousands that name queues.
func (r *Rule) matches(q mtakit.QueueName, text string) bool {
	if r.names != nil {
		_, ok := r.names[text]
		return ok
	}
	return r.Match.Matches(q)
}

// OtherQueues is the name under which [Rule.Bounced] counts the messages of all further queues, once it has counted those of 10,000.
const OtherQueues = "(other queues)"

const bouncedQueues = 10_000

// Bounced is how many messages the rule has bounced so far, by queue.
func (r *Rule) Bounced() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := make(map[string]int, len(r.bounced))
	for k, v := range r.bounced {
		m[k] = v
	}
	return m
}

// Total is how many messages the rule has bounced so far.
func (r *Rule) Total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}

func (r *Rule) count(queue string) {
	r.mu.Lock()
	if r.bounced == nil {
		r.bounced = make(map[string]int)
	}
	if _, known := r.bounced[queue]; !known && len(r.bounced) >= bouncedQueues {
		queue = OtherQueues
	}
	r.bounced[queue]++
	r.total++
	r.mu.Unlock()
}

// endIf ends the rule if cond is true, and returns that.
func (r *Rule) endIf(cond bool) bool {
	if cond {
		r.ended.Store(true)
	}
	return cond
}

// ReadyRule suspends one ready queue.
type ReadyRule struct {
	ID      string
	Name    string // of the ready queue
	Reason  string
	Expires time.Time // zero is in five minutes
}

const defaultRuleLife = 5 * time.Minute

// ErrNoRule: there is no rule with that id.
var ErrNoRule = errors.New("queue: no such rule")

// rules are the operator's orders in force. They are looked at when a message is touched: a message that sleeps costs nothing.
type rules struct {
	q       *Queue
	n       atomic.Int32 // rules in force, to look at nothing while there are none
	readies atomic.Int32 // of them, suspensions of ready queues

	saving  sync.Mutex    // orders Saves
	gen     atomic.Uint32 // of the set of rules
	mu      sync.RWMutex
	bounce  []*Rule
	suspend []*Rule
	ready   map[string]*ReadyRule
}

func (r *rules) any() bool { return r.n.Load() > 0 }

// clear says whether no rule is for the messages of s. A queue is compared with the rules once for each set of them.
func (r *rules) clear(s *sched) bool {
	if !r.any() || s.unruled.Load() == r.gen.Load() {
		return true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	name := s.name()
	text := name.String()
	matches := func(rule *Rule) bool { return rule.matches(name, text) }
	if slices.ContainsFunc(r.bounce, matches) || slices.ContainsFunc(r.suspend, matches) {
		return false
	}
	s.unruled.Store(r.gen.Load())
	return true
}

// add puts a rule in force; one with the same match is replaced.
func (r *rules) add(list *[]*Rule, rule *Rule) *Rule {
	now := r.q.now()
	rule.ID, rule.names = uuid.New(), rule.Match.names()
	if rule.Expires.IsZero() {
		rule.Expires = now.Add(defaultRuleLife)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	*list = slices.DeleteFunc(*list, func(o *Rule) bool { return o.endIf(o.Match.equal(&rule.Match)) })
	*list = append(*list, rule)
	r.changed()
	return rule
}

// changed is called with mu held when there are other rules than before.
func (r *rules) changed() {
	for r.gen.Add(1) == 0 { // which is that of no rules
	}
	r.n.Store(int32(len(r.bounce) + len(r.suspend) + len(r.ready)))
	r.readies.Store(int32(len(r.ready)))
}

func (r *rules) list(list *[]*Rule) []*Rule {
	now := r.q.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(*list)
	if *list = slices.DeleteFunc(*list, func(o *Rule) bool { return !o.Expires.After(now) }); len(*list) < n {
		r.changed()
	}
	return slices.Clone(*list)
}

// prune forgets the rules that have expired: as long as there is a rule, every message is looked at.
func (r *rules) prune() {
	if r.any() {
		r.list(&r.bounce)
		r.list(&r.suspend)
		r.q.ReadySuspensions()
	}
}

func (r *rules) cancel(list *[]*Rule, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(*list)
	if *list = slices.DeleteFunc(*list, func(o *Rule) bool { return o.endIf(o.ID == id) }); len(*list) == n {
		return fmt.Errorf("%w: %s", ErrNoRule, id)
	}
	r.changed()
	return nil
}

// find is the rule of list for a queue, nil if there is none.
func (r *rules) find(list *[]*Rule, name mtakit.QueueName, now time.Time) *Rule {
	text := name.String()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, rule := range *list {
		if rule.Expires.After(now) && rule.matches(name, text) {
			return rule
		}
	}
	return nil
}

// readyRule is the rule that suspends a ready queue, nil if there is none.
func (r *rules) readyRule(name string, now time.Time) *ReadyRule {
	if r.readies.Load() == 0 {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if rule := r.ready[name]; rule != nil && rule.Expires.After(now) {
		return rule
	}
	return nil
}

// AdminBounce bounces every message of the queues that rule matches: those that wait, in the background, and those that come until the rule expires; zero
// is in five minutes, and a time that has passed means those that wait only. It replaces a rule that matches the same. suppressLogging writes no AdminBounce
// records. AdminBounce returns at once, with the rule that is in force from now on.
func (q *Queue) AdminBounce(rule Match, reason string, expires time.Time, suppressLogging bool) *Rule {
	r := q.rules.add(&q.rules.bounce, &Rule{Match: rule, Reason: reason, Expires: expires, SuppressLogging: suppressLogging})
	q.saveRules()
	q.sweepBounce(r)
	return r
}

// Suspend holds the mail of the queues that the rule matches until it expires; zero is in five minutes. What comes due is not promoted but counts as an
// attempt that failed, so that not everything leaves at once when the suspension ends. It replaces a suspension that matches the same.
func (q *Queue) Suspend(rule Match, reason string, expires time.Time) *Rule {
	r := q.rules.add(&q.rules.suspend, &Rule{Match: rule, Reason: reason, Expires: expires})
	q.saveRules()
	return r
}

// SuspendReady suspends a ready queue until expires; zero is in five minutes. Its messages go by other sources, or wait. A transaction in progress is
// finished.
func (q *Queue) SuspendReady(name, reason string, expires time.Time) *ReadyRule {
	now := q.now()
	if expires.IsZero() {
		expires = now.Add(defaultRuleLife)
	}
	rule := &ReadyRule{ID: uuid.New(), Name: name, Reason: reason, Expires: expires}
	q.rules.mu.Lock()
	q.rules.ready[name] = rule
	q.rules.changed()
	q.rules.mu.Unlock()
	q.saveRules()
	if r, err := q.readyNamed(name); err == nil {
		q.readmit(r.drain()...)
	}
	return rule
}

// readmit offers messages that a ready queue had to give up, in the order in which they were to be sent, to their scheduled queues again, at once: before
// all that is due there, so that none is overtaken by what came after it; but for a message that is on its way from there.
func (q *Queue) readmit(all ...*item) {
	var scheds []*sched
	for _, it := range slices.Backward(all) {
		s := it.sched
		if len(scheds) == 0 || scheds[len(scheds)-1] != s {
			scheds = append(scheds, s)
		}
		s.shard.mu.Lock()
		s.departed(ownedBySession)
		it.pass(ownedBySession, ownedBySched)
		s.unpopDue(it)
		s.shard.mu.Unlock()
	}
	for _, s := range scheds { // once they are all there
		s.nudge()
	}
}

// Bounces lists the bounces in force.
func (q *Queue) Bounces() []*Rule { return q.rules.list(&q.rules.bounce) }

// Suspensions lists the suspensions of scheduled queues in force.
func (q *Queue) Suspensions() []*Rule { return q.rules.list(&q.rules.suspend) }

// ReadySuspensions lists the suspensions of ready queues in force, those first that end first.
func (q *Queue) ReadySuspensions() []*ReadyRule {
	now := q.now()
	q.rules.mu.Lock()
	defer q.rules.mu.Unlock()
	var list []*ReadyRule
	n := len(q.rules.ready)
	for name, r := range q.rules.ready {
		if !r.Expires.After(now) {
			delete(q.rules.ready, name)
			continue
		}
		list = append(list, r)
	}
	if len(list) < n {
		q.rules.changed()
	}
	slices.SortFunc(list, func(a, b *ReadyRule) int { return a.Expires.Compare(b.Expires) })
	return list
}

// CancelBounce ends a bounce; that of what waits ends within a few thousand messages. The error wraps ErrNoRule if there is none with that id.
func (q *Queue) CancelBounce(id string) error { return q.cancelRule(&q.rules.bounce, id) }

// CancelSuspension ends a suspension of scheduled queues. The error wraps ErrNoRule if there is none with that id.
func (q *Queue) CancelSuspension(id string) error { return q.cancelRule(&q.rules.suspend, id) }

func (q *Queue) cancelRule(list *[]*Rule, id string) error {
	if err := q.rules.cancel(list, id); err != nil {
		return err
	}
	q.saveRules()
	return nil
}

// CancelReadySuspension ends the suspension of a ready queue. The error wraps ErrNoRule if there is none with that id.
func (q *Queue) CancelReadySuspension(id string) error {
	q.rules.mu.Lock()
	found := false
	for name, r := range q.rules.ready {
		if r.ID == id {
			delete(q.rules.ready, name)
			q.rules.changed()
			found = true
		}
	}
	q.rules.mu.Unlock()
	if !found {
		return fmt.Errorf("%w: %s", ErrNoRule, id)
	}
	q.saveRules()
	return nil
}

// obeyBounce is obeyRules for a message that does not come due yet.
func (q *Queue) obeyBounce(it *item, from owner) bool {
	if q.rules.clear(it.sched) {
		return false
	}
	rule := q.rules.find(&q.rules.bounce, it.sched.name(), q.now())
	if rule != nil {
		q.adminBounce(q.workCtx, it, from, rule)
	}
	return rule != nil
}

// obeyRules applies the rules for its queue to a message; true means that it has been dealt with.
func (q *Queue) obeyRules(ctx context.Context, it *item, from owner, site string) bool {
	if q.rules.clear(it.sched) {
		return false
	}
	now := q.now()
	name := it.sched.name()
	if rule := q.rules.find(&q.rules.bounce, name, now); rule != nil {
		q.adminBounce(ctx, it, from, rule)
		return true
	}
	if rule := q.rules.find(&q.rules.suspend, name, now); rule != nil {
		if q.load(ctx, it, from) != nil {
			resp := internal451(4, "scheduled queue is suspended: "+rule.Reason)
			q.record(it, mtakit.TransientFailure, resp, recordOpts{site: site})
			q.requeue(ctx, it, from, requeue{counted: true, response: resp, reasons: Reasons{LoggedTransientFailure}})
		}
		return true
	}
	return false
}

func (q *Queue) adminBounce(ctx context.Context, it *item, from owner, rule *Rule) {
	if !rule.SuppressLogging {
		if q.load(ctx, it, from) == nil {
			return
		}
		q.record(it, mtakit.AdminBounce, mtakit.Response{Code: 551, Enhanced: [3]uint16{5, 7, 1},
			Text: "Administrator bounced with reason: " + rule.Reason}, recordOpts{site: "localhost"})
	}
	rule.count(it.sched.name().String())
	q.finish(it, from)
}
