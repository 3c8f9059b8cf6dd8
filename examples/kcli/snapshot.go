package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
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
