package shaping

import (
	"path/filepath"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// file is one shaping file, in its order.
type file struct {
	def       *block
	domains   []*block
	providers []*block
}

// readFile reports what is wrong and returns nil only if nothing can be read.
func readFile(name string, automation bool, r *datafile.Report) *file {
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		r.Errorf(mtakit.Place{File: name}, "shaping files are read from disk, not over HTTP")
		return nil
	}
	data, err := datafile.ReadFile(name)
	if err != nil {
		r.Errorf(mtakit.Place{File: name}, "%v", datafile.Reason(err))
		return nil
	}
	return parseFile(name, data, automation, r)
}

func parseFile(name string, data []byte, automation bool, r *datafile.Report) *file {
	var v *datafile.Value
	switch filepath.Ext(name) {
	case ".toml":
		v = datafile.Parse(name, data, datafile.TOML, r)
	case ".json":
		v = datafile.Parse(name, data, datafile.JSON, r)
	default:
		v = parseEither(name, data, r)
	}
	if v == nil {
		return nil
	}
	if v.Kind != datafile.Table {
		r.Errorf(v.Place, "expected a table of domains, got %s", v.What())
		return nil
	}
	f := &file{}
	for _, e := range v.Entries {
		f.entry(e, r)
	}
	if rule := f.firstRule(); rule != nil && !automation {
		r.Warnf(rule.Place, "automation rules have no effect without traffic shaping automation")
	}
	return f
}

// parseEither takes what reads as TOML or else as JSON; if neither does, both are reported.
func parseEither(name string, data []byte, r *datafile.Report) *datafile.Value {
	asTOML, asJSON := &datafile.Report{}, &datafile.Report{}
	v := datafile.Parse(name, data, datafile.TOML, asTOML)
	if asTOML.Err() == nil {
		return v
	}
	v = datafile.Parse(name, data, datafile.JSON, asJSON)
	if asJSON.Err() == nil {
		return v
	}
	for _, f := range asTOML.Findings {
		r.Errorf(f.Place, "as TOML: %s", f.Text)
	}
	for _, f := range asJSON.Findings {
		r.Errorf(f.Place, "as JSON: %s", f.Text)
	}
	return nil
}

func (f *file) firstRule() (first *Rule) {
	all := append(append([]*block{}, f.domains...), f.providers...)
	if f.def != nil {
		all = append(all, f.def)
	}
	for _, b := range all {
		for _, rule := range b.rules {
			if first == nil || rule.Place.Line < first.Place.Line {
				first = rule
			}
		}
	}
	return first
}

// entry reads one key of the top level.
func (f *file) entry(e datafile.Entry, r *datafile.Report) {
	if e.Value.Kind != datafile.Table {
		r.Errorf(e.Place, "%s: expected a table of options for a domain, got %s", e.Key, e.Value.What())
		return
	}
	switch e.Key {
	case "default":
		b := readBlock(e, "default", r)
		if v := e.Value.Get("mx_rollup"); v != nil {
			r.Warnf(v.Place, "mx_rollup has no effect in default")
		}
		if v := e.Value.Get("sources"); v != nil {
			r.Warnf(v.Place, "sources have no effect in default")
		}
		f.def = b
	case "provider":
		for _, p := range e.Value.Entries {
			if p.Value.Kind != datafile.Table {
				r.Errorf(p.Place, "provider.%s: expected a table, got %s", p.Key, p.Value.What())
				continue
			}
			f.providers = append(f.providers, readProvider(p, r))
		}
	default:
		checkDomain(e, r)
		f.domains = append(f.domains, readBlock(e, "domain "+e.Key, r))
	}
}

func checkDomain(e datafile.Entry, r *datafile.Report) {
	switch d := e.Key; {
	case strings.HasPrefix(d, "*"):
		r.Warnf(e.Place, "domain %s: there are no wildcards in shaping files; nothing matches this", d)
	case d != strings.ToLower(d):
		r.Warnf(e.Place, "domain %s: names of domains are looked up in lower case; nothing matches this", d)
	case !strings.Contains(strings.TrimSuffix(d, "."), "."):
		r.Warnf(e.Place, "Entry for domain '%s' consists of a single DNS label. Domain names in TOML sections need to be quoted like "+
			"'[\"%s.com\"]' otherwise the '.' will create a nested table rather than being added to the domain name.", d, d)
	}
}

// readBlock reads the table of a domain or default.
func readBlock(e datafile.Entry, label string, r *datafile.Report) *block {
	b := newBlock(e, label)
	for _, o := range e.Value.Entries {
		if !b.common(o, r) {
			if o.Key == "mx_rollup" {
				datafile.Decode(o.Value, &b.rollup, o.Key, r)
				continue
			}
			readOption(b.options, o, domainKeys, r)
		}
	}
	return b
}

func newBlock(e datafile.Entry, label string) *block {
	return &block{
		label: label, key: e.Key, place: e.Place, rollup: true,
		options: datafile.NewTable(e.Place), sources: datafile.NewTable(e.Place), selection: datafile.NewTable(e.Place),
	}
}

// common reads the keys that all blocks have.
func (b *block) common(o datafile.Entry, r *datafile.Report) bool {
	switch o.Key {
	case "replace_base":
		datafile.Decode(o.Value, &b.replaceBase, o.Key, r)
	case "automation":
		b.rules = readRules(o.Value, r)
	case "sources":
		if o.Value.Kind != datafile.Table {
			r.Errorf(o.Value.Place, "sources: expected a table of sources, got %s", o.Value.What())
			return true
		}
		for _, s := range o.Value.Entries {
			b.source(s, r)
		}
	default:
		return false
	}
	return true
}

func (b *block) source(s datafile.Entry, r *datafile.Report) {
	if s.Value.Kind != datafile.Table {
		r.Errorf(s.Value.Place, "sources.%s: expected a table of options, got %s", s.Key, s.Value.What())
		return
	}
	options, known := datafile.NewTable(s.Place), optionNames
	if b.isProvider() {
		known = append([]string{selectionRate}, known...)
	}
	for _, o := range s.Value.Entries {
		if b.isProvider() && o.Key == selectionRate {
			b.readSelection(s.Key, o, r)
			continue
		}
		readOption(options, o, known, r)
	}
	b.sources.Put(datafile.Entry{Key: s.Key, Place: s.Place, Value: options})
}

const selectionRate = "provider_source_selection_rate"

// selection is kept apart from the options, by source, since it becomes an option of another name.
func (b *block) readSelection(source string, o datafile.Entry, r *datafile.Report) {
	var rate mtakit.Rate
	if datafile.Decode(o.Value, &rate, o.Key, r) {
		b.selection.Put(datafile.Entry{Key: source, Place: o.Place, Value: o.Value})
	}
}

func (b *block) isProvider() bool { return strings.HasPrefix(b.label, "provider ") }

func readProvider(e datafile.Entry, r *datafile.Report) *block {
	b := newBlock(e, "provider "+e.Key)
	for _, o := range e.Value.Entries {
		if b.common(o, r) {
			continue
		}
		switch o.Key {
		case "match":
			b.match = readMatch(o.Value, r)
		case "provider_connection_limit":
			var l mtakit.Limit
			if datafile.Decode(o.Value, &l, o.Key, r) {
				b.limit = o.Value
			}
		case "provider_max_message_rate":
			var rate mtakit.Rate
			if datafile.Decode(o.Value, &rate, o.Key, r) {
				b.rate = o.Value
			}
		case selectionRate:
			b.readSelection("", o, r)
		default:
			readOption(b.options, o, providerKeys, r)
		}
	}
	return b
}
