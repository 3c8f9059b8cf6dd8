package queue_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// A connection keeps its place for as long as it is in use, also where envelopes overlap all the time.
func TestLeaseOfABusyConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ttl time.Duration
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) {
			c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 1}}}
			c.EHLOTimeout, c.MailTimeout, c.RcptTimeout, c.DataTimeout = 0, 0, 0, 0
			ttl = c.TotalConnectionLifetime()
		})})
		mta.Peer("busy.test").Wait(".", time.Minute)
		n := 3 * int(ttl/time.Minute)
		start := time.Now()
		for range n {
			mta.Inject("a@x.test", "b@busy.test", "x\r\n")
		}
		mta.Settle()
		mta.Inject("a@x.test", "b@other.test", "x\r\n")
		mta.Drain(time.Hour)
		if at := mta.Peer("other.test").Received()[0].Time.Sub(start); at < time.Duration(n)*time.Minute {
			t.Errorf("there is a second connection after %v, while the one that there may be is in use for %v", at, time.Duration(n)*time.Minute)
		}
	})
}

// Those who wait for a place have it when a connection has had its deliveries, however much there is still for that.
func TestLeasesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, each = 100, 10
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) {
			c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 1}}}
			c.MaxDeliveriesPerConnection, c.ConnectionLimit.N = each, 1
		})})
		mta.Peer("busy.test").Wait(".", time.Minute)
		start := time.Now()
		for range n {
			mta.Inject("a@x.test", "b@busy.test", "x\r\n")
		}
		mta.Settle()
		mta.Inject("a@x.test", "b@other.test", "x\r\n")
		mta.Drain(3 * time.Hour)
		if at := mta.Peer("other.test").Received()[0].Time.Sub(start); at > (each+1)*time.Minute {
			t.Errorf("it has waited for %v, %d deliveries take %v", at, each, each*time.Minute)
		}
		if got := len(mta.Peer("busy.test").Received()); got != n {
			t.Errorf("%d messages have left", got)
		}
	})
}

// slowly is Throttles of which another one may take a lease after each that was given.
type slowly struct{ mtakit.Throttles }

func (s slowly) Lease(ctx context.Context, key string, l mtakit.Limit, ttl time.Duration) (mtakit.Lease, error) {
	lease, err := s.Throttles.Lease(ctx, key, l, ttl)
	time.Sleep(time.Second)
	return lease, err
}

// Paths that name the same limits in another order don't wait for what the other has.
func TestLeasesInAnotherOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, y := mtakit.NamedLimit{Name: "x", Limit: mtakit.Limit{N: 1}}, mtakit.NamedLimit{Name: "y", Limit: mtakit.Limit{N: 1}}
		mta := queuetest.New(t, queuetest.Options{
			Policy: queue.Policy{Path: func(_ context.Context, domain, _ string, _ *mtakit.Site) (*mtakit.PathConfig, error) {
				c := mtakit.DefaultPathConfig()
				if c.AdditionalConnectionLimits = (mtakit.NamedLimits{x, y}); domain == "e.test" {
					c.AdditionalConnectionLimits = mtakit.NamedLimits{y, x}
				}
				return &c, nil
			}},
			Change: func(c *queue.Config) { c.Throttles = slowly{gcra.NewStore()} },
		})
		mta.Inject("a@x.test", "b@d.test", "x\r\n")
		mta.Inject("a@x.test", "b@e.test", "x\r\n")
		mta.Run(time.Minute)
		if d, e := len(mta.Peer("d.test").Received()), len(mta.Peer("e.test").Received()); d != 1 || e != 1 {
			t.Errorf("%d and %d messages have been sent, want one each", d, e)
		}
	})
}
