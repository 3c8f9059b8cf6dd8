package queue

import (
	"context"
	"fmt"

	"github.com/mtakit/mtakit"
)

// What follows answers as delivery would be answered, from what is in force or else from Policy, and changes nothing: no answer is kept, none is renewed.

// peekConf is the settings of a queue, which need not exist.
func (q *Queue) peekConf(ctx context.Context, name mtakit.QueueName) (*conf, error) {
	if s := q.schedNamed(name); s != nil {
		if c := s.conf.Load(); c != nil && c.err == nil {
			return c, nil
		}
	}
	return q.askConf(ctx, name)
}

// askConf asks policy for the settings of a queue.
func (q *Queue) askConf(ctx context.Context, name mtakit.QueueName) (*conf, error) {
	if c := q.reserved(name); c != nil {
		return c, nil
	}
	if q.cfg.Policy.Settings == nil {
		return q.defaultConf, nil
	}
	set, err := guard(q, ctx, "Settings", func(ctx context.Context) (*mtakit.QueueSettings, error) { return q.cfg.Policy.Settings(ctx, name) })
	if err != nil {
		return nil, err
	}
	if set == nil {
		return q.defaultConf, nil
	}
	return newConf(set, q.uptime(), q.epoch.Load())
}

// peek returns what is known under name; nil is that nothing is.
func (n *named[T]) peek(name string) *T {
	if e := n.known(name); e != nil && e.err == nil {
		return e.v
	}
	return nil
}

func (q *Queue) peekPool(ctx context.Context, name string) (*mtakit.Pool, error) {
	if name == mtakit.Unspecified {
		return &unspecifiedPool, nil
	}
	if p := q.pools.peek(name); p != nil {
		return p, nil
	}
	return q.askPool(ctx, name)
}

func (q *Queue) peekSource(ctx context.Context, name string) (*mtakit.Source, error) {
	if name == mtakit.Unspecified {
		return &unspecifiedSource, nil
	}
	if s := q.sources.peek(name); s != nil {
		return s, nil
	}
	return q.askSource(ctx, name)
}

// peekPath is the path that the mail of a queue takes.
func (q *Queue) peekPath(ctx context.Context, name mtakit.QueueName, c *conf, src *mtakit.Source, site *mtakit.Site) (*mtakit.Path, error) {
	path := readyName(src, site, c)
	if r, err := q.readyNamed(path); err == nil {
		return r.path.Load(), nil
	}
	return q.pathOf(ctx, path, name.RoutingDomain(), c.Protocol, src, site)
}

// readyName is the name of the ready queue for a source, a site and a protocol.
func readyName(src *mtakit.Source, site *mtakit.Site, c *conf) string {
	return src.Name + "->" + site.Name + "@" + c.Protocol.ReadySuffix()
}

// askPool asks policy for a pool.
func (q *Queue) askPool(ctx context.Context, name string) (*mtakit.Pool, error) {
	if q.cfg.Policy.Pool == nil {
		return nil, fmt.Errorf("egress pool %q is not defined", name)
	}
	p, err := guard(q, ctx, "Pool", func(ctx context.Context) (*mtakit.Pool, error) { return q.cfg.Policy.Pool(ctx, name) })
	if err == nil && p == nil {
		err = fmt.Errorf("egress pool %q is not defined", name)
	}
	return p, err
}

// askSource asks policy for a source.
func (q *Queue) askSource(ctx context.Context, name string) (*mtakit.Source, error) {
	if q.cfg.Policy.Source == nil {
		return &mtakit.Source{Name: name}, nil
	}
	s, err := guard(q, ctx, "Source", func(ctx context.Context) (*mtakit.Source, error) { return q.cfg.Policy.Source(ctx, name) })
	if err == nil && s == nil {
		err = fmt.Errorf("egress source %q is not defined", name)
	}
	return s, err
}
