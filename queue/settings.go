package queue

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

// conf is the settings of a scheduled queue as they were last answered. It is immutable.
type conf struct {
	*mtakit.QueueSettings
	list    *mtakit.Site // for a list of hosts that was configured; nil is: ask the router
	pool    string
	fetched time.Duration // uptime
	epoch   uint64
	err     error // in place of the settings: an answer that failed, remembered for failureTTL
}

// failureTTL is how long the failure of a callback is remembered before it is asked again.
const failureTTL = time.Minute

func newConf(s *mtakit.QueueSettings, up time.Duration, epoch uint64) (*conf, error) {
	c := &conf{QueueSettings: s, pool: s.EgressPool, fetched: up, epoch: epoch}
	if c.pool == "" {
		c.pool = mtakit.Unspecified
	}
	if s.RetryInterval <= 0 || s.MaxAge < 0 || s.MaxRetryInterval < 0 {
		return nil, fmt.Errorf("settings make no sense: retry_interval %v, max_retry_interval %v, max_age %v", s.RetryInterval, s.MaxRetryInterval, s.MaxAge)
	}
	if p := s.Protocol.SMTP; p != nil && len(p.MXList) > 0 {
		site, err := listSite(p)
		if err != nil {
			return nil, err
		}
		c.list = site
	}
	return c, nil
}

// listSite is the site of a configured list; entries that come with an address are not looked up.
func listSite(p *mtakit.SMTPProtocol) (*mtakit.Site, error) {
	names := make([]string, len(p.MXList))
	for i, e := range p.MXList {
		if names[i] = e.Name; e.Addr != "" {
			names[i] = e.Addr
		}
	}
	site, err := mtakit.ListSite(names...)
	if err != nil {
		return nil, err
	}
	for i, e := range p.MXList {
		site.Hosts[i].Secure = p.TreatMXListAsSecure
		if e.Addr != "" && e.Name != "" {
			site.Hosts[i].Name = e.Name
		}
	}
	return site, nil
}

// stale says whether an answer that is so old is due for renewal.
func stale(age time.Duration, sameEpoch bool, interval mtakit.Duration, s mtakit.RefreshStrategy) bool {
	return !sameEpoch || s != mtakit.RefreshEpoch && age >= interval.Std()
}

func (c *conf) stale(up time.Duration, epoch uint64) bool {
	return stale(up-c.fetched, c.epoch == epoch, c.RefreshInterval, c.RefreshStrategy)
}

// confs makes queues for which policy gives the same pointer share what is made of it: there may be a million.
type confs struct {
	mu sync.Mutex
	m  map[*mtakit.QueueSettings]*conf
}

// of is newConf, or the result of a moment ago.
func (cs *confs) of(s *mtakit.QueueSettings, up time.Duration, epoch uint64) (*conf, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.m[s]; c != nil && c.epoch == epoch && up-c.fetched < time.Second {
		return c, nil
	}
	c, err := newConf(s, up, epoch)
	if err != nil {
		return nil, err
	}
	if cs.m == nil || len(cs.m) >= 1024 { // a policy that makes new ones each time
		cs.m = make(map[*mtakit.QueueSettings]*conf)
	}
	cs.m[s] = c
	return c, nil
}

// confOf returns the settings of s, asking for them if there are none. An answer that is out of date is returned while it is renewed
// in the background.
func (q *Queue) confOf(ctx context.Context, s *sched) (*conf, error) {
	c := s.conf.Load()
	switch {
	case c == nil, c.err != nil && (q.uptime()-c.fetched >= failureTTL || c.epoch != q.epoch.Load()):
		return q.fetchConf(ctx, s, s.name(), c)
	case c.err != nil:
		return nil, c.err
	}
	q.freshen(s, c)
	return c, nil
}

// freshen renews the settings of s, which are c, in the background if they are out of date. Messages in ready queues to which the new ones lead no more, since
// they name other hosts or another protocol, go back to where they came from.
func (q *Queue) freshen(s *sched, c *conf) {
	if q.cfg.Policy.Settings == nil || !c.stale(q.uptime(), q.epoch.Load()) {
		return
	}
	name := s.name() // now: s may be forgotten meanwhile
	q.refresh(s, func(ctx context.Context) {
		s.shard.mu.Lock()
		f := s.feed()
		s.shard.mu.Unlock()
		n, err := q.fetchConf(ctx, s, name, c)
		if err != nil || f == nil || reflect.DeepEqual(n.Protocol, c.Protocol) {
			return
		}
		for _, r := range f.ready {
			q.readmit(r.drainOf(func(o *sched) bool { return o == s })...)
		}
	})
}

// reserved are the queues whose settings policy is not asked for.
func (q *Queue) reserved(name mtakit.QueueName) *conf {
	switch name {
	case deferredInject:
		return q.deferredConf
	case generator:
		return q.generatorConf
	}
	return xferConf(name, q.uptime(), q.epoch.Load())
}

// fetchConf asks for the settings and keeps the answer. If there was a good one, a failure keeps that in force.
func (q *Queue) fetchConf(ctx context.Context, s *sched, name mtakit.QueueName, old *conf) (*conf, error) {
	epoch, up := q.epoch.Load(), q.uptime()
	c := q.reserved(name)
	if c == nil && q.cfg.Policy.Settings == nil {
		c = q.defaultConf
	}
	if c != nil {
		s.conf.Store(c)
		return c, nil
	}
	set, err := guard(q, ctx, "Settings", func(ctx context.Context) (*mtakit.QueueSettings, error) {
		return q.cfg.Policy.Settings(ctx, name)
	})
	if err == nil {
		if set == nil {
			set = q.defaultConf.QueueSettings
		}
		c, err = q.confs.of(set, up, epoch)
	}
	if err != nil && ctx.Err() != nil { // whoever asked went away, which says nothing about the queue
		return nil, err
	}
	if err != nil {
		q.log.Error("settings of queue not available", "queue", name.String(), "err", err)
		if old != nil && old.err == nil {
			again := *old
			again.fetched, again.epoch = up, epoch
			s.conf.CompareAndSwap(old, &again)
			return &again, nil
		}
		s.conf.Store(&conf{err: err, fetched: up, epoch: epoch})
		return nil, err
	}
	s.conf.Store(c)
	return c, nil
}

// refresh runs fn in the background, once at a time for each key, a bounded number at once. What doesn't find room now is asked for
// again when it is next in use.
func (q *Queue) refresh(key any, fn func(context.Context)) {
	q.refreshMu.Lock()
	if q.refreshing[key] || len(q.refreshing) >= maxRefreshing || q.workCtx.Err() != nil {
		q.refreshMu.Unlock()
		return
	}
	q.refreshing[key] = true
	q.wg.Add(1)
	q.refreshMu.Unlock()
	go func() {
		defer q.wg.Done()
		defer func() {
			q.refreshMu.Lock()
			delete(q.refreshing, key)
			q.refreshMu.Unlock()
		}()
		fn(q.workCtx)
	}()
}

const maxRefreshing = 16

// BumpEpoch says that the configuration has changed: answers of policy are asked for again, each when it is next in use.
func (q *Queue) BumpEpoch() { q.epoch.Add(1) }

// flights has those who ask for the same at the same time share one answer: after a restart all queues of a site do.
type flights[T any] struct {
	mu sync.Mutex
	m  map[string]*flight[T]
}

type flight[T any] struct {
	done chan struct{} // closed when there is an answer
	v    T
	err  error
}

func (f *flights[T]) share(ctx context.Context, key string, ask func() (T, error)) (T, error) {
	f.mu.Lock()
	one := f.m[key]
	if one != nil {
		f.mu.Unlock()
		select {
		case <-one.done:
			return one.v, one.err
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
	}
	one = &flight[T]{done: make(chan struct{}), err: errors.New("whoever asked panicked")}
	if f.m == nil {
		f.m = make(map[string]*flight[T])
	}
	f.m[key] = one
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.m, key)
		f.mu.Unlock()
		close(one.done)
	}()
	one.v, one.err = ask()
	return one.v, one.err
}

// named caches the answers of Policy.Pool and Policy.Source by name.
type named[T any] struct {
	mu     sync.Mutex
	m      map[string]*namedEntry[T]
	asking flights[*T]
}

type namedEntry[T any] struct {
	v       *T
	ttl     time.Duration
	fetched time.Duration // uptime
	epoch   uint64
	err     error
}

func (n *named[T]) known(name string) *namedEntry[T] {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m[name]
}

// get returns what is known under name, asking fetch for it if there is nothing, and in the background if it is out of date.
func (n *named[T]) get(q *Queue, ctx context.Context, name string, fetch func(context.Context) (*T, time.Duration, error)) (*T, error) {
	up, epoch := q.uptime(), q.epoch.Load()
	e := n.known(name)
	load := func(ctx context.Context) (*T, error) {
		v, ttl, err := fetch(ctx)
		if err != nil && e != nil && e.v != nil {
			q.log.Error("policy answer not renewed; the last good one stays in force", "name", name, "err", err)
			v, ttl, err = e.v, e.ttl, nil
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.m == nil || len(n.m) >= 65536 { // names come from policy; a runaway one shall not take the memory
			n.m = make(map[string]*namedEntry[T])
		}
		n.m[name] = &namedEntry[T]{v: v, ttl: ttl, fetched: up, epoch: epoch, err: err}
		return v, err
	}
	switch {
	case e == nil, e.err != nil && (up-e.fetched >= failureTTL || e.epoch != epoch):
		return n.asking.share(ctx, name, func() (*T, error) {
			if now := n.known(name); now != nil && now != e { // somebody was faster
				return now.v, now.err
			}
			return load(ctx)
		})
	case e.err != nil:
		return nil, e.err
	case e.epoch != epoch || up-e.fetched >= e.ttl:
		q.refresh(e, func(ctx context.Context) { load(ctx) })
	}
	return e.v, nil
}

var unspecifiedPool = mtakit.Pool{Name: mtakit.Unspecified, Entries: []mtakit.PoolEntry{{Name: mtakit.Unspecified, Weight: 1}}}

func (q *Queue) poolNamed(ctx context.Context, name string) (*mtakit.Pool, error) {
	if name == mtakit.Unspecified {
		return &unspecifiedPool, nil
	}
	return q.pools.get(q, ctx, name, func(ctx context.Context) (*mtakit.Pool, time.Duration, error) {
		p, err := q.askPool(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		return p, orMinute(p.TTL), nil
	})
}

var unspecifiedSource = mtakit.Source{Name: mtakit.Unspecified}

func (q *Queue) sourceNamed(ctx context.Context, name string) (*mtakit.Source, error) {
	if name == mtakit.Unspecified {
		return &unspecifiedSource, nil
	}
	return q.sources.get(q, ctx, name, func(ctx context.Context) (*mtakit.Source, time.Duration, error) {
		if q.cfg.Policy.Source == nil {
			return &mtakit.Source{Name: name}, time.Hour, nil
		}
		s, err := q.askSource(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		return s, orMinute(s.TTL), nil
	})
}

func orMinute(d mtakit.Duration) time.Duration {
	if d <= 0 {
		return time.Minute
	}
	return d.Std()
}
