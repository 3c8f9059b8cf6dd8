package mtakit

import (
	"math"
	"sync/atomic"
	"time"
)

// A package counts with handles of the types below, which it keeps where the counted thing is, and shows them as a [Collector];
// package metrics exposes Collectors over HTTP. Names and labels are KumoMTA's.

// Counter is a count that grows, or a gauge that goes up and down. The zero value is ready; it must not be copied.
type Counter struct{ v atomic.Int64 }

// Add adds n and Inc adds 1.
func (c *Counter) Add(n int64) { c.v.Add(n) }
func (c *Counter) Inc()        { c.v.Add(1) }

// Dec subtracts 1 and Set replaces the value, where it is a gauge.
func (c *Counter) Dec()        { c.v.Add(-1) }
func (c *Counter) Set(n int64) { c.v.Store(n) }

// Value is the count.
func (c *Counter) Value() int64 { return c.v.Load() }

// DefaultBuckets are the upper bounds of a Histogram, in seconds, where nothing else is said.
var DefaultBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Histogram counts durations by size. It must not be copied.
type Histogram struct {
	bounds  []float64
	buckets []atomic.Uint64 // not cumulative; one more than bounds
	sum     atomic.Int64    // nanoseconds
}

// NewHistogram takes the upper bounds in seconds, ascending; none are [DefaultBuckets].
func NewHistogram(bounds ...float64) *Histogram {
	if len(bounds) == 0 {
		bounds = DefaultBuckets
	}
	return &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) { h.ObserveN(d, 1) }

// ObserveN counts d n times, where one of n is measured.
func (h *Histogram) ObserveN(d time.Duration, n int64) {
	s := d.Seconds()
	i := 0
	for i < len(h.bounds) && s > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(uint64(n))
	h.sum.Add(int64(d) * n)
}

// Snapshot gives the bounds, the cumulative counts up to each, the count of all, and the sum in seconds.
func (h *Histogram) Snapshot() (bounds []float64, cumulative []uint64, count uint64, sum float64) {
	cumulative = make([]uint64, len(h.bounds))
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(cumulative) {
			cumulative[i] = count
		}
	}
	return h.bounds, cumulative, count, math.Round(float64(h.sum.Load())) / 1e9
}

// MetricType is the type of a family.
type MetricType uint8

// Types of metrics.
const (
	CounterType MetricType = iota
	GaugeType
	HistogramType
)

func (t MetricType) String() string { return [...]string{"counter", "gauge", "histogram"}[t] }

// MetricFamily describes a metric.
type MetricFamily struct {
	Name, Help string
	Type       MetricType
	Labels     []string // names, in the order of the values
	Streamed   bool     // may have a series per queue: never gathered, always written as it comes
}

// Sample is one series with its value. Labels is valid only while the sample is being taken.
type Sample struct {
	Labels    []string
	Value     float64
	Histogram *Histogram // in place of Value, for a histogram
}

// Collector is something that counts. It is called concurrently.
type Collector interface {
	// Families lists what there is, always the same.
	Families() []MetricFamily
	// Collect gives each series of the family to yield until that returns false. No lock that mail needs is held while yield runs.
	Collect(family string, yield func(Sample) bool)
}
