package queue_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// A dead, a tarpitting and a throttling destination beside a hundred good ones cost these at most a twentieth of their rate.
func TestBadNeighbours(t *testing.T) {
	const good, each, bad = 100, 400, 1500
	took := func(t *testing.T, neighbours bool) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			mta := queuetest.New(t, queuetest.Options{})
			mta.Peer("dead.test").Wait("CONNECT", 60*time.Second)
			mta.Peer("dead.test").Refuse()
			mta.Peer("tarpit.test").Wait("RCPT", 250*time.Second)
			mta.Peer("busy.test").Reply("MAIL", "421 4.7.0 too fast")
			for i := range good {
				mta.Peer(fmt.Sprintf("good%d.test", i)).Wait(".", 10*time.Millisecond)
			}
			begin := time.Now()
			last := make(map[mtakit.ID]bool)
			for n := range max(each, bad) {
				if neighbours && n < bad {
					for _, b := range []string{"dead", "tarpit", "busy"} {
						mta.Inject("a@x.test", "b@"+b+".test", "Subject: x\r\n\r\n")
					}
				}
				for i := range good {
					if n < each {
						last[mta.Inject("a@x.test", "b@good"+fmt.Sprint(i)+".test", "Subject: x\r\n\r\n")] = true
					}
				}
			}
			mta.Run(time.Minute)
			for i := range good {
				got := mta.Peer(fmt.Sprintf("good%d.test", i)).Received()
				if len(got) != each {
					t.Fatalf("good%d.test has %d of %d messages after a minute", i, len(got), each)
				}
				for _, m := range got {
					d += m.Time.Sub(begin) / (good * each)
				}
			}
		})
		return d
	}
	alone, beside := took(t, false), took(t, true)
	if beside > alone+alone/20 {
		t.Errorf("a message for a good one takes %v beside the bad ones, and %v alone", beside, alone)
	}
	t.Logf("alone %v, beside the bad ones %v", alone, beside)
}
