package queuefile

import (
	"maps"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

const overallRate = "overall_max_message_rate"

var (
	optionNames = datafile.Fields(&mtakit.QueueSettings{})
	entryKeys   = append([]string{"routing_domain", overallRate}, optionNames...)
	tenantKeys  = append([]string{"require_authz", "campaigns", overallRate}, optionNames...)
	topKeys     = []string{"scheduling_header", "tenant_header", "remove_tenant_header", "campaign_header", "remove_campaign_header",
		"default_tenant", "tenant", "queue"}
	strategies = []string{"TimerWheel", "SkipList", "SingletonTimerWheel", "SingletonTimerWheelV2"}
)

func read(cfg Config) *Queues {
	r := &datafile.Report{}
	q := &Queues{provider: cfg.Provider, resolved: make(map[recipe]*mtakit.QueueSettings), tenants: make(map[string]*tenant)}
	if v := datafile.Load(cfg.Files, r); v != nil {
		if v.Kind == datafile.Table {
			q.read(v, r)
		} else {
			r.Errorf(v.Place, "expected a table, got %s", v.What())
		}
	}
	r.Sort(cfg.Files)
	q.findings = r.Findings
	return q
}

func (q *Queues) read(v *datafile.Value, r *datafile.Report) {
	tables := make(map[string]*datafile.Value)
	for _, e := range v.Entries {
		switch e.Key {
		case "scheduling_header":
			datafile.Decode(e.Value, &q.schedulingHeader, e.Key, r)
		case "tenant_header":
			datafile.Decode(e.Value, &q.tenantHeader, e.Key, r)
		case "remove_tenant_header":
			datafile.Decode(e.Value, &q.removeTenant, e.Key, r)
		case "campaign_header":
			datafile.Decode(e.Value, &q.campaignHeader, e.Key, r)
		case "remove_campaign_header":
			datafile.Decode(e.Value, &q.removeCampaign, e.Key, r)
		case "default_tenant":
			q.hasDefaultTenant = datafile.Decode(e.Value, &q.defaultTenant, e.Key, r)
		case "tenant", "queue":
			if e.Value.Kind != datafile.Table {
				r.Errorf(e.Value.Place, "%s: expected a table, got %s", e.Key, e.Value.What())
				continue
			}
			tables[e.Key] = e.Value
		default:
			datafile.Unknown(e, topKeys, r)
		}
	}
	if t := tables["tenant"]; t != nil {
		for _, e := range t.Entries {
			q.readTenant(e, r)
		}
	}
	if t := tables["queue"]; t != nil {
		for _, e := range t.Entries {
			q.readQueue(e, r)
		}
	}
	if q.hasDefaultTenant && q.tenants[q.defaultTenant] == nil {
		r.Errorf(v.Get("default_tenant").Place, "default_tenant: tenant %s is not defined", q.defaultTenant)
	}
}

func (q *Queues) readTenant(e datafile.Entry, r *datafile.Report) {
	if e.Value.Kind != datafile.Table {
		r.Errorf(e.Value.Place, "tenant.%s: expected a table, got %s", e.Key, e.Value.What())
		return
	}
	t := &tenant{label: "tenant " + e.Key, options: datafile.NewTable(e.Place), campaigns: make(map[string]mtakit.Rate)}
	for _, o := range e.Value.Entries {
		switch o.Key {
		case "require_authz":
			datafile.Decode(o.Value, &t.authz, o.Key, r)
		case overallRate:
			datafile.Decode(o.Value, &t.rate, o.Key, r)
		case "campaigns":
			if o.Value.Kind != datafile.Table {
				r.Errorf(o.Value.Place, "campaigns: expected a table, got %s", o.Value.What())
				continue
			}
			for _, c := range o.Value.Entries {
				t.readCampaign(c, r)
			}
		default:
			readOption(t.options, o, tenantKeys, r)
		}
	}
	q.tenants[e.Key] = t
}

// readCampaign reads a campaign of a tenant, of which the rate alone has an effect.
func (t *tenant) readCampaign(c datafile.Entry, r *datafile.Report) {
	if c.Value.Kind != datafile.Table {
		r.Errorf(c.Value.Place, "campaigns.%s: expected a table, got %s", c.Key, c.Value.What())
		return
	}
	for _, o := range c.Value.Entries {
		var rate mtakit.Rate
		var routing string
		switch o.Key {
		case overallRate:
			if datafile.Decode(o.Value, &rate, o.Key, r) {
				t.campaigns[c.Key] = rate
			}
			continue
		case "routing_domain":
			datafile.Decode(o.Value, &routing, o.Key, r)
		default:
			readOption(datafile.NewTable(c.Place), o, entryKeys, r)
		}
		r.Warnf(o.Place, "%s has no effect here; it belongs into the campaign's table under queue", o.Key)
	}
}

func (q *Queues) readQueue(e datafile.Entry, r *datafile.Report) {
	if e.Value.Kind != datafile.Table {
		r.Errorf(e.Value.Place, "queue.%s: expected a table, got %s", e.Key, e.Value.What())
		return
	}
	n := q.readEntry(e, "queue "+e.Key, 0, r)
	q.entries = append(q.entries, n)
	if e.Key == "default" {
		q.base = n
		return
	}
	if e.Key != strings.ToLower(e.Key) {
		r.Warnf(e.Place, "queue.%s: domains are looked up in lower case; nothing matches this", e.Key)
	}
	q.domains.Set(e.Key, n)
}

// readEntry reads the table of a domain, or of a tenant (depth 1) or campaign (2) below it.
func (q *Queues) readEntry(e datafile.Entry, label string, depth int, r *datafile.Report) *entry {
	n := &entry{label: label, options: datafile.NewTable(e.Place), below: make(map[string]*entry)}
	for _, o := range e.Value.Entries {
		switch {
		case o.Key == "routing_domain":
			datafile.Decode(o.Value, &n.routing, o.Key, r)
		case o.Key == overallRate:
			var rate mtakit.Rate
			datafile.Decode(o.Value, &rate, o.Key, r)
			r.Warnf(o.Place, "%s has no effect here; it belongs into the tenant's table under tenant", o.Key)
		case slices.Contains(optionNames, o.Key) || o.Value.Kind != datafile.Table || depth == 2:
			readOption(n.options, o, entryKeys, r)
		default:
			q.checkBelow(o, e.Key, depth, r)
			n.below[o.Key] = q.readEntry(o, label+[...]string{" tenant ", " campaign "}[depth]+o.Key, depth+1, r)
		}
	}
	return n
}

// checkBelow warns of tables that are perhaps not the tenant or campaign that they are taken for.
func (q *Queues) checkBelow(o datafile.Entry, domain string, depth int, r *datafile.Report) {
	switch near := datafile.Nearest(o.Key, entryKeys); {
	case depth == 0 && domain == "default":
		r.Warnf(o.Place, "tenant %s: tenants have no effect in queue.default", o.Key)
	case near != "":
		r.Warnf(o.Place, "%s is taken for the name of a %s; did you mean %s?", o.Key, [...]string{"tenant", "campaign"}[depth], near)
	case depth == 0 && len(q.tenants) > 0 && q.tenants[o.Key] == nil:
		r.Warnf(o.Place, "%s is taken for the name of a tenant, but no tenant of that name is defined", o.Key)
	}
}

func readOption(options *datafile.Value, o datafile.Entry, known []string, r *datafile.Report) {
	s := mtakit.DefaultQueueSettings()
	exists, good := datafile.DecodeField(o, &s, r)
	switch {
	case !exists:
		datafile.Unknown(o, known, r)
	case !good:
	case !slices.Contains(strategies, s.Strategy):
		r.Errorf(o.Value.Place, "strategy: expected one of %s, got %s", strings.Join(strategies, ", "), o.Value.What())
	case s.RetryInterval <= 0:
		r.Errorf(o.Value.Place, "retry_interval: expected more than 0")
	default:
		switch o.Key {
		case "strategy", "timerwheel_tick_interval":
			r.Warnf(o.Place, "%s has no effect: one timing wheel serves all queues", o.Key)
		case "shrink_policy":
			r.Warnf(o.Place, "shrink_policy has no effect: messages that wait are in the spool")
		}
		options.Put(o)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
