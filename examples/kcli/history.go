package main

import (
	"slices"
	"strings"
)

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
