package queue_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// Messages of one queue leave in the order in which they came, also when a ready queue has to give them up again and again, and while more come in; and
// each of two queues has its turns.
func TestOrder(t *testing.T) {
	t.Parallel()
	minutely := mtakit.Rate{N: 4, Per: time.Minute, Burst: 2} // the wait for one is longer than a connection may be idle
	for _, tt := range []struct {
		name    string
		path    func(*mtakit.PathConfig)
		retry   bool // Policy.Retry is asked, and changes nothing
		disturb func(mta *queuetest.MTA, round int)
	}{
		{name: "message rate", path: func(c *mtakit.PathConfig) { c.MaxMessageRate = minutely }},
		{name: "message rate, with a policy", path: func(c *mtakit.PathConfig) { c.MaxMessageRate = minutely }, retry: true},
		{name: "message rate, full ready queue", path: func(c *mtakit.PathConfig) { c.MaxMessageRate, c.MaxReady = minutely, 5 }},
		{name: "connection rate", path: func(c *mtakit.PathConfig) { c.MaxConnectionRate, c.MaxDeliveriesPerConnection = minutely, 1 }},
		{name: "source rate", path: func(c *mtakit.PathConfig) {
			c.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "x", Rate: minutely}, {Name: "y", Rate: minutely}}
		}},
		{name: "suspensions of the ready queue", path: func(c *mtakit.PathConfig) { c.MaxMessageRate = minutely }, disturb: func(mta *queuetest.MTA, round int) {
			switch round % 5 {
			case 0:
				mta.Queue.SuspendReady("unspecified->mx.d.test@smtp_client", "test", time.Time{})
			case 1:
				for _, r := range mta.Queue.ReadySuspensions() {
					mta.Queue.CancelReadySuspension(r.ID)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				policy := pathPolicy(func(c *mtakit.PathConfig) {
					c.ConnectionLimit.N = 1
					tt.path(c)
				})
				set := mtakit.DefaultQueueSettings()
				policy.Settings = settingsPolicy(&set)
				if tt.retry {
					policy.Retry = func(context.Context, *mtakit.Message, queue.Failure) error { return nil }
				}
				mta := queuetest.New(t, queuetest.Options{Policy: policy})
				sent := make(map[string]int)
				inject := func(tenant string, n int) {
					for range n {
						sent[tenant]++
						mta.Submit(&mtakit.Message{
							Sender: fmt.Sprintf("%s %d", tenant, sent[tenant]), To: []string{"b@d.test"}, Meta: map[string]any{mtakit.MetaTenant: tenant},
						}, "x\r\n")
					}
				}
				inject("a", 100)
				for round := range 60 {
					inject("a", 2)
					inject("b", 1)
					if tt.disturb != nil {
						tt.disturb(mta, round)
					}
					mta.Run(29 * time.Second)
				}
				received := mta.Peer("d.test").Received()
				if len(received) < 60 {
					t.Errorf("%d messages are sent in half an hour, and the rate allows twice as many", len(received))
				}
				mta.Drain(3 * 24 * time.Hour)
				next := make(map[string]int)
				for i, r := range mta.Peer("d.test").Received() {
					var tenant string
					var n int
					fmt.Sscan(r.Sender, &tenant, &n)
					if next[tenant]++; n != next[tenant] && tt.disturb == nil {
						t.Fatalf("transaction %d is for message %d of %s, want %d", i, n, tenant, next[tenant])
					}
					if tenant == "b" && n <= 20 && i > 4*n+8 && tt.disturb == nil {
						t.Errorf("message %d of b is number %d: a has more than its turns", n, i)
					}
				}
				if next["a"] != sent["a"] || next["b"] != sent["b"] {
					t.Errorf("%v received, %v sent", next, sent)
				}
				if n := len(mta.Records()); tt.disturb == nil && n != 2*(sent["a"]+sent["b"]) {
					t.Errorf("%d records of %d messages, want a reception and a delivery of each", n, sent["a"]+sent["b"])
				}
			})
		})
	}
}

// When max_ready is lowered, what is sent back keeps its place before what has not been in.
func TestOrderLoweredMaxReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wide, narrow := mtakit.DefaultPathConfig(), mtakit.DefaultPathConfig()
		wide.ConnectionLimit.N, wide.MaxReady = 1, 100
		narrow.ConnectionLimit.N, narrow.MaxReady = 1, 10
		path := &wide
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) { return path, nil },
		}})
		mta.Peer("d.test").Wait(".", time.Second)
		for i := range 200 {
			mta.Inject(fmt.Sprint(i), "b@d.test", "x\r\n")
		}
		mta.Run(10 * time.Second)
		path = &narrow
		mta.Queue.BumpEpoch()
		mta.Drain(time.Hour)
		for i, r := range mta.Peer("d.test").Received() {
			if r.Sender != fmt.Sprint(i) {
				t.Fatalf("transaction %d is for message %s", i, r.Sender)
			}
		}
	})
}
