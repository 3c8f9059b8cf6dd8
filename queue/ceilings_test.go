package queue_test

import (
	"math"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

func TestCeilings(t *testing.T) {
	t.Parallel()
	rate := func(n int, per time.Duration) mtakit.Rate { return mtakit.Rate{N: n, Per: per} }
	tests := []struct {
		name     string
		path     func(*mtakit.PathConfig)
		queue    mtakit.Rate
		want     queue.Ceiling // of messages, by default
		of       func(queue.Ceilings) *queue.Ceiling
		declared string
	}{
		{name: "none", path: func(*mtakit.PathConfig) {}},
		{name: "primary", path: func(c *mtakit.PathConfig) { c.MaxMessageRate = rate(100, time.Minute) },
			want: queue.Ceiling{Value: 100. / 60, By: queue.CeilingPrimary, Display: "100/m"}},
		{name: "additional", path: func(c *mtakit.PathConfig) {
			c.MaxMessageRate = rate(100, time.Minute)
			c.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "a", Rate: rate(2, time.Second)}, {Name: "b", Rate: rate(1, time.Second)}}
		}, want: queue.Ceiling{Value: 1, By: queue.CeilingAdditional, Name: "b", Display: "1/s"}, declared: "100/m"},
		{name: "equal ones: the path's own", path: func(c *mtakit.PathConfig) {
			c.MaxMessageRate = rate(60, time.Minute)
			c.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "a", Rate: rate(1, time.Second)}}
		}, want: queue.Ceiling{Value: 1, By: queue.CeilingPrimary, Display: "60/m"}},
		{name: "reconnect cycling", path: func(c *mtakit.PathConfig) {
			c.MaxMessageRate, c.MaxDeliveriesPerConnection, c.MaxConnectionRate = rate(1000, time.Second), 10, rate(10, time.Second)
		}, want: queue.Ceiling{Value: 100, By: queue.CeilingReconnectCycling, Display: "10 × 10/s = 100/s"}, declared: "1000/s"},
		{name: "reconnect cycling that is higher", path: func(c *mtakit.PathConfig) {
			c.MaxMessageRate, c.MaxDeliveriesPerConnection, c.MaxConnectionRate = rate(10, time.Second), 10, rate(10, time.Second)
		}, want: queue.Ceiling{Value: 10, By: queue.CeilingPrimary, Display: "10/s"}},
		{name: "a product that is too large", path: func(c *mtakit.PathConfig) {
			c.MaxDeliveriesPerConnection, c.MaxConnectionRate = math.MaxInt, rate(10, time.Second)
		}, want: queue.Ceiling{Value: 10 * float64(math.MaxInt), By: queue.CeilingReconnectCycling, Display: "9223372036854775807 × 10/s = 9223372036854775807/s"}},
		{name: "of the scheduled queue", path: func(c *mtakit.PathConfig) { c.MaxMessageRate = rate(10, time.Second) }, queue: rate(1, time.Hour),
			want: queue.Ceiling{Value: 1. / 3600, By: queue.CeilingOther, Name: "scheduled queue max_message_rate", Display: "1/h"}, declared: "10/s"},
		{name: "connections", path: func(c *mtakit.PathConfig) {
			c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "more", Limit: mtakit.Limit{N: 40}}, {Name: "less", Limit: mtakit.Limit{N: 3}}}
		}, of: func(c queue.Ceilings) *queue.Ceiling { return &c.MaxConcurrentDispatchers },
			want: queue.Ceiling{Value: 3, By: queue.CeilingAdditional, Name: "less", Display: "3"}},
		{name: "selection of the source", path: func(c *mtakit.PathConfig) {
			c.SourceSelectionRate = rate(500, 24*time.Hour)
			c.AdditionalSourceSelectionRates = mtakit.NamedRates{{Name: "none"}}
		}, of: func(c queue.Ceilings) *queue.Ceiling { return c.MaxSourceSelectionRate },
			want: queue.Ceiling{Value: 500. / 86400, By: queue.CeilingPrimary, Display: "500/d"}},
		{name: "connection rate", path: func(c *mtakit.PathConfig) {
			c.MaxConnectionRate = mtakit.Rate{N: 10, Per: 90 * time.Second, Local: true}
		},
			of:   func(c queue.Ceilings) *queue.Ceiling { return c.MaxConnectionRate },
			want: queue.Ceiling{Value: 10. / 90, By: queue.CeilingPrimary, Display: "local:10/90s"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, s := mtakit.DefaultPathConfig(), mtakit.DefaultQueueSettings()
			tt.path(&p)
			s.MaxMessageRate = tt.queue
			c := queue.CeilingsOf(&p, &s)
			got := c.MaxMessageRate
			if tt.of != nil {
				got = tt.of(c)
			}
			if got == nil {
				got = &queue.Ceiling{}
			}
			if *got != tt.want || c.DeclaredMessageRate != tt.declared {
				t.Errorf("got %+v, declared %q\nwant %+v, declared %q", *got, c.DeclaredMessageRate, tt.want, tt.declared)
			}
		})
	}
}
