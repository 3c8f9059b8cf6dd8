package queue_test

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// series reads a family: values by the labels' values, joined by a bar. The number of messages in a histogram is its value.
func series(t *testing.T, q *queue.Queue, family string) map[string]float64 {
	t.Helper()
	m := map[string]float64{}
	q.Collect(family, func(s mtakit.Sample) bool {
		labels, v := strings.Join(s.Labels, "|"), s.Value
		if s.Histogram != nil {
			_, _, n, _ := s.Histogram.Snapshot()
			v = float64(n)
		}
		if _, twice := m[labels]; twice {
			t.Errorf("%s has %q twice", family, labels)
		}
		m[labels] = v
		return true
	})
	return m
}

func wantSeries(t *testing.T, q *queue.Queue, want map[string]map[string]float64) {
	t.Helper()
	for _, family := range slices.Sorted(maps.Keys(want)) {
		if got := series(t, q, family); !maps.Equal(got, want[family]) {
			t.Errorf("%s\n got %v\nwant %v", family, got, want[family])
		}
	}
}

type one = map[string]float64

// Every outcome is counted for the ready queue, its protocol, the provider, and provider, source and pool; what waits is shown by all that it has.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		settings := func(_ context.Context, name mtakit.QueueName) (*mtakit.QueueSettings, error) {
			set := mtakit.DefaultQueueSettings()
			if name.Tenant == "ann" {
				set.EgressPool = "p"
			}
			if name.Domain == "known.test" {
				set.ProviderName = "Known"
			}
			return &set, nil
		}
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: settings,
			Pool: func(context.Context, string) (*mtakit.Pool, error) {
				return &mtakit.Pool{Name: "p", Entries: []mtakit.PoolEntry{{Name: "s", Weight: 1}}}, nil
			},
		}})
		mta.SameSite("one.test", "two.test")
		mta.Peer("later.test").Reply("DATA", "451 later")
		mta.Peer("never.test").Reply("DATA", "550 never")
		send := func(campaign, tenant string, to ...string) {
			m := &mtakit.Message{Sender: "a@x.test", To: to, Meta: map[string]any{}}
			if campaign != "" {
				m.Meta["campaign"] = campaign
			}
			if tenant != "" {
				m.Meta["tenant"] = tenant
			}
			mta.Submit(m, "x\r\n")
		}
		send("", "", "a@one.test", "b@one.test")
		send("", "ann", "a@two.test")
		send("", "ann", "a@known.test")
		send("c", "ann", "a@later.test")
		send("c", "bob", "a@later.test")
		send("d", "", "a@later.test", "b@later.test")
		send("", "", "a@never.test")
		mta.Run(time.Second)
		shared := "mx.one.test"
		wantSeries(t, mta.Queue, map[string]map[string]float64{
			"scheduled_count_total": {"": 3}, "scheduled_queue_count": {"": 7}, "message_count": {"": 3},
			"message_data_resident_count": {"": 0}, "message_meta_resident_count": {"": 0}, "message_data_resident_bytes": {"": 0},
			"scheduled_count": {
				"one.test": 0, "ann@two.test": 0, "ann@known.test": 0, "never.test": 0, "c:ann@later.test": 1, "c:bob@later.test": 1, "d:@later.test": 1,
			},
			"scheduled_by_domain":          {"one.test": 0, "two.test": 0, "known.test": 0, "never.test": 0, "later.test": 3},
			"scheduled_by_tenant":          {"ann": 1, "bob": 1},
			"scheduled_by_tenant_campaign": {"ann|c": 1, "bob|c": 1, "|d": 1},
			"queued_count_by_provider":     {shared: 0, "Known": 0, "mx.never.test": 0, "mx.later.test": 3},
			"queued_count_by_provider_and_pool": {
				shared + "|unspecified": 0, shared + "|p": 0, "Known|p": 0, "mx.never.test|unspecified": 0, "mx.later.test|p": 1, "mx.later.test|unspecified": 2,
			},
			"total_messages_delivered_by_provider": {shared: 3, "Known": 1, "mx.never.test": 0, "mx.later.test": 0},
			"total_messages_transfail_by_provider": {shared: 0, "Known": 0, "mx.never.test": 0, "mx.later.test": 4},
			"total_messages_fail_by_provider":      {shared: 0, "Known": 0, "mx.never.test": 1, "mx.later.test": 0},
			"total_messages_delivered_by_provider_and_source": {
				shared + "|unspecified|unspecified": 2, shared + "|s|p": 1, "Known|s|p": 1, "mx.never.test|unspecified|unspecified": 0,
				"mx.later.test|unspecified|unspecified": 0, "mx.later.test|s|p": 0,
			},
			"total_messages_transfail_by_provider_and_source": {
				shared + "|unspecified|unspecified": 0, shared + "|s|p": 0, "Known|s|p": 0, "mx.never.test|unspecified|unspecified": 0,
				"mx.later.test|unspecified|unspecified": 3, "mx.later.test|s|p": 1,
			},
			"deliver_message_latency_rollup": {"smtp_client": 7},
			"bounce_classify_latency":        {"": 0},
		})
		for label, want := range (one{"smtp_client": 4, "smtp_client:s->mx.one.test@smtp_client": 1}) {
			if got := series(t, mta.Queue, "total_messages_delivered")[label]; got != want {
				t.Errorf("%s delivered %v, want %v", label, got, want)
			}
		}
		if known := series(t, mta.Queue, "connection_count_by_provider")["Known"]; known == 0 {
			t.Error("no connection to Known")
		}
		if open := series(t, mta.Queue, "connection_count"); open["smtp_client"] == 0 {
			t.Errorf("no connections: %v", open)
		}
		sum := 0.0
		for _, n := range series(t, mta.Queue, "connection_count_by_provider_and_pool") {
			sum += n
		}
		if want := series(t, mta.Queue, "connection_count")["smtp_client"]; sum != want {
			t.Errorf("%v connections by provider and pool, %v in all", sum, want)
		}
	})
}

// A series ends with the queues that it is about, and begins again at zero; the sums by protocol stay.
func TestPruning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		deliver := func() {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
			mta.Run(time.Second)
		}
		deliver()
		deliver()
		now := map[string]map[string]float64{
			"total_messages_delivered":                        {"smtp_client": 2, "smtp_client:unspecified->mx.d.test@smtp_client": 2},
			"total_connection_count":                          {"smtp_client": 1, "smtp_client:unspecified->mx.d.test@smtp_client": 1},
			"total_messages_delivered_by_provider":            {"mx.d.test": 2},
			"total_messages_delivered_by_provider_and_source": {"mx.d.test|unspecified|unspecified": 2},
			"ready_count":              {"smtp_client": 0, "smtp_client:unspecified->mx.d.test@smtp_client": 0},
			"scheduled_by_domain":      {"d.test": 0},
			"queued_count_by_provider": {"mx.d.test": 0},
		}
		wantSeries(t, mta.Queue, now)
		mta.Run(time.Hour)
		wantSeries(t, mta.Queue, map[string]map[string]float64{
			"total_messages_delivered":                        {"smtp_client": 2},
			"total_connection_count":                          {"smtp_client": 1},
			"total_messages_delivered_by_provider":            {},
			"total_messages_delivered_by_provider_and_source": {},
			"ready_count":                           {"smtp_client": 0},
			"scheduled_by_domain":                   {},
			"queued_count_by_provider":              {},
			"connection_count_by_provider":          {},
			"connection_count_by_provider_and_pool": {},
		})
		deliver()
		wantSeries(t, mta.Queue, map[string]map[string]float64{
			"total_messages_delivered":             {"smtp_client": 3, "smtp_client:unspecified->mx.d.test@smtp_client": 1},
			"total_messages_delivered_by_provider": {"mx.d.test": 1},
		})
	})
}

// What policy names without end does not stay.
func TestManyPools(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: func(_ context.Context, name mtakit.QueueName) (*mtakit.QueueSettings, error) {
				set := mtakit.DefaultQueueSettings()
				set.EgressPool = name.Tenant
				return &set, nil
			},
			Pool: func(_ context.Context, name string) (*mtakit.Pool, error) {
				return &mtakit.Pool{Name: name, Entries: []mtakit.PoolEntry{{Name: "s", Weight: 1}}}, nil
			},
		}})
		const tenants = 1500
		for i := range tenants {
			mta.Submit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Meta: map[string]any{"tenant": "t" + strings.Repeat("x", i)}}, "x\r\n")
		}
		mta.Run(time.Minute)
		if n := len(series(t, mta.Queue, "total_messages_delivered_by_provider_and_source")); n == 0 || n > 1024 {
			t.Errorf("%d series", n)
		}
		if n := series(t, mta.Queue, "total_messages_delivered")["smtp_client"]; n != tenants {
			t.Errorf("%v delivered", n)
		}
	})
}

// How late messages are when their time comes, and which source is suspended.
func TestMoreMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		mta.Peer("d.test").Reply("DATA", "451 later").Times(1)
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Run(time.Hour)
		rule := &mtakit.HealthRule{Duration: mtakit.Duration(time.Hour)}
		mta.Queue.SourceFailed(&mtakit.Source{Name: "s", SuspendWhenUnplumbed: rule}, "Unplumbed", nil)
		wantSeries(t, mta.Queue, map[string]map[string]float64{
			"timeq_pop_tardiness":                    {"": 1},
			"scheduled_queue_maintainer_count":       {"": float64(mta.Queue.Shards())},
			"egress_source_health_suspended":         {"s|Unplumbed": 1},
			"egress_source_health_suspensions_total": {"s|Unplumbed": 1},
			"memory_low_count":                       {},
			"total_messages_fail_by_provider":        {},
		})
		mta.Run(2 * time.Hour)
		wantSeries(t, mta.Queue, map[string]map[string]float64{
			"egress_source_health_suspended":         {"s|Unplumbed": 0},
			"egress_source_health_suspensions_total": {"s|Unplumbed": 1},
		})
	})
}

// What is in memory is counted while it is, and one message in sixteen is timed for all.
func TestResidentAndTimings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Change: func(c *queue.Config) {
			c.Classify = mtakit.ClassifierFunc(func(mtakit.Response) mtakit.Class { return "Test" })
		}})
		mta.Peer("slow.test").Wait("DATA", time.Minute).Times(1)
		mta.Inject("a@x.test", "b@slow.test", "x\r\n")
		mta.Run(time.Second)
		resident := func(n float64) {
			t.Helper()
			wantSeries(t, mta.Queue, map[string]map[string]float64{"message_data_resident_count": {"": n}, "message_meta_resident_count": {"": n}})
		}
		resident(1)
		mta.Run(5 * time.Minute)
		resident(0)
		mta.Peer("later.test").Reply("DATA", "451 later").Times(1)
		mta.Inject("a@x.test", "b@later.test", "x\r\n")
		mta.Run(time.Second)
		resident(0)
		mta.Run(time.Hour) // loaded, sent, and let go
		resident(0)
		wantSeries(t, mta.Queue, map[string]map[string]float64{"bounce_classify_latency": {"": 1}})
		for range 300 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		mta.Run(time.Minute)
		for _, family := range []string{"queue_resolve_latency", "queue_insert_latency", "ready_queue_insert_latency"} {
			if n := series(t, mta.Queue, family)[""]; n < 100 || n > 600 || int(n)%16 != 0 {
				t.Errorf("%s counts %v of 302 messages", family, n)
			}
		}
	})
}

// What is over its rate is counted for its queue.
func TestDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := mtakit.DefaultQueueSettings()
		set.MaxMessageRate = mtakit.Rate{N: 1, Per: time.Minute}
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{Settings: settingsPolicy(&set)}})
		for range 3 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		wantSeries(t, mta.Queue, map[string]map[string]float64{"delayed_due_to_message_rate_throttle": {}})
		mta.Run(time.Second)
		if n := series(t, mta.Queue, "delayed_due_to_message_rate_throttle")["d.test"]; n == 0 {
			t.Error("not counted")
		}
		if s, ok := mta.Queue.ScheduledQueue("d.test"); !ok || s.DelayedByRate == 0 || s.DelayedByFull != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Scrapes while mail comes and goes and queues are forgotten: sums by protocol never fall, and gauges are never negative.
func TestScrapeWhileBusy(t *testing.T) {
	t.Parallel()
	spool := &noSpool{}
	ctx, cancel := context.WithCancel(t.Context())
	site := func(_ context.Context, domain string) (*mtakit.Site, error) {
		return &mtakit.Site{Name: "mx." + domain, Hosts: []mtakit.Host{{Name: "mx." + domain}}}, nil
	}
	q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(site), Egress: instant{Code: 250}, MemoryLimit: -1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	var scrapers sync.WaitGroup
	var stop atomic.Bool
	for range 2 {
		scrapers.Go(func() {
			last := map[string]float64{}
			for rounds := 0; !stop.Load() || rounds == 0; rounds++ {
				for _, f := range q.Families() {
					q.Collect(f.Name, func(s mtakit.Sample) bool {
						if s.Value < 0 {
							t.Errorf("%s%q is %v", f.Name, s.Labels, s.Value)
						}
						if f.Type == mtakit.CounterType && len(s.Labels) == 1 && s.Labels[0] == "smtp_client" {
							if s.Value < last[f.Name] {
								t.Errorf("%s fell from %v to %v", f.Name, last[f.Name], s.Value)
							}
							last[f.Name] = s.Value
						}
						return true
					})
				}
			}
		})
	}
	const n = 5000
	for i := range n {
		m := &mtakit.Message{Sender: "a@x.test", To: []string{fmt.Sprintf("b@d%d.test", i%500)}}
		if err := q.Submit(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 {
			q.ReapReady()
		}
	}
	for series(t, q, "message_count")[""] > 0 {
		runtime.Gosched()
	}
	stop.Store(true)
	scrapers.Wait()
	wantSeries(t, q, map[string]map[string]float64{"message_data_resident_count": {"": 0}, "message_meta_resident_count": {"": 0}, "message_count": {"": 0}})
	if got := series(t, q, "total_messages_delivered")["smtp_client"]; got != n {
		t.Errorf("%v delivered, want %d", got, n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
