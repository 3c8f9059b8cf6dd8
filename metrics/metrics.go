// Package metrics shows what mtakit.Collectors count, in Prometheus' text form and as JSON, under KumoMTA's names.
//
//	var reg metrics.Registry
//	if err := reg.Register(q, log, metrics.NewProcess()); err != nil { … }
//	http.Handle("GET /metrics", reg.Text())
//	http.Handle("GET /metrics.json", reg.JSON())
//
// A scrape is written as it is collected: the first byte leaves before the first queue is looked at, and a million series
// take no more memory here than one. So a scrape is no snapshot; each series is read at its own moment. Collectors must not gather either:
// a [mtakit.MetricFamily] that may have many series is Streamed, and gives them a few at a time. A client that leaves a chunk unread for
// half a minute is given up.
//
// # Pruning
//
// What a Collector no longer has is no longer shown; nothing is remembered here. As with KumoMTA, series of queues, and those by provider,
// begin again at zero when their queue comes back, and sums by protocol live as long as the process. A quiet series is not a vanished one: a
// family with labels and Streamed always has its HELP and TYPE, others are left out while they have no series.
//
// # The text form
//
// It is what Prometheus and KumoMTA's kcli both read, and kcli is strict. A TYPE line comes before the samples; there are
// counters, gauges and histograms, and histograms come first, because kcli drops one that ends the document. Streamed
// families come last, in the order of registration, with ", " between labels; the others are sorted by name, labels too, with
// ",". A quotation mark in a label value, which kcli cannot read in any form, becomes an apostrophe.
//
// The package starts no goroutine.
package metrics

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/mtakit/mtakit"
)

// Registry is a set of Collectors. The zero value is empty and ready; it must not be copied. All methods may be called
// concurrently.
type Registry struct {
	mu       sync.RWMutex
	families []*family // in the order in which they are written

	scrapes mtakit.Counter
	pool    sync.Pool // of *encoder
}

// family is a metric and who counts it.
type family struct {
	mtakit.MetricFamily
	from  []mtakit.Collector
	order []int // of the labels, as they are written
}

// Register adds Collectors. Several may have a family in common, with different labels' values; the error says which family
// is described in two ways, or in a way that cannot be shown. Then none of the call's Collectors is added.
func (r *Registry) Register(collectors ...mtakit.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	families := make([]*family, 0, len(r.families)+8)
	for _, f := range r.families { // a copy: scrapes under way have the old ones
		families = append(families, &family{f.MetricFamily, slices.Clip(f.from), f.order})
	}
	if len(families) == 0 {
		collectors = append([]mtakit.Collector{(*self)(r)}, collectors...)
	}
	for _, c := range collectors {
		for _, mf := range c.Families() {
			if err := check(mf); err != nil {
				return err
			}
			i := slices.IndexFunc(families, func(f *family) bool { return f.Name == mf.Name })
			if i < 0 {
				families = append(families, newFamily(mf, c))
				continue
			}
			f := families[i]
			if f.Type != mf.Type || f.Streamed != mf.Streamed || !slices.Equal(f.Labels, mf.Labels) {
				return fmt.Errorf("metrics: %s is described in two ways: %s of %q (streamed: %t) and %s of %q (streamed: %t)",
					mf.Name, f.Type, f.Labels, f.Streamed, mf.Type, mf.Labels, mf.Streamed)
			}
			f.from = append(f.from, c)
		}
	}
	slices.SortStableFunc(families, compare)
	r.families = families
	return nil
}

// compare orders families: histograms, then counters and gauges, each by name, then what is streamed as it was registered.
func compare(a, b *family) int {
	if a.Streamed || b.Streamed {
		return rank(a) - rank(b)
	}
	return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Name, b.Name))
}

func rank(f *family) int {
	switch {
	case f.Streamed:
		return 2
	case f.Type == mtakit.HistogramType:
		return 0
	}
	return 1
}

func newFamily(mf mtakit.MetricFamily, c mtakit.Collector) *family {
	mf.Labels = slices.Clone(mf.Labels)
	f := &family{MetricFamily: mf, from: []mtakit.Collector{c}}
	for i := range mf.Labels {
		f.order = append(f.order, i)
	}
	if !mf.Streamed {
		slices.SortFunc(f.order, func(a, b int) int { return cmp.Compare(mf.Labels[a], mf.Labels[b]) })
	}
	return f
}

func check(mf mtakit.MetricFamily) error {
	if !isName(mf.Name) {
		return fmt.Errorf("metrics: %q is not a name of a metric", mf.Name)
	}
	if mf.Type > mtakit.HistogramType {
		return fmt.Errorf("metrics: %s has an unknown type", mf.Name)
	}
	if mf.Streamed && mf.Type == mtakit.HistogramType {
		return fmt.Errorf("metrics: %s is a streamed histogram, which readers would drop", mf.Name)
	}
	for i, l := range mf.Labels {
		if !isName(l) || l == "le" || slices.Contains(mf.Labels[:i], l) {
			return fmt.Errorf("metrics: %s has a label that cannot be shown, %q", mf.Name, l)
		}
	}
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func (r *Registry) list() []*family {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.families
}

// self is the registry as a Collector. Its one family also makes sure that no document ends with a histogram.
type self Registry

func (s *self) Families() []mtakit.MetricFamily {
	return []mtakit.MetricFamily{{Name: "metrics_scrape_count", Help: "how many times metrics were asked for", Type: mtakit.CounterType}}
}

func (s *self) Collect(_ string, yield func(mtakit.Sample) bool) {
	yield(mtakit.Sample{Value: float64(s.scrapes.Value())})
}

// WriteText writes all families in the text form, each name preceded by prefix. The error is w's.
func (r *Registry) WriteText(w io.Writer, prefix string) error {
	return r.write(w, func(e *encoder, families []*family) {
		for i, f := range families {
			if f.Streamed && (i == 0 || !families[i-1].Streamed) {
				e.flush() // what is at hand leaves before what may take its time
			}
			if e.err == nil {
				e.text(f, prefix)
			}
		}
	})
}

// WriteJSON writes all families as one JSON object. The error is w's.
func (r *Registry) WriteJSON(w io.Writer) error { return r.write(w, (*encoder).json) }

func (r *Registry) write(w io.Writer, encode func(*encoder, []*family)) error {
	r.scrapes.Inc()
	e, ok := r.pool.Get().(*encoder)
	if !ok {
		e = &encoder{buf: make([]byte, 0, chunkSize+chunkSize/2)}
	}
	defer r.pool.Put(e)
	*e = encoder{w: w, buf: e.buf[:0]}
	encode(e, r.list())
	e.flush()
	err := e.err
	*e = encoder{buf: e.buf[:0]}
	return err
}

// chunkSize is how much is written at a time.
const chunkSize = 32 << 10

// encoder collects bytes and writes them in chunks.
type encoder struct {
	w   io.Writer
	buf []byte
	err error // of w; nothing is written after it
}

// room writes what there is if it fills a chunk, and says whether to go on.
func (e *encoder) room() bool {
	if len(e.buf) >= chunkSize {
		e.flush()
	}
	return e.err == nil
}

func (e *encoder) flush() {
	if e.err == nil && len(e.buf) > 0 {
		_, e.err = e.w.Write(e.buf)
	}
	if e.buf = e.buf[:0]; cap(e.buf) > 16*chunkSize { // one series with huge labels
		e.buf = make([]byte, 0, chunkSize+chunkSize/2)
	}
}
