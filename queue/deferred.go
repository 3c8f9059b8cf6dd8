package queue

import (
	"context"
	"errors"

	"github.com/mtakit/mtakit"
)

// GeneratorQueue is the name of the queue for requests over HTTP whose messages are generated later. What it holds is "sent" by an Egress for the protocol
// httpinject.
const GeneratorQueue = "generator.kumomta.internal"

var generator = mtakit.QueueName{Domain: GeneratorQueue}

var deferredInject = mtakit.QueueName{Domain: mtakit.DeferredInjectQueue}

// injectDeferred does for a message what reception has put off, and moves it to its queue.
func (q *Queue) injectDeferred(ctx context.Context, it *item) {
	if q.load(ctx, it, ownedByPromotion) == nil {
		return
	}
	site := recordOpts{site: "unspecified->" + mtakit.DeferredInjectQueue + "@defersmtpinject"}
	was := it.m
	_, err := q.consult(ctx, it, "DeferredInject", func(ctx context.Context, m *mtakit.Message) error {
		delete(m.Meta, mtakit.MetaQueue)
		if q.cfg.Policy.DeferredInject == nil {
			return nil
		}
		return q.cfg.Policy.DeferredInject(ctx, m)
	})
	var name mtakit.QueueName
	if err == nil {
		name, err = it.m.DeriveQueue()
	}
	if err == nil && name != deferredInject {
		q.record(it, mtakit.DeferredInjectionRebind, mtakit.Response{Code: 250, Text: "ok"}, site)
		q.move(it, ownedByPromotion, name)
		it.due = it.m.Schedule.Adjust(q.now())
		q.park(ctx, it, ownedByPromotion, Reasons{Received})
		return
	}
	it.m = was // it is to be done again, from the beginning
	resp := mtakit.Response{Code: 450, Text: "deferred injection failed"}
	var reject *mtakit.Reject
	if errors.As(err, &reject) {
		resp = reject.Response
	} else if err != nil {
		q.log.Error("deferred message not injected", "id", it.id.String(), "err", err)
	}
	if resp.Permanent() {
		q.record(it, mtakit.Bounce, resp, site)
		q.finish(it, ownedByPromotion)
		return
	}
	q.record(it, mtakit.TransientFailure, resp, site)
	q.requeue(ctx, it, ownedByPromotion, requeue{counted: true, response: resp, reasons: Reasons{LoggedTransientFailure}})
}
