package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// report is the summary of a run.
type report struct {
	Acknowledged      int64    `json:"acknowledged"`
	Failed            int64    `json:"failed"`
	ConnectionsFailed int64    `json:"connections_failed"`
	Seconds           float64  `json:"seconds"`
	Rate              float64  `json:"messages_per_second"`
	Latency           latency  `json:"latency_ms"`
	Failures          []reason `json:"failures,omitempty"` // most frequent first

	bytes int64
}

// latency is how long messages took from their envelope to the last reply, in milliseconds.
type latency struct {
	Min  float64 `json:"min"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

type reason struct {
	Text  string `json:"text"`
	Count int64  `json:"count"`
}

// report sums up a run that has ended.
func (g *generator) report() report {
	r := report{
		Acknowledged: g.acknowledged.Load(), Failed: g.failed.Load(), ConnectionsFailed: g.connectionsFailed.Load(), Seconds: g.took.Seconds(),
	}
	r.bytes = r.Acknowledged * int64(g.size)
	if r.Seconds > 0 {
		r.Rate = float64(r.Acknowledged) / r.Seconds
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r.Latency = percentiles(g.latencies)
	for text, n := range g.reasons {
		r.Failures = append(r.Failures, reason{text, n})
	}
	slices.SortFunc(r.Failures, func(a, b reason) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(a.Text, b.Text)
	})
	return r
}

// percentiles sorts its argument, which is in microseconds.
func percentiles(us []uint32) latency {
	if len(us) == 0 {
		return latency{}
	}
	slices.Sort(us)
	at := func(q float64) float64 { return float64(us[int(q*float64(len(us)-1))]) / 1000 }
	return latency{at(0), at(.5), at(.9), at(.99), at(.999), at(1)}
}

func (r report) json() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // numbers and strings only
	}
	return append(b, '\n')
}

func (r report) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d messages acknowledged in %v: %.0f/s, %.1f MB/s; %d failed; %d connections failed\n", r.Acknowledged,
		time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond), r.Rate, float64(r.bytes)/1e6/max(r.Seconds, 1e-9), r.Failed, r.ConnectionsFailed)
	l := r.Latency
	fmt.Fprintf(&b, "latency ms: min %.1f, 50%% %.1f, 90%% %.1f, 99%% %.1f, 99.9%% %.1f, max %.1f\n", l.Min, l.P50, l.P90, l.P99, l.P999, l.Max)
	for i, f := range r.Failures {
		if i == 10 {
			fmt.Fprintf(&b, "and %d other reasons\n", len(r.Failures)-i)
			break
		}
		fmt.Fprintf(&b, "failed %d times: %s\n", f.Count, f.Text)
	}
	return b.Bytes()
}
