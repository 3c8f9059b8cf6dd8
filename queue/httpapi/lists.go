package httpapi

import (
	"net/http"
	"time"

	"github.com/mtakit/mtakit/queue"
)

// routesLists adds what a person looks at first: how much there is, and the queues, sources and rules that matter most. Answers are bounded, however many
// queues there are.
func (a *API) routesLists() {
	a.Handle("GET", "/api/admin/summary/v1", http.HandlerFunc(a.summary))
	a.Handle("GET", "/api/admin/queues/v1", http.HandlerFunc(a.listQueues))
	a.Handle("GET", "/api/admin/sources/v1", http.HandlerFunc(a.listSources))
	a.Handle("GET", "/api/admin/rules/v1", http.HandlerFunc(a.listRules))
}

// listMax is how many rows an answer has at most.
const listMax = 1000

// moment is a time in an answer; nil, which is null, where there is none.
func moment(t time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	return (*timestamp)(&t)
}

type summaryReply struct {
	Now             timestamp `json:"now"`
	Since           timestamp `json:"since"`
	Hostname        string    `json:"hostname"`
	Trouble         []string  `json:"trouble"`
	Recovered       bool      `json:"recovered"`
	Messages        int64     `json:"messages"`
	Waiting         int64     `json:"waiting"`
	Ready           int64     `json:"ready"`
	Connections     int64     `json:"connections"`
	ScheduledQueues int64     `json:"scheduled_queues"`
	ReadyQueues     int       `json:"ready_queues"`
	Resident        int64     `json:"resident_bytes"`
	Accepted        int64     `json:"accepted"`
	FromSpool       int64     `json:"from_spool"`
	Done            int64     `json:"done"`
}

// summary is GET /api/admin/summary/v1.
func (a *API) summary(w http.ResponseWriter, _ *http.Request) {
	s := a.cfg.Queue.Summary()
	reply := summaryReply{
		Now: timestamp(a.cfg.Now()), Since: timestamp(s.Since), Hostname: a.cfg.Hostname, Trouble: []string{}, Recovered: s.Recovered, Messages: s.Messages,
		Waiting: s.Waiting, Ready: s.Ready, Connections: s.Connections, ScheduledQueues: s.ScheduledQueues, ReadyQueues: s.ReadyQueues, Resident: s.Resident,
		Accepted: s.Accepted, FromSpool: s.FromSpool, Done: s.Done,
	}
	t := a.cfg.Trouble()
	for _, c := range troubles {
		if t&c.is != 0 {
			reply.Trouble = append(reply.Trouble, c.body)
		}
	}
	answer(w, &reply)
}

type holdEntry struct {
	Reason queue.HoldReason `json:"reason"`
	Text   string           `json:"text"`
	Until  *timestamp       `json:"until"`
}

func holdOf(h queue.Hold) *holdEntry {
	if h.Reason == "" {
		return nil
	}
	return &holdEntry{h.Reason, h.Text, moment(h.Until)}
}

type scheduledEntry struct {
	Name     string     `json:"name"`
	Messages int        `json:"messages"`
	Waiting  int        `json:"waiting"`
	Due      int        `json:"due"`
	InFlight int        `json:"in_flight"`
	Changed  timestamp  `json:"changed"`
	Hold     *holdEntry `json:"hold"`
	Ready    []string   `json:"ready_queues"`
	Delayed  struct {
		Rate  int `json:"rate"`
		Ready int `json:"ready"`
		Full  int `json:"full"`
	} `json:"delayed"`
}

func scheduledEntryOf(q *queue.ScheduledQueue) scheduledEntry {
	e := scheduledEntry{Name: q.Name, Messages: q.Messages, Waiting: q.Waiting, Due: q.Due, InFlight: q.InFlight, Changed: timestamp(q.Changed),
		Hold: holdOf(q.Hold), Ready: append([]string{}, q.Ready...)}
	e.Delayed.Rate, e.Delayed.Ready, e.Delayed.Full = q.DelayedByRate, q.DelayedByReady, q.DelayedByFull
	return e
}

type readyEntry struct {
	Name            string     `json:"name"`
	Source          string     `json:"source"`
	Site            string     `json:"site"`
	Protocol        string     `json:"protocol"`
	Provider        string     `json:"provider"`
	Ready           int        `json:"messages"`
	MaxReady        int        `json:"max_ready"`
	Connections     int        `json:"connections"`
	ConnectionLimit int        `json:"connection_limit"`
	Feeders         int        `json:"feeders"`
	Delivered       int64      `json:"delivered"`
	Deferred        int64      `json:"deferred"`
	Failed          int64      `json:"failed"`
	Full            int64      `json:"full"`
	ConnectFailures int        `json:"connect_failures"`
	Hold            *holdEntry `json:"hold"`
}

func readyEntryOf(q *queue.ReadyQueue) readyEntry {
	return readyEntry{q.Name, q.Source, q.Site, q.Protocol, q.Provider, q.Ready, q.MaxReady, q.Connections, q.ConnectionLimit, q.Feeders,
		q.Delivered, q.Deferred, q.Failed, q.Full, q.ConnectFailures, holdOf(q.Hold)}
}

type queuesReply struct {
	Now     timestamp `json:"now"`
	Kind    string    `json:"kind"`
	Matched int       `json:"matched"`
	Queues  any       `json:"queues"`
}

// listQueues is GET /api/admin/queues/v1: the queues of a kind that come first, or the one with a name.
func (a *API) listQueues(w http.ResponseWriter, r *http.Request) {
	params := queryOf(r)
	o := queue.ListOptions{Search: params.values.Get("search"), Sort: params.values.Get("sort"), Limit: params.limit(50)}
	name := params.values.Get("name")
	reply := queuesReply{Now: timestamp(a.cfg.Now()), Kind: params.values.Get("kind"), Matched: 1}
	if reply.Kind != "scheduled" && reply.Kind != "ready" {
		params.fail("kind", "expected scheduled or ready")
	}
	if params.bad(w) {
		return
	}
	q, ok := a.cfg.Queue, true
	var err error
	switch reply.Kind {
	case "scheduled":
		var list []queue.ScheduledQueue
		if name == "" {
			list, reply.Matched, err = q.ScheduledQueues(o)
		} else if one, ok := q.ScheduledQueue(name); ok {
			list = append(list, one)
		}
		reply.Queues, ok = entries(list, scheduledEntryOf), name == "" || len(list) == 1
	case "ready":
		var list []queue.ReadyQueue
		if name == "" {
			list, reply.Matched, err = q.ReadyQueues(o)
		} else if one, ok := q.ReadyQueue(name); ok {
			list = append(list, one)
		}
		reply.Queues, ok = entries(list, readyEntryOf), name == "" || len(list) == 1
	}
	switch {
	case err != nil: // it can't be sorted by that
		params.fail("sort", "%v", err)
		params.bad(w)
	case !ok:
		problem(w, http.StatusNotFound, "no such queue %s", oneLine(name))
	default:
		answer(w, &reply)
	}
}

// entries are the elements of all as an answer has them, never nil.
func entries[T, E any](all []T, entry func(*T) E) []E {
	list := make([]E, len(all))
	for i := range all {
		list[i] = entry(&all[i])
	}
	return list
}

type sourceEntry struct {
	Name        string     `json:"name"`
	Address     *string    `json:"address"`
	Proxy       *string    `json:"proxy"`
	ReadyQueues int        `json:"ready_queues"`
	Ready       int        `json:"messages"`
	Connections int        `json:"connections"`
	Delivered   int64      `json:"delivered"`
	Deferred    int64      `json:"deferred"`
	Failed      int64      `json:"failed"`
	Suspended   *timestamp `json:"suspended_until"`
}

// listSources is GET /api/admin/sources/v1.
func (a *API) listSources(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	limit := q.limit(listMax)
	if q.bad(w) {
		return
	}
	all := a.cfg.Queue.Sources()
	answer(w, struct {
		Now     timestamp     `json:"now"`
		Total   int           `json:"total"`
		Sources []sourceEntry `json:"sources"`
	}{timestamp(a.cfg.Now()), len(all), entries(all[:min(limit, len(all))], func(s *queue.SourceState) sourceEntry {
		e := sourceEntry{Name: s.Name, ReadyQueues: s.ReadyQueues, Ready: s.Ready, Connections: s.Connections, Delivered: s.Delivered, Deferred: s.Deferred,
			Failed: s.Failed, Suspended: moment(s.Suspended), Proxy: unlessZero(s.Proxy)}
		if s.Address.IsValid() {
			addr := s.Address.String()
			e.Address = &addr
		}
		return e
	})})
}

// matchEntry is which queues a rule is for, the names among it, which the listings that KumoMTA has leave out.
type matchEntry struct {
	Campaign   *string  `json:"campaign"`
	Tenant     *string  `json:"tenant"`
	Domain     *string  `json:"domain"`
	Routing    *string  `json:"routing_domain"`
	QueueNames []string `json:"queue_names"`
	Names      int      `json:"queue_names_total"`
}

// namesShown is how many names of a rule are listed.
const namesShown = 100

type listedRule struct {
	ID      string      `json:"id"`
	Match   *matchEntry `json:"match,omitempty"`
	Name    *string     `json:"name,omitempty"` // of a ready queue
	Reason  string      `json:"reason"`
	Expires timestamp   `json:"expires"`
	Bounced *int        `json:"total_bounced,omitempty"`
	Quiet   *bool       `json:"suppress_logging,omitempty"`
}

func listedRuleOf(r *queue.Rule) listedRule {
	names := r.Match.QueueNames
	return listedRule{ID: r.ID, Reason: r.Reason, Expires: timestamp(r.Expires), Match: &matchEntry{
		r.Match.Campaign, r.Match.Tenant, r.Match.Domain, r.Match.Routing, append([]string{}, names[:min(namesShown, len(names))]...), len(names),
	}}
}

// listRules is GET /api/admin/rules/v1: all rules in force in one answer.
func (a *API) listRules(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	limit := q.limit(listMax)
	if q.bad(w) {
		return
	}
	var reply struct {
		Now         timestamp    `json:"now"`
		Total       int          `json:"total"`
		Bounces     []listedRule `json:"bounces"`
		Suspensions []listedRule `json:"suspensions"`
		Ready       []listedRule `json:"ready_suspensions"`
	}
	bounces, suspensions, ready := a.cfg.Queue.Bounces(), a.cfg.Queue.Suspensions(), a.cfg.Queue.ReadySuspensions()
	reply.Now, reply.Total = timestamp(a.cfg.Now()), len(bounces)+len(suspensions)+len(ready)
	reply.Bounces = entries(bounces[:min(limit, len(bounces))], func(r **queue.Rule) listedRule {
		e, total := listedRuleOf(*r), (*r).Total()
		e.Bounced, e.Quiet = &total, &(*r).SuppressLogging
		return e
	})
	reply.Suspensions = entries(suspensions[:min(limit, len(suspensions))], func(r **queue.Rule) listedRule { return listedRuleOf(*r) })
	reply.Ready = entries(ready[:min(limit, len(ready))], func(r **queue.ReadyRule) listedRule {
		return listedRule{ID: (*r).ID, Name: &(*r).Name, Reason: (*r).Reason, Expires: timestamp((*r).Expires)}
	})
	answer(w, &reply)
}
