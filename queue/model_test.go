package queue_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

var seeds = flag.Int("seeds", 170, "how many random runs TestModel makes")

// week sends messages that are deferred for days, with a restart every eight hours, and returns the log.
func week(t *testing.T, seed uint64) (log string) {
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Seed: seed})
		for i := range 40 {
			d := fmt.Sprintf("d%d.test", i%8)
			if i < 8 {
				mta.Peer(d).Reply("RCPT", "451 4.7.1 later").Times(3 + 7*i)
			}
			mta.Inject("a@x.test", fmt.Sprintf("u%d@%s", i, d), "Subject: x\r\n\r\n")
		}
		for range 8 * 3 {
			mta.Run(8 * time.Hour)
			mta.Restart()
		}
		mta.Drain(24 * time.Hour)
		log = mta.Log()
	})
	return log
}

// Two runs with one seed give the same records, byte for byte; another seed gives others.
func TestSameSeedSameRecords(t *testing.T) {
	a, b, c := week(t, 7), week(t, 7), week(t, 8)
	if a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
	if a == c {
		t.Error("another seed gives the same records")
	}
}

// Whatever happens, in whatever order: each message that was accepted is delivered once, bounced once or expired once, or waits, and nothing is delivered
// that was not accepted. The model is a map; what is checked after each step are the queue's own counts.
func TestModel(t *testing.T) {
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { modelRun(t, seed+1) }) })
	}
}

func modelRun(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	set := mtakit.DefaultQueueSettings()
	set.RetryInterval, set.MaxRetryInterval, set.MaxAge = mtakit.Duration(time.Minute), mtakit.Duration(time.Hour), mtakit.Duration(12*time.Hour)
	path := mtakit.DefaultPathConfig()
	path.MaxReady, path.MaxDeliveriesPerConnection, path.ConnectionLimit.N = 1+r.IntN(20), 1+r.IntN(5), 1+r.IntN(4)
	policy := pathPolicy(func(c *mtakit.PathConfig) { *c = path })
	policy.Settings = settingsPolicy(&set)
	mta := queuetest.New(t, queuetest.Options{Seed: seed, Policy: policy})
	accepted := make(map[mtakit.ID]bool)
	domain := func() string { return fmt.Sprintf("d%d.test", r.IntN(5)) }
	steps := []string{"MAIL", "RCPT", "DATA", "."}
	var last *queue.Rule
	for range 60 {
		switch r.IntN(12) {
		case 0, 1, 2, 3:
			for range 1 + r.IntN(30) {
				accepted[mta.Inject("a@x.test", "u@"+domain(), "Subject: x\r\n\r\n")] = true
			}
		case 4:
			mta.Peer(domain()).Reply(steps[r.IntN(4)], "451 4.7.1 later").Times(1 + r.IntN(40))
		case 5:
			mta.Peer(domain()).Reply(steps[1+r.IntN(3)], "550 5.7.1 no").Times(1 + r.IntN(5))
		case 6:
			mta.Peer(domain()).HangUp(steps[r.IntN(3)]).Times(1 + r.IntN(5))
		case 7:
			mta.Peer(domain()).Refuse().Times(1 + r.IntN(10))
		case 8:
			mta.Unresolvable(domain(), r.IntN(2) == 0)
		case 9:
			mta.Restart()
		case 10:
			d := domain()
			last = mta.Queue.Suspend(queue.Match{Domain: &d}, "test", time.Now().Add(time.Duration(r.IntN(3600))*time.Second))
		case 11:
			if last != nil {
				mta.Queue.CancelSuspension(last.ID) // it may have ended with a restart
				last = nil
			}
		}
		mta.Run(time.Duration(r.IntN(1800)) * time.Second)
	}
	for i := range 5 {
		mta.Unresolvable(fmt.Sprintf("d%d.test", i), false)
	}
	mta.Drain(24 * time.Hour)
	ends := make(map[mtakit.ID]int)
	for _, rec := range mta.Records() {
		switch rec.Kind {
		case mtakit.Delivered, mtakit.Bounce, mtakit.Expiration:
			ends[rec.ID]++
		}
	}
	for id := range accepted {
		if ends[id] != 1 {
			t.Errorf("message %v has %d ends", id, ends[id])
		}
	}
	for id := range ends {
		if !accepted[id] {
			t.Errorf("message %v has an end and no beginning", id)
		}
	}
	got := make(map[mtakit.ID]int)
	for i := range 5 {
		for _, x := range mta.Peer(fmt.Sprintf("d%d.test", i)).Received() {
			if got[x.ID]++; got[x.ID] > 1 {
				t.Errorf("message %v was received %d times", x.ID, got[x.ID])
			}
		}
	}
}
