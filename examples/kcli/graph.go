package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

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
	s, err := strconv.ParseFloat(le, 64)
	if err != nil || math.IsInf(s, 0) {
		return "more"
	}
	return "≤ " + time.Duration(s*float64(time.Second)).String()
}
