package shaping

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Config says what to load. The zero value gives the defaults for every path.
type Config struct {
	// Files are merged in this order. Names ending in .toml or .json are read as that, others as the one that fits.
	Files []string
	// Router finds the sites of domains: those with mx_rollup, and those that providers are to match by their hosts. Without one, files
	// that need it are refused.
	Router mtakit.Router
	// Base is what holds where the files say nothing. Default mtakit.DefaultPathConfig. Its refresh_strategy is Epoch in any case.
	Base *mtakit.PathConfig
	// Checks says which doubtful things are reported, and how. The zero value reports none of them.
	Checks Checks
	// Automation says that the rules of the files are evaluated; without it they are reported as having no effect.
	Automation bool
}

// Checks are levels for what is not wrong in itself. An error keeps the files from being used.
type Checks struct {
	DNSFail         mtakit.Level // the site of a domain with mx_rollup cannot be found; its block is passed over
	NullMX          mtakit.Level // a domain with mx_rollup takes no mail; its block is passed over
	AliasedSite     mtakit.Level // blocks of several domains apply to one site
	ProviderOverlap mtakit.Level // a domain with mx_rollup is also matched by a provider
}

// AllChecks reports everything that is checked as a warning.
func AllChecks() Checks {
	return Checks{mtakit.LevelWarn, mtakit.LevelWarn, mtakit.LevelWarn, mtakit.LevelWarn}
}

// Shaping is the content of a list of files, merged. It does not change, and is safe for concurrent use.
type Shaping struct {
	router   mtakit.Router
	base     mtakit.PathConfig
	byName   *block // "default"; nil if there is none
	bySite   blocks
	byDomain blocks
	provider blocks
	findings mtakit.Findings

	mu       sync.RWMutex
	asked    map[question]*mtakit.PathConfig
	resolved map[string]*mtakit.PathConfig // by the blocks that apply
}

// Load reads the files. Its error is [mtakit.Findings], with everything that is wrong, or that of ctx. Sites of domains are looked up
// through the Router; failing look-ups do not keep the files from being used, unless Checks says so.
func Load(ctx context.Context, cfg Config) (*Shaping, error) {
	s, findings := load(ctx, cfg)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := findings.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// Check is Load for those who want to know of warnings too.
func Check(ctx context.Context, cfg Config) mtakit.Findings {
	_, findings := load(ctx, cfg)
	return findings
}

func load(ctx context.Context, cfg Config) (*Shaping, mtakit.Findings) {
	s := &Shaping{
		router: cfg.Router, base: mtakit.DefaultPathConfig(),
		asked: make(map[question]*mtakit.PathConfig), resolved: make(map[string]*mtakit.PathConfig),
	}
	if cfg.Base != nil {
		s.base = *cfg.Base
	}
	s.base.RefreshStrategy = mtakit.RefreshEpoch
	r := &datafile.Report{}
	var files []*file
	for _, name := range cfg.Files {
		if f := readFile(name, cfg.Automation, r); f != nil {
			files = append(files, f)
		}
	}
	s.merge(ctx, files, cfg.Checks, r)
	r.Sort(cfg.Files)
	s.findings = r.Findings
	return s, r.Findings
}

// Findings are the warnings of Load.
func (s *Shaping) Findings() mtakit.Findings { return s.findings }

// Sources yields the names of sources that have blocks of their own, and where.
func (s *Shaping) Sources() iter.Seq2[string, mtakit.Place] {
	return func(yield func(string, mtakit.Place) bool) {
		for b := range s.blocks() {
			for _, e := range b.sources.Entries {
				if !yield(e.Key, e.Place) {
					return
				}
			}
		}
	}
}

// blocks yields all blocks, in the order of merging.
func (s *Shaping) blocks() iter.Seq[*block] {
	return func(yield func(*block) bool) {
		if s.byName != nil && !yield(s.byName) {
			return
		}
		for _, t := range []*blocks{&s.bySite, &s.byDomain, &s.provider} {
			for _, b := range t.list {
				if !yield(b) {
					return
				}
			}
		}
	}
}

// Hash changes when anything of what was loaded changes: options, rules, places, sites, warnings.
func (s *Shaping) Hash() string {
	h := sha256.New()
	for b := range s.blocks() {
		fmt.Fprintln(h, b.label, b.key, b.replaceBase, b.match)
		for _, v := range []*datafile.Value{b.options, b.sources, b.limit, b.rate, b.selection} {
			hashValue(h, v)
		}
		for _, rule := range b.rules {
			fmt.Fprintln(h, rule.Place, rule.identity())
		}
	}
	fmt.Fprint(h, s.findings)
	return fmt.Sprintf("%x", h.Sum(nil))
}

func hashValue(h io.Writer, v *datafile.Value) {
	if v == nil {
		return
	}
	fmt.Fprintln(h, v.Place)
	for _, e := range v.Entries {
		io.WriteString(h, e.Key)
		hashValue(h, e.Value)
	}
	if v.Kind != datafile.Table {
		b, _ := json.Marshal(v.Any()) // infinities are left out, and nothing takes them
		h.Write(b)
	}
}
