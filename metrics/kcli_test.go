package metrics_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/metrics"
)

// kcliMetric is what kcli makes of samples.
type kcliMetric struct {
	name    string
	labels  map[string]string
	value   float64
	buckets [][2]float64
	sum     float64
	count   float64
}

// kcliParse reads a document as strictly, and in part as oddly, as kcli does.
func kcliParse(doc string) (out []kcliMetric, err error) {
	if !strings.HasSuffix(doc, "\n") {
		return nil, fmt.Errorf("the document does not end with a line end")
	}
	types := map[string]string{}
	var open *kcliMetric // a histogram is delivered when another thing comes; the last one never
	deliver := func() {
		if open != nil {
			out = append(out, *open)
			open = nil
		}
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(doc, "\n"), "\n") {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			deliver()
			name, typ, ok := strings.Cut(rest, " ")
			if !ok || !slices.Contains([]string{"counter", "gauge", "histogram"}, typ) {
				return nil, fmt.Errorf("type of %q", line)
			}
			types[name] = typ
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("no value in %q", line)
		}
		series := line[:i]
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("value of %q: %w", line, err)
		}
		name, labelText, hasLabels := strings.Cut(series, "{")
		labels := map[string]string{}
		if hasLabels {
			labelText, ok := strings.CutSuffix(labelText, "}")
			if !ok {
				return nil, fmt.Errorf("%q does not end in a brace", series)
			}
			for labelText != "" {
				key, rest, ok := strings.Cut(labelText, `="`)
				if !ok {
					return nil, fmt.Errorf("labels of %q", line)
				}
				val, rest, ok := strings.Cut(rest, `"`) // escapes are not understood
				if !ok {
					return nil, fmt.Errorf("label %s of %q", key, line)
				}
				labels[strings.TrimLeft(key, ", ")] = val
				labelText = rest
			}
		}
		if types[name] == "counter" || types[name] == "gauge" {
			deliver()
			out = append(out, kcliMetric{name: name, labels: labels, value: value})
			continue
		}
		base, part := name, ""
		for _, p := range []string{"_bucket", "_sum", "_count"} {
			if b, ok := strings.CutSuffix(name, p); ok && types[b] == "histogram" {
				base, part = b, p
			}
		}
		if part == "" {
			return nil, fmt.Errorf("%q comes before its type", line)
		}
		le, hasLE := labels["le"]
		delete(labels, "le")
		if open == nil || open.name != base || !maps.Equal(open.labels, labels) {
			deliver()
			for _, m := range out {
				if m.name == base && maps.Equal(m.labels, labels) {
					return nil, fmt.Errorf("histogram of %q is not in one piece", line)
				}
			}
			open = &kcliMetric{name: base, labels: labels}
		}
		switch part {
		case "_bucket":
			bound, err := strconv.ParseFloat(le, 64)
			if !hasLE || err != nil {
				return nil, fmt.Errorf("bound of %q", line)
			}
			if n := len(open.buckets); n > 0 && open.buckets[n-1][0] >= bound {
				return nil, fmt.Errorf("buckets of %q do not ascend", line)
			}
			open.buckets = append(open.buckets, [2]float64{bound, value})
		case "_sum":
			open.sum = value
		case "_count":
			open.count = value
		}
	}
	return out, nil
}

func TestKcliReadsIt(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "kumomta_"} {
		var doc strings.Builder
		if err := everything(t).WriteText(&doc, prefix); err != nil {
			t.Fatal(err)
		}
		got, err := kcliParse(doc.String())
		if err != nil {
			t.Fatal(err)
		}
		find := func(name string, labels map[string]string) kcliMetric {
			t.Helper()
			for _, m := range got {
				if m.name == prefix+name && maps.Equal(m.labels, labels) {
					return m
				}
			}
			t.Fatalf("%s %v is not there", name, labels)
			return kcliMetric{}
		}
		if m := find("user_latency", map[string]string{"label": "x"}); m.count != 2 || m.sum != 60.007 || len(m.buckets) != 12 ||
			m.buckets[1] != [2]float64{0.01, 1} || m.buckets[11] != [2]float64{math.Inf(1), 2} {
			t.Errorf("histogram is read as %+v", m)
		}
		find("user_latency", map[string]string{"label": "y"})
		find("a_latency", map[string]string{})
		if m := find("total_messages_delivered", map[string]string{"service": `smtp_client:a'b\\c\nd` + "\ufffdé"}); m.value != 2 {
			t.Errorf("value %v, want 2", m.value)
		}
		find("delivered_by_provider_and_source", map[string]string{"provider": "p", "source": "s", "pool": "o"})
	}
}

// A registry of nothing but histograms, and one with what the process uses.
func TestKcliReadsTheLastHistogram(t *testing.T) {
	t.Parallel()
	var reg metrics.Registry
	c := &collector{families: []mtakit.MetricFamily{{Name: "z", Type: mtakit.HistogramType}}, samples: map[string][]mtakit.Sample{"z": {{Histogram: mtakit.NewHistogram()}}}}
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	var doc strings.Builder
	if err := reg.WriteText(&doc, ""); err != nil {
		t.Fatal(err)
	}
	got, err := kcliParse(doc.String())
	if err != nil || !slices.ContainsFunc(got, func(m kcliMetric) bool { return m.name == "z" }) {
		t.Errorf("z is not read: %v, %+v", err, got)
	}
}

// Label values of any kind can be read by kcli's rules, and stay apart.
func FuzzLabel(f *testing.F) {
	f.Add("a", "b")
	f.Add(`x"} 1`, "x\n# TYPE y summary")
	f.Add(`\`, "\xff\"")
	f.Fuzz(func(t *testing.T, a, b string) {
		c := &collector{
			families: []mtakit.MetricFamily{
				{Name: "plain", Type: mtakit.GaugeType, Labels: []string{"z", "y"}},
				{Name: "streamed", Type: mtakit.GaugeType, Labels: []string{"z", "y"}, Streamed: true},
			},
			samples: map[string][]mtakit.Sample{"plain": {{Labels: []string{a, b}, Value: 1}}, "streamed": {{Labels: []string{a, b}, Value: 2}}},
		}
		var reg metrics.Registry
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
		var doc strings.Builder
		if err := reg.WriteText(&doc, ""); err != nil {
			t.Fatal(err)
		}
		got, err := kcliParse(doc.String())
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc.String())
		}
		want := []kcliMetric{{name: "metrics_scrape_count"}, {name: "plain"}, {name: "streamed"}}
		if len(got) != len(want) {
			t.Fatalf("%d series in\n%s", len(got), doc.String())
		}
		for i, m := range got {
			if m.name != want[i].name || i > 0 && !strings.ContainsAny(a+b, "\"\\\n") && strings.ToValidUTF8(a, "") == a && m.labels["z"] != a {
				t.Fatalf("%+v, want %s with z=%q", m, want[i].name, a)
			}
		}
	})
}
