package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
)

// reactions carry out the automation rules of the shaping files: options that rules set go into a file of their own, which the daemon reads when it
// changes, and what rules suspend is suspended over HTTP. It is for one goroutine.
type reactions struct {
	http  string
	file  string
	rules *shaping.Shaping
	say   func(format string, args ...any)

	seen map[*shaping.Rule][]time.Time // of matching replies, within the rule's period
	set  map[string]setting            // by domain and option
}

type setting struct {
	domain, option, value string // the value as TOML has it
	until                 time.Time
}

// react looks at a reply.
func (rs *reactions) react(ctx context.Context, now time.Time, r *mtakit.Record) {
	if r.Kind != mtakit.TransientFailure && r.Kind != mtakit.Bounce {
		return
	}
	_, site, _ := strings.Cut(r.Site, "->")
	site, _, _ = strings.Cut(site, "@")
	for _, matched := range rs.rules.Rules(ctx, r.Queue.RoutingDomain(), site) {
		for _, rule := range matched.Rules {
			if rule.Match(r.Response) && rs.reached(now, rule) {
				for _, a := range rule.Actions {
					rs.do(ctx, now, r, rule, a)
				}
			}
		}
	}
}

// reached counts a reply, and says whether there were as many as the rule wants.
func (rs *reactions) reached(now time.Time, rule *shaping.Rule) bool {
	if rule.Threshold.IsZero() {
		return true
	}
	seen := slices.DeleteFunc(rs.seen[rule], func(t time.Time) bool { return now.Sub(t) > rule.Threshold.Per })
	seen = append(seen, now)
	if len(seen) > rule.Threshold.N {
		rs.seen[rule] = nil
		return true
	}
	rs.seen[rule] = seen
	return false
}

func (rs *reactions) do(ctx context.Context, now time.Time, r *mtakit.Record, rule *shaping.Rule, a shaping.Action) {
	domain, until := r.Queue.RoutingDomain(), now.Add(rule.Duration)
	key := domain + "/" + string(a.Kind) + a.Option
	known := rs.set[key]
	if known.until.Sub(now) > rule.Duration/2 { // it holds for a while, or has just failed
		return
	}
	rs.set[key] = setting{domain: domain, until: until}
	var err error
	switch a.Kind {
	case shaping.Suspend:
		body, _ := json.Marshal(map[string]any{"name": r.Site, "reason": r.Response.String(), "duration": rule.Duration.String()})
		if err = post(ctx, rs.http+"/api/admin/suspend-ready-q/v1", body); err == nil {
			rs.say("%s is suspended for %v, because of %q", r.Site, rule.Duration, r.Response.String())
		}
	case shaping.SetConfig, shaping.SetDomainConfig:
		value, _ := json.Marshal(a.Value) // for text and numbers it is TOML as well
		rs.set[key] = setting{domain, a.Option, string(value), until}
		if err = rs.write(); err == nil && known.value == "" {
			rs.say("%s: %s = %s for %v, because of %q", domain, a.Option, value, rule.Duration, r.Response.String())
		}
	}
	if err != nil {
		rs.say("reaction failed: %v", err)
	}
}

// expire ends what has held for long enough.
func (rs *reactions) expire(now time.Time) {
	n := len(rs.set)
	maps.DeleteFunc(rs.set, func(_ string, s setting) bool {
		over := !s.until.After(now)
		if over && s.option != "" {
			rs.say("%s: %s is as before", s.domain, s.option)
		}
		return over
	})
	if len(rs.set) < n {
		if err := rs.write(); err != nil {
			rs.say("reaction failed: %v", err)
		}
	}
}

// write puts the settings in force, all at once.
func (rs *reactions) write() error {
	var b strings.Builder
	b.WriteString("# What is set because of answers, for as long as it holds.\n")
	for _, key := range slices.Sorted(maps.Keys(rs.set)) {
		if s := rs.set[key]; s.option != "" {
			fmt.Fprintf(&b, "[%q]\n%s = %s # until %s\n", s.domain, s.option, s.value, s.until.Format(time.TimeOnly))
		}
	}
	temp := rs.file + ".new"
	if err := os.WriteFile(temp, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, rs.file)
}
