package queue_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// waiting submits n messages, each for a queue of its own, that are due in an hour.
func waiting(t *testing.T, mta *queuetest.MTA, n int) {
	t.Helper()
	batch := make([]mtakit.Submission, n)
	for i := range batch {
		m := &mtakit.Message{Sender: "a@x.test", To: []string{fmt.Sprintf("b@d%05d.test", i)}, Due: time.Now().Add(time.Hour)}
		batch[i] = mtakit.Submission{Message: m, Body: mtakit.Bytes("x\r\n")}
	}
	if err := mta.Queue.Submit(t.Context(), batch, mtakit.Durable); err != nil {
		t.Fatal(err)
	}
	mta.Settle()
}

// A bounce that is cancelled spares what it has not come to, and so does one that is replaced.
func TestSweepEnds(t *testing.T) {
	t.Parallel()
	for _, replace := range []bool{false, true} {
		t.Run(fmt.Sprintf("replaced %v", replace), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				spool := &spooltest.Memory{}
				mta := queuetest.New(t, queuetest.Options{Spool: spool, Change: func(c *queue.Config) { c.Shards = 1 }})
				const n = 12_000
				waiting(t, mta, n)
				var rule *queue.Rule
				var end sync.Once
				added := make(chan struct{})
				spool.Before = func(method string, _ mtakit.ID) error {
					if method == "Load" {
						end.Do(func() {
							<-added
							if replace {
								mta.Queue.AdminBounce(queue.Match{}, "another", time.Now().Add(time.Hour), true)
							} else if err := mta.Queue.CancelBounce(rule.ID); err != nil {
								t.Error(err)
							}
						})
					}
					return nil
				}
				rule = mta.Queue.AdminBounce(queue.Match{}, "mistake", time.Now().Add(time.Hour), false)
				close(added)
				mta.Settle()
				if got := rule.Total(); got == 0 || got > n/2 {
					t.Errorf("%d of %d are bounced by the first", got, n)
				}
				if left := mta.Queue.Census().Waiting; replace && left != 0 || !replace && left != int64(n-rule.Total()) {
					t.Errorf("%d are left", left)
				}
			})
		})
	}
}

// What a rule counts takes bounded memory.
func TestBouncedIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		waiting(t, mta, 10_500)
		rule := mta.Queue.AdminBounce(queue.Match{}, "all", time.Time{}, true)
		mta.Settle()
		got := rule.Bounced()
		if len(got) != 10_001 || got[queue.OtherQueues] != 500 || rule.Total() != 10_500 {
			t.Errorf("%d queues, %d for others, %d in all", len(got), got[queue.OtherQueues], rule.Total())
		}
	})
}

// Many orders at once are carried out, some at a time.
func TestManySweeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		waiting(t, mta, 100)
		for i := range 100 {
			mta.Queue.AdminBounce(queue.Match{QueueNames: []string{fmt.Sprintf("d%05d.test", i)}}, "x", time.Now().Add(time.Hour), true)
		}
		mta.Settle()
		if c := mta.Queue.Census(); c.Waiting != 0 || c.Done != 100 {
			t.Errorf("%+v", c)
		}
	})
}

// A message that an order moves into a queue of another shard, which the order comes to later, is not shown to it again.
func TestSweepShowsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Change: func(c *queue.Config) { c.Shards = 4 }})
		waiting(t, mta, 100)
		var mu sync.Mutex
		shown := make(map[mtakit.ID]int)
		mta.Queue.Rebind(queue.Rebind{Change: func(m *mtakit.Message) error {
			mu.Lock()
			defer mu.Unlock()
			shown[m.ID]++
			m.Queue = mtakit.QueueName{Domain: "moved." + mtakit.Domain(m.To[0])}
			return nil
		}})
		mta.Settle()
		if len(shown) != 100 {
			t.Errorf("%d messages are shown, want all of 100", len(shown))
		}
		for id, n := range shown {
			if n != 1 {
				t.Fatalf("message %s is shown %d times", id, n)
			}
		}
	})
}

// Eight orders are carried out at once; the others have their turn when one of these is done.
func TestSweepsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		waiting(t, mta, 20)
		var shown atomic.Int64
		release := make(chan struct{})
		for i := range 20 {
			mta.Queue.Rebind(queue.Rebind{Match: queue.Match{QueueNames: []string{fmt.Sprintf("d%05d.test", i)}}, Change: func(*mtakit.Message) error {
				shown.Add(1)
				<-release
				return nil
			}})
		}
		synctest.Wait()
		if n := shown.Load(); n != 8 {
			t.Errorf("%d orders are carried out at once", n)
		}
		close(release)
		mta.Settle()
		if n := shown.Load(); n != 20 {
			t.Errorf("%d orders have been carried out, want 20", n)
		}
	})
}

// Numbers of sweeps come again after 65,536 of them.
func TestSweepNumbersWrap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		waiting(t, mta, 3)
		mta.Queue.SetSweeps(65_535)
		mta.Queue.AdminBounce(queue.Match{}, "all", time.Time{}, true)
		mta.Settle()
		if c := mta.Queue.Census(); c.Waiting != 0 {
			t.Errorf("%d messages are not bounced", c.Waiting)
		}
	})
}
