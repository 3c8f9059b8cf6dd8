package smtpclient

import (
	"sync"

	"github.com/mtakit/mtakit"
)

// Kinds of failure that the health of a source is judged by.
const (
	HealthUnplumbed = "Unplumbed"      // its address is not on this machine
	HealthProxy     = "ProxyUnhealthy" // its proxy cannot be reached, or has not got the address
)

// health is the kind under which a failure counts for the source; "" if it doesn't.
func (k SourceFailure) health() string {
	switch k {
	case Unplumbed:
		return HealthUnplumbed
	case ProxyFailed, ProxyBindFailed:
		return HealthProxy
	}
	return ""
}

// stats is what an Egress counts.
type stats struct {
	bind, proxy mtakit.Counter

	mu      sync.Mutex
	sources map[[2]string]*mtakit.Counter // by source and kind
}

func (s *stats) source(name, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.sources[[2]string{name, kind}]
	if c == nil {
		if s.sources == nil {
			s.sources = map[[2]string]*mtakit.Counter{}
		}
		c = &mtakit.Counter{}
		s.sources[[2]string{name, kind}] = c
	}
	c.Inc()
}

// Names of the metrics.
const (
	metricBind    = "bind_failures"
	metricProxy   = "proxy_connection_failures"
	metricSources = "egress_source_connection_failures_total"
)

// Families implements [mtakit.Collector].
func (e *Egress) Families() []mtakit.MetricFamily {
	return []mtakit.MetricFamily{
		{Name: metricBind, Help: "direct source-address bind failures"},
		{Name: metricProxy, Help: "failed connections to egress proxies"},
		{Name: metricSources, Help: "source-side failures", Labels: []string{"source", "kind"}},
	}
}

// Collect implements [mtakit.Collector].
func (e *Egress) Collect(family string, yield func(mtakit.Sample) bool) {
	switch family {
	case metricBind:
		yield(mtakit.Sample{Value: float64(e.stats.bind.Value())})
	case metricProxy:
		yield(mtakit.Sample{Value: float64(e.stats.proxy.Value())})
	case metricSources:
		e.stats.mu.Lock()
		labels, values := make([][2]string, 0, len(e.stats.sources)), make([]int64, 0, len(e.stats.sources))
		for k, c := range e.stats.sources {
			labels, values = append(labels, k), append(values, c.Value())
		}
		e.stats.mu.Unlock()
		for i := range labels {
			if !yield(mtakit.Sample{Labels: labels[i][:], Value: float64(values[i])}) {
				return
			}
		}
	}
}
