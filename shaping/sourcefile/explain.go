package sourcefile

import (
	"strconv"

	"github.com/mtakit/mtakit"
)

// ExplainSource lists the options of a source that the files set, and where. There are none of one that they don't define.
func (s *Sources) ExplainSource(name string) []mtakit.Setting {
	src, at := s.sources[name], s.sourceAt[name]
	if src == nil || at == nil {
		return nil
	}
	all, err := mtakit.SettingsOf(src)
	if err != nil { // what was read from a file can be written
		return nil
	}
	set := all[:0]
	for _, o := range all {
		if v := at.Get(o.Option); v != nil {
			o.Place, o.By = v.Place, "source "+name
			set = append(set, o)
		}
	}
	return set
}

// ExplainPool lists the sources of a pool with their weights, and where the files put them into it.
func (s *Sources) ExplainPool(name string) []mtakit.Setting {
	p, at := s.pools[name], s.poolAt[name]
	if p == nil || at == nil {
		return nil
	}
	all := make([]mtakit.Setting, 0, len(p.Entries))
	for _, e := range p.Entries {
		o := mtakit.Setting{Option: e.Name, Value: strconv.Itoa(e.Weight), By: "pool " + name}
		if entry := at.Get(e.Name); entry != nil {
			o.Place = entry.Place
			if w := entry.Get("weight"); w != nil {
				o.Place = w.Place
			}
		}
		all = append(all, o)
	}
	return all
}
