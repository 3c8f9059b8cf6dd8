package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// routesRules adds the operator's orders: bounce, suspend and rebind.
func (a *API) routesRules() {
	a.Handle("POST", "/api/admin/bounce/v1", http.HandlerFunc(a.addBounce))
	a.Handle("GET", "/api/admin/bounce/v1", http.HandlerFunc(a.listBounces))
	a.Handle("DELETE", "/api/admin/bounce/v1", a.cancel("bounce", a.cfg.Queue.CancelBounce))
	a.Handle("POST", "/api/admin/suspend/v1", http.HandlerFunc(a.addSuspension))
	a.Handle("GET", "/api/admin/suspend/v1", http.HandlerFunc(a.listSuspensions))
	a.Handle("DELETE", "/api/admin/suspend/v1", a.cancel("suspend", a.cfg.Queue.CancelSuspension))
	a.Handle("POST", "/api/admin/suspend-ready-q/v1", http.HandlerFunc(a.addReadySuspension))
	a.Handle("GET", "/api/admin/suspend-ready-q/v1", http.HandlerFunc(a.listReadySuspensions))
	a.Handle("DELETE", "/api/admin/suspend-ready-q/v1", a.cancel("suspend-ready-q", a.cfg.Queue.CancelReadySuspension))
	a.Handle("POST", "/api/admin/rebind/v1", http.HandlerFunc(a.rebind))
}

// reasonMax is how long a reason may be: each record of what happens for it has it.
const reasonMax = 4096

// rulesMax is how many rules of a kind there may be: each change writes all of them.
const rulesMax = 10_000

// full says whether there are so many rules of a kind that there can't be another one, and answers then.
func full[T any](w http.ResponseWriter, rules []T) bool {
	if len(rules) < rulesMax {
		return false
	}
	problem(w, http.StatusServiceUnavailable, "there are %d rules already, and there can't be more", len(rules))
	return true
}

// reason reads the text that says why.
func (r *reader) reason() string {
	s := r.str()
	if len(s) > reasonMax {
		r.shape("invalid length %d, expected at most %d bytes", len(s), reasonMax)
	}
	return s
}

// criteria are the fields of a request that say which queues it is for.
func criteria(r *reader, m *queue.Match) []field {
	return []field{
		{"campaign", func() { r.optional(&m.Campaign) }},
		{"tenant", func() { r.optional(&m.Tenant) }},
		{"domain", func() { r.optional(&m.Domain) }},
	}
}

func routingDomain(r *reader, m *queue.Match) field {
	return field{"routing_domain", func() { r.optional(&m.Routing) }}
}

func queueNames(r *reader, m *queue.Match) field {
	return field{"queue_names", func() { r.array(func(int) { m.QueueNames = append(m.QueueNames, r.str()) }) }}
}

// life is how long a rule holds.
type life struct {
	duration mtakit.Duration
	expires  *time.Time
}

func newLife() life { return life{duration: mtakit.Duration(5 * time.Minute)} }

func (l *life) fields(r *reader) []field {
	return []field{{"duration", func() { r.duration(&l.duration) }}, {"expires", func() { r.time(&l.expires) }}}
}

// end is when the rule ends: not before now, nor later than can be told as a duration.
func (l *life) end(now time.Time) time.Time {
	if l.expires == nil {
		return now.Add(l.duration.Std())
	}
	return now.Add(max(l.expires.Sub(now), 0))
}

type bounceReply struct {
	ID      string         `json:"id"`
	Bounced map[string]int `json:"bounced"`
	Total   int            `json:"total_bounced"`
}

// addBounce is POST /api/admin/bounce/v1. The answer does not wait for what the rule does, so its counters are always zero.
func (a *API) addBounce(w http.ResponseWriter, r *http.Request) {
	var match queue.Match
	var reason string
	var suppress bool
	span := newLife()
	if !a.read(w, r, func(r *reader) {
		fields := append([]field{{"reason", func() { reason = r.reason() }}}, criteria(r, &match)...)
		fields = append(append(fields, routingDomain(r, &match), queueNames(r, &match)), span.fields(r)...)
		r.object("struct BounceV1Request", 1, append(fields, field{"suppress_logging", func() { suppress = r.boolean() }})...)
	}) || full(w, a.cfg.Queue.Bounces()) {
		return
	}
	rule := a.cfg.Queue.AdminBounce(match, reason, span.end(a.cfg.Now()), suppress)
	answer(w, bounceReply{ID: rule.ID, Bounced: map[string]int{}})
}

// ruleEntry is what listings of rules have in common. KumoMTA doesn't list queue names, so that a rule for some queues looks like one for all.
type ruleEntry struct {
	ID         string          `json:"id"`
	Campaign   *string         `json:"campaign"`
	Tenant     *string         `json:"tenant"`
	Domain     *string         `json:"domain"`
	QueueNames []string        `json:"queue_names,omitempty"`
	Reason     string          `json:"reason"`
	Duration   mtakit.Duration `json:"duration"`
}

func entryOf(r *queue.Rule, now time.Time) ruleEntry {
	return ruleEntry{r.ID, r.Match.Campaign, r.Match.Tenant, r.Match.Domain, r.Match.QueueNames, r.Reason, remaining(r.Expires, now)}
}

func remaining(until, now time.Time) mtakit.Duration { return mtakit.Duration(max(until.Sub(now), 0)) }

type bounceEntry struct {
	ruleEntry
	Routing *string        `json:"routing_domain"`
	Bounced map[string]int `json:"bounced"`
	Total   int            `json:"total_bounced"`
}

// listBounces is GET /api/admin/bounce/v1.
func (a *API) listBounces(w http.ResponseWriter, _ *http.Request) {
	now := a.cfg.Now()
	list(w, a.cfg.Queue.Bounces(), func(r *queue.Rule) any {
		e := bounceEntry{ruleEntry: entryOf(r, now), Routing: r.Match.Routing, Bounced: r.Bounced()}
		for _, n := range e.Bounced {
			e.Total += n
		}
		return e
	})
}

type idReply struct {
	ID string `json:"id"`
}

// addSuspension is POST /api/admin/suspend/v1.
func (a *API) addSuspension(w http.ResponseWriter, r *http.Request) {
	var match queue.Match
	var reason string
	span := newLife()
	if !a.read(w, r, func(r *reader) {
		fields := append([]field{{"reason", func() { reason = r.reason() }}}, criteria(r, &match)...)
		r.lenient("struct SuspendV1Request", 1, append(append(fields, queueNames(r, &match)), span.fields(r)...)...)
	}) || full(w, a.cfg.Queue.Suspensions()) {
		return
	}
	answer(w, idReply{a.cfg.Queue.Suspend(match, reason, span.end(a.cfg.Now())).ID})
}

// listSuspensions is GET /api/admin/suspend/v1.
func (a *API) listSuspensions(w http.ResponseWriter, _ *http.Request) {
	now := a.cfg.Now()
	list(w, a.cfg.Queue.Suspensions(), func(r *queue.Rule) any { return entryOf(r, now) })
}

// addReadySuspension is POST /api/admin/suspend-ready-q/v1.
func (a *API) addReadySuspension(w http.ResponseWriter, r *http.Request) {
	var name, reason string
	span := newLife()
	if !a.read(w, r, func(r *reader) {
		r.lenient("struct SuspendReadyQueueV1Request", 2, append([]field{
			{"name", func() { name = r.str() }}, {"reason", func() { reason = r.reason() }},
		}, span.fields(r)...)...)
	}) || full(w, a.cfg.Queue.ReadySuspensions()) {
		return
	}
	answer(w, idReply{a.cfg.Queue.SuspendReady(name, reason, span.end(a.cfg.Now())).ID})
}

type readySuspension struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Reason   string          `json:"reason"`
	Duration mtakit.Duration `json:"duration"`
	Expires  timestamp       `json:"expires"`
}

func readySuspensionOf(r *queue.ReadyRule, now time.Time) *readySuspension {
	return &readySuspension{r.ID, r.Name, r.Reason, remaining(r.Expires, now), timestamp(r.Expires)}
}

// timestamp is a time as the API writes it.
type timestamp time.Time

// MarshalJSON implements json.Marshaler.
func (t timestamp) MarshalJSON() ([]byte, error) {
	return append(mtakit.AppendTimestamp([]byte{'"'}, time.Time(t)), '"'), nil
}

// listReadySuspensions is GET /api/admin/suspend-ready-q/v1.
func (a *API) listReadySuspensions(w http.ResponseWriter, _ *http.Request) {
	now := a.cfg.Now()
	list(w, a.cfg.Queue.ReadySuspensions(), func(r *queue.ReadyRule) any {
		return readySuspensionOf(r, now)
	})
}

// cancel is the DELETE of a kind of rules.
func (a *API) cancel(kind string, cancel func(id string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var id string
		if !a.read(w, r, func(r *reader) { r.lenient("struct CancelV1Request", 1, field{"id", func() { id = r.uuid() }}) }) {
			return
		}
		switch err := cancel(id); {
		case errors.Is(err, queue.ErrNoRule):
			text(w, http.StatusNotFound, kind+" entry "+id+" not found")
		case err != nil:
			problem(w, http.StatusInternalServerError, "%v", err)
		default:
			text(w, http.StatusOK, "removed "+id)
		}
	})
}

// rebind is POST /api/admin/rebind/v1. Unknown fields are refused: a misspelt criterion would have the order be for every queue.
func (a *API) rebind(w http.ResponseWriter, r *http.Request) {
	var order queue.Rebind
	if !a.read(w, r, func(r *reader) {
		fields := append([]field{
			{"reason", func() { order.Reason = r.reason() }},
			{"data", func() {
				order.Data = make(map[string]string)
				r.each(func(name string) { order.Data[name] = r.str() })
			}},
		}, criteria(r, &order.Match)...)
		r.object("struct RebindV1Request", 2, append(fields, routingDomain(r, &order.Match),
			field{"suppress_logging", func() { order.SuppressLogging = r.boolean() }},
			field{"trigger_rebind_event", func() { order.Ask = r.boolean() }},
			field{"always_flush", func() { order.Flush = r.boolean() }})...)
	}) {
		return
	}
	a.cfg.Queue.Rebind(order)
	answer(w, struct{}{})
}
