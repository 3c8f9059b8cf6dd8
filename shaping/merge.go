package shaping

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// answer is the site of a domain with mx_rollup.
type answer struct {
	site *mtakit.Site
	err  error
}

var errNoRouter = errors.New("mx_rollup needs a router, and there is none")

// parallelLookups bounds what a long list of domains asks of the resolver at once.
const parallelLookups = 64

// lookup finds the sites of all domains with mx_rollup.
func (s *Shaping) lookup(ctx context.Context, files []*file) map[string]answer {
	answers := make(map[string]answer)
	for _, f := range files {
		for _, d := range f.domains {
			if d.rollup {
				answers[d.key] = answer{err: errNoRouter}
			}
		}
	}
	if s.router == nil {
		return answers
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(parallelLookups)
	for _, domain := range slices.Sorted(maps.Keys(answers)) {
		g.Go(func() error {
			site, err := s.router.Route(ctx, domain)
			mu.Lock()
			defer mu.Unlock()
			answers[domain] = answer{site, err}
			return nil
		})
	}
	g.Wait()
	return answers
}

// merge folds the files in their order into the blocks by site, domain and provider.
func (s *Shaping) merge(ctx context.Context, files []*file, checks Checks, r *datafile.Report) {
	answers := s.lookup(ctx, files)
	sharers := make(map[string][]*block) // by site
	for _, f := range files {
		if f.def != nil {
			if s.byName == nil {
				s.byName = f.def
			} else {
				s.byName = merge(s.byName, f.def)
			}
		}
		for _, d := range f.domains {
			if !d.rollup {
				s.byDomain.add(d.key, d)
				continue
			}
			a := answers[d.key]
			switch {
			case errors.Is(a.err, errNoRouter):
				r.Errorf(d.place, "%v", a.err)
			case a.err != nil:
				r.Add(d.place, checks.DNSFail, "error resolving MX for %s: %v. Ignoring the shaping config for that domain.", d.key, a.err)
			case a.site.IsNull() || a.site.Name == "":
				r.Add(d.place, checks.NullMX, "domain %s has a NULL MX and cannot be used with mx_rollup=true. Ignoring the shaping config for that domain.", d.key)
			default:
				sharers[a.site.Name] = append(sharers[a.site.Name], d)
				b := *d
				b.label, b.key = "site "+a.site.Name, a.site.Name
				s.bySite.add(a.site.Name, &b)
			}
		}
		for _, p := range f.providers {
			s.provider.add(p.key, p)
		}
	}
	s.checkAliases(sharers, checks.AliasedSite, r)
	if checks.ProviderOverlap != mtakit.LevelIgnore {
		s.checkOverlap(ctx, sharers, answers, checks.ProviderOverlap, r)
	}
}

func (s *Shaping) checkAliases(sharers map[string][]*block, l mtakit.Level, r *datafile.Report) {
	for _, site := range slices.Sorted(maps.Keys(sharers)) {
		if names := distinct(sharers[site]); len(names) > 1 {
			last := sharers[site][len(sharers[site])-1]
			r.Add(last.place, l, "multiple domain blocks alias to the same site: %s: %s", site, strings.Join(names, ", "))
		}
	}
}

func distinct(domains []*block) (names []string) {
	for _, d := range domains {
		if !slices.Contains(names, d.key) {
			names = append(names, d.key)
		}
	}
	return names
}

func (s *Shaping) checkOverlap(ctx context.Context, sharers map[string][]*block, answers map[string]answer, l mtakit.Level, r *datafile.Report) {
	done := make(map[string]bool)
	for _, site := range slices.Sorted(maps.Keys(sharers)) {
		for _, d := range sharers[site] {
			if done[d.key] {
				continue
			}
			done[d.key] = true
			var names []string
			matched, _ := s.providers(ctx, d.key, answers[d.key].site, nil)
			for _, i := range matched {
				names = append(names, s.provider.list[i].key)
			}
			if names != nil {
				r.Add(d.place, l, "domain %s is also matched by provider(s): %s", d.key, strings.Join(names, ", "))
			}
		}
	}
}
