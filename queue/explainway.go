package queue

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// Use is a limit and how much of it is in use.
type Use struct {
	Setting string // that has it; "" is one of Provenance.Rates
	Name    string // under which it is counted, perhaps together with others
	Limit   string
	Used    int
	Most    int           // of what Used counts
	Wait    time.Duration // until there is room, as far as is known
	Unknown bool          // the throttles don't tell, so that Used and Wait say nothing
}

// ways explains pool, site and sources, and says which the next message would take.
func (x *explainer) ways(ctx context.Context, c *conf) {
	q := x.q
	x.Pool = c.pool
	pool, err := q.peekPool(ctx, c.pool)
	if err != nil {
		x.PoolErr = err
		x.hold(Hold{HeldNoSources, err.Error(), time.Time{}})
		return
	}
	switch x.Site, x.RouteErr = q.siteOf(ctx, x.Queue, c); {
	case x.RouteErr != nil:
		x.hold(Hold{HeldRoute, x.RouteErr.Error(), time.Time{}})
	case x.Site.IsNull():
		x.hold(Hold{HeldRoute, x.Queue.RoutingDomain() + " takes no mail (null MX)", time.Time{}})
	}
	entries := x.provenance(ctx, "Pool", q.cfg.Provenance.Pool, c.pool)
	total := 0
	for _, e := range pool.Entries {
		total += max(e.Weight, 0)
	}
	for _, e := range pool.Entries[:min(len(pool.Entries), maxWays)] {
		w := Way{Source: &mtakit.Source{Name: e.Name}, Weight: max(e.Weight, 0)}
		for _, s := range entries {
			if s.Option == e.Name {
				w.Place = s.Place
			}
		}
		if total > 0 {
			w.Share = float64(w.Weight) / float64(total)
		}
		x.way(ctx, c, &w)
		x.Sources = append(x.Sources, w)
	}
	x.choose(total)
}

// provenance asks for what is known of a pool or a source. That nothing is, is no error of the explanation.
func (x *explainer) provenance(ctx context.Context, what string, ask func(context.Context, string) ([]mtakit.Setting, error), name string) []mtakit.Setting {
	if ask == nil {
		return nil
	}
	known, err := guard(x.q, ctx, "Provenance."+what, func(ctx context.Context) ([]mtakit.Setting, error) { return ask(ctx, name) })
	if err != nil {
		x.q.log.Warn("nothing is known about where a setting is from", "name", name, "err", err)
	}
	return known
}

// way explains the way by one source.
func (x *explainer) way(ctx context.Context, c *conf, w *Way) {
	q, name := x.q, w.Source.Name
	src, err := q.peekSource(ctx, name)
	if err != nil {
		w.Err, w.Hold = err, Hold{HeldNoSources, err.Error(), time.Time{}}
		return
	}
	w.Source = src
	next := src
	if fresh, err := q.askSource(ctx, name); err == nil && name != mtakit.Unspecified && q.cfg.Policy.Source != nil {
		next = fresh
	}
	w.Settings = inForce(src, next, x.provenance(ctx, "Source", q.cfg.Provenance.Source, name))
	if x.Site == nil {
		return
	}
	path, err := q.peekPath(ctx, x.Queue, c, src, x.Site)
	if err != nil {
		w.Err, w.Hold = err, Hold{HeldNoSources, err.Error(), time.Time{}}
		return
	}
	w.ReadyQueue, w.Ceilings = path.Name, CeilingsOf(path.PathConfig, c.QueueSettings)
	domain := x.Queue.RoutingDomain()
	var known []mtakit.Setting
	if q.cfg.Provenance.Path != nil {
		known, err = guard(q, ctx, "Provenance.Path", func(ctx context.Context) ([]mtakit.Setting, error) {
			return q.cfg.Provenance.Path(ctx, domain, src.Name, path.Site)
		})
		w.Err = err
	}
	coming := path.PathConfig
	r, err := q.readyNamed(path.Name)
	if err == nil {
		if fresh, err := q.pathOf(ctx, path.Name, r.domain, path.Protocol, src, path.Site); err == nil {
			coming = fresh.PathConfig
		}
		d := r.describe()
		w.Ready = &d
		w.Hold = r.roomless(q.schedNamed(x.Queue), x.Now)
	} else {
		w.Hold = q.suspension(path.Name, src.Name, x.Now)
	}
	w.Path = inForce(path.PathConfig, coming, known)
	w.Limits = q.pathUse(ctx, path, w.Ready)
	for _, u := range w.Limits {
		if strings.HasSuffix(u.Setting, "source_selection_rate") || strings.HasPrefix(u.Setting, "additional_source") {
			if u.Wait > 0 && w.Hold.Reason == "" {
				w.Hold = Hold{HeldRate, u.Setting + " " + u.Limit + " is used up", x.Now.Add(u.Wait)}
			}
		}
	}
}

// choose finds the source whose turn it is among those that can carry a message now. The turn itself stays where it is.
func (x *explainer) choose(total int) {
	if x.RouteErr != nil {
		return
	}
	var free weights
	var of []int
	soonest := Hold{}
	for i, w := range x.Sources {
		switch {
		case w.Weight == 0:
		case w.Hold.Reason == "":
			free.add(w.Weight)
			of = append(of, i)
		case soonest.Reason == "" || soonest.Until.IsZero() || !w.Hold.Until.IsZero() && w.Hold.Until.Before(soonest.Until):
			soonest = w.Hold
		}
	}
	if len(of) == 0 {
		switch {
		case total == 0:
			soonest = Hold{HeldNoSources, "no source of pool " + x.Pool + " has a weight", time.Time{}}
		case len(x.Sources) > 1:
			soonest.Text = "of all sources, the first that can go on: " + soonest.Text
		}
		x.hold(soonest)
		return
	}
	turn := x.q.turnOf(x.Queue, &free)
	x.Chosen = of[turn.pick(&free)]
	if w := &x.Sources[x.Chosen]; w.Ready != nil {
		x.hold(w.Ready.Hold)
	}
}

// turnOf is whose turn it is in a queue: a copy.
func (q *Queue) turnOf(name mtakit.QueueName, w *weights) (turn wrr) {
	sh := q.shardOf(name)
	sh.mu.Lock()
	if s := sh.schedNamed(name); s != nil {
		turn = s.wrr
	}
	sh.mu.Unlock()
	q.firstTurn(name, w, &turn)
	return turn
}

// pathUse is what is in use of the limits of a path; r is its ready queue, nil if there is none.
func (q *Queue) pathUse(ctx context.Context, p *mtakit.Path, r *ReadyQueue) []Use {
	if r == nil {
		r = &ReadyQueue{}
	}
	l := newLimits(p)
	all := []Use{
		{Setting: "max_ready", Name: p.Name, Limit: strconv.Itoa(p.MaxReady), Used: r.Ready, Most: p.MaxReady},
		{Setting: "connection_limit", Name: p.Name, Limit: p.ConnectionLimit.String(), Used: r.Connections, Most: p.ConnectionLimit.N},
	}
	for _, n := range p.AdditionalConnectionLimits {
		all = append(all, q.leaseUse(ctx, n))
	}
	all = append(all, q.rateUse(ctx, "max_connection_rate", mtakit.NamedRates{{Name: connectionRateKey(p.Name), Rate: p.MaxConnectionRate}})...)
	all = append(all, q.rateUse(ctx, "max_message_rate", *l.messages.Load())...)
	all = append(all, q.rateUse(ctx, "source_selection_rate", *l.source.Load())...)
	for i := range all {
		u := &all[i]
		for table, names := range map[string]mtakit.NamedRates{
			"additional_message_rate_throttles": p.AdditionalMessageRateThrottles, "additional_source_selection_rates": p.AdditionalSourceSelectionRates,
		} {
			if slices.ContainsFunc(names, func(n mtakit.NamedRate) bool { return n.Name == u.Name }) {
				u.Setting = table + "." + u.Name
			}
		}
	}
	return all
}

func (q *Queue) leaseUse(ctx context.Context, l mtakit.NamedLimit) Use {
	u := Use{Setting: "additional_connection_limits." + l.Name, Name: l.Name, Limit: l.Limit.String(), Most: l.Limit.N, Unknown: true}
	if g, ok := q.throttles.(mtakit.Gauge); ok {
		n, err := g.LeaseUse(ctx, l.Name)
		u.Used, u.Unknown = n, err != nil
	}
	return u
}

// rateUse is what is in use of rates, without those that are none.
func (q *Queue) rateUse(ctx context.Context, setting string, rates mtakit.NamedRates) (all []Use) {
	for _, r := range rates {
		if r.Rate.IsZero() {
			continue
		}
		u := Use{Setting: setting, Name: r.Name, Limit: r.Rate.String(), Most: max(r.Rate.Burst, 0), Unknown: true}
		if u.Most == 0 {
			u.Most = r.Rate.N
		}
		if g, ok := q.throttles.(mtakit.Gauge); ok {
			used, wait, err := g.RateUse(ctx, r.Name, r.Rate)
			u.Used, u.Wait, u.Unknown = used, wait, err != nil
		}
		all = append(all, u)
	}
	return all
}
