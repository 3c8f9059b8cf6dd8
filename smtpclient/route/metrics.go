package route

import "github.com/mtakit/mtakit"

// metric is a family without labels, and what it shows of a router.
type metric struct {
	family mtakit.MetricFamily
	value  func(*Router) *mtakit.Counter
}

func routerMetrics() []metric {
	return []metric{
		{mtakit.MetricFamily{Name: "dns_mx_resolve_cache_hit", Help: "MX resolution served from cache"},
			func(r *Router) *mtakit.Counter { return &r.hits }},
		{mtakit.MetricFamily{Name: "dns_mx_resolve_cache_miss", Help: "MX resolution needing a query"},
			func(r *Router) *mtakit.Counter { return &r.misses }},
		{mtakit.MetricFamily{Name: "dns_mx_resolve_in_progress", Help: "MX resolutions running", Type: mtakit.GaugeType},
			func(r *Router) *mtakit.Counter { return &r.running }},
		{mtakit.MetricFamily{Name: "dns_mx_resolve_status_fail", Help: "failed MX resolutions"},
			func(r *Router) *mtakit.Counter { return &r.failed }},
		{mtakit.MetricFamily{Name: "dns_mx_resolve_status_ok", Help: "successful MX resolutions"},
			func(r *Router) *mtakit.Counter { return &r.succeeded }},
	}
}

// Families implements [mtakit.Collector].
func (r *Router) Families() []mtakit.MetricFamily {
	var list []mtakit.MetricFamily
	for _, m := range routerMetrics() {
		list = append(list, m.family)
	}
	return list
}

// Collect implements [mtakit.Collector].
func (r *Router) Collect(family string, yield func(mtakit.Sample) bool) {
	for _, m := range routerMetrics() {
		if m.family.Name == family {
			yield(mtakit.Sample{Value: float64(m.value(r).Value())})
		}
	}
}
