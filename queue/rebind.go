package queue

import (
	"context"
	"errors"

	"github.com/mtakit/mtakit"
)

// Rebind is an order to give the messages that wait in some queues new metadata, and with them perhaps another queue.
type Rebind struct {
	Match  Match
	Reason string
	Data   map[string]string // metadata to set
	// Ask leaves it to Policy.Rebind what to change; Data is for it.
	Ask bool
	// Flush makes every message due at once, even one that stays in its queue.
	Flush bool
	// SuppressLogging writes no AdminRebind records.
	SuppressLogging bool
}

var errNoRebind = errors.New("Policy.Rebind is not set")

// Rebind carries out the order in the background, for every message that waits now; those in ready queues and sessions go on. What stays in its queue is
// due within a minute.
func (q *Queue) Rebind(r Rebind) {
	q.sweep(&sweep{match: r.Match, do: func(ctx context.Context, it *item) { q.rebind(ctx, it, &r) }})
}

func (q *Queue) rebind(ctx context.Context, it *item, r *Rebind) {
	if q.load(ctx, it, ownedByPromotion) == nil {
		return
	}
	old, reasons := it.sched.name(), Reasons{AdminRebind}
	change := func(ctx context.Context, m *mtakit.Message) error {
		if r.Ask {
			if q.cfg.Policy.Rebind == nil {
				return errNoRebind
			}
			return q.cfg.Policy.Rebind(ctx, m, r.Data)
		}
		if m.Meta == nil {
			m.Meta = make(map[string]any, len(r.Data))
		}
		for k, v := range r.Data {
			m.Meta[k] = v
		}
		return nil
	}
	to := old
	was, err := q.consult(ctx, it, "Rebind", change)
	if err != nil {
		q.log.Error("message not rebound", "id", it.id.String(), "queue", old.String(), "err", err)
	} else if to, err = destination(was, it.m, old); err != nil {
		q.log.Error("the queue's name can't be derived; the message keeps its queue", "id", it.id.String(), "err", err)
		reasons = reasons.with(GetQueueNameFailed)
	}
	due := q.now()
	if to != old {
		if !r.SuppressLogging {
			q.record(it, mtakit.AdminRebind, mtakit.Response{Code: 250, Text: "Rebound from " + old.String() + " to " + to.String() + ": " + r.Reason}, recordOpts{})
		}
		q.move(it, ownedByPromotion, to)
	} else if !r.Flush {
		due = due.Add(spread(uniform(q.seed, it.id, it.tries+int(due.Unix()), 'r')))
	}
	it.due = it.m.Schedule.Adjust(due)
	q.park(ctx, it, ownedByPromotion, reasons)
}
