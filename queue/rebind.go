package queue

import (
	"context"
	"errors"

	"github.com/mtakit/mtakit"
)

// Rebind is an order to give the messages that wait in some queues new metadata, and with them perhaps another queue.
type Rebind struct {
	Match  Match
	Except mtakit.QueueName // a queue that is left alone although it matches: its messages are where they should be; the zero value is none
	Reason string
	Data   map[string]string // metadata to set
	// Ask leaves it to Policy.Rebind what to change; Data is for it.
	Ask bool
	// Change is asked in place of both. It is shown, and may change, Due and Tries as well, which hold if the message changes its queue; one that stays keeps
	// its time. An error leaves the message as it is. It is called concurrently with itself.
	Change func(m *mtakit.Message) error
	// InReady includes messages in ready queues. Those that a session has in hand go on in any case.
	InReady bool
	// Flush makes every message due at once, even one that stays in its queue.
	Flush bool
	// SuppressLogging writes no AdminRebind records.
	SuppressLogging bool
}

var errNoRebind = errors.New("Policy.Rebind is not set")

// Rebind carries out the order in the background, for every message that waits now, for its time or for a rate; those in sessions, and unless InReady in
// ready queues, go on. What stays in its queue is due within a minute, unless Change says otherwise.
func (q *Queue) Rebind(r Rebind) {
	q.sweep(&sweep{match: r.Match, except: r.Except, shut: true, ready: r.InReady, writers: writers, do: func(ctx context.Context, it *item) { q.rebind(ctx, it, &r) }})
}

func (q *Queue) rebind(ctx context.Context, it *item, r *Rebind) {
	if q.load(ctx, it, ownedByPromotion) == nil {
		return
	}
	old, reasons := it.sched.name(), Reasons{AdminRebind}
	it.m.Due, it.m.Tries = it.due, it.tries
	to := old
	was, err := q.consult(ctx, it, "Rebind", r.change(q))
	if err != nil {
		q.log.Error("message not rebound", "id", it.id.String(), "queue", old.String(), "err", err)
	} else if to, err = destination(was, it.m, old); err != nil {
		q.log.Error("the queue's name can't be derived; the message keeps its queue", "id", it.id.String(), "err", err)
		reasons = reasons.with(GetQueueNameFailed)
	}
	due := q.now()
	switch {
	case to != old:
		if !r.SuppressLogging {
			q.record(it, mtakit.AdminRebind, mtakit.Response{Code: 250, Text: "Rebound from " + old.String() + " to " + to.String() + ": " + r.Reason}, recordOpts{})
		}
		if r.Change != nil {
			it.tries, due = it.m.Tries, later(due, it.m.Due)
		}
		q.move(it, ownedByPromotion, to)
	case r.Flush:
	case r.Change != nil && !it.changed:
		q.resume(it, ownedByPromotion)
		return
	case r.Change != nil:
		due = it.due
	default:
		due = due.Add(spread(uniform(q.seed, it.id, it.tries+int(due.Unix()), 'r')))
	}
	it.due = it.m.Schedule.Adjust(due)
	q.park(ctx, it, ownedByPromotion, reasons)
}

// change is what to do to a message.
func (r *Rebind) change(q *Queue) func(context.Context, *mtakit.Message) error {
	switch {
	case r.Change != nil:
		return func(_ context.Context, m *mtakit.Message) error { return r.Change(m) }
	case r.Ask && q.cfg.Policy.Rebind == nil:
		return func(context.Context, *mtakit.Message) error { return errNoRebind }
	case r.Ask:
		return func(ctx context.Context, m *mtakit.Message) error { return q.cfg.Policy.Rebind(ctx, m, r.Data) }
	}
	return func(_ context.Context, m *mtakit.Message) error {
		if m.Meta == nil {
			m.Meta = make(map[string]any, len(r.Data))
		}
		for k, v := range r.Data {
			m.Meta[k] = v
		}
		return nil
	}
}

// resume puts a message back where it was, of which nothing has changed.
func (q *Queue) resume(it *item, from owner) {
	if it.due.After(q.now()) {
		q.sleep(it, from)
		return
	}
	s := it.sched
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.departed(from)
	it.pass(from, ownedBySched)
	s.shard.ripe(s, it)
}
