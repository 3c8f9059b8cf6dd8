package queue

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/mtakit/mtakit"
)

// feed is where the mail of a scheduled queue goes: the sources of its pool, each with the ready queue to the site of its domain. It is immutable.
type feed struct {
	conf    *conf
	pool    *mtakit.Pool
	site    *mtakit.Site
	epoch   uint64
	sources []*mtakit.Source
	weights []int
	ready   []*ready
	simple  bool // nothing has to be asked before a message goes in: no rate, no callback
}

// valid says whether f still says the truth.
func (f *feed) valid(q *Queue, s *sched, now time.Time) bool {
	return f != nil && f.conf == s.conf.Load() && f.epoch == q.epoch.Load() && (f.site.Expires.IsZero() || now.Before(f.site.Expires))
}

// promoteNow is the short way into a ready queue, for a queue whose feed is known and needs no questions. It is called with the shard's lock
// held and never blocks; false means that nothing was done. it is owned by the scheduled queue.
func (q *Queue) promoteNow(s *sched, it *item) bool {
	f := s.feed
	now := q.now()
	if f == nil || !f.simple || !f.valid(q, s, now) || it.age(now) >= f.conf.MaxAge.Std() || q.unhealthy() != nil || q.rules.any() || q.stopping.Load() {
		return false
	}
	if stale(now, f.conf.fetched, f.conf.epoch, f.epoch, f.conf.RefreshInterval, f.conf.RefreshStrategy) && q.cfg.Policy.Settings != nil {
		return false // the long way renews it
	}
	r := f.ready[s.wrr.pick(f.weights)]
	it.pass(ownedBySched, ownedByPromotion)
	if r.push(it) {
		s.inFlight++
		return true
	}
	it.pass(ownedByPromotion, ownedBySched)
	return false
}

// promote brings a due message into a ready queue. blocked means that the queue has to rest: the message is back at the front of its due list.
// In every other case it has a new owner or is gone.
func (q *Queue) promote(ctx context.Context, s *sched, it *item) (blocked bool) {
	now := q.now()
	if q.stopping.Load() {
		q.putBack(s, it, time.Time{})
		return true
	}
	if err := q.unhealthy(); err != nil {
		q.hold451(ctx, s, it, err)
		return false
	}
	if q.rules.any() && q.obeyRules(ctx, it, ownedByPromotion, s.name.String()) {
		return false
	}
	c, err := q.confOf(ctx, s)
	if err != nil {
		q.putBack(s, it, now.Add(failureTTL))
		return true
	}
	if it.age(now) >= c.MaxAge.Std() && (it.m == nil || it.m.Schedule == nil || it.m.Schedule.Expires.IsZero()) {
		if m := q.load(ctx, it, ownedByPromotion); m != nil && (m.Schedule == nil || m.Schedule.Expires.IsZero()) {
			q.expire(it, ownedByPromotion, "localhost", fmt.Sprintf("Next delivery time %v > %v", mtakit.Duration(it.age(now)), c.MaxAge))
			return false
		} else if m == nil {
			return false
		}
	}
	if !c.MaxMessageRate.IsZero() {
		wait, err := q.throttles.Take(ctx, "schedq-"+s.name.String()+"-message-rate", c.MaxMessageRate, 1)
		if err != nil {
			q.log.Error("throttle not available", "queue", s.name.String(), "err", err)
			wait = time.Second
		}
		if wait > 0 {
			s.shard.mu.Lock()
			s.delayedByRate++
			s.shard.mu.Unlock()
			q.putBack(s, it, now.Add(wait))
			return true
		}
	}
	if q.cfg.Policy.Ready != nil && !q.askReady(ctx, s, it) {
		return false
	}
	f, err := q.feedOf(ctx, s, c)
	if err != nil {
		var settled *mtakit.PathError
		if errors.As(err, &settled) {
			q.fail(ctx, it, ownedByPromotion, settled.Response, Reasons{Reason(settled.Reason)}, failure{})
			return false
		}
		q.fail(ctx, it, ownedByPromotion, mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 4, 4},
			Text: "failed to resolve queue " + s.name.String() + ": " + err.Error()}, Reasons{FailedToInsertIntoReadyQueue}, failure{})
		return false
	}
	return q.insert(ctx, s, it, f)
}

// askReady calls Policy.Ready and says whether the message goes on.
func (q *Queue) askReady(ctx context.Context, s *sched, it *item) bool {
	m := q.load(ctx, it, ownedByPromotion)
	if m == nil {
		return false
	}
	err := ask(q, ctx, "Ready", func(ctx context.Context) error { return q.cfg.Policy.Ready(ctx, m) })
	var delay *mtakit.Delay
	var reject *mtakit.Reject
	switch {
	case err == nil:
		return true
	case errors.As(err, &reject):
		q.bounce(it, ownedByPromotion, reject.Response, "")
	case errors.As(err, &delay):
		s.shard.mu.Lock()
		s.delayedByReady++
		s.shard.mu.Unlock()
		due := q.now().Add(delay.For)
		q.requeue(ctx, it, ownedByPromotion, requeue{
			delay: delay.For, hasDelay: true, reasons: Reasons{DueTimeWasReached, ThrottledByReadyCallback},
			response: internal451(4, fmt.Sprintf("%s throttle_insert_ready_queue event throttled message rate, due=%s", s.name, mtakit.AppendTimestamp(nil, due)))})
	default:
		q.log.Error("message not promoted", "id", it.id.String(), "queue", s.name.String(), "err", err)
		q.requeue(ctx, it, ownedByPromotion, requeue{counted: true, reasons: Reasons{DueTimeWasReached, FailedToInsertIntoReadyQueue},
			response: internal451(4, s.name.String()+" error while inserting into ready queue: policy failed")})
	}
	return false
}

// internal451 is a temporary failure of our own making.
func internal451(detail uint16, text string) mtakit.Response {
	return mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 4, detail}, Text: mtakit.Internal + text}
}

// feedOf returns where the mail of s goes, found anew if what is known is out of date.
func (q *Queue) feedOf(ctx context.Context, s *sched, c *conf) (*feed, error) {
	s.shard.mu.Lock()
	f := s.feed
	s.shard.mu.Unlock()
	if f.valid(q, s, q.now()) {
		return f, nil
	}
	epoch := q.epoch.Load()
	pool, err := q.poolNamed(ctx, c.pool)
	if err != nil {
		return nil, err
	}
	f = &feed{conf: c, pool: pool, epoch: epoch, simple: q.cfg.Policy.Ready == nil && c.MaxMessageRate.IsZero()}
	if f.site, err = q.siteOf(ctx, s.name, c); err != nil {
		return nil, err
	}
	for _, e := range pool.Entries {
		if e.Weight <= 0 {
			continue
		}
		src, err := q.sourceNamed(ctx, e.Name)
		if err != nil {
			return nil, err
		}
		r, err := q.readyFor(ctx, s, c, src, f.site)
		if err != nil {
			return nil, err
		}
		p := r.path.Load()
		if !p.SourceSelectionRate.IsZero() || len(p.AdditionalSourceSelectionRates) > 0 {
			f.simple = false
		}
		f.sources, f.weights, f.ready = append(f.sources, src), append(f.weights, e.Weight), append(f.ready, r)
	}
	if len(f.ready) == 0 {
		f.simple = false
	}
	s.shard.mu.Lock()
	if s.wrr == (wrr{}) && len(f.weights) > 1 {
		// Each queue begins somewhere else: many that send one message each would all take the same source.
		for range mix(q.seed^hashName(s.name)) % 1024 {
			s.wrr.pick(f.weights)
		}
	}
	s.feed = f
	s.shard.mu.Unlock()
	return f, nil
}

// siteOf is the site that takes the queue's mail.
func (q *Queue) siteOf(ctx context.Context, name mtakit.QueueName, c *conf) (*mtakit.Site, error) {
	switch {
	case c.list != nil:
		return c.list, nil
	case c.Protocol.ReadySuffix() != "smtp_client":
		return &mtakit.Site{Name: name.RoutingDomain()}, nil
	}
	site, err := q.cfg.Router.Route(ctx, name.RoutingDomain())
	if err == nil && site == nil {
		err = errors.New("the router knows no site")
	}
	return site, err
}

// insert chooses a source and puts the message into its ready queue.
func (q *Queue) insert(ctx context.Context, s *sched, it *item, f *feed) (blocked bool) {
	if f.simple && !q.rules.any() {
		s.shard.mu.Lock()
		r := f.ready[s.wrr.pick(f.weights)]
		entered := r.push(it)
		if entered {
			s.inFlight++
		}
		s.shard.mu.Unlock()
		if entered {
			return false
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
		weights := make([]int, len(left))
		for i, c := range left {
			weights[i] = f.weights[c]
		}
		s.shard.mu.Lock()
		at := s.wrr.pick(weights)
		s.shard.mu.Unlock()
		r := f.ready[left[at]]
		left = append(left[:at], left[at+1:]...)
		if until := q.rules.readySuspended(r, q.now()); !until.IsZero() {
			delay = sooner(delay, until.Sub(q.now()))
			continue
		}
		switch r.reserve(s) {
		case readyFull:
			full = append(full, r)
			continue
		case readyClosed:
			s.shard.mu.Lock()
			s.feed = nil
			s.shard.mu.Unlock()
			q.putBack(s, it, q.now())
			return true
		}
		if wait, err := q.sourceRate(ctx, r); err != nil || wait > 0 {
			r.release()
			if err != nil {
				q.log.Error("throttle not available", "ready_queue", r.name, "err", err)
				wait = time.Second
			}
			delay = sooner(delay, wait)
			continue
		}
		s.shard.mu.Lock()
		s.inFlight++
		s.shard.mu.Unlock()
		r.redeem(it)
		return false
	}
	if len(full) > 0 {
		s.shard.mu.Lock()
		s.delayedByFull++
		s.shard.mu.Unlock()
		again := q.now().Add(time.Minute)
		for _, r := range full {
			again = r.opens(again)
		}
		q.putBack(s, it, again)
		for _, r := range full {
			r.whenRoom(s)
		}
		return true
	}
	text := "no sources available for " + s.name.String() + " pool=`" + f.conf.pool + "`"
	if delay > 0 {
		text = "no sources for " + s.name.String() + " pool=`" + f.conf.pool + "` are eligible for selection at this time"
	}
	q.fail(ctx, it, ownedByPromotion, internal451(4, text), Reasons{FailedToInsertIntoReadyQueue}, failure{})
	return false
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// sourceRate takes one unit of each rate at which the source may be selected for the site, the tightest first.
func (q *Queue) sourceRate(ctx context.Context, r *ready) (time.Duration, error) {
	p := r.path.Load()
	if p.SourceSelectionRate.IsZero() && len(p.AdditionalSourceSelectionRates) == 0 {
		return 0, nil
	}
	return q.takeAll(ctx, p.AdditionalSourceSelectionRates, "kumomta.source_selection_rate."+r.name+"."+p.Source.Name, p.SourceSelectionRate)
}

// takeAll takes one unit of each rate, the tightest first.
func (q *Queue) takeAll(ctx context.Context, more mtakit.NamedRates, key string, own mtakit.Rate) (time.Duration, error) {
	if len(more) == 0 {
		return q.throttles.Take(ctx, key, own, 1)
	}
	rates := append(mtakit.NamedRates(nil), more...)
	if !own.IsZero() {
		rates = append(rates, mtakit.NamedRate{Name: key, Rate: own})
	}
	sort.SliceStable(rates, func(i, j int) bool { return rates[i].Rate.PerSecond() < rates[j].Rate.PerSecond() })
	for _, r := range rates {
		if wait, err := q.throttles.Take(ctx, r.Name, r.Rate, 1); err != nil || wait > 0 {
			return wait, err
		}
	}
	return 0, nil
}

// putBack returns a message to the front of its due list, and lets the queue rest until at. It is called by the promotion that has the queue.
func (q *Queue) putBack(s *sched, it *item, at time.Time) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	it.pass(ownedByPromotion, ownedBySched)
	s.due.hot.pushFront(it)
	s.waiting++
	q.waiting.Inc()
	s.shard.block(s, at)
}

// hold451 sends a message back because the spool could not forget it after its delivery.
func (q *Queue) hold451(ctx context.Context, s *sched, it *item, cause error) {
	if q.load(ctx, it, ownedByPromotion) == nil {
		return
	}
	resp := internal451(4, "delivery suspended: spool unhealthy: "+cause.Error())
	q.record(it, mtakit.Delayed, resp, recordOpts{site: s.name.String()})
	q.requeue(ctx, it, ownedByPromotion, requeue{counted: true, reasons: Reasons{SpoolUnhealthy}, response: resp})
}
