package queue_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

func pathPolicy(change func(*mtakit.PathConfig)) queue.Policy {
	c := mtakit.DefaultPathConfig()
	change(&c)
	return queue.Policy{Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) { return &c, nil }}
}

// A connection that is opened before there is a message in hand still charges one if it fails.
func TestAggressiveConnectionOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) { c.AggressiveConnectionOpening = true })})
		mta.Peer("d.test").Refuse().Times(1)
		mta.Inject("a@x.test", "b@d.test", "Subject: x\r\n\r\n")
		mta.Run(time.Hour)
		mta.WantRecords("Reception", "TransientFailure", "Delivery")
	})
}

// A peer that takes one connection and no second one is there: mail goes on over the one, and not everything is put off.
func TestPeerWithOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) {
			c.ConsecutiveConnectionFailuresBeforeDelay, c.ConnectionLimit.N = 2, 2
		})})
		peer := mta.Peer("d.test")
		peer.Wait("CONNECT", 0).Times(1)
		peer.Wait("CONNECT", 10*time.Second).HangUp()
		peer.Wait(".", time.Second)
		for range 100 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		mta.Run(2 * time.Minute)
		if n := len(peer.Received()); n < 90 {
			t.Errorf("%d of 100 messages have been sent, want all but the ten or so that were to go by a second connection", n)
		}
	})
}

// At shutdown a path may allow its sessions less time than the grace period.
func TestSystemShutdownTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) { c.SystemShutdownTimeout = mtakit.Duration(5 * time.Second) })})
		mta.Peer("d.test").Wait(".", 50*time.Second).Times(1)
		mta.Inject("a@x.test", "b@d.test", "Subject: x\r\n\r\n")
		mta.Settle()
		begin := time.Now()
		mta.Restart()
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("the shutdown took %v, want 5s", d)
		}
		mta.Drain(time.Hour)
		if n := len(mta.Peer("d.test").Received()); n != 1 {
			t.Errorf("the message arrived %d times", n)
		}
	})
}

func settingsPolicy(s *mtakit.QueueSettings) func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) {
	return func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return s, nil }
}
