package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func FuzzReadMetrics(f *testing.F) {
	f.Add(exposition(3))
	f.Add("# TYPE x counter\nx{a=\"\\\"\\n\\\\\",b=\"\"} 1\nx 2\n")
	f.Add("# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx{} 3\nx_ 4\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := &snapshot{values: make(map[string]float64), histos: make(map[string]*histo)}
		n := 0
		err := readMetrics(strings.NewReader(text), func(string, string) bool { return true }, func(m *sample) {
			if n++; m.family == "" || strings.ContainsAny(m.family, " \n") {
				t.Fatalf("family %q", m.family)
			}
			if m.kind == "histogram" {
				s.histogram(m)
			}
		})
		if err != nil || n > strings.Count(text, "\n") {
			t.Fatalf("%d samples of %q: %v", n, text, err)
		}
		h := newHistory()
		h.add(s)
		h.add(&snapshot{at: time.Unix(1, 0), values: s.values, histos: s.histos})
		h.heatmaps("", 1, 80)
		h.rows("", 2, 80)
	})
}

// A sample is read as it was written, whether its labels are escaped, as of most families, or not, as of those that KumoMTA streams.
func FuzzSample(f *testing.F) {
	f.Add("queue", "c:t@d.example!r", "x", `a\b"c`, 1.5)
	f.Add("a", "", "b", "\n\\n", -1e300)
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, v float64) {
		for _, name := range []string{name1, name2} {
			if name == "" || strings.ContainsAny(name, "=\", \t\r\n{}") || strings.TrimSpace(name) != name {
				return
			}
		}
		escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace
		lines := []string{fmt.Sprintf(`x{%s="%s",%s="%s"} %g`, name1, escape(value1), name2, escape(value2), v)}
		if !strings.ContainsAny(value1+value2, "\\\"\n") {
			lines = append(lines, fmt.Sprintf(`x{%s="%s", %s="%s"} %g`, name1, value1, name2, value2, v))
		}
		for _, line := range lines {
			if len(line) > maxMetricsLine/2 || strings.HasSuffix(value2, "\r") {
				return
			}
			read := false
			err := readMetrics(strings.NewReader("# TYPE x gauge\n"+line+"\n"), func(string, string) bool { return true }, func(s *sample) {
				if read = true; len(s.labels) != 2 || s.labels[0] != (label{name1, value1}) || s.labels[1] != (label{name2, value2}) || s.value != v && v == v {
					t.Fatalf("%q is read as %q %v", line, s.labels, s.value)
				}
			})
			if err != nil || !read {
				t.Fatalf("%q is not read: %v", line, err)
			}
		}
	})
}

// A million queues are passed over without being kept.
func BenchmarkMetrics(b *testing.B) {
	var text bytes.Buffer
	text.WriteString("# TYPE scheduled_count gauge\n")
	for i := range 100000 {
		fmt.Fprintf(&text, "scheduled_count{queue=\"c%d:t@d%d.example\"} 1\n", i%100, i)
	}
	text.WriteString(exposition(1))
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := readMetrics(bytes.NewReader(text.Bytes()), func(family, _ string) bool { return family != "scheduled_count" }, func(*sample) { n++ }); err != nil || n == 0 {
			b.Fatal(n, err)
		}
	}
}
