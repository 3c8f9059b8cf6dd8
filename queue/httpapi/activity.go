package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// routesActivity adds what happened lately.
func (a *API) routesActivity() {
	a.Handle("GET", "/api/admin/history/v1", http.HandlerFunc(a.history))
	a.Handle("GET", "/api/admin/failures/v1", http.HandlerFunc(a.listFailures))
}

// historySpan is how far the history goes back.
const historySpan = 48 * time.Hour

type historyReply struct {
	Now       timestamp `json:"now"`
	Start     timestamp `json:"start"`
	Step      float64   `json:"step_seconds"`
	Received  []int64   `json:"received"`
	Delivered []int64   `json:"delivered"`
	Deferred  []int64   `json:"deferred"`
	Bounced   []int64   `json:"bounced"`
	Rejected  []int64   `json:"rejected"`
}

// history is GET /api/admin/history/v1.
func (a *API) history(w http.ResponseWriter, r *http.Request) {
	q, span := queryOf(r), mtakit.Duration(10*time.Minute)
	if s := q.values.Get("span"); s != "" {
		var err error
		if span, err = mtakit.ParseDuration(s); err != nil || span <= 0 || span.Std() > historySpan {
			q.fail("span", "expected a duration of at most %s", mtakit.Duration(historySpan))
		}
	}
	if q.bad(w) {
		return
	}
	h := a.cfg.Activity.History(span.Std())
	reply := historyReply{Now: timestamp(h.Now), Start: timestamp(h.Start), Step: h.Step.Seconds()}
	for _, s := range h.Steps {
		reply.Received = append(reply.Received, s.Received)
		reply.Delivered = append(reply.Delivered, s.Delivered)
		reply.Deferred = append(reply.Deferred, s.Deferred)
		reply.Bounced = append(reply.Bounced, s.Bounced)
		reply.Rejected = append(reply.Rejected, s.Rejected)
	}
	answer(w, &reply)
}

type failureClass struct {
	Kind   mtakit.Kind  `json:"kind"`
	Class  mtakit.Class `json:"class"`
	Code   int          `json:"code"`
	Groups int          `json:"groups"`
	Count  int64        `json:"count"`
	Trend  []int64      `json:"trend"`
}

type failureGroup struct {
	Kind  mtakit.Kind  `json:"kind"`
	Class mtakit.Class `json:"class"`
	Site  string       `json:"site"`
	Code  int          `json:"code"`
	Count int64        `json:"count"`
	Trend []int64      `json:"trend"`
	Last  failureEntry `json:"last"`
}

type failureEntry struct {
	Time     timestamp       `json:"time"`
	Kind     mtakit.Kind     `json:"kind"`
	Class    mtakit.Class    `json:"class"`
	ID       *string         `json:"id"`
	Queue    string          `json:"queue"`
	Site     string          `json:"site"`
	Source   *string         `json:"egress_source"`
	Peer     *string         `json:"peer"`
	To       string          `json:"recipient"`
	Rcpts    int             `json:"recipients"`
	Tries    int             `json:"num_attempts"`
	Response mtakit.Response `json:"response"`
}

func failureEntryOf(f *queue.FailureRecord) failureEntry {
	e := failureEntry{Time: timestamp(f.Time), Kind: f.Kind, Class: classOf(f.Class), Queue: f.Queue.String(), Site: f.Site, Source: unlessZero(f.Source),
		Peer: unlessZero(f.Peer), To: f.To, Rcpts: f.Rcpts, Tries: f.Tries, Response: f.Response}
	if !f.ID.IsZero() {
		e.ID = unlessZero(f.ID.String())
	}
	return e
}

func classOf(c mtakit.Class) mtakit.Class {
	if c == "" {
		return mtakit.Uncategorized
	}
	return c
}

// listFailures is GET /api/admin/failures/v1: the classes of the last hour, and the groups and latest failures that the parameters want.
func (a *API) listFailures(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	limit := q.limit(50)
	filter := queue.FailureFilter{Class: mtakit.Class(q.values.Get("class")), Kind: mtakit.Kind(q.values.Get("kind")), Site: q.values.Get("site"), Queue: q.values.Get("queue")}
	if s := q.values.Get("code"); s != "" {
		var err error
		if filter.Code, err = strconv.Atoi(s); err != nil || filter.Code < 1 {
			q.fail("code", "expected a number")
		}
	}
	if q.bad(w) {
		return
	}
	var reply struct {
		Now     timestamp      `json:"now"`
		Classes []failureClass `json:"classes"`
		Total   int            `json:"groups_total"`
		Groups  []failureGroup `json:"groups"`
		Recent  []failureEntry `json:"recent"`
	}
	reply.Now = timestamp(a.cfg.Now())
	reply.Classes = entries(a.cfg.Activity.FailureClasses(), func(c *queue.FailureClass) failureClass {
		return failureClass{c.Kind, classOf(c.Class), c.Code, c.Groups, c.Count, c.Trend}
	})
	groups, total := a.cfg.Activity.FailureGroups(filter, limit)
	reply.Total = total
	reply.Groups = entries(groups, func(g *queue.FailureGroup) failureGroup {
		return failureGroup{g.Kind, classOf(g.Class), g.Site, g.Code, g.Count, g.Trend, failureEntryOf(&g.Last)}
	})
	reply.Recent = entries(a.cfg.Activity.Failures(filter, limit), failureEntryOf)
	answer(w, &reply)
}
