package queue

import (
	"context"
	"errors"
	"time"
	"unique"

	"github.com/mtakit/mtakit"
)

// feed is where the mail of a scheduled queue goes: the sources of its pool, each with the ready queue to the site of its domain. It is immutable.
type feed struct {
	conf    *conf
	site    *mtakit.Site
	epoch   uint64
	until   time.Duration // uptime at which pool, sources and paths are looked at again
	weights weights
	ready   []*ready // one for each source
	simple  bool     // nothing has to be asked before a message goes in: no rate, no callback
}

// valid says whether f still says the truth.
func (f *feed) valid(q *Queue, s *sched, now time.Time) bool {
	return f != nil && f.conf == s.conf.Load() && f.epoch == q.epoch.Load() && q.uptime() < f.until &&
		(f.site.Expires.IsZero() || now.Before(f.site.Expires))
}

// feedOf returns where the mail of s goes, found anew if what is known is out of date.
func (q *Queue) feedOf(ctx context.Context, s *sched, c *conf) (*feed, error) {
	s.shard.mu.Lock()
	f := s.feed()
	s.shard.mu.Unlock()
	if f.valid(q, s, q.now()) {
		return f, nil
	}
	epoch := q.epoch.Load()
	pool, err := q.poolNamed(ctx, c.pool)
	if err != nil {
		return nil, err
	}
	f = &feed{conf: c, epoch: epoch, simple: q.cfg.Policy.Ready == nil && c.MaxMessageRate.IsZero()}
	if f.site, err = q.siteOf(ctx, s.name(), c); err != nil {
		return nil, err
	}
	life := time.Minute
	if pool.TTL > 0 {
		life = min(life, pool.TTL.Std())
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
		if src.TTL > 0 {
			life = min(life, src.TTL.Std())
		}
		if p.RefreshStrategy != mtakit.RefreshEpoch {
			life = min(life, p.RefreshInterval.Std())
		}
		f.ready = append(f.ready, r)
		f.weights.add(e.Weight)
	}
	if len(f.ready) > 1 {
		for _, r := range f.ready {
			r.choice.Store(true)
		}
	}
	f.simple = f.simple && len(f.ready) > 0
	f.until = q.uptime() + max(life, time.Second)
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	q.firstTurn(s.name(), &f.weights, &s.wrr)
	if len(f.ready) > 0 {
		s.provider = unique.Make(f.ready[0].who(""))
	}
	s.flowing().feed = f
	return f, nil
}

// firstTurn sets the turn of a queue that has had none. Each begins somewhere else: many that send one message each would all take the same source.
func (q *Queue) firstTurn(name mtakit.QueueName, w *weights, turn *wrr) {
	if *turn == (wrr{}) && len(w.of) > 1 {
		for range mix(q.seed^hashName(name)) % 1024 {
			turn.pick(w)
		}
	}
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
