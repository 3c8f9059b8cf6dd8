package queue_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// stepped runs f with an MTA that gives its queues these settings, and with a function that sets its wall clock.
func stepped(t *testing.T, set mtakit.QueueSettings, f func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration))) {
	synctest.Test(t, func(t *testing.T) {
		var steps atomic.Int64
		mta := queuetest.New(t, queuetest.Options{
			Policy: queue.Policy{Settings: settingsPolicy(&set)},
			Change: func(c *queue.Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(steps.Load())) } },
		})
		f(t, mta, func(d time.Duration) { steps.Add(int64(d)) })
	})
}

// When the wall clock is set, what waits goes by the time that passes: it is neither stuck nor does it all come at once, and nothing is too old for it.
func TestClockStep(t *testing.T) {
	t.Parallel()
	const n = 200 // whose first retries are 20 minutes later, give or take one
	for _, step := range []time.Duration{-1000 * 24 * time.Hour, -5 * time.Hour, -time.Minute, 0, time.Minute, 5 * time.Hour, 30 * 24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			stepped(t, mtakit.DefaultQueueSettings(), func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration)) {
				for i := range n {
					d := fmt.Sprintf("d%d.test", i)
					mta.Peer(d).Reply("RCPT", "451 later").Times(1)
					mta.Inject("a@x.test", "b@"+d, "x\r\n")
				}
				mta.Run(10 * time.Minute)
				setClock(step)
				fresh := mta.Inject("a@x.test", "b@fresh.test", "x\r\n")
				mta.Run(6 * time.Minute)
				if got := mta.Queue.Census().Waiting; got != n {
					t.Errorf("after 16 minutes %d messages wait, want all of %d", got, n)
				}
				if mta.Count(fresh, mtakit.Delivered) != 1 {
					t.Error("a new message isn't delivered")
				}
				mta.Run(7 * time.Minute) // the steps are worked off slowly, so that it takes somewhat longer or less long
				if c := mta.Queue.Census(); c.Waiting != 0 || c.Done != n+1 {
					t.Errorf("after 23 minutes: %+v", c)
				}
				for _, r := range mta.Records() {
					if r.Kind == mtakit.Expiration {
						t.Fatalf("a message expires: %s", r.AppendJSON(nil))
					}
				}
			})
		})
	}
}

// A restart after a step finds due times that have been written anew.
func TestClockStepAndRestart(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{-100 * time.Hour, 100 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			stepped(t, mtakit.DefaultQueueSettings(), func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration)) {
				mta.Peer("d.test").Reply("RCPT", "451 later").Times(10)
				for range 10 {
					mta.Inject("a@x.test", "b@d.test", "x\r\n")
				}
				mta.Run(5 * time.Minute)
				setClock(step)
				mta.Run(3 * time.Minute)
				mta.Restart()
				mta.Run(7 * time.Minute)
				if got := mta.Queue.Census().Waiting; got != 10 {
					t.Errorf("15 minutes after the attempt %d messages wait, want all of 10", got)
				}
				mta.Run(8 * time.Minute)
				if got := mta.Queue.Census().Waiting; got != 0 {
					t.Errorf("23 minutes after the attempt %d messages wait", got)
				}
				if n := len(mta.Records()); n != 30 {
					t.Errorf("%d records, want a reception, a failure and a delivery of each", n)
				}
			})
		})
	}
}

// In the end what waits goes by the wall clock again, and a restart takes it as it is.
func TestClockSettles(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{-time.Hour, time.Hour, 9 * time.Second} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			stepped(t, mtakit.DefaultQueueSettings(), func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration)) {
				mta.Run(time.Minute)
				setClock(step)
				want := step
				if step.Abs() < 10*time.Second { // not worth it
					want = 0
				}
				if lag := mta.Queue.Lag(); lag != want {
					t.Errorf("the lag is %v, want %v", lag, want)
				}
				mta.Run(4 * time.Hour)
				if lag := mta.Queue.Lag(); lag != want/2 {
					t.Errorf("after four hours the lag is %v, want half of %v", lag, want)
				}
				mta.Run(4*time.Hour + time.Minute)
				if lag := mta.Queue.Lag(); lag != 0 {
					t.Errorf("the lag is %v, want none", lag)
				}
				setClock(step)
				mta.Restart()
				if lag := mta.Queue.Lag(); lag != 0 {
					t.Errorf("after a restart the lag is %v", lag)
				}
			})
		})
	}
}

// A message that is for a time of the day is not sent before it when the clock has been set back.
func TestClockBackAndSchedule(t *testing.T) {
	t.Parallel()
	stepped(t, mtakit.DefaultQueueSettings(), func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration)) {
		first := mta.Queue.Now().Add(2 * time.Hour)
		dated := mta.Submit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Schedule: &mtakit.Schedule{First: first}}, "x\r\n")
		plain := mta.Submit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Due: first}, "x\r\n")
		mta.Run(time.Hour)
		setClock(-3 * time.Hour)
		mta.Run(2 * time.Hour)
		if mta.Count(dated, mtakit.Delivered) != 0 || mta.Count(plain, mtakit.Delivered) != 1 {
			t.Errorf("what has to wait for a time is sent, or what has to wait for so long is not:\n%s", mta.Log())
		}
		mta.Run(4 * time.Hour)
		for _, r := range mta.Records() {
			if r.ID == dated && r.Kind == mtakit.Delivered && r.Time.Before(first) {
				t.Errorf("sent at %v, want not before %v", r.Time, first)
			}
		}
		if mta.Count(dated, mtakit.Delivered) != 1 {
			t.Errorf("not sent at all:\n%s", mta.Log())
		}
	})
}

// Due times are shown by the wall clock, whatever has been done to that.
func TestClockStepIsShown(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			stepped(t, mtakit.DefaultQueueSettings(), func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration)) {
				mta.Submit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Due: mta.Queue.Now().Add(20 * time.Minute)}, "x\r\n")
				mta.Settle()
				setClock(step)
				mta.Run(time.Minute + time.Second)
				shown := 0
				for e := range mta.Queue.Waiting(mtakit.QueueName{Domain: "d.test"}) {
					shown++
					if left := e.Due.Sub(mta.Queue.Now()); left < 18*time.Minute || left > 19*time.Minute {
						t.Errorf("after a minute of twenty it is due in %v", left)
					}
				}
				if shown != 1 {
					t.Errorf("%d messages are shown, want 1", shown)
				}
			})
		})
	}
}

// What is due already goes on being due when the clock is set back.
func TestClockBackAndDue(t *testing.T) {
	t.Parallel()
	set := mtakit.DefaultQueueSettings()
	set.MaxMessageRate = mtakit.Rate{N: 1, Per: time.Minute}
	stepped(t, set, func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration)) {
		for range 40 {
			mta.Submit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Due: mta.Queue.Now().Add(10 * time.Minute)}, "x\r\n")
		}
		mta.Run(20 * time.Minute)
		before := len(mta.Peer("d.test").Received())
		setClock(-5 * time.Hour)
		mta.Run(20 * time.Minute)
		if n := len(mta.Peer("d.test").Received()) - before; n < 18 {
			t.Errorf("%d messages are sent in 20 minutes, one a minute is allowed", n)
		}
		mta.Restart()
		mta.Drain(15 * time.Minute)
	})
}

// An order that comes before anybody has noticed a step does not make messages wait for as long as that.
func TestClockStepAndOrder(t *testing.T) {
	t.Parallel()
	stepped(t, mtakit.DefaultQueueSettings(), func(t *testing.T, mta *queuetest.MTA, setClock func(time.Duration)) {
		mta.Submit(&mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Due: mta.Queue.Now().Add(20 * time.Minute)}, "x\r\n")
		mta.Settle()
		setClock(-5 * time.Hour)
		mta.Queue.Rebind(queue.Rebind{Change: func(*mtakit.Message) error { return nil }})
		mta.Drain(25 * time.Minute)
	})
}
