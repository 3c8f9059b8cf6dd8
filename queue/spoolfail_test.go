package queue_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/spool/spooltest"
)

var errDisk = fmt.Errorf("%w: input/output error", mtakit.ErrUnhealthy)

// failing is a spool of which one method fails for a while.
type failing struct {
	spooltest.Memory
	method atomic.Value // string
	times  atomic.Int32 // that it still fails
	failed atomic.Int32
	sick   atomic.Bool // what Err says
}

func newFailing() *failing {
	s := &failing{}
	s.method.Store("")
	s.Before = func(method string, _ mtakit.ID) error {
		if method == s.method.Load() && s.times.Add(-1) >= 0 {
			s.failed.Add(1)
			return errDisk
		}
		return nil
	}
	return s
}

func (s *failing) fail(method string, times int) {
	s.times.Store(int32(times))
	s.method.Store(method)
}

func (s *failing) Err() error {
	if s.sick.Load() {
		return errDisk
	}
	return s.Memory.Err()
}

func received(mta *queuetest.MTA, domain string) (to []string) {
	for _, r := range mta.Peer(domain).Received() {
		to = append(to, r.To...)
	}
	slices.Sort(to)
	return to
}

func TestSpoolFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method string
		times        int
		durability   mtakit.Durability
		restart      bool // while it fails
	}{
		{"Load", "Load", 3, mtakit.Durable, false},
		{"Open", "Open", 3, mtakit.Durable, false},
		{"Reschedule", "Reschedule", 3, mtakit.Durable, false},
		{"Reschedule and restart", "Reschedule", 100, mtakit.Durable, true},
		{"Update", "Update", 3, mtakit.Durable, false},
		{"Remove", "Remove", 3, mtakit.Durable, false},
		{"Store of volatile", "Store", 3, mtakit.Volatile, false},
		{"Store of volatile, for long", "Store", 1000, mtakit.Volatile, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				spool := newFailing()
				mta := queuetest.New(t, queuetest.Options{Spool: spool})
				// Two of three recipients have to be tried again, so that there is something to update.
				mta.Peer("d.test").Reply("RCPT", "450 busy").For("2@d.test").Times(2)
				mta.Peer("d.test").Reply("RCPT", "450 busy").For("3@d.test").Times(4)
				// And others wait in its queue, that should not suffer.
				spool.fail(c.method, c.times)
				for _, to := range [][]string{{"1@d.test", "2@d.test", "3@d.test"}, {"4@d.test"}} {
					if _, err := mta.TrySubmit(&mtakit.Message{To: to}, "x\r\n", c.durability); err != nil {
						t.Fatal(err)
					}
				}
				mta.Settle()
				if got := received(mta, "d.test"); !slices.Equal(got, []string{"1@d.test", "4@d.test"}) {
					t.Errorf("received at once: %v", got)
				}
				mta.Run(90 * time.Minute)
				if c.restart {
					mta.Restart()
				}
				mta.Drain(24 * time.Hour)
				if got := received(mta, "d.test"); !slices.Equal(got, []string{"1@d.test", "2@d.test", "3@d.test", "4@d.test"}) {
					t.Errorf("received %v, want each once", got)
				}
				if spool.failed.Load() == 0 {
					t.Error("nothing has failed")
				}
				spool.fail("", 0)
				mta.Run(5 * time.Minute)
				if n := spool.Len(); n != 0 {
					t.Errorf("%d messages are left in the spool", n)
				}
			})
		})
	}
}

// What was delivered and could not be removed is removed when the queue stops, or the next life would deliver it again.
func TestRemovedAtStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spool := newFailing()
		mta := queuetest.New(t, queuetest.Options{Spool: spool})
		spool.fail("Remove", 1)
		mta.Inject("a@x.test", "1@d.test", "x\r\n")
		mta.Settle()
		if spool.failed.Load() != 1 {
			t.Error("Remove has not failed")
		}
		mta.Restart()
		mta.Run(time.Hour)
		if got := received(mta, "d.test"); len(got) != 1 {
			t.Errorf("received %v, want one message once", got)
		}
	})
}

// What the spool refuses at reception is not sent, and nothing of it is left.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spool := newFailing()
		mta := queuetest.New(t, queuetest.Options{Spool: spool})
		spool.fail("Store", 1)
		_, err := mta.TrySubmit(&mtakit.Message{To: []string{"1@d.test"}}, "x\r\n", mtakit.Durable)
		if !errors.Is(err, mtakit.ErrUnhealthy) {
			t.Errorf("Submit: %v", err)
		}
		mta.Run(time.Hour)
		mta.WantRecords()
		if c := mta.Queue.Census(); c.Accepted != 0 || c.Queues != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// A message with many recipients goes no further than the transaction in hand when the spool gets unwell, or its ready queue is suspended.
func TestHeldBetweenBatches(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"spool", "suspended"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				spool := newFailing()
				mta := queuetest.New(t, queuetest.Options{Spool: spool, Policy: pathPolicy(func(c *mtakit.PathConfig) {
					c.MaxRecipientsPerBatch, c.ConnectionLimit.N = 1, 1
				})})
				mta.Peer("d.test").Wait(".", time.Second)
				var want []string
				for i := range 9 {
					want = append(want, fmt.Sprintf("%d@d.test", i))
				}
				mta.Submit(&mtakit.Message{To: slices.Clone(want)}, "x\r\n")
				mta.Inject("a@x.test", "last@d.test", "x\r\n")
				mta.Run(2500 * time.Millisecond)
				if why == "spool" {
					spool.sick.Store(true)
				} else {
					mta.Queue.SuspendReady("unspecified->mx.d.test@smtp_client", "x", mta.Queue.Now().Add(time.Minute))
				}
				mta.Run(10 * time.Second)
				if got := received(mta, "d.test"); !slices.Equal(got, want[:3]) {
					t.Errorf("received %v, want those that were sent and the one in hand", got)
				}
				spool.sick.Store(false)
				mta.Drain(24 * time.Hour)
				if got := received(mta, "d.test"); !slices.Equal(got, append(want, "last@d.test")) {
					t.Errorf("received %v, want each once", got)
				}
			})
		})
	}
}

// While the spool says that it is unwell nothing is delivered: it could not be forgotten.
func TestSpoolUnhealthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spool := newFailing()
		mta := queuetest.New(t, queuetest.Options{Spool: spool, Policy: pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = 1 })})
		mta.Peer("d.test").Wait(".", 10*time.Second)
		for i := range 3 {
			mta.Inject("a@x.test", fmt.Sprintf("%d@d.test", i), "x\r\n")
		}
		mta.Settle()
		spool.sick.Store(true) // the first is under way, and with it the envelope of the second, which goes no further
		mta.Run(time.Minute)
		if n := len(mta.Peer("d.test").Received()); n != 1 {
			t.Errorf("%d received", n)
		}
		before := len(mta.Peer("d.test").Received())
		mta.Inject("a@x.test", "x@d.test", "x\r\n")
		mta.Run(time.Hour)
		if n := len(mta.Peer("d.test").Received()); n != before {
			t.Errorf("%d received while the spool is unwell", n-before)
		}
		found := false
		for _, r := range mta.Records() {
			found = found || r.Kind == mtakit.Delayed && r.Response.String() ==
				"451 4.4.4 KumoMTA internal: delivery suspended: spool unhealthy: mtakit: spool is not accepting messages: input/output error"
		}
		if !found {
			t.Errorf("no record says why:\n%s", mta.Log())
		}
		spool.sick.Store(false)
		mta.Drain(24 * time.Hour)
		if got := received(mta, "d.test"); len(got) != 4 {
			t.Errorf("received %v", got)
		}
	})
}

// A message that was removed behind the queue's back is given up.
func TestRemovedBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spool := newFailing()
		mta := queuetest.New(t, queuetest.Options{Spool: spool})
		mta.Peer("d.test").Reply("RCPT", "450 busy").Times(1)
		id := mta.Inject("a@x.test", "1@d.test", "x\r\n")
		mta.Settle()
		if err := spool.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		mta.Drain(24 * time.Hour)
		mta.WantRecords("Reception", "TransientFailure")
		if c := mta.Queue.Census(); c.Done != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// Ids carry the wall clock. One that was ahead before a restart must not hide messages from the scan, nor show new ones twice.
func TestRestartWithClockSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var shift atomic.Int64
		mta := queuetest.New(t, queuetest.Options{Change: func(c *queue.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
			c.IDs = &mtakit.IDSource{}
			scan := c.Spool
			c.Spool = slowScan{scan}
		}})
		shift.Store(int64(24 * time.Hour))
		mta.Peer("d.test").Reply("RCPT", "450 busy").Times(5)
		for i := range 5 {
			mta.Inject("a@x.test", fmt.Sprintf("%d@d.test", i), "x\r\n")
		}
		mta.Settle()
		mta.Stop()
		shift.Store(0)
		mta.Restart()
		for i := range 5 { // while the scan goes on
			mta.Inject("a@x.test", fmt.Sprintf("new%d@d.test", i), "x\r\n")
		}
		mta.Run(time.Minute)
		if c := mta.Queue.Census(); c.Recovered != 5 || c.Accepted != 5 {
			t.Errorf("%+v", c)
		}
		mta.Drain(48 * time.Hour)
		if got := received(mta, "d.test"); len(got) != 10 || len(slices.Compact(got)) != 10 {
			t.Errorf("received %v", got)
		}
	})
}

// slowScan is a spool that takes its time to find what it has.
type slowScan struct{ mtakit.Spool }

func (s slowScan) Scan(ctx context.Context, before mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {
		time.Sleep(10 * time.Second)
		for e, err := range s.Spool.Scan(ctx, before) {
			if !yield(e, err) {
				return
			}
		}
	}
}

// A spool that can't be read at start is an error of Run.
func TestScanFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spool := newFailing()
		spool.fail("Scan", 1)
		q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(oneSite), Egress: instant{Code: 250}, MemoryLimit: -1})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Run(t.Context()); !errors.Is(err, mtakit.ErrUnhealthy) {
			t.Errorf("Run: %v", err)
		}
		if err := q.Run(t.Context()); err == nil {
			t.Error("Run can be called twice")
		}
	})
}
