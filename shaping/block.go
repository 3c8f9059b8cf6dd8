package shaping

import (
	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// block is what is said about the default, a site, a domain or a provider, of one file or merged from several.
type block struct {
	label string       // default, site (a|b).example, domain a.example, provider b
	key   string       // of the site, domain or provider
	place mtakit.Place // of the key in the first file

	options     *datafile.Value // a table
	sources     *datafile.Value // a table of tables, by source
	rules       []*Rule
	replaceBase bool
	rollup      bool // of a domain: mx_rollup

	// Of a provider:
	match     []matchRule
	limit     *datafile.Value // provider_connection_limit
	rate      *datafile.Value // provider_max_message_rate
	selection *datafile.Value // a table: provider_source_selection_rate by source, "" for all
}

// blocks is a table of blocks in the order of their first appearance.
type blocks struct {
	list  []*block
	index map[string]int
}

func (t *blocks) get(key string) *block {
	if i, ok := t.index[key]; ok {
		return t.list[i]
	}
	return nil
}

func (t *blocks) at(key string) int {
	if i, ok := t.index[key]; ok {
		return i
	}
	return -1
}

// add merges b into the block under key, or makes it that block.
func (t *blocks) add(key string, b *block) {
	if i, ok := t.index[key]; ok {
		t.list[i] = merge(t.list[i], b)
		return
	}
	if t.index == nil {
		t.index = make(map[string]int)
	}
	t.index[key] = len(t.list)
	t.list = append(t.list, b)
}

// merge is old with b over it. The flag replace_base stays that of the first file.
func merge(old, b *block) *block {
	m := *old
	if b.replaceBase {
		m.options, m.sources, m.rules = b.options, b.sources, b.rules
		m.match, m.limit, m.rate, m.selection = b.match, b.limit, b.rate, b.selection
		return &m
	}
	m.options = overlay(old.options, b.options)
	m.sources = datafile.NewTable(old.sources.Place)
	for _, t := range []*datafile.Value{old.sources, b.sources} {
		for _, e := range t.Entries {
			if had := m.sources.Get(e.Key); had != nil {
				e.Value = overlay(had, e.Value)
			}
			m.sources.Put(e)
		}
	}
	m.rules = appendRules(old.rules[:len(old.rules):len(old.rules)], b.rules...)
	m.match = append(old.match[:len(old.match):len(old.match)], b.match...)
	m.selection = overlay(old.selection, b.selection)
	if b.limit != nil {
		m.limit = b.limit
	}
	if b.rate != nil {
		m.rate = b.rate
	}
	return &m
}

// additive are the options whose tables are merged name by name; the others are replaced.
var additive = map[string]bool{
	"additional_connection_limits": true, "additional_message_rate_throttles": true, "additional_source_selection_rates": true,
}

// overlay is the options of base with those of top over them.
func overlay(base, top *datafile.Value) *datafile.Value {
	if base == nil {
		return top
	}
	m := datafile.NewTable(base.Place)
	for _, e := range base.Entries {
		m.Put(e)
	}
	for _, e := range top.Entries {
		if had := m.Get(e.Key); had != nil && additive[e.Key] {
			e.Value = union(had, e.Value)
		}
		m.Put(e)
	}
	return m
}

func union(base, top *datafile.Value) *datafile.Value {
	m := datafile.NewTable(top.Place)
	for _, t := range []*datafile.Value{base, top} {
		for _, e := range t.Entries {
			m.Put(e)
		}
	}
	return m
}
