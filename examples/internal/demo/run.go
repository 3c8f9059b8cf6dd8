package demo

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/shaping"
	"github.com/mtakit/mtakit/smtpclient/route"
)

// Daemon is where the daemon is.
type Daemon struct {
	SMTP string // address
	HTTP string // URL
	Logs string // directory
}

// Run sends rate messages a second through the daemon, reacts to what the log tells and prints what happens, until ctx ends; then a summary.
func (w *World) Run(ctx context.Context, d Daemon, rate int, out io.Writer) error {
	rules, err := shaping.Load(ctx, shaping.Config{Files: w.Shaping[:1], Automation: true, Router: route.New(route.Config{Resolver: w.dns.Resolver()})})
	if err != nil {
		return err
	}
	log, err := eventlog.OpenTailer(eventlog.TailerConfig{Dir: d.Logs, BatchLatency: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer log.Close()
	say := func(format string, args ...any) { fmt.Fprintf(out, "      * "+format+"\n", args...) }
	s := &sender{smtp: d.SMTP, http: d.HTTP, rate: rate}
	t := newTally()
	rs := &reactions{http: d.HTTP, file: w.reactions, rules: rules, say: say, seen: make(map[*shaping.Rule][]time.Time), set: make(map[string]setting)}

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.run(ctx) })
	batches := make(chan *eventlog.Batch)
	wg.Go(func() {
		defer close(batches)
		for {
			b, err := log.Next(ctx)
			if err != nil {
				return
			}
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
		}
	})
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	began := time.Now()
	for {
		select {
		case b, ok := <-batches:
			if !ok {
				t.table(out, time.Since(began))
				return nil
			}
			for r, err := range b.Records() {
				if err != nil {
					continue // not a record
				}
				if first := t.count(&r); first != "" {
					say("%s", first)
				}
				rs.react(ctx, time.Now(), &r)
			}
		case now := <-ticker.C:
			rs.expire(now)
			t.line(out, now.Sub(began))
			if err := s.failed.Swap(nil); err != nil {
				say("sending failed: %v", *err)
			}
		}
	}
}

// tally counts what the log tells, by destination.
type tally struct {
	by    map[string]*counts
	order []string
	last  counts
	marks []time.Duration // the last seconds
}

type counts struct {
	what                                   string
	received, delivered, deferred, bounced int
	answer                                 string // the last that was no success

	then []int // delivered, at each of tally.marks
}

// present is over how many seconds the present rate is taken.
const present = 5

// keep is the end of list that counts as the present.
func keep[T any](list []T) []T { return list[max(0, len(list)-present):] }

// rate is how many are delivered a second at present.
func (t *tally) rate(c *counts, after time.Duration) float64 {
	if len(t.marks) < 2 {
		return float64(c.delivered) / after.Seconds()
	}
	return float64(c.delivered-c.then[0]) / (after - t.marks[0]).Seconds()
}

func newTally() *tally {
	t := &tally{by: make(map[string]*counts)}
	for _, d := range destinations {
		t.by[d.domain] = &counts{what: d.what}
		t.order = append(t.order, d.domain)
	}
	return t
}

// count returns what is worth a word: the first answer of its kind.
func (t *tally) count(r *mtakit.Record) (first string) {
	c := t.by[r.Queue.Domain]
	if c == nil {
		return ""
	}
	n := len(r.To)
	switch r.Kind {
	case mtakit.Reception:
		c.received += n
	case mtakit.Delivered:
		c.delivered += n
	case mtakit.TransientFailure, mtakit.Bounce, mtakit.Expiration, mtakit.AdminBounce:
		if r.Kind == mtakit.TransientFailure {
			c.deferred += n
		} else {
			c.bounced += n
		}
		if c.answer == "" {
			first = fmt.Sprintf("%s answers %q", r.Queue.Domain, r.Response.String())
		}
		c.answer = r.Response.String()
	}
	return first
}

func (t *tally) sum() (all counts) {
	for _, c := range t.by {
		all.received += c.received
		all.delivered += c.delivered
		all.deferred += c.deferred
		all.bounced += c.bounced
	}
	return all
}

func (c *counts) waiting() int { return c.received - c.delivered - c.bounced }

// line is the progress of the last second.
func (t *tally) line(out io.Writer, after time.Duration) {
	all := t.sum()
	fmt.Fprintf(out, "%4.0fs  in %d/s  out %d/s   %d delivered, %d tries deferred, %d bounced, %d waiting\n", after.Seconds(), all.received-t.last.received,
		all.delivered-t.last.delivered, all.delivered, all.deferred, all.bounced, all.waiting())
	t.last = all
	t.marks = keep(append(t.marks, after))
	for _, c := range t.by {
		c.then = keep(append(c.then, c.delivered))
	}
}

// table is the summary.
func (t *tally) table(out io.Writer, after time.Duration) {
	fmt.Fprintf(out, "\nAfter %v:\n\n", after.Round(time.Second))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "destination\tit …\taccepted\tdelivered\ttries deferred\tbounced\twaiting\tnow\tits last answer that was no success")
	row := func(name string, c *counts) {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.0f/s\t%s\n", name, c.what, c.received, c.delivered, c.deferred, c.bounced, c.waiting(), t.rate(c, after),
			shorten(strings.TrimPrefix(c.answer, "400 "+mtakit.Internal+"failed to connect to any candidate hosts: "), 70))
	}
	all := t.sum()
	all.then = make([]int, 1)
	for _, name := range t.order {
		c := t.by[name]
		row(name, c)
		if len(c.then) > 0 {
			all.then[0] += c.then[0]
		}
	}
	row("all", &all)
	w.Flush()
}

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
