package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// Provenance tells where answers of Policy come from, for Explain. Each function gets what the one of Policy gets, and lists the options that were decided, with
// the place or the part of the configuration that did. Nil: it is not known. They are called as those of Policy are, and change nothing.
type Provenance struct {
	Settings func(ctx context.Context, q mtakit.QueueName) ([]mtakit.Setting, error)
	Path     func(ctx context.Context, domain, source string, site *mtakit.Site) ([]mtakit.Setting, error)
	// Pool lists the sources of a pool as options, with their weights.
	Pool   func(ctx context.Context, name string) ([]mtakit.Setting, error)
	Source func(ctx context.Context, name string) ([]mtakit.Setting, error)
	// Rates are those that Policy.Ready takes a unit of, by the names under which it does.
	Rates func(q mtakit.QueueName) mtakit.NamedRates
}

// Subject is what is to be explained: one of its fields is set.
type Subject struct {
	Address string           // of a recipient, whose mail has no metadata that would change its queue
	Queue   mtakit.QueueName // which need not exist
	ID      mtakit.ID        // of a message in the spool
}

// ErrSubject: the subject names nothing, or more than one thing, or something that is not an address.
var ErrSubject = errors.New("queue: nothing to explain")

// Explanation is what would happen to mail, and why, as it looks at one moment. What could not be found out is missing, with an error that says why.
type Explanation struct {
	Now     time.Time
	Message *Located // the one that was asked for; nil if none was
	Queue   mtakit.QueueName

	Scheduled   *ScheduledQueue // nil: there is no such queue at the moment
	Settings    []InForce
	SettingsErr error
	Limits      []Use // of the queue, and of what it is a part of
	Bounce      *Rule // by the operator, in force; nil is none
	Suspension  *Rule

	Pool     string // the one that settings name
	PoolErr  error
	Site     *mtakit.Site // that takes the mail
	RouteErr error
	Sources  []Way // the sources of the pool, in its order, 100 at most
	Chosen   int   // which of them the next message would take; -1 is none at the moment

	// Holds is what keeps the mail from going out at once, in the order in which a message meets it.
	Holds []Hold
	// Next is before when there is no attempt; zero is that this is not known, or that there is none.
	Next time.Time
}

// InForce is a setting that is in force.
type InForce struct {
	mtakit.Setting
	// Next is the value that policy gives by now, if it is another one: it holds, and Place and By are about it, once policy has been asked again.
	Next string
}

// Way is the way by one source.
type Way struct {
	Source   *mtakit.Source
	Settings []InForce // of the source
	Place    mtakit.Place
	Weight   int     // 0 is out of use
	Share    float64 // of the mail of the pool, from 0 to 1, when no source is held up
	Hold     Hold    // why no mail can take it now
	Err      error   // why nothing more is known

	ReadyQueue string
	Ready      *ReadyQueue // nil: there is none at the moment
	Path       []InForce
	Ceilings   Ceilings // with those of the queue
	Limits     []Use
}

// Further reasons for which mail waits.
const (
	HeldNotDue    HoldReason = "not_due"   // its time has not come
	HeldSpool     HoldReason = "spool"     // nothing is delivered, since the spool could not forget it
	HeldRoute     HoldReason = "route"     // the site can't be found
	HeldNoSources HoldReason = "no_source" // no source can carry it
)

// maxWays is how many sources of a pool are explained.
const maxWays = 100

// Explain tells which way mail takes, by which settings and what set them, how much of its limits is used, what holds it up and when there is an attempt next. It
// changes nothing: no queue is made, no answer of policy kept, no unit of a rate taken. Policy, Provenance and Router are asked for what is not known, as
// they would be for delivery; Policy.Ready is not.
//
// The error wraps ErrSubject, or mtakit.ErrNotFound for a message that is not there; or it is one of the spool.
func (q *Queue) Explain(ctx context.Context, about Subject) (*Explanation, error) {
	x := explainer{Explanation: Explanation{Now: q.now(), Chosen: -1}, q: q}
	var err error
	if x.Queue, err = about.queue(); err != nil {
		return nil, err
	}
	if !about.ID.IsZero() {
		m, err := q.Message(ctx, about.ID)
		if err != nil {
			return nil, fmt.Errorf("message %s: %w", about.ID, err)
		}
		x.Queue = m.Queue
		x.Message = q.locate(m, x.Now)
	}
	if st, err := q.Scheduled(x.Queue); err == nil {
		x.Scheduled = &st.ScheduledQueue
	}
	x.rules()
	if c := x.settings(ctx); c != nil {
		x.due()
		if x.Queue != deferredInject && x.Queue != nullQueue { // whose mail leaves by no source
			x.ways(ctx, c)
		}
	}
	if len(x.Holds) == 0 && x.Scheduled != nil {
		x.hold(x.Scheduled.Hold)
	}
	x.whenNext()
	return &x.Explanation, ctx.Err()
}

// queue is the name of the queue that s is about, as far as s says.
func (s *Subject) queue() (name mtakit.QueueName, err error) {
	n := 0
	for _, set := range [...]bool{s.Address != "", s.Queue != mtakit.QueueName{}, !s.ID.IsZero()} {
		if set {
			n++
		}
	}
	switch local, _, _ := strings.Cut(s.Address, "@"); {
	case n != 1:
		return name, fmt.Errorf("%w: one of address, queue and id is needed, and there are %d", ErrSubject, n)
	case s.Address == "":
		return s.Queue, nil
	case local == "" || mtakit.Domain(s.Address) == "":
		return name, fmt.Errorf("%w: %q is not an address", ErrSubject, s.Address)
	}
	return (&mtakit.Message{To: []string{s.Address}}).DeriveQueue()
}

// explainer fills in an Explanation.
type explainer struct {
	Explanation
	q *Queue
}

func (x *explainer) hold(h Hold) {
	if h.Reason != "" {
		x.Holds = append(x.Holds, h)
	}
}

// rules looks at what a message meets first.
func (x *explainer) rules() {
	q := x.q
	if err := q.unhealthy(); err != nil {
		x.hold(Hold{HeldSpool, err.Error(), time.Time{}})
	}
	if x.Bounce = q.rules.find(&q.rules.bounce, x.Queue, x.Now); x.Bounce != nil {
		x.hold(Hold{HeldBounced, x.Bounce.Reason, x.Bounce.Expires})
	}
	if x.Suspension = q.rules.find(&q.rules.suspend, x.Queue, x.Now); x.Suspension != nil {
		x.hold(Hold{HeldSuspended, x.Suspension.Reason, x.Suspension.Expires})
	}
}

// settings explains the settings of the queue, and returns them; nil is that there are none.
func (x *explainer) settings(ctx context.Context) *conf {
	q := x.q
	c, err := q.peekConf(ctx, x.Queue)
	if err != nil {
		x.SettingsErr = err
		x.hold(Hold{HeldNoSettings, err.Error(), time.Time{}})
		return nil
	}
	next := c.QueueSettings
	if q.cfg.Policy.Settings != nil && q.reserved(x.Queue) == nil {
		if fresh, err := q.askConf(ctx, x.Queue); err == nil {
			next = fresh.QueueSettings
		}
	}
	var known []mtakit.Setting
	if q.cfg.Provenance.Settings != nil && q.reserved(x.Queue) == nil {
		known, err = guard(q, ctx, "Provenance.Settings", func(ctx context.Context) ([]mtakit.Setting, error) { return q.cfg.Provenance.Settings(ctx, x.Queue) })
	}
	x.Settings, x.SettingsErr = inForce(c.QueueSettings, next, known), err
	if x.Message != nil {
		x.Message.expires(c)
	}
	x.Limits = q.rateUse(ctx, "max_message_rate", mtakit.NamedRates{{Name: schedRateKey(x.Queue), Rate: c.MaxMessageRate}})
	if q.cfg.Provenance.Rates != nil {
		x.Limits = append(x.Limits, q.rateUse(ctx, "", q.cfg.Provenance.Rates(x.Queue))...)
	}
	return c
}

// due looks at the time of the message, and at the rates of the queue.
func (x *explainer) due() {
	if m := x.Message; m != nil && m.Due.After(x.Now) {
		x.hold(Hold{HeldNotDue, fmt.Sprintf("after %d attempts", m.Tries), m.Due})
	} else if m == nil && x.Scheduled != nil && x.Scheduled.Due == 0 && x.Scheduled.Waiting > 0 && x.Scheduled.InFlight == 0 {
		first := time.Time{}
		for e := range x.q.Waiting(x.Queue) {
			if first.IsZero() || e.Due.Before(first) {
				first = e.Due
			}
		}
		if first.After(x.Now) {
			x.hold(Hold{HeldNotDue, "the first message in the queue", first})
		}
	}
	for _, u := range x.Limits {
		if u.Wait > 0 {
			x.hold(Hold{HeldRate, u.Name + " " + u.Limit + " is used up", x.Now.Add(u.Wait)})
		}
	}
}

// whenNext is the latest of what holds. Something of which nobody knows when it ends makes that unknown.
func (x *explainer) whenNext() {
	if m := x.Message; m != nil && (m.Where == InReadyQueue || m.Where == InSession) {
		x.Next = x.Now
		return
	}
	next := x.Now
	for _, h := range x.Holds {
		switch {
		case h.Reason == HeldConnecting: // which is tried again
		case h.Until.IsZero(), h.Reason == HeldBounced:
			return
		default:
			next = later(next, h.Until)
		}
	}
	if m := x.Message; m != nil && !m.Expires.IsZero() && !next.Before(m.Expires) {
		return
	}
	x.Next = next
}

// inForce lists the settings in force. next is the answer that policy gives now, and known what is known about that.
func inForce(now, next any, known []mtakit.Setting) []InForce {
	all, err := mtakit.SettingsOf(now)
	if err != nil { // they are of types that can be written
		return nil
	}
	list := make([]InForce, len(all))
	at := make(map[string]int, len(all))
	for i, s := range all {
		list[i].Setting = s
		at[s.Option] = i
	}
	index := func(option string) int {
		i, ok := at[option]
		if !ok {
			i = len(list)
			at[option] = i
			list = append(list, InForce{Setting: mtakit.Setting{Option: option, Value: "null"}})
		}
		return i
	}
	if now != next {
		coming, _ := mtakit.SettingsOf(next)
		there := make(map[string]bool, len(coming))
		for _, s := range coming {
			there[s.Option] = true
			if i := index(s.Option); list[i].Value != s.Value {
				list[i].Next = s.Value
			}
		}
		for _, s := range all {
			if !there[s.Option] {
				list[at[s.Option]].Next = "null"
			}
		}
	}
	for _, s := range known {
		if i, ok := at[s.Option]; ok {
			list[i].Place, list[i].By = s.Place, s.By
		}
	}
	return slices.Clip(list)
}
