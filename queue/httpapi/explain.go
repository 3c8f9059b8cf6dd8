package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// routesExplain adds what tells why mail goes its way.
func (a *API) routesExplain() {
	a.Handle("GET", "/api/admin/explain/v1", http.HandlerFunc(a.explain))
}

// explain is GET /api/admin/explain/v1, for an address, a queue or the id of a message.
func (a *API) explain(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	about := queue.Subject{Address: q.values.Get("address"), Queue: mtakit.ParseQueueName(q.values.Get("queue"))}
	if q.values.Has("id") {
		var err error
		if about.ID, err = mtakit.ParseID(q.values.Get("id")); err != nil {
			q.fail("id", "%v", err)
		}
	}
	if q.bad(w) {
		return
	}
	x, err := a.cfg.Queue.Explain(r.Context(), about)
	switch {
	case errors.Is(err, queue.ErrSubject):
		q.err = err
		q.bad(w)
	case errors.Is(err, mtakit.ErrNotFound):
		problem(w, http.StatusNotFound, "%v", err)
	case err != nil:
		problem(w, http.StatusInternalServerError, "%v", err)
	default:
		answer(w, explainReplyOf(x))
	}
}

type explainReply struct {
	Now         timestamp          `json:"now"`
	Queue       string             `json:"queue"`
	Message     *explainedMessage  `json:"message"`
	Next        *timestamp         `json:"next_attempt"`
	Holds       []*holdEntry       `json:"holds"`
	Bounce      *explainedRule     `json:"bounce"`
	Suspension  *explainedRule     `json:"suspension"`
	Scheduled   *scheduledEntry    `json:"scheduled_queue"`
	Settings    []explainedSetting `json:"settings"`
	SettingsErr *string            `json:"settings_error"`
	Limits      []limitUse         `json:"limits"`
	Site        *explainedSite     `json:"site"`
	RouteErr    *string            `json:"route_error"`
	Pool        string             `json:"egress_pool"`
	PoolErr     *string            `json:"pool_error"`
	Chosen      *string            `json:"chosen_source"`
	Sources     []explainedSource  `json:"sources"`
}

func explainReplyOf(x *queue.Explanation) *explainReply {
	r := &explainReply{
		Now: timestamp(x.Now), Queue: x.Queue.String(), Next: moment(x.Next), Holds: []*holdEntry{}, Bounce: explainedRuleOf(x.Bounce),
		Suspension: explainedRuleOf(x.Suspension), Settings: explainedSettings(x.Settings), SettingsErr: errorText(x.SettingsErr), Limits: limitUses(x.Limits),
		Site: explainedSiteOf(x.Site), RouteErr: errorText(x.RouteErr), Pool: x.Pool, PoolErr: errorText(x.PoolErr), Sources: entries(x.Sources, explainedSourceOf),
	}
	if m := x.Message; m != nil {
		r.Message = &explainedMessage{
			ID: m.ID.String(), Sender: m.Sender, Recipients: m.To, Size: m.Size, Created: moment(m.ID.Time()), Expires: moment(m.Expires), Due: moment(m.Due), Tries: m.Tries,
			Where: m.Where, ReadyQueue: unlessZero(m.ReadyQueue), Session: unlessZero(m.Session), Ahead: m.Ahead,
		}
	}
	if x.Scheduled != nil {
		e := scheduledEntryOf(x.Scheduled)
		r.Scheduled = &e
	}
	for _, h := range x.Holds {
		r.Holds = append(r.Holds, holdOf(h))
	}
	if x.Chosen >= 0 {
		r.Chosen = &x.Sources[x.Chosen].Source.Name
	}
	return r
}

func errorText(err error) *string {
	if err == nil {
		return nil
	}
	return unlessZero(err.Error())
}

type explainedMessage struct {
	ID         string      `json:"id"`
	Sender     string      `json:"sender"`
	Recipients []string    `json:"recipients"`
	Size       int64       `json:"size"`
	Created    *timestamp  `json:"created"`
	Expires    *timestamp  `json:"expires"`
	Due        *timestamp  `json:"due"`
	Tries      int         `json:"num_attempts"`
	Where      queue.Where `json:"where"`
	ReadyQueue *string     `json:"ready_queue"`
	Session    *string     `json:"session_id"`
	Ahead      int         `json:"ahead"`
}

type explainedRule struct {
	ID      string    `json:"id"`
	Reason  string    `json:"reason"`
	Expires timestamp `json:"expires"`
}

func explainedRuleOf(r *queue.Rule) *explainedRule {
	if r == nil {
		return nil
	}
	return &explainedRule{r.ID, r.Reason, timestamp(r.Expires)}
}

// explainedSetting is an option with its value, as JSON, and what set it.
type explainedSetting struct {
	Option string          `json:"option"`
	Value  json.RawMessage `json:"value"`
	By     *string         `json:"by"`
	Place  *place          `json:"place"`
	Next   json.RawMessage `json:"next,omitempty"`
}

type place struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

func placeOf(p mtakit.Place) *place {
	if p == (mtakit.Place{}) {
		return nil
	}
	return &place{p.File, p.Line, p.Column}
}

func explainedSettings(all []queue.InForce) []explainedSetting {
	return entries(all, func(s *queue.InForce) explainedSetting {
		return explainedSetting{s.Option, json.RawMessage(s.Value), unlessZero(s.By), placeOf(s.Place), json.RawMessage(s.Next)}
	})
}

// limitUse is a limit and what is in use of it; the latter is null if it is not known.
type limitUse struct {
	Setting *string          `json:"setting"`
	Name    string           `json:"name"`
	Limit   string           `json:"limit"`
	Most    int              `json:"most"`
	Used    *int             `json:"used"`
	Wait    *mtakit.Duration `json:"wait"`
}

func limitUses(all []queue.Use) []limitUse {
	return entries(all, func(u *queue.Use) limitUse {
		e := limitUse{Setting: unlessZero(u.Setting), Name: u.Name, Limit: u.Limit, Most: u.Most, Wait: unlessZero(mtakit.Duration(u.Wait))}
		if !u.Unknown {
			e.Used = &u.Used
		}
		return e
	})
}

type explainedSite struct {
	Name    string          `json:"name"`
	Hosts   []explainedHost `json:"hosts"`
	Expires *timestamp      `json:"expires"`
}

type explainedHost struct {
	Name       string `json:"name"`
	Preference uint16 `json:"preference"`
	Port       uint16 `json:"port,omitempty"`
	Secure     bool   `json:"secure"`
}

func explainedSiteOf(s *mtakit.Site) *explainedSite {
	if s == nil {
		return nil
	}
	return &explainedSite{s.Name, entries(s.Hosts, func(h *mtakit.Host) explainedHost { return explainedHost{h.Name, h.Pref, h.Port, h.Secure} }), moment(s.Expires)}
}

type explainedSource struct {
	Name        string             `json:"name"`
	Weight      int                `json:"weight"`
	Place       *place             `json:"place"`
	Share       float64            `json:"share"`
	Hold        *holdEntry         `json:"hold"`
	Err         *string            `json:"error"`
	Settings    []explainedSetting `json:"settings"`
	ReadyName   *string            `json:"ready_queue"`
	Ready       *readyEntry        `json:"ready"`
	Path        []explainedSetting `json:"path"`
	Constraints *constraints       `json:"constraints"`
	Limits      []limitUse         `json:"limits"`
}

func explainedSourceOf(w *queue.Way) explainedSource {
	e := explainedSource{
		Name: w.Source.Name, Weight: w.Weight, Place: placeOf(w.Place), Share: w.Share, Hold: holdOf(w.Hold), Err: errorText(w.Err), Settings: explainedSettings(w.Settings),
		ReadyName: unlessZero(w.ReadyQueue), Path: explainedSettings(w.Path), Limits: limitUses(w.Limits),
	}
	if w.ReadyQueue != "" {
		c := constraintsOf(w.Ceilings)
		e.Constraints = &c
	}
	if w.Ready != nil {
		ready := readyEntryOf(w.Ready)
		e.Ready = &ready
	}
	return e
}
