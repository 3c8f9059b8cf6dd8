package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
)

type providerSummaryCmd struct {
	ByPool      bool `help:"Show each egress pool by itself."`
	ShowDomains bool `help:"Show the domains of each provider that have messages waiting."`
	Limit       int  `help:"How many rows to show; 0 is all." default:"0" placeholder:"N"`
	sites
}

func (p *providerSummaryCmd) Validate() error {
	if p.Limit < 0 {
		return fmt.Errorf("--limit is %d, want 0 or more", p.Limit)
	}
	return nil
}

// providerPool is what a row counts; pool is empty where all pools count together.
type providerPool struct{ provider, pool string }

type providerCounts struct {
	providerPool
	delivered, transient, failed, connections, queued int64
}

func (p *providerCounts) volume() int64 { return p.delivered + p.transient + p.failed + p.queued }

func (p *providerSummaryCmd) Run(ctx context.Context, c *console) error {
	rows := make(map[providerPool]*providerCounts)
	waiting := make(map[string]int64) // messages by domain
	totals, gauges := "_by_provider", "_by_provider"
	if p.ByPool {
		totals, gauges = "_by_provider_and_source", "_by_provider_and_pool"
	}
	field := map[string]func(*providerCounts) *int64{
		"total_messages_delivered" + totals: func(p *providerCounts) *int64 { return &p.delivered },
		"total_messages_transfail" + totals: func(p *providerCounts) *int64 { return &p.transient },
		"total_messages_fail" + totals:      func(p *providerCounts) *int64 { return &p.failed },
		"connection_count" + gauges:         func(p *providerCounts) *int64 { return &p.connections },
		"queued_count" + gauges:             func(p *providerCounts) *int64 { return &p.queued },
	}
	err := c.api.metrics(ctx, func(family, _ string) bool {
		return field[family] != nil || p.ShowDomains && family == "scheduled_count"
	}, func(s *sample) {
		if s.family == "scheduled_count" {
			waiting[mtakit.ParseQueueName(s.label("queue")).RoutingDomain()] += int64(s.value)
			return
		}
		key := providerPool{provider: s.label("provider")}
		if p.ByPool {
			key.pool = s.label("pool")
		}
		row := rows[key]
		if row == nil {
			row = &providerCounts{providerPool: key}
			rows[key] = row
		}
		*field[s.family](row) += int64(s.value)
	})
	if err != nil {
		return err
	}
	first := best[*providerCounts]{limit: p.Limit, before: func(a, b *providerCounts) int {
		return cmp.Or(cmp.Compare(b.volume(), a.volume()), compareNatural(a.provider, b.provider), compareNatural(a.pool, b.pool))
	}}
	for _, row := range rows {
		first.add(row)
	}
	var domains map[string][]string
	if p.ShowDomains {
		if domains, err = p.domains(ctx, c, waiting); err != nil {
			return err
		}
	}
	return p.table(first.sorted(), domains).print(c.out)
}

func (p *providerSummaryCmd) table(rows []*providerCounts, domains map[string][]string) *table {
	t := &table{head: []column{left("PROVIDER")}}
	if p.ByPool {
		t.head = append(t.head, left("POOL"))
	}
	t.head = append(t.head, right("D"), right("T"), right("F"), right("C"), right("Q"))
	if p.ShowDomains {
		t.head = append(t.head, left("DOMAINS"))
	}
	for _, r := range rows {
		cells := []string{r.provider}
		if p.ByPool {
			cells = append(cells, r.pool)
		}
		for _, n := range []int64{r.delivered, r.transient, r.failed, r.connections, r.queued} {
			cells = append(cells, thousands(n))
		}
		if p.ShowDomains {
			cells = append(cells, listSome(domains[r.provider]))
		}
		t.add(cells...)
	}
	return t
}

// domains finds the provider of each domain with waiting messages: the one that is configured, else the site, else itself. Those with the
// most messages come first.
func (p *providerSummaryCmd) domains(ctx context.Context, c *console, waiting map[string]int64) (map[string][]string, error) {
	names := slices.SortedFunc(maps.Keys(waiting), func(a, b string) int {
		return cmp.Or(cmp.Compare(waiting[b], waiting[a]), compareNatural(a, b))
	})
	found, err := p.resolve(ctx, c, names)
	if err != nil {
		return nil, err
	}
	byProvider := make(map[string][]string)
	for _, d := range names {
		if at, ok := found[d]; ok {
			name := cmp.Or(at.provider, at.name)
			byProvider[name] = append(byProvider[name], d)
		}
	}
	return byProvider, nil
}

// listSome joins the first names and counts the others.
func listSome(names []string) string {
	const show = 5
	if len(names) <= show {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, and %s more", strings.Join(names[:show], ", "), thousands(int64(len(names)-show)))
}
