package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
)

type queueSummaryCmd struct {
	Limit    int    `help:"How many queues of each kind to show; 0 is all." default:"0" placeholder:"N"`
	ByVolume bool   `help:"Show the largest first, instead of by name."`
	Domain   string `help:"Show queues of the site of this domain only." placeholder:"NAME"`
	sites
}

func (q *queueSummaryCmd) Validate() error {
	if q.Limit < 0 {
		return fmt.Errorf("--limit is %d, want 0 or more", q.Limit)
	}
	return nil
}

func (q *queueSummaryCmd) Run(ctx context.Context, c *console) error {
	holds, err := readHolds(ctx, c.api)
	if err != nil {
		return err
	}
	ready := make(map[string]*readyCounts)
	sched := best[scheduledCount]{limit: q.Limit, before: scheduledOrder(q.ByVolume)}
	byDomain := make(map[string][]scheduledCount) // where that decides
	err = c.api.metrics(ctx, func(family, _ string) bool {
		switch family {
		case "connection_count", "total_messages_delivered", "total_messages_transfail", "ready_count", "scheduled_count":
			return true
		}
		return false
	}, func(s *sample) {
		n := int64(s.value)
		if s.family != "scheduled_count" {
			if name, ok := readyQueueOf(s.label("service")); ok {
				addReady(ready, name, s.family, n)
			}
			return
		}
		count := scheduledCount{s.label("queue"), n}
		if q.Domain == "" {
			sched.add(count)
			return
		}
		d := mtakit.ParseQueueName(count.name).RoutingDomain()
		byDomain[d] = append(byDomain[d], count)
	})
	if err != nil {
		return err
	}
	only := ""
	if q.Domain != "" {
		wanted := strings.ToLower(q.Domain)
		domains := slices.SortedFunc(maps.Keys(byDomain), compareNatural)
		domains = append([]string{wanted}, slices.DeleteFunc(domains, func(d string) bool { return d == wanted })...)
		found, err := q.resolve(ctx, c, domains)
		if err != nil {
			return err
		}
		only = found[wanted].name
		for _, d := range domains {
			if found[d].name == only {
				for _, count := range byDomain[d] {
					sched.add(count)
				}
			}
		}
	}
	if err := q.printReady(c.out, ready, only, holds); err != nil {
		return err
	}
	return q.printScheduled(c.out, &sched, holds)
}

func (q *queueSummaryCmd) printReady(w io.Writer, ready map[string]*readyCounts, site string, h *holds) error {
	rows := best[*readyCounts]{limit: q.Limit, before: func(a, b *readyCounts) int {
		if q.ByVolume {
			return cmp.Or(cmp.Compare(b.volume(), a.volume()), compareNatural(a.name, b.name))
		}
		return compareNatural(a.name, b.name)
	}}
	for _, r := range ready {
		if site == "" || r.site == site {
			rows.add(r)
		}
	}
	t := table{head: []column{left("SITE"), left("SOURCE"), left("PROTO"), right("D"), right("T"), right("C"), right("Q"), left("")}}
	for _, r := range rows.sorted() {
		t.add(r.site, r.source, r.proto, thousands(r.delivered), thousands(r.transient), thousands(r.connections), thousands(r.queued), h.ofReady(r.name))
	}
	return t.print(w)
}

func (q *queueSummaryCmd) printScheduled(w io.Writer, sched *best[scheduledCount], h *holds) error {
	t := table{head: []column{left("SCHEDULED QUEUE"), right("COUNT"), left("")}}
	for _, s := range sched.sorted() {
		t.add(s.name, thousands(s.count), h.ofScheduled(s.name))
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return t.print(w)
}

// scheduledCount is a scheduled queue.
type scheduledCount struct {
	name  string
	count int64
}

func scheduledOrder(byVolume bool) func(a, b scheduledCount) int {
	return func(a, b scheduledCount) int {
		if byVolume {
			return cmp.Or(cmp.Compare(b.count, a.count), compareNatural(a.name, b.name))
		}
		return compareNatural(a.name, b.name)
	}
}

// readyCounts is a ready queue.
type readyCounts struct {
	name, site, source, proto                 string
	delivered, transient, connections, queued int64
}

func (r *readyCounts) volume() int64 { return r.delivered + r.transient + r.connections + r.queued }

func addReady(ready map[string]*readyCounts, name, family string, n int64) {
	r := ready[name]
	if r == nil {
		r = &readyCounts{name: strings.Clone(name)}
		r.source, r.site, r.proto = splitReadyQueue(r.name)
		ready[r.name] = r
	}
	switch family {
	case "connection_count":
		r.connections += n
	case "total_messages_delivered":
		r.delivered += n
	case "total_messages_transfail":
		r.transient += n
	case "ready_count":
		r.queued += n
	}
}

// splitReadyQueue takes SOURCE->SITE@PROTO apart. A protocol that is not known stays with the site, which may have an @ itself.
func splitReadyQueue(name string) (source, site, proto string) {
	source, rest, ok := strings.Cut(name, "->")
	if !ok {
		source, rest = "", name
	}
	if site, ok := strings.CutSuffix(rest, "@smtp_client"); ok {
		return source, site, "smtp_client"
	}
	for _, p := range []string{"@lua:", "@maildir:"} {
		if i := strings.Index(rest, p); i >= 0 {
			return source, rest[:i], rest[i+1:]
		}
	}
	return source, rest, ""
}
