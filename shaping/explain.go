package shaping

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/datafile"
)

// Setting is one option of a path, and why it is so.
type Setting struct {
	Option string       // as in files; entries of the additional_ tables are options of their own, TABLE.NAME
	Value  string       // as JSON; secrets are hidden
	Place  mtakit.Place // zero for a default
	By     string       // default, provider b, site c, domain d, each of these with source e; "" for a default
}

// Explain lists the options of the path that [Shaping.Path] gives for the same arguments, those that are not set and have no default
// left out.
func (s *Shaping) Explain(ctx context.Context, domain, source string, site *mtakit.Site) ([]Setting, error) {
	c, err := s.Path(ctx, domain, source, site)
	if err != nil {
		return nil, err
	}
	q := question{domain: domain, source: source}
	if site != nil {
		q.site = site.Name
	}
	a := s.applying(ctx, q, site, nil)
	options, by := a.fold()
	var all []Setting
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		name, flags, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		set := options.Get(name)
		if set == nil && flags != "" && v.Field(i).IsZero() {
			continue
		}
		if additive[name] {
			all = append(all, explainNamed(name, v.Field(i).Interface(), set, by)...)
			continue
		}
		text, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			return nil, err
		}
		one := Setting{Option: name, Value: string(text), By: by[name]}
		if set != nil {
			one.Place = set.Place
		}
		all = append(all, one)
	}
	return all, nil
}

func explainNamed(option string, field any, set *datafile.Value, by map[string]string) (all []Setting) {
	add := func(name, text string) {
		s := Setting{Option: option + "." + name, Value: `"` + text + `"`, By: by[option+"."+name]}
		if v := set.Get(name); v != nil {
			s.Place = v.Place
		}
		all = append(all, s)
	}
	switch field := field.(type) {
	case mtakit.NamedLimits:
		for _, n := range field {
			add(n.Name, n.Limit.String())
		}
	case mtakit.NamedRates:
		for _, n := range field {
			add(n.Name, n.Rate.String())
		}
	}
	return all
}
