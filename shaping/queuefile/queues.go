package queuefile

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
	"github.com/mtakit/mtakit/internal/domainmap"
)

// Config says what to load. The zero value gives every queue the defaults.
type Config struct {
	Files []string // merged in this order
	// Provider names the provider of a domain, for queues whose files name none; (*shaping.Shaping).Provider fits. Nil: there are
	// none.
	Provider func(ctx context.Context, domain string) string
}

// Queues is the content of a list of files, merged. It does not change, and is safe for concurrent use.
type Queues struct {
	provider func(ctx context.Context, domain string) string
	findings mtakit.Findings

	schedulingHeader             string
	tenantHeader, campaignHeader string
	removeTenant, removeCampaign bool
	defaultTenant                string
	hasDefaultTenant             bool
	tenants                      map[string]*tenant
	base                         *entry // queue.default; nil if there is none
	domains                      domainmap.Map[*entry]
	entries                      []*entry // of domains, in their order

	mu       sync.RWMutex
	resolved map[recipe]*mtakit.QueueSettings
}

// tenant is what is said about a tenant for all destinations.
type tenant struct {
	label     string
	options   *datafile.Value // a table
	authz     []string        // nil: nobody is asked who they are
	rate      mtakit.Rate
	campaigns map[string]mtakit.Rate
}

// entry is what is said about a domain, a tenant there, or a campaign of that tenant.
type entry struct {
	label   string
	options *datafile.Value // a table
	routing string          // routing_domain
	below   map[string]*entry
}

// Load reads the files. Its error is [mtakit.Findings], with everything that is wrong.
func Load(cfg Config) (*Queues, error) {
	q := read(cfg)
	if err := q.findings.Err(); err != nil {
		return nil, err
	}
	return q, nil
}

// Check is Load for those who want to know of warnings too.
func Check(cfg Config) mtakit.Findings { return read(cfg).findings }

// Findings are the warnings of Load.
func (q *Queues) Findings() mtakit.Findings { return q.findings }

// Pools yields the names of pools that are used, and where.
func (q *Queues) Pools() iter.Seq2[string, mtakit.Place] {
	return func(yield func(string, mtakit.Place) bool) {
		var walk func(e *entry) bool
		one := func(options *datafile.Value) bool {
			v := options.Get("egress_pool")
			return v == nil || yield(v.Str, v.Place)
		}
		walk = func(e *entry) bool {
			if !one(e.options) {
				return false
			}
			for _, name := range sortedKeys(e.below) {
				if !walk(e.below[name]) {
					return false
				}
			}
			return true
		}
		for _, name := range sortedKeys(q.tenants) {
			if !one(q.tenants[name].options) {
				return
			}
		}
		for _, e := range q.entries {
			if !walk(e) {
				return
			}
		}
	}
}

// recipe is what a queue's settings are made of; nil parts say nothing.
type recipe struct {
	domain   *entry
	tenant   *tenant
	there    *entry // the tenant in the entry of the domain
	campaign *entry
	provider string
}

func (q *Queues) recipe(domain, tenant, campaign string) recipe {
	r := recipe{tenant: q.tenants[tenant]}
	if tenant == "" {
		r.tenant = nil
	}
	r.domain, _ = q.domains.Get(domain)
	if r.domain != nil && tenant != "" {
		r.there = r.domain.below[tenant]
	}
	if r.there != nil && campaign != "" {
		r.campaign = r.there.below[campaign]
	}
	return r
}

// layers are the parts that say something, from weak to strong.
func (q *Queues) layers(r recipe) (options []*datafile.Value, labels []string) {
	add := func(v *datafile.Value, label string) {
		options, labels = append(options, v), append(labels, label)
	}
	for i, e := range [...]*entry{q.base, r.domain, nil, r.there, r.campaign} {
		switch {
		case i == 2 && r.tenant != nil:
			add(r.tenant.options, r.tenant.label)
		case e != nil:
			add(e.options, e.label)
		}
	}
	return options, labels
}

// routing is the routing domain for a message; "" if nothing is said.
func (q *Queues) routing(r recipe) (routing string) {
	for _, e := range [...]*entry{q.base, r.domain, r.there, r.campaign} {
		if e != nil && e.routing != "" {
			routing = e.routing
		}
	}
	return routing
}

// Settings is what holds for a queue; (queue.Policy).Settings is this. Queues to which the same parts of the files apply share
// one answer, which must not be changed. The error is always nil.
func (q *Queues) Settings(ctx context.Context, name mtakit.QueueName) (*mtakit.QueueSettings, error) {
	r := q.recipeFor(ctx, name)
	q.mu.RLock()
	s := q.resolved[r]
	q.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s = q.resolved[r]; s == nil {
		s = q.settings(r)
		q.resolved[r] = s
	}
	return s, nil
}

func (q *Queues) recipeFor(ctx context.Context, name mtakit.QueueName) recipe {
	r := q.recipe(name.Domain, name.Tenant, name.Campaign)
	if q.provider != nil {
		r.provider = q.provider(ctx, name.RoutingDomain())
	}
	return r
}

func (q *Queues) settings(r recipe) *mtakit.QueueSettings {
	s := mtakit.DefaultQueueSettings()
	s.RefreshStrategy = mtakit.RefreshEpoch
	layers, _ := q.layers(r)
	for _, options := range layers {
		for _, e := range options.Entries {
			datafile.DecodeField(e, &s, &datafile.Report{}) // it was found good when it was read
		}
	}
	if s.ProviderName == "" {
		s.ProviderName = r.provider
	}
	return &s
}

// Explain lists the options that the files set for a queue, and where.
func (q *Queues) Explain(ctx context.Context, name mtakit.QueueName) []mtakit.Setting {
	var all []mtakit.Setting
	layers, labels := q.layers(q.recipeFor(ctx, name))
	for i, options := range layers {
		for _, e := range options.Entries {
			all = slices.DeleteFunc(all, func(s mtakit.Setting) bool { return s.Option == e.Key })
			all = append(all, mtakit.Setting{Option: e.Key, Value: e.Value.JSON(), Place: e.Value.Place, By: labels[i]})
		}
	}
	return all
}
