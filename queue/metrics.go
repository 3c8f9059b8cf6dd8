package queue

import (
	"github.com/mtakit/mtakit"
)

var families = []mtakit.MetricFamily{
	{Name: "scheduled_count_total", Help: "messages in scheduled queues", Type: mtakit.GaugeType},
	{Name: "scheduled_queue_count", Help: "scheduled queues in memory", Type: mtakit.GaugeType},
	{Name: "deliver_message_latency_rollup", Help: "time of one delivery call", Type: mtakit.HistogramType, Labels: []string{"service"}},
	{Name: "message_count", Help: "messages accepted or recovered that are not done", Type: mtakit.GaugeType},
	{Name: "message_data_resident_bytes", Help: "bytes of messages in memory for their first attempt", Type: mtakit.GaugeType},
	{Name: "messages_accepted_total", Help: "messages taken responsibility for since the start", Type: mtakit.CounterType},
	{Name: "messages_recovered_total", Help: "messages found in the spool at start", Type: mtakit.CounterType},
	{Name: "messages_done_total", Help: "messages delivered, bounced or expired since the start", Type: mtakit.CounterType},

	{Name: "connection_count", Help: "open connections", Type: mtakit.GaugeType, Labels: []string{"service"}, Streamed: true},
	{Name: "total_connection_count", Help: "outbound connections ever opened", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
	{Name: "ready_count", Help: "messages in ready queues", Type: mtakit.GaugeType, Labels: []string{"service"}, Streamed: true},
	{Name: "ready_full", Help: "inserts refused because the ready queue was full", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
	{Name: "total_messages_delivered", Help: "recipients delivered to", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
	{Name: "total_messages_transfail", Help: "temporary failures of recipients", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
	{Name: "total_messages_fail", Help: "permanent failures of recipients", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
	{Name: "dispatcher_watchdog_aborted_total", Help: "sessions cut because they made no progress", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
	{Name: "scheduled_count", Help: "messages in a scheduled queue", Type: mtakit.GaugeType, Labels: []string{"queue"}, Streamed: true},
	{Name: "delayed_due_to_message_rate_throttle", Help: "held back by the message rate of the queue", Type: mtakit.CounterType, Labels: []string{"queue"}, Streamed: true},
	{Name: "delayed_due_to_throttle_insert_ready", Help: "held back by the ready callback", Type: mtakit.CounterType, Labels: []string{"queue"}, Streamed: true},
	{Name: "delayed_due_to_ready_queue_full", Help: "held back because the ready queue was full", Type: mtakit.CounterType, Labels: []string{"queue"}, Streamed: true},
}

// Families implements mtakit.Collector.
func (q *Queue) Families() []mtakit.MetricFamily { return families }

// Collect implements mtakit.Collector. Queues are read a few hundred at a time, so that a scrape of a million holds up no mail.
func (q *Queue) Collect(family string, yield func(mtakit.Sample) bool) {
	one := func(v int64) { yield(mtakit.Sample{Value: float64(v)}) }
	switch family {
	case "scheduled_count_total":
		one(q.waiting.Value())
	case "scheduled_queue_count":
		one(q.schedCount.Value())
	case "message_count":
		one(q.accepted.Value() + q.recovered.Value() - q.done.Value())
	case "message_data_resident_bytes":
		one(q.resident.Load())
	case "messages_accepted_total":
		one(q.accepted.Value())
	case "messages_recovered_total":
		one(q.recovered.Value())
	case "messages_done_total":
		one(q.done.Value())
	case "deliver_message_latency_rollup":
		yield(mtakit.Sample{Labels: []string{"smtp_client"}, Histogram: q.latency})
	case "scheduled_count":
		q.collectSched(yield, func(s *sched) (int64, bool) { return int64(s.waiting), true })
	case "delayed_due_to_message_rate_throttle":
		q.collectSched(yield, func(s *sched) (int64, bool) { return int64(s.delayedByRate), s.delayedByRate > 0 })
	case "delayed_due_to_throttle_insert_ready":
		q.collectSched(yield, func(s *sched) (int64, bool) { return int64(s.delayedByReady), s.delayedByReady > 0 })
	case "delayed_due_to_ready_queue_full":
		q.collectSched(yield, func(s *sched) (int64, bool) { return int64(s.delayedByFull), s.delayedByFull > 0 })
	default:
		if value := readyMetrics[family]; value != nil {
			q.collectReady(yield, value)
		}
	}
}

var readyMetrics = map[string]func(*ready) int64{
	"connection_count":                  func(r *ready) int64 { return r.connections.Value() },
	"total_connection_count":            func(r *ready) int64 { return r.connectionsTotal.Value() },
	"ready_full":                        func(r *ready) int64 { return r.fullup.Value() },
	"total_messages_delivered":          func(r *ready) int64 { return r.delivered.Value() },
	"total_messages_transfail":          func(r *ready) int64 { return r.transfail.Value() },
	"total_messages_fail":               func(r *ready) int64 { return r.fail.Value() },
	"dispatcher_watchdog_aborted_total": func(r *ready) int64 { return r.aborted.Value() },
	"ready_count": func(r *ready) int64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return int64(r.lanes.n + r.reserved)
	},
}

// collectSched yields a value for each scheduled queue.
func (q *Queue) collectSched(yield func(mtakit.Sample) bool, value func(*sched) (int64, bool)) {
	type row struct {
		name mtakit.QueueName
		v    int64
	}
	rows := make([]row, 0, 256)
	label := make([]string, 1)
	for _, sh := range q.shards {
		for pos := 0; ; {
			rows = rows[:0]
			sh.mu.Lock()
			end := min(pos+cap(rows), len(sh.scheds))
			for _, s := range sh.scheds[pos:end] {
				if s == nil {
					continue
				}
				if v, ok := value(s); ok {
					rows = append(rows, row{s.name(), v})
				}
			}
			done := end == len(sh.scheds)
			pos = end
			sh.mu.Unlock()
			for _, r := range rows {
				label[0] = r.name.String()
				if !yield(mtakit.Sample{Labels: label, Value: float64(r.v)}) {
					return
				}
			}
			if done {
				break
			}
		}
	}
}

// remember keeps what a ready queue that is forgotten has counted. It is called with readyMu held.
func (q *Queue) remember(r *ready) {
	proto := r.proto.MetricsName()
	p := q.past[proto]
	if p == nil {
		p = &ready{}
		q.past[proto] = p
	}
	p.connectionsTotal.Add(r.connectionsTotal.Value())
	p.fullup.Add(r.fullup.Value())
	p.delivered.Add(r.delivered.Value())
	p.transfail.Add(r.transfail.Value())
	p.fail.Add(r.fail.Value())
	p.aborted.Add(r.aborted.Value())
}

// collectReady yields a value for each ready queue, and their sum for each protocol. What ready queues that have been forgotten counted stays in the
// sum.
func (q *Queue) collectReady(yield func(mtakit.Sample) bool, value func(*ready) int64) {
	q.readyMu.Lock()
	all := make([]*ready, 0, len(q.ready))
	for _, r := range q.ready {
		all = append(all, r)
	}
	sums := map[string]int64{"smtp_client": 0}
	for proto, r := range q.past {
		sums[proto] = value(r)
	}
	q.readyMu.Unlock()
	label := make([]string, 1)
	for _, r := range all {
		v := value(r)
		proto := r.proto.MetricsName()
		sums[proto] += v
		label[0] = proto + ":" + r.name
		if !yield(mtakit.Sample{Labels: label, Value: float64(v)}) {
			return
		}
	}
	for proto, v := range sums {
		label[0] = proto
		if !yield(mtakit.Sample{Labels: label, Value: float64(v)}) {
			return
		}
	}
}
