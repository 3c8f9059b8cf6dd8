package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
)

// snapshot is the counters at one time, by the names of series.
type snapshot struct {
	at     time.Time
	values map[string]float64
	histos map[string]*histo
}

// histo is a histogram: how many were up to each bound, and all together.
type histo struct {
	bounds     []string
	up         []float64
	sum, count float64
}

// fixed are the series that are always there, in their order.
var fixed = []struct {
	name   string
	metric string
	of     func(service string) bool // nil: without labels
	unit   unit
}{
	{"Delivered", "total_messages_delivered", isService("smtp_client"), rate},
	{"Received", "total_messages_received", isService("esmtp_listener", "http_listener"), rate},
	{"Transfail", "total_messages_transfail", isService("smtp_client"), rate},
	{"Permfail", "total_messages_fail", isService("smtp_client"), rate},
	{"Scheduled", "scheduled_count_total", nil, count},
	{"Ready", "ready_count", func(s string) bool { return strings.Contains(s, ":") }, count},
	{"Messages", "message_count", nil, count},
	{"Resident", "message_data_resident_count", nil, count},
	{"Memory", "memory_usage", nil, size},
	{"Conn Out", "connection_count", isService("smtp_client"), count},
	{"Conn In", "connection_count", isService("esmtp_listener"), count},
	{"Rejections", "smtp_server_rejections", isService("total"), count},
}

func isService(names ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(names, s) }
}

type unit uint8

const (
	count unit = iota
	rate       // a second, from a count that grows
	size       // bytes
	micros
	percent
)

func (u unit) format(v float64) string {
	switch u {
	case rate:
		return short(v) + "/s"
	case size:
		return shortBase(v, 1024, []string{"", "Ki", "Mi", "Gi", "Ti"}) + "B"
	case micros:
		return thousands(int64(v)) + "µs"
	case percent:
		return fmt.Sprintf("%.0f%%", v)
	}
	return thousands(int64(v))
}

func short(v float64) string { return shortBase(v, 1000, []string{"", "k", "M", "G", "T"}) }

func shortBase(v, base float64, prefixes []string) string {
	i := 0
	for ; math.Abs(v) >= base && i < len(prefixes)-1; i++ {
		v /= base
	}
	if i == 0 && v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f%s", v, prefixes[i])
}

// takeSnapshot reads the metrics, without keeping what is not shown: there may be a million queues.
func takeSnapshot(ctx context.Context, c *console) (*snapshot, error) {
	s := &snapshot{at: c.now(), values: make(map[string]float64), histos: make(map[string]*histo)}
	pools := [2]map[string]float64{{}, {}} // size, parked
	err := c.api.metrics(ctx, func(family, kind string) bool {
		return kind == "histogram" || family == "thread_pool_size" || family == "thread_pool_parked" || isFixed(family)
	}, func(m *sample) {
		switch {
		case m.kind == "histogram":
			s.histogram(m)
		case m.family == "thread_pool_size":
			pools[0][m.label("pool")] = m.value
		case m.family == "thread_pool_parked":
			pools[1][m.label("pool")] = m.value
		default:
			for _, f := range fixed {
				if f.metric == m.family && (f.of == nil && len(m.labels) == 0 || f.of != nil && f.of(m.label("service"))) {
					s.values[f.name] += m.value
				}
			}
		}
	})
	for name, n := range pools[0] {
		if n > 0 {
			s.values["pool "+name] = (n - pools[1][name]) / n * 100
		}
	}
	return s, err
}

func isFixed(family string) bool {
	for _, f := range fixed {
		if f.metric == family {
			return true
		}
	}
	return false
}

// histogram takes a line of a histogram; its series is named by the family and the first label.
func (s *snapshot) histogram(m *sample) {
	name, bound := m.family, ""
	for i, l := range m.labels {
		switch {
		case l.name == "le":
			bound = l.value
		case i == 0:
			if l.value == "init" || l.value == "pre_init" {
				return
			}
			name += " - " + l.value
		}
	}
	h := s.histos[name]
	if h == nil {
		h = &histo{}
		s.histos[name] = h
	}
	switch m.part {
	case "bucket":
		if i := slices.Index(h.bounds, bound); i >= 0 { // of another second label
			h.up[i] += m.value
			return
		}
		h.bounds, h.up = append(h.bounds, bound), append(h.up, m.value)
	case "sum":
		h.sum += m.value
	case "count":
		h.count += m.value
	}
}

// keep is how many looks are remembered.
const keep = 600

// history is what was seen, the newest last.
type history struct {
	last   *snapshot
	series map[string]*series
	heat   map[string]*heat
}

type series struct {
	unit   unit
	values []float64
	now    float64
}

// heat is how many there were in each bucket, look by look.
type heat struct {
	bounds []string
	looks  [][]float64
}

func newHistory() *history {
	return &history{series: make(map[string]*series), heat: make(map[string]*heat)}
}

func (h *history) add(s *snapshot) {
	was := h.last
	h.last = s
	for _, f := range fixed {
		h.point(f.name, f.unit, s, was, func(s *snapshot) float64 { return s.values[f.name] })
	}
	for name := range s.values {
		if strings.HasPrefix(name, "pool ") {
			h.point(name, percent, s, was, func(s *snapshot) float64 { return s.values[name] })
		}
	}
	for name, now := range s.histos {
		h.point("freq: "+name, rate, s, was, func(s *snapshot) float64 {
			if s.histos[name] == nil {
				return 0
			}
			return s.histos[name].count
		})
		h.point("avg: "+name, micros, s, was, func(*snapshot) float64 {
			if now.count == 0 {
				return 0
			}
			return now.sum / now.count * 1e6
		})
		if was != nil && was.histos[name] != nil {
			h.warm(name, now, was.histos[name])
		}
	}
}

// point adds a value; of a rate there is none at the first look.
func (h *history) point(name string, u unit, s, was *snapshot, value func(*snapshot) float64) {
	p := h.series[name]
	if p == nil {
		p = &series{unit: u}
		h.series[name] = p
	}
	v := value(s)
	if u == rate {
		if was == nil || !s.at.After(was.at) {
			return
		}
		v = max(v-value(was), 0) / s.at.Sub(was.at).Seconds() // it is less after a restart
	}
	p.now = v
	p.values = last(append(p.values, v))
}

// warm adds what came into each bucket.
func (h *history) warm(name string, now, was *histo) {
	m := h.heat[name]
	if m == nil || !slices.Equal(m.bounds, now.bounds) {
		m = &heat{bounds: now.bounds}
		h.heat[name] = m
	}
	if !slices.Equal(was.bounds, now.bounds) {
		return
	}
	in, below := make([]float64, len(now.up)), 0.0
	for i := range now.up {
		up := max(now.up[i]-was.up[i], 0)
		in[i], below = max(up-below, 0), up
	}
	m.looks = last(append(m.looks, in))
}

func last[T any](s []T) []T {
	if len(s) > keep {
		return append(s[:0], s[len(s)-keep:]...)
	}
	return s
}

// names are the series that pass the filter: first those that are always there.
func names[T any](all map[string]T, filter string) []string {
	place := func(name string) int {
		for i, f := range fixed {
			if f.name == name {
				return i
			}
		}
		return len(fixed)
	}
	list := slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(s string) bool { return !fuzzy(s, filter) })
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(place(a)-place(b), compareNatural(a, b)) })
	return list
}

// fuzzy says whether the letters of the filter are in s, in their order, whatever their case.
func fuzzy(s, filter string) bool {
	rest := []rune(strings.ToLower(filter))
	for _, r := range s {
		if len(rest) > 0 && unicode.ToLower(r) == rest[0] {
			rest = rest[1:]
		}
	}
	return len(rest) == 0
}

const (
	blocks = " ▁▂▃▄▅▆▇█"
	shades = " ░▒▓█"
)

// scale is the sign for a value of at most most.
func scale(signs string, v, most float64) rune {
	all := []rune(signs)
	if v <= 0 || most <= 0 {
		return all[0]
	}
	return all[min(1+int(v/most*float64(len(all)-1)*0.999), len(all)-1)]
}

// rows are the series as lines.
func (h *history) rows(filter string, zoom, width int) []string {
	list := names(h.series, filter)
	wide := 0
	for _, name := range list {
		wide = max(wide, len([]rune(name)))
	}
	wide = min(wide, width/2)
	lines := make([]string, 0, len(list))
	for _, name := range list {
		p := h.series[name]
		columns := compress(p.values, zoom, width-wide-14)
		most := 0.0
		for _, v := range columns {
			most = max(most, v)
		}
		var graph strings.Builder
		for _, v := range columns {
			graph.WriteRune(scale(blocks, v, most))
		}
		value := "-"
		if len(p.values) > 0 {
			value = p.unit.format(p.now)
		}
		lines = append(lines, fmt.Sprintf("%-*s %12s %s", wide, clip(cell(name), wide), value, graph.String()))
	}
	return lines
}

// compress makes of each zoom values their mean, and keeps the last so many. Columns hold the same values from look to look.
func compress(values []float64, zoom, columns int) (out []float64) {
	for end := len(values); end > 0 && len(out) < columns; end -= zoom {
		part := values[max(end-zoom, 0):end]
		sum := 0.0
		for _, v := range part {
			sum += v
		}
		out = append(out, sum/float64(len(part)))
	}
	slices.Reverse(out)
	return out
}

// heatmaps are the histograms as lines: a name, and a line for each bucket that has ever been used.
func (h *history) heatmaps(filter string, zoom, width int) (lines []string) {
	for _, name := range names(h.heat, filter) {
		m := h.heat[name]
		var rows [][]float64
		most := 0.0
		for i := range m.bounds {
			values := make([]float64, len(m.looks))
			for j, look := range m.looks {
				values[j] = look[i]
			}
			row := compress(values, zoom, width-14)
			for _, v := range row {
				most = max(most, v)
			}
			rows = append(rows, row)
		}
		if most == 0 {
			continue
		}
		lines = append(lines, cell(name))
		for i, row := range slices.Backward(rows) {
			if !slices.ContainsFunc(row, func(v float64) bool { return v > 0 }) {
				continue
			}
			var graph strings.Builder
			for _, v := range row {
				graph.WriteRune(scale(shades, v, most))
			}
			lines = append(lines, fmt.Sprintf("%12s  %s", bound(m.bounds[i]), graph.String()))
		}
		lines = append(lines, "")
	}
	if len(lines) == 0 {
		return []string{"Nothing has been measured yet."}
	}
	return lines
}

// bound is the upper bound of a bucket, which is in seconds.
func bound(le string) string {
	var s float64
	if _, err := fmt.Sscanf(le, "%g", &s); err != nil || math.IsInf(s, 0) {
		return "more"
	}
	return "≤ " + time.Duration(s*float64(time.Second)).String()
}
