package queue

import (
	"time"

	"github.com/mtakit/mtakit"
)

// timings are histograms of what the engine does with each message.
type timings struct {
	resolve, insert, readyInsert  sampled
	classify, tardiness, reinsert *mtakit.Histogram
}

// sampled is a histogram of what takes about as long as to look at the clock: one message in sampleOf is measured, and counts for all of these.
type sampled struct{ *mtakit.Histogram }

const sampleOf = 16

// start begins to measure; zero is that this message is not.
func (h sampled) start(q *Queue, id mtakit.ID) time.Duration {
	if (id[3]^id[7]^id[15])%sampleOf != 0 { // of any version these bytes are as good as random
		return 0
	}
	return q.uptime()
}

func (h sampled) end(q *Queue, start time.Duration) {
	if start > 0 {
		h.ObserveN(q.uptime()-start, sampleOf)
	}
}

func newTimings() timings {
	late := []float64{0.25, 0.5, 1, 2.5, 3, 5, 10, 15}
	return timings{
		resolve: sampled{mtakit.NewHistogram()}, insert: sampled{mtakit.NewHistogram()}, readyInsert: sampled{mtakit.NewHistogram()},
		classify: mtakit.NewHistogram(), tardiness: mtakit.NewHistogram(late...), reinsert: mtakit.NewHistogram(append(late[:len(late):len(late)], 30, 45, 60, 90, 180, 360, 720)...),
	}
}

// lateness is how long ago due was. What has always been due is not late.
func lateness(now, due time.Time) time.Duration {
	if due.IsZero() {
		return 0
	}
	return max(0, now.Sub(due))
}

// metric is a family and how its samples are read.
type metric struct {
	mtakit.MetricFamily
	collect func(q *Queue, yield func(mtakit.Sample) bool)
}

var metrics = []metric{
	// Of the queue as a whole.
	gauge("scheduled_count_total", "scheduled messages overall", func(q *Queue) int64 { return q.waiting.Value() }),
	gauge("scheduled_queue_count", "scheduled queues in memory", func(q *Queue) int64 { return q.schedCount.Value() }),
	gauge("scheduled_queue_maintainer_count", "queue maintainer tasks", func(q *Queue) int64 {
		if !q.running.Load() || q.stopping.Load() {
			return 0
		}
		return int64(len(q.shards))
	}),
	gauge("message_count", "message objects alive", (*Queue).alive),
	gauge("message_data_resident_count", "messages with body in memory", func(q *Queue) int64 { return q.bodies.Value() }),
	gauge("message_meta_resident_count", "messages with metadata in memory", func(q *Queue) int64 { return q.envelopes.Value() }),
	gauge("message_data_resident_bytes", "bytes of messages in memory for their first attempt", func(q *Queue) int64 { return q.resident.Load() }),
	counter("messages_accepted_total", "messages taken responsibility for since the start", func(q *Queue) int64 { return q.accepted.Value() }),
	counter("messages_recovered_total", "messages found in the spool at start", func(q *Queue) int64 { return q.recovered.Value() }),
	counter("messages_done_total", "messages delivered, bounced or expired since the start", func(q *Queue) int64 { return q.done.Value() }),
	pressured("memory_low_count", "times the low-memory threshold was crossed", func(q *Queue) int64 { return q.memory.LowCount.Value() }),
	pressured("memory_over_limit_count", "times the soft limit was crossed", func(q *Queue) int64 { return q.memory.OverCount.Value() }),

	histogram("queue_resolve_latency", "queue manager resolve time", func(q *Queue) *mtakit.Histogram { return q.timings.resolve.Histogram }),
	histogram("queue_insert_latency", "queue manager insert time", func(q *Queue) *mtakit.Histogram { return q.timings.insert.Histogram }),
	histogram("ready_queue_insert_latency", "ready queue insert time", func(q *Queue) *mtakit.Histogram { return q.timings.readyInsert.Histogram }),
	histogram("bounce_classify_latency", "bounce classification time", func(q *Queue) *mtakit.Histogram { return q.timings.classify }),
	histogram("timeq_pop_tardiness", "lateness of due messages when popped", func(q *Queue) *mtakit.Histogram { return q.timings.tardiness }),
	histogram("timeq_reinsert_tardiness", "lateness when reinserted", func(q *Queue) *mtakit.Histogram { return q.timings.reinsert }),
	{mtakit.MetricFamily{Name: "deliver_message_latency_rollup", Help: "time per delivery call; service = protocol", Type: mtakit.HistogramType,
		Labels: []string{"service"}}, (*Queue).collectLatency},

	{mtakit.MetricFamily{Name: "egress_source_health_suspended", Help: "1 while a source is auto-suspended", Type: mtakit.GaugeType,
		Labels: []string{"source", "reason"}}, func(q *Queue, yield func(mtakit.Sample) bool) {
		q.collectHealth(yield, func(st *healthState, now time.Time) int64 {
			if st.until.After(now) {
				return 1
			}
			return 0
		})
	}},
	{mtakit.MetricFamily{Name: "egress_source_health_suspensions_total", Help: "transitions into auto-suspension", Type: mtakit.CounterType,
		Labels: []string{"source", "reason"}}, func(q *Queue, yield func(mtakit.Sample) bool) {
		q.collectHealth(yield, func(st *healthState, _ time.Time) int64 { return st.suspensions })
	}},

	// By ready queue.
	byReady("connection_count", "open connections now", mtakit.GaugeType, func(c *readyCounts) int64 { return c.connections.Value() }),
	byReady("total_connection_count", "outbound connections ever opened", mtakit.CounterType, func(c *readyCounts) int64 { return c.connected.Value() }),
	byReady("ready_full", "inserts refused because the ready queue was full", mtakit.CounterType, func(c *readyCounts) int64 { return c.full.Value() }),
	byReady("total_messages_delivered", "deliveries", mtakit.CounterType, func(c *readyCounts) int64 { return c.delivered.Value() }),
	byReady("total_messages_transfail", "transient failures", mtakit.CounterType, func(c *readyCounts) int64 { return c.transfail.Value() }),
	byReady("total_messages_fail", "permanent failures", mtakit.CounterType, func(c *readyCounts) int64 { return c.fail.Value() }),
	byReady("dispatcher_watchdog_aborted_total", "dispatchers aborted for lack of progress", mtakit.CounterType, func(c *readyCounts) int64 {
		return c.aborted.Value()
	}),
	streamed("ready_count", "messages in ready queue", mtakit.GaugeType, (*Queue).collectReadyCount, "service"),

	// By scheduled queue.
	bySched("scheduled_count", "scheduled messages per queue", mtakit.GaugeType, func(r *row) (int64, bool) { return int64(r.waiting), true }),
	bySched("delayed_due_to_message_rate_throttle", "put back because of the message rate limit", mtakit.CounterType, func(r *row) (int64, bool) {
		return int64(r.delayed.byRate), r.delayed.byRate > 0
	}),
	bySched("delayed_due_to_throttle_insert_ready", "put back by the throttle event", mtakit.CounterType, func(r *row) (int64, bool) {
		return int64(r.delayed.byReady), r.delayed.byReady > 0
	}),
	bySched("delayed_due_to_ready_queue_full", "put back because the ready queue was full", mtakit.CounterType, func(r *row) (int64, bool) {
		return int64(r.delayed.byFull), r.delayed.byFull > 0
	}),

	// By what scheduled queues have in common.
	schedSum("scheduled_by_domain", "scheduled messages per domain", func(r *row) summand {
		return summand{key: [2]string{r.Name().Domain}, hash: r.DomainHash(), n: int64(r.waiting)}
	}, "domain"),
	schedSum("scheduled_by_tenant", "scheduled messages per tenant", func(r *row) summand {
		tenant := r.Name().Tenant
		return summand{key: [2]string{tenant}, n: int64(r.waiting), none: tenant == ""}
	}, "tenant"),
	schedSum("scheduled_by_tenant_campaign", "scheduled messages per tenant and campaign", func(r *row) summand {
		n := r.Name()
		return summand{
			key: [2]string{n.Tenant, n.Campaign}, n: int64(r.waiting), none: n.Campaign == "",
		}
	}, "tenant", "campaign"),
	schedSum("queued_count_by_provider", "scheduled + ready messages", func(r *row) summand {
		who, hash := r.who()
		return summand{key: [2]string{who}, hash: hash, n: int64(r.live)}
	}, "provider"),
	schedSum("queued_count_by_provider_and_pool", "scheduled + ready messages, split by pool", func(r *row) summand {
		who, hash := r.who()
		pool := r.pool()
		return summand{key: [2]string{who, pool}, hash: hash, n: int64(r.live)}
	}, "provider", "pool"),

	// By what ready queues have in common.
	readySum("connection_count_by_provider", "open outbound connections", func(r **ready) summand {
		who := (*r).who((*r).provider)
		return summand{key: [2]string{who}, n: (*r).connections.Value()}
	}, "provider"),
	readySum("connection_count_by_provider_and_pool", "open outbound connections, split by pool", func(r **ready) summand {
		who := (*r).who((*r).provider)
		return summand{key: [2]string{who, (*r).pool}, n: (*r).connections.Value()}
	}, "provider", "pool"),
	byProvider("total_messages_delivered_by_provider", "deliveries", func(o *outcomes) *mtakit.Counter { return &o.delivered }),
	byProvider("total_messages_transfail_by_provider", "transient failures", func(o *outcomes) *mtakit.Counter { return &o.transfail }),
	byProvider("total_messages_fail_by_provider", "permanent failures", func(o *outcomes) *mtakit.Counter { return &o.fail }),
	bySource("total_messages_delivered_by_provider_and_source", "deliveries", func(o *outcomes) *mtakit.Counter { return &o.delivered }),
	bySource("total_messages_transfail_by_provider_and_source", "transient failures", func(o *outcomes) *mtakit.Counter { return &o.transfail }),
	bySource("total_messages_fail_by_provider_and_source", "permanent failures", func(o *outcomes) *mtakit.Counter { return &o.fail }),
}

func single(name, help string, typ mtakit.MetricType, value func(*Queue) int64) metric {
	return metric{mtakit.MetricFamily{Name: name, Help: help, Type: typ}, func(q *Queue, yield func(mtakit.Sample) bool) {
		yield(mtakit.Sample{Value: float64(value(q))})
	}}
}

func gauge(name, help string, value func(*Queue) int64) metric {
	return single(name, help, mtakit.GaugeType, value)
}

func counter(name, help string, value func(*Queue) int64) metric {
	return single(name, help, mtakit.CounterType, value)
}

// pressured is a counter that there is while memory is watched.
func pressured(name, help string, value func(*Queue) int64) metric {
	return metric{mtakit.MetricFamily{Name: name, Help: help, Type: mtakit.CounterType}, func(q *Queue, yield func(mtakit.Sample) bool) {
		if q.memory != nil {
			yield(mtakit.Sample{Value: float64(value(q))})
		}
	}}
}

func histogram(name, help string, of func(*Queue) *mtakit.Histogram) metric {
	return metric{mtakit.MetricFamily{Name: name, Help: help, Type: mtakit.HistogramType}, func(q *Queue, yield func(mtakit.Sample) bool) {
		yield(mtakit.Sample{Histogram: of(q)})
	}}
}

// streamed is a family that may have a series for each queue. It has those of the queues that there are; a queue that is forgotten takes its series
// along.
func streamed(name, help string, typ mtakit.MetricType, collect func(*Queue, func(mtakit.Sample) bool), labels ...string) metric {
	return metric{mtakit.MetricFamily{Name: name, Help: help, Type: typ, Labels: labels, Streamed: true}, collect}
}

func byReady(name, help string, typ mtakit.MetricType, value func(*readyCounts) int64) metric {
	return streamed(name, help, typ, func(q *Queue, yield func(mtakit.Sample) bool) {
		add := labelled(yield)
		ok := true
		q.tallies.rollups(func(proto string, r *rollup) bool {
			ok = add(proto, value(&r.readyCounts))
			return ok
		})
		if ok {
			q.eachReady(func(all []*ready) bool {
				for _, r := range all {
					if !add(r.service, value(&r.readyCounts)) {
						return false
					}
				}
				return true
			})
		}
	}, "service")
}

func bySched(name, help string, typ mtakit.MetricType, value func(*row) (int64, bool)) metric {
	return streamed(name, help, typ, func(q *Queue, yield func(mtakit.Sample) bool) {
		add := labelled(yield)
		q.eachSched(func(all []row) bool {
			for i := range all {
				all[i].ahead = first(all[i].String())
			}
			for i := range all {
				if n, ok := value(&all[i]); ok && !add(all[i].String(), n) {
					return false
				}
			}
			return true
		})
	}, "queue")
}

func byProvider(name, help string, of func(*outcomes) *mtakit.Counter) metric {
	return streamed(name, help, mtakit.CounterType, func(q *Queue, yield func(mtakit.Sample) bool) {
		add := labelled(yield)
		q.tallies.byName.slots.each(&q.tallies.mu, func(all []*tally) bool {
			for _, t := range all {
				if !add(t.tallyKey.provider, of(&t.outcomes).Value()) {
					return false
				}
			}
			return true
		})
	}, "provider")
}

func bySource(name, help string, of func(*outcomes) *mtakit.Counter) metric {
	return streamed(name, help, mtakit.CounterType, func(q *Queue, yield func(mtakit.Sample) bool) {
		labels := make([]string, 3)
		q.tallies.bySource.slots.each(&q.tallies.mu, func(all []*tally) bool {
			for _, t := range all {
				labels[0], labels[1], labels[2] = t.tallyKey.provider, t.source, t.pool
				if !yield(mtakit.Sample{Labels: labels, Value: float64(of(&t.outcomes).Value())}) {
					return false
				}
			}
			return true
		})
	}, "provider", "source", "pool")
}

// schedSum and readySum are gauges that are summed up over queues, by one label or two.
func schedSum(name, help string, of func(*row) summand, labels ...string) metric {
	return streamed(name, help, mtakit.GaugeType, func(q *Queue, yield func(mtakit.Sample) bool) {
		q.withSummer(func(sm *summer) {
			sumBy(sm, int(q.schedCount.Value()), maxSums, q.eachSched, of, sums(yield, len(labels)))
		})
	}, labels...)
}

func readySum(name, help string, of func(**ready) summand, labels ...string) metric {
	return streamed(name, help, mtakit.GaugeType, func(q *Queue, yield func(mtakit.Sample) bool) {
		q.readyMu.Lock()
		n := len(q.ready)
		q.readyMu.Unlock()
		q.withSummer(func(sm *summer) { sumBy(sm, n, maxSums, q.eachReady, of, sums(yield, len(labels))) })
	}, labels...)
}

// withSummer lends f the summer, or a new one if another scrape has it.
func (q *Queue) withSummer(f func(*summer)) {
	sm := q.summer.Swap(nil)
	if sm == nil {
		sm = &summer{}
	}
	f(sm)
	if !sm.large || q.schedCount.Value() > maxSums { // else it is of busier times
		q.summer.Store(sm)
	}
}

// sums yields samples with the first n labels.
func sums(yield func(mtakit.Sample) bool, n int) func([2]string, int64) bool {
	labels := make([]string, n)
	return func(key [2]string, v int64) bool {
		copy(labels, key[:])
		return yield(mtakit.Sample{Labels: labels, Value: float64(v)})
	}
}

// labelled yields samples with one label.
func labelled(yield func(mtakit.Sample) bool) func(string, int64) bool {
	labels := make([]string, 1)
	return func(label string, v int64) bool {
		labels[0] = label
		return yield(mtakit.Sample{Labels: labels, Value: float64(v)})
	}
}

// Families implements [mtakit.Collector].
func (q *Queue) Families() []mtakit.MetricFamily {
	all := make([]mtakit.MetricFamily, len(metrics))
	for i := range metrics {
		all[i] = metrics[i].MetricFamily
	}
	return all
}

// Collect implements [mtakit.Collector]. Queues are read some at a time, so that a scrape of a million holds up no mail.
func (q *Queue) Collect(family string, yield func(mtakit.Sample) bool) {
	for i := range metrics {
		if metrics[i].Name == family {
			metrics[i].collect(q, yield)
		}
	}
}

func (q *Queue) collectLatency(yield func(mtakit.Sample) bool) {
	q.tallies.rollups(func(proto string, r *rollup) bool {
		return yield(mtakit.Sample{Labels: []string{proto}, Histogram: r.latency})
	})
}

// collectReadyCount has the sums at the end: they are of what was shown.
func (q *Queue) collectReadyCount(yield func(mtakit.Sample) bool) {
	sums := make(map[string]int64)
	q.tallies.rollups(func(proto string, _ *rollup) bool {
		sums[proto] = 0
		return true
	})
	add, ok := labelled(yield), true
	q.eachReady(func(all []*ready) bool {
		for _, r := range all {
			n := int64(r.len())
			sums[r.proto.MetricsName()] += n
			if ok = add(r.service, n); !ok {
				return false
			}
		}
		return true
	})
	for proto, n := range sums {
		if ok = ok && add(proto, n); !ok {
			return
		}
	}
}

func (q *Queue) collectHealth(yield func(mtakit.Sample) bool, value func(*healthState, time.Time) int64) {
	type state struct {
		healthKey
		n int64
	}
	var all []state
	now, h := q.now(), &q.sourceHealth
	h.mu.Lock()
	for k, st := range h.m {
		all = append(all, state{k, value(st, now)})
	}
	h.mu.Unlock()
	for _, s := range all {
		if !yield(mtakit.Sample{Labels: []string{s.source, s.kind}, Value: float64(s.n)}) {
			return
		}
	}
}
