package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mtakit/mtakit"
)

// promoteNow is the short way into a ready queue, for a queue whose feed is known and needs no questions. It is called with the shard's lock
// held and never blocks; false means that nothing was done. it is owned by the scheduled queue.
func (q *Queue) promoteNow(s *sched, it *item) bool {
	f := s.feed()
	if f == nil || !f.simple || !q.rules.clear(s) || q.stopping.Load() || q.unhealthy() != nil {
		return false
	}
	now, start := q.now(), q.timings.readyInsert.start(q, it.id)
	if !f.valid(q, s, now) || q.age(it, now) >= f.conf.MaxAge.Std() || q.clock.lag.Load() < 0 && (it.m == nil || it.m.Schedule != nil) ||
		q.cfg.Policy.Settings != nil && f.conf.stale(q.uptime(), f.epoch) { // the long way renews it
		return false
	}
	it.pass(ownedBySched, ownedByPromotion)
	if q.enterOne(s, it, f, now) {
		q.timings.readyInsert.end(q, start)
		return true
	}
	it.pass(ownedByPromotion, ownedBySched)
	return false
}

// enterOne puts a message into the ready queue whose turn it is, if that takes it. It is called with the shard's lock held.
func (q *Queue) enterOne(s *sched, it *item, f *feed, now time.Time) bool {
	r := f.ready[s.wrr.pick(&f.weights)]
	if q.held(r, now) || len(*r.limits.source.Load()) > 0 || !r.push(it) { // the path may have been renewed since f was made
		return false
	}
	s.departing()
	return true
}

// held says whether a ready queue is suspended, by the operator or with its source.
func (q *Queue) held(r *ready, now time.Time) bool { return !q.heldUntil(r, now).IsZero() }

// heldUntil is until when; zero is: it is not.
func (q *Queue) heldUntil(r *ready, now time.Time) time.Time {
	until := q.sourceSuspended(r.path.Load().Source.Name, now)
	if rule := q.rules.readyRule(r.name, now); rule != nil {
		return later(rule.Expires, until)
	}
	return until
}

// promote brings a due message into a ready queue. blocked means that the queue has to rest: the message is back at the front of its due list.
// In every other case it has a new owner or is gone.
func (q *Queue) promote(ctx context.Context, s *sched, it *item) (blocked bool) {
	now, entered := q.now(), false
	if q.stopping.Load() {
		q.putBack(s, it, 0)
		return true
	}
	if err := q.unhealthy(); err != nil {
		q.hold451(ctx, s, it, err)
		return false
	}
	if q.obeyRules(ctx, it, ownedByPromotion, s.name().String()) {
		return false
	}
	switch s.name() {
	case nullQueue: // it was moved there
		q.finish(it, ownedByPromotion)
		return false
	case deferredInject:
		q.injectDeferred(ctx, it)
		return false
	}
	c, err := q.confOf(ctx, s)
	if err != nil {
		q.putBack(s, it, failureTTL)
		return true
	}
	if q.clock.lag.Load() < 0 {
		if q.load(ctx, it, ownedByPromotion) == nil {
			return false
		}
		if due := q.early(it, now); !due.IsZero() {
			it.due = due
			q.park(ctx, it, ownedByPromotion, Reasons{DueTimeWasReached})
			return false
		}
	}
	if q.age(it, now) >= c.MaxAge.Std() {
		m := q.load(ctx, it, ownedByPromotion)
		if m == nil {
			return false
		}
		if m.Schedule == nil || m.Schedule.Expires.IsZero() {
			q.expire(it, ownedByPromotion, "localhost", tooOld(q.age(it, now), c.MaxAge))
			return false
		}
	}
	if !c.MaxMessageRate.IsZero() {
		key := schedRateKey(s.name())
		wait, err := q.throttles.Take(ctx, key, c.MaxMessageRate, 1)
		if err != nil {
			q.log.Error("throttle not available", "queue", s.name().String(), "err", err)
			wait = time.Second
		}
		if wait > 0 {
			s.shard.mu.Lock()
			s.delays().byRate++
			s.shard.mu.Unlock()
			q.putBack(s, it, wait)
			return true
		}
		defer func() {
			if !entered {
				q.refund(ctx, key, c.MaxMessageRate)
			}
		}()
	}
	if q.cfg.Policy.Ready != nil && !q.askReady(ctx, s, it) {
		return false
	}
	f, err := q.feedOf(ctx, s, c)
	if err != nil {
		resp, why := mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 4, 4}, Text: "failed to resolve queue " + s.name().String() + ": " + err.Error()},
			FailedToInsertIntoReadyQueue
		var settled *mtakit.PathError
		if errors.As(err, &settled) {
			resp, why = settled.Response, Reason(settled.Reason)
		}
		q.fail(ctx, it, ownedByPromotion, resp, Reasons{why}, failure{})
		return false
	}
	entered, blocked = q.insert(ctx, s, it, f)
	return blocked
}

// askReady calls Policy.Ready and says whether the message goes on.
func (q *Queue) askReady(ctx context.Context, s *sched, it *item) bool {
	if q.load(ctx, it, ownedByPromotion) == nil {
		return false
	}
	_, err := q.consult(ctx, it, "Ready", q.cfg.Policy.Ready)
	var delay *mtakit.Delay
	var reject *mtakit.Reject
	switch {
	case err == nil:
		return true
	case errors.As(err, &reject):
		q.bounce(it, ownedByPromotion, reject.Response, "")
	case errors.As(err, &delay):
		s.shard.mu.Lock()
		s.delays().byReady++
		s.shard.mu.Unlock()
		wait := patient(delay.For)
		q.requeue(ctx, it, ownedByPromotion, requeue{
			delay: wait, hasDelay: true, reasons: Reasons{DueTimeWasReached, ThrottledByReadyCallback},
			response: internal451(4, fmt.Sprintf("%s throttle_insert_ready_queue event throttled message rate, due=%s", s.name(),
				mtakit.AppendTimestamp(nil, q.now().Add(wait))))})
	default:
		q.log.Error("message not promoted", "id", it.id.String(), "queue", s.name().String(), "err", err)
		q.requeue(ctx, it, ownedByPromotion, requeue{counted: true, reasons: Reasons{DueTimeWasReached, FailedToInsertIntoReadyQueue},
			response: internal451(4, s.name().String()+" error while inserting into ready queue: policy failed")})
	}
	return false
}

// internal451 is a temporary failure of our own making.
func internal451(detail uint16, text string) mtakit.Response {
	return mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 4, detail}, Text: mtakit.Internal + text}
}

// insert chooses a source and puts the message into its ready queue. Either it has entered that, or its queue has to rest, or it has gone elsewhere.
func (q *Queue) insert(ctx context.Context, s *sched, it *item, f *feed) (entered, blocked bool) {
	if f.simple {
		s.shard.mu.Lock()
		entered = q.enterOne(s, it, f, q.now())
		s.shard.mu.Unlock()
		if entered {
			return true, false
		}
	}
	// Every source is tried, by weight, until one has room and its rates allow.
	left := make([]int, len(f.ready))
	for i := range left {
		left[i] = i
	}
	var full []*ready
	delay := time.Duration(0)
	for len(left) > 0 {
		var w weights
		for _, c := range left {
			w.add(int(f.weights.of[c]))
		}
		s.shard.mu.Lock()
		at := s.wrr.pick(&w)
		s.shard.mu.Unlock()
		r := f.ready[left[at]]
		left = append(left[:at], left[at+1:]...)
		now := q.now()
		if until := q.heldUntil(r, now); !until.IsZero() {
			delay = sooner(delay, until.Sub(now))
			continue
		}
		switch r.reserve(s) {
		case readyFull:
			full = append(full, r)
			continue
		case readyClosed:
			s.shard.mu.Lock()
			s.flowing().feed = nil
			s.shard.mu.Unlock()
			q.putBack(s, it, 0)
			return false, true
		}
		if wait, err := q.paySource(ctx, r); err != nil || wait > 0 {
			if err != nil {
				q.log.Error("throttle not available", "ready_queue", r.name, "err", err)
				wait = time.Second
			}
			delay = sooner(delay, wait)
			continue
		}
		s.shard.mu.Lock()
		s.departing()
		s.shard.mu.Unlock()
		r.redeem(it)
		return true, false
	}
	if len(full) > 0 {
		s.shard.mu.Lock()
		s.delays().byFull++
		s.shard.mu.Unlock()
		wait := time.Minute
		for _, r := range full {
			wait = min(wait, r.opensIn())
		}
		q.putBack(s, it, wait)
		for _, r := range full {
			r.whenRoom(s)
		}
		return false, true
	}
	text := "no sources available for " + s.name().String() + " pool=`" + f.conf.pool + "`"
	if delay > 0 {
		text = "no sources for " + s.name().String() + " pool=`" + f.conf.pool + "` are eligible for selection at this time"
	}
	q.fail(ctx, it, ownedByPromotion, internal451(4, text), Reasons{FailedToInsertIntoReadyQueue}, failure{})
	return false, false
}

// paySource takes the units that the selection of a source needs, and gives the place that is reserved back if there are none, or on a panic.
func (q *Queue) paySource(ctx context.Context, r *ready) (wait time.Duration, err error) {
	paid := false
	defer func() {
		if !paid {
			r.release()
		}
	}()
	wait, err = q.takeAll(ctx, *r.limits.source.Load())
	paid = err == nil && wait <= 0
	return wait, err
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// putBack returns a message to the front of its due list, and lets the queue rest for so long. It is called by the promotion that has the queue.
func (q *Queue) putBack(s *sched, it *item, wait time.Duration) {
	q.timings.reinsert.Observe(lateness(q.now(), it.due))
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	it.pass(ownedByPromotion, ownedBySched)
	s.unpopDue(it)
	s.block(wait)
}

// hold451 sends a message back because the spool could not forget it after its delivery.
func (q *Queue) hold451(ctx context.Context, s *sched, it *item, cause error) {
	if q.load(ctx, it, ownedByPromotion) == nil {
		return
	}
	resp := internal451(4, "delivery suspended: spool unhealthy: "+cause.Error())
	q.record(it, mtakit.Delayed, resp, recordOpts{site: s.name().String()})
	q.requeue(ctx, it, ownedByPromotion, requeue{counted: true, reasons: Reasons{SpoolUnhealthy}, response: resp})
}
