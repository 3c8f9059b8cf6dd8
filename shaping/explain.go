package shaping

import (
	"context"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Explain lists the options of the path that [Shaping.Path] gives for the same arguments, those that are not set and have no default
// left out. Each is by default, provider b, site c, domain d, or each of these with source e.
func (s *Shaping) Explain(ctx context.Context, domain, source string, site *mtakit.Site) ([]mtakit.Setting, error) {
	c, err := s.Path(ctx, domain, source, site)
	if err != nil {
		return nil, err
	}
	all, err := mtakit.SettingsOf(c)
	if err != nil {
		return nil, err
	}
	q := question{domain: domain, source: source}
	if site != nil {
		q.site = site.Name
	}
	a := s.applying(ctx, q, site, nil)
	options, by := a.fold()
	for i := range all {
		one := &all[i]
		one.By = by[one.Option]
		if v := valueOf(options, one.Option); v != nil {
			one.Place = v.Place
		}
	}
	return all, nil
}

// valueOf is the value of an option, or of an entry of an additive one; nil if no file has it.
func valueOf(options *datafile.Value, option string) *datafile.Value {
	if table, name, ok := strings.Cut(option, "."); ok && additive[table] {
		return options.Get(table).Get(name)
	}
	return options.Get(option)
}
