package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
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
