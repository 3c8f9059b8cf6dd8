package queue_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// tenants submits messages of n tenants, so many of each, to one domain whose peer begins to take them after a second.
func tenants(t *testing.T, mta *queuetest.MTA, n, each int) {
	t.Helper()
	mta.Peer("d.test").Wait("CONNECT", time.Second)
	var batch []mtakit.Submission
	for i := range n * each {
		m := &mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Meta: map[string]any{mtakit.MetaTenant: fmt.Sprintf("t%04d", i%n)}}
		batch = append(batch, mtakit.Submission{Message: m, Body: mtakit.Bytes("x\r\n")})
	}
	if err := mta.Queue.Submit(t.Context(), batch, mtakit.Durable); err != nil {
		t.Fatal(err)
	}
	mta.Settle()
}

// However many wait for room, a message finds none a few times at most.
func TestRoomIsForThoseWhoAreCalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N, c.MaxReady = 1, 10 })})
		const n, each = 1000, 2
		tenants(t, mta, n, each)
		mta.Run(30 * time.Second)
		if c := mta.Queue.Census(); c.Done != n*each {
			t.Errorf("after half a minute %+v", c)
		}
		list, _, err := mta.Queue.ScheduledQueues(queue.ListOptions{Limit: n})
		if err != nil {
			t.Fatal(err)
		}
		full := 0
		for _, s := range list {
			full += s.DelayedByFull
		}
		if len(list) != n || full > 3*n*each {
			t.Errorf("%d messages of %d queues found no room %d times", n*each, len(list), full)
		}
		if r, err := mta.Queue.Ready("unspecified->mx.d.test@smtp_client"); err != nil || int(r.Full) != full {
			t.Errorf("the ready queue counts %d of %d times that there was no room; %v", r.Full, full, err)
		}
	})
}

// Those who are called for room and don't come leave it to the next.
func TestRoomOfThoseWhoDoNotCome(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"bounce", "suspend"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N, c.MaxReady = 1, 4 })})
				tenants(t, mta, 100, 1)
				match := queue.Match{}
				for i := range 90 { // some are in already
					match.QueueNames = append(match.QueueNames, fmt.Sprintf("t%04d@d.test", i))
				}
				if order == "bounce" {
					mta.Queue.AdminBounce(match, "x", time.Time{}, true)
				} else {
					mta.Queue.Suspend(match, "x", time.Time{})
				}
				mta.Run(30 * time.Second)
				if got := len(mta.Peer("d.test").Received()); got < 10 {
					t.Errorf("%d of those that may leave have", got)
				}
			})
		})
	}
}

// panicky is Throttles that panic when they are asked for the first few times.
type panicky struct {
	mtakit.Throttles
	left atomic.Int32
}

func (p *panicky) Take(ctx context.Context, key string, r mtakit.Rate, n int) (time.Duration, error) {
	if p.left.Add(-1) >= 0 {
		panic("no connection")
	}
	return p.Throttles.Take(ctx, key, r, n)
}

// Room that was kept for a message comes back when the throttles panic.
func TestRoomComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttles := &panicky{Throttles: gcra.NewStore()}
		throttles.left.Store(3)
		mta := queuetest.New(t, queuetest.Options{
			Policy: pathPolicy(func(c *mtakit.PathConfig) { c.SourceSelectionRate = mtakit.Rate{N: 1000, Per: time.Second} }),
			Change: func(c *queue.Config) { c.Throttles = throttles },
		})
		for range 3 {
			mta.Inject("a@x.test", "b@d.test", "x\r\n")
		}
		mta.Drain(time.Hour)
		if r, err := mta.Queue.Ready("unspecified->mx.d.test@smtp_client"); err != nil || r.ReadyQueue.Ready != 0 || r.Delivered != 3 {
			t.Errorf("%+v, %v", r.ReadyQueue, err)
		}
	})
}
