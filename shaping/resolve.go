package shaping

import (
	"context"
	"encoding/binary"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// question is what a path is asked for by.
type question struct{ domain, source, site string }

// maxAsked bounds the table of questions; beyond that it starts anew. Answers stay.
const maxAsked = 1 << 16

// Path is the configuration for mail to a domain, from a source, at a site; (queue.Policy).Path is this. domain is the one whose
// hosts take the mail, in lower case; site may be nil. The answer is the same pointer as long as the same blocks apply; it must
// not be changed. There is no error but that of ctx.
func (s *Shaping) Path(ctx context.Context, domain, source string, site *mtakit.Site) (*mtakit.PathConfig, error) {
	q := question{domain: domain, source: source}
	if site != nil {
		q.site = site.Name
	}
	s.mu.RLock()
	p := s.asked[q]
	s.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	var few [8]int
	a := s.applying(ctx, q, site, few[:0])
	if err := ctx.Err(); err != nil && !a.final {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := a.identity()
	p = s.resolved[id]
	if p == nil {
		p = a.config()
		s.resolved[id] = p
	}
	if a.final {
		if len(s.asked) >= maxAsked {
			clear(s.asked)
		}
		// The texts may be parts of something large.
		s.asked[question{strings.Clone(domain), strings.Clone(source), strings.Clone(q.site)}] = p
	}
	return p, nil
}

// Provider is the provider_name of the path to a domain from the source "unspecified": that of the last provider which matches it, unless a
// block says otherwise. It is "" if there is none, or if the domain's site cannot be found.
func (s *Shaping) Provider(ctx context.Context, domain string) string {
	var site *mtakit.Site
	if s.router != nil && len(s.provider.list)+len(s.bySite.list) > 0 {
		if got, err := s.router.Route(ctx, domain); err == nil {
			site = got
		}
	}
	p, err := s.Path(ctx, domain, mtakit.Unspecified, site)
	if err != nil {
		return ""
	}
	return p.ProviderName
}

// application is the blocks that apply to a question.
type application struct {
	*Shaping
	source    string
	providers []int
	site      int // -1 is none
	domain    int // -1 is none
	final     bool
}

func (s *Shaping) applying(ctx context.Context, q question, site *mtakit.Site, room []int) application {
	a := application{Shaping: s, source: q.source, site: s.bySite.at(q.site), domain: s.byDomain.at(q.domain)}
	a.providers, a.final = s.providers(ctx, q.domain, site, room)
	return a
}

// identity is equal for applications with equal results. The source counts only where it makes a difference: that keeps the number of
// results small with many sources.
func (a *application) identity() string {
	b := make([]byte, 0, 64)
	b = binary.AppendVarint(b, int64(a.site))
	b = binary.AppendVarint(b, int64(a.domain))
	matters := a.site >= 0 && a.bySite.list[a.site].sources.Get(a.source) != nil ||
		a.domain >= 0 && a.byDomain.list[a.domain].sources.Get(a.source) != nil
	for _, i := range a.providers {
		b = binary.AppendVarint(b, int64(i))
		p := a.provider.list[i]
		matters = matters || p.limit != nil || p.rate != nil || len(p.selection.Entries) > 0 || p.sources.Get(a.source) != nil
	}
	if matters {
		b = append(append(b, ' '), a.source...)
	}
	return string(b)
}

// layer is a table of options, over those before it.
type layer struct {
	by      string // the block it is from
	options *datafile.Value
	replace bool // forget those before it
}

// layers are what makes up the path, from weak to strong.
func (a *application) layers() []layer {
	var ls []layer
	of := func(b *block, replace bool) { ls = append(ls, layer{b.label, b.options, replace}) }
	ofSource := func(b *block) bool {
		o := b.sources.Get(a.source)
		if o != nil {
			ls = append(ls, layer{b.label + " source " + a.source, o, false})
		}
		return o != nil
	}
	if a.byName != nil {
		of(a.byName, false)
	}
	for _, i := range a.providers {
		p := a.provider.list[i]
		of(p, false)
		ls = append(ls, a.implied(p, p.selection.Get("")))
	}
	for _, i := range a.providers {
		p := a.provider.list[i]
		if ofSource(p) {
			ls = append(ls, a.implied(p, p.selection.Get(a.source)))
		}
	}
	if a.site >= 0 {
		of(a.bySite.list[a.site], a.bySite.list[a.site].replaceBase)
	}
	if a.domain >= 0 {
		of(a.byDomain.list[a.domain], a.byDomain.list[a.domain].replaceBase)
	}
	if a.site >= 0 {
		ofSource(a.bySite.list[a.site])
	}
	if a.domain >= 0 {
		ofSource(a.byDomain.list[a.domain])
	}
	return ls
}

// implied are the options that follow from a provider's matching. Its limits are shared by its sites, for each source.
func (a *application) implied(p *block, selection *datafile.Value) layer {
	t := datafile.NewTable(p.place)
	t.Put(datafile.Entry{Key: "provider_name", Place: p.place, Value: &datafile.Value{Place: p.place, Kind: datafile.String, Str: p.key}})
	put := func(option, suffix string, v *datafile.Value) {
		if v == nil {
			return
		}
		named := datafile.NewTable(v.Place)
		named.Put(datafile.Entry{Key: "shaping-provider-" + p.key + "-" + a.source + "-" + suffix, Place: v.Place, Value: v})
		t.Put(datafile.Entry{Key: option, Place: v.Place, Value: named})
	}
	put("additional_connection_limits", "limit", p.limit)
	put("additional_message_rate_throttles", "rate", p.rate)
	put("additional_source_selection_rates", "selection-rate", selection)
	return layer{p.label, t, false}
}

// fold is all options of the layers, and for each the block that had the last word.
func (a *application) fold() (options *datafile.Value, by map[string]string) {
	options, by = datafile.NewTable(mtakit.Place{}), make(map[string]string)
	for _, l := range a.layers() {
		if l.replace {
			options = datafile.NewTable(mtakit.Place{})
			clear(by)
		}
		options = overlay(options, l.options)
		for _, e := range l.options.Entries {
			by[e.Key] = l.by
			if additive[e.Key] {
				for _, n := range e.Value.Entries {
					by[e.Key+"."+n.Key] = l.by
				}
			}
		}
	}
	return options, by
}

// config decodes the options, each of which was found good when it was read.
func (a *application) config() *mtakit.PathConfig {
	c := a.base
	options, _ := a.fold()
	for _, e := range options.Entries {
		datafile.DecodeField(e, &c, &datafile.Report{})
	}
	return &c
}
