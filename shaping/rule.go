package shaping

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Rule is an automation rule: replies that match it lead to actions. It does not change.
type Rule struct {
	Place    mtakit.Place
	Patterns []*Pattern // one of them has to match
	Actions  []Action   // all are carried out
	// Threshold is how many matching replies it takes; zero: one.
	Threshold     mtakit.Rate
	Duration      time.Duration // of the actions' effect
	MatchInternal bool          // it looks at replies that mtakit made up, too
}

// Action is what a rule does.
type Action struct {
	Kind   ActionKind
	Option string // of SetConfig and SetDomainConfig, a valid one
	Value  any    // its value, valid: string, bool, int64, float64, []any or map[string]any
}

// ActionKind names a kind of action.
type ActionKind string

// Kinds of actions.
const (
	Suspend         ActionKind = "Suspend"
	SuspendTenant   ActionKind = "SuspendTenant"
	SuspendCampaign ActionKind = "SuspendCampaign"
	Bounce          ActionKind = "Bounce"
	BounceTenant    ActionKind = "BounceTenant"
	BounceCampaign  ActionKind = "BounceCampaign"
	SetConfig       ActionKind = "SetConfig"       // for the site of the domain
	SetDomainConfig ActionKind = "SetDomainConfig" // for the domain
)

var bareActions = []ActionKind{Suspend, SuspendTenant, SuspendCampaign, Bounce, BounceTenant, BounceCampaign}

// Match says whether the rule is about this reply.
func (rule *Rule) Match(reply mtakit.Response) bool {
	if reply.IsInternal() && !rule.MatchInternal {
		return false
	}
	text := reply.String()
	for _, p := range rule.Patterns {
		if p.Match(text) {
			return true
		}
	}
	return false
}

// identity is equal for rules that say the same, wherever they stand.
func (rule *Rule) identity() string {
	actions, _ := json.Marshal(rule.Actions)
	return fmt.Sprint(rule.Patterns, string(actions), rule.Threshold, rule.Duration, rule.MatchInternal)
}

// appendRules leaves out what is there already, as after the same file was named twice: it would count every reply twice.
func appendRules(rules []*Rule, more ...*Rule) []*Rule {
	for _, m := range more {
		id := m.identity()
		if !slices.ContainsFunc(rules, func(r *Rule) bool { return r.identity() == id }) {
			rules = append(rules, m)
		}
	}
	return rules
}

// MatchedRules are rules that apply to a path, and for whom their actions hold.
type MatchedRules struct {
	Rules  []*Rule
	Rollup bool // for the site, rather than for the domain alone
}

// Rules returns the rules for a domain and the name of a site, in the order of evaluation: the default's, those of the providers that
// match, the site's, the domain's.
func (s *Shaping) Rules(ctx context.Context, domain, site string) []MatchedRules {
	var all []MatchedRules
	add := func(b *block, rollup bool) {
		if b != nil && len(b.rules) > 0 {
			all = append(all, MatchedRules{b.rules, rollup})
		}
	}
	add(s.byName, true)
	matched, _ := s.providers(ctx, domain, nil, nil)
	for _, i := range matched {
		add(s.provider.list[i], false)
	}
	add(s.bySite.get(site), true)
	add(s.byDomain.get(domain), false)
	return all
}

func readRules(v *datafile.Value, r *datafile.Report) (rules []*Rule) {
	if v.Kind != datafile.Array {
		r.Errorf(v.Place, "automation: expected an array of rules, got %s", v.What())
		return nil
	}
	for _, item := range v.Items {
		if item.Kind != datafile.Table {
			r.Errorf(item.Place, "automation: expected a rule, got %s", item.What())
			continue
		}
		rules = appendRules(rules, readRule(item, r))
	}
	return rules
}

var ruleKeys = []string{"regex", "action", "trigger", "duration", "match_internal"}

func readRule(v *datafile.Value, r *datafile.Report) *Rule {
	rule := &Rule{Place: v.Place}
	for _, e := range v.Entries {
		switch e.Key {
		case "regex":
			for _, p := range oneOrMore(e.Value) {
				if c := readPattern(p, r); c != nil {
					rule.Patterns = append(rule.Patterns, c)
				}
			}
		case "action":
			for _, a := range oneOrMore(e.Value) {
				rule.readAction(a, r)
			}
		case "trigger":
			var t datafile.Trigger
			datafile.Decode(e.Value, &t, e.Key, r)
			rule.Threshold = t.Threshold
		case "duration":
			var d mtakit.Duration
			datafile.Decode(e.Value, &d, e.Key, r)
			rule.Duration = d.Std()
		case "match_internal":
			datafile.Decode(e.Value, &rule.MatchInternal, e.Key, r)
		default:
			datafile.Unknown(e, ruleKeys, r)
		}
	}
	for _, key := range []string{"regex", "action", "duration"} {
		switch has := v.Get(key); {
		case has == nil:
			r.Errorf(v.Place, "automation: %s is missing in the rule", key)
		case has.Kind == datafile.Array && len(has.Items) == 0:
			r.Errorf(has.Place, "automation: %s is empty", key)
		}
	}
	return rule
}

func oneOrMore(v *datafile.Value) []*datafile.Value {
	if v.Kind == datafile.Array {
		return v.Items
	}
	return []*datafile.Value{v}
}

func readPattern(v *datafile.Value, r *datafile.Report) *Pattern {
	var text string
	if !datafile.Decode(v, &text, "regex", r) {
		return nil
	}
	p, err := CompilePattern(text)
	if err != nil {
		r.Errorf(v.Place, "regex: %v", err)
		return nil
	}
	if p.slow != nil {
		r.Warnf(v.Place, "regex: this needs backtracking, which may be slow: %s", text)
	}
	return p
}

func (rule *Rule) readAction(v *datafile.Value, r *datafile.Report) {
	if v.Kind == datafile.String && slices.Contains(bareActions, ActionKind(v.Str)) {
		rule.Actions = append(rule.Actions, Action{Kind: ActionKind(v.Str)})
		return
	}
	if v.Kind != datafile.Table || len(v.Entries) != 1 {
		r.Errorf(v.Place, "action: expected one of %s, or {SetConfig = {name = …, value = …}}, or an array of them, got %s",
			strings.Trim(fmt.Sprint(bareActions), "[]"), v.What())
		return
	}
	set := v.Entries[0]
	kind := ActionKind(set.Key)
	if kind != SetConfig && kind != SetDomainConfig {
		datafile.Unknown(set, []string{string(SetConfig), string(SetDomainConfig)}, r)
		return
	}
	name, value := set.Value.Get("name"), set.Value.Get("value")
	if name == nil || name.Kind != datafile.String || value == nil || len(set.Value.Entries) != 2 {
		r.Errorf(set.Value.Place, "%s: expected {name = OPTION, value = VALUE}", kind)
		return
	}
	if checkOption(datafile.Entry{Key: name.Str, Place: name.Place, Value: value}, optionNames, r) {
		rule.Actions = append(rule.Actions, Action{kind, name.Str, value.Any()})
	}
}
