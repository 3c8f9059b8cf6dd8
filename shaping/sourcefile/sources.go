// Package sourcefile reads the files that define the sources mail leaves from, and the pools of them. They are those of KumoMTA's sources
// helper, in TOML, or in JSON with comments.
//
//	[source."ip-1"]
//	source_address = "192.0.2.1"
//	ehlo_domain = "mx1.example"
//
//	[pool."warm"."ip-1"]
//	weight = 2
//
// Files are merged in their order: the options of a source key by key, the entries of a pool source by source, so that a source counts once
// in a pool. What is wrong is told as FILE:LINE:COL: text ([mtakit.Findings]).
//
// A [Sources] does not change and starts no goroutine; [Live.Run] is the caller's.
package sourcefile

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Sources is the content of a list of files, merged. It does not change, and is safe for concurrent use.
type Sources struct {
	sources  map[string]*mtakit.Source
	pools    map[string]*mtakit.Pool
	sourceAt map[string]*datafile.Value // as written
	poolAt   map[string]*datafile.Value
	findings mtakit.Findings
}

// Load reads the files. Its error is [mtakit.Findings], with everything that is wrong.
func Load(files []string) (*Sources, error) {
	s := read(files)
	if err := s.findings.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// Check is Load for those who want to know of warnings too.
func Check(files []string) mtakit.Findings { return read(files).findings }

// Findings are the warnings of Load.
func (s *Sources) Findings() mtakit.Findings { return s.findings }

// Source is the source of that name; (queue.Policy).Source is this. The answer must not be changed.
func (s *Sources) Source(_ context.Context, name string) (*mtakit.Source, error) {
	if src := s.sources[name]; src != nil {
		return src, nil
	}
	if name == mtakit.Unspecified {
		return &mtakit.Source{Name: name, TTL: ttl}, nil
	}
	return nil, fmt.Errorf("source %s is not defined", name)
}

// Pool is the pool of that name; (queue.Policy).Pool is this. The answer must not be changed.
func (s *Sources) Pool(_ context.Context, name string) (*mtakit.Pool, error) {
	if p := s.pools[name]; p != nil {
		return p, nil
	}
	if name == mtakit.Unspecified {
		return &mtakit.Pool{Name: name, Entries: []mtakit.PoolEntry{{Name: name, Weight: 1}}, TTL: ttl}, nil
	}
	return nil, fmt.Errorf("pool %s is not defined", name)
}

// CheckNames reports names that other files use and these do not define: sources as (*shaping.Shaping).Sources yields them, pools as
// (*queuefile.Queues).Pools does. Either may be nil.
func (s *Sources) CheckNames(sources, pools iter.Seq2[string, mtakit.Place]) mtakit.Findings {
	r := &datafile.Report{}
	if sources != nil {
		for name, at := range sources {
			if s.sources[name] == nil && name != mtakit.Unspecified {
				r.Errorf(at, "source %s is not defined", name)
			}
		}
	}
	if pools != nil {
		for name, at := range pools {
			if s.pools[name] == nil && name != mtakit.Unspecified {
				r.Errorf(at, "pool %s is not defined", name)
			}
		}
	}
	return r.Findings
}

const ttl = mtakit.Duration(time.Minute)

func read(files []string) *Sources {
	r := &datafile.Report{}
	s := &Sources{
		sources: make(map[string]*mtakit.Source), pools: make(map[string]*mtakit.Pool),
		sourceAt: make(map[string]*datafile.Value), poolAt: make(map[string]*datafile.Value),
	}
	v := datafile.Load(files, r)
	switch {
	case v == nil:
	case v.Kind != datafile.Table:
		r.Errorf(v.Place, "expected a table, got %s", v.What())
	default:
		for _, e := range v.Entries {
			switch e.Key {
			case "source":
				each(e, r, s.readSource)
			case "pool":
			default:
				datafile.Unknown(e, []string{"source", "pool"}, r)
			}
		}
		if p := v.Get("pool"); p != nil { // after the sources, which they name
			each(datafile.Entry{Key: "pool", Value: p}, r, s.readPool)
		}
	}
	r.Sort(files)
	s.findings = r.Findings
	return s
}

// each calls f for the entries of a table of tables.
func each(t datafile.Entry, r *datafile.Report, f func(datafile.Entry, *datafile.Report)) {
	if t.Value.Kind != datafile.Table {
		r.Errorf(t.Value.Place, "%s: expected a table, got %s", t.Key, t.Value.What())
		return
	}
	for _, e := range t.Value.Entries {
		if e.Value.Kind != datafile.Table {
			r.Errorf(e.Value.Place, "%s.%s: expected a table, got %s", t.Key, e.Key, e.Value.What())
			continue
		}
		f(e, r)
	}
}

func (s *Sources) readSource(e datafile.Entry, r *datafile.Report) {
	src := &mtakit.Source{Name: e.Key, TTL: ttl}
	for _, o := range e.Value.Entries {
		if known, _ := datafile.DecodeField(o, src, r); !known {
			datafile.Unknown(o, datafile.Fields(src), r)
		}
	}
	for _, pair := range [][2]string{{"ha_proxy_server", "ha_proxy_source_address"}, {"socks5_proxy_server", "socks5_proxy_source_address"},
		{"socks5_proxy_username", "socks5_proxy_password"}} {
		for i, key := range pair {
			if has := e.Value.Get(key); has != nil && e.Value.Get(pair[1-i]) == nil {
				r.Warnf(has.Place, "%s has no effect without %s", key, pair[1-i])
			}
		}
	}
	for _, key := range []string{"ha_proxy_server", "socks5_proxy_server"} {
		if v := e.Value.Get(key); v != nil && v.Kind == datafile.String {
			if h, err := mtakit.ParseHost(v.Str); err != nil || h.Port == 0 {
				r.Errorf(v.Place, "%s: expected HOST:PORT, got %s", key, v.What())
			}
		}
	}
	s.sources[e.Key], s.sourceAt[e.Key] = src, e.Value
}

func (s *Sources) readPool(e datafile.Entry, r *datafile.Report) {
	p := &mtakit.Pool{Name: e.Key, TTL: ttl}
	each(datafile.Entry{Key: "pool." + e.Key, Value: e.Value}, r, func(m datafile.Entry, r *datafile.Report) {
		t := struct {
			Weight int `json:"weight"`
		}{1}
		datafile.Decode(m.Value, &t, "", r)
		if s.sources[m.Key] == nil && m.Key != mtakit.Unspecified {
			r.Errorf(m.Place, "pool '%s' references source '%s' which is not defined", e.Key, m.Key)
		}
		p.Entries = append(p.Entries, mtakit.PoolEntry{Name: m.Key, Weight: t.Weight})
	})
	s.pools[e.Key], s.poolAt[e.Key] = p, e.Value
}
