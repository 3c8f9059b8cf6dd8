package queue_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// Change decides about time and tries of what it moves. What it leaves in its queue waits as before, and there is no record of it.
func TestRebindChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		due := time.Now().Add(time.Hour)
		for _, to := range []string{"moved@a.test", "meta@a.test", "same@a.test", "failing@a.test"} {
			mta.Submit(&mtakit.Message{To: []string{to}, Due: due, Tries: 5}, "")
		}
		mta.Settle()
		mta.Queue.Rebind(queue.Rebind{Reason: "why", Change: func(m *mtakit.Message) error {
			if m.Tries != 5 || !m.Due.Equal(due) {
				t.Errorf("%s: tries %d, due %v", m.To, m.Tries, m.Due)
			}
			name, _, _ := strings.Cut(m.To[0], "@")
			switch name {
			case "moved":
				m.Queue, m.Tries, m.Due = mtakit.QueueName{Domain: "b.test"}, 7, due.Add(time.Hour)
			case "meta":
				m.Meta = map[string]any{"x_seen": true}
			case "failing":
				m.Queue, m.Due = mtakit.QueueName{Domain: "c.test"}, time.Time{}
				return errors.New("not this one")
			}
			return nil
		}})
		mta.Settle()
		rebound := ""
		for _, r := range mta.Records() {
			if r.Kind == mtakit.AdminRebind || strings.Contains(r.Response.Text, "Context: AdminRebind") {
				rebound += string(r.Kind) + " " + r.To[0] + "\n"
			}
		}
		if rebound != "AdminRebind moved@a.test\nDelayed moved@a.test\nDelayed meta@a.test\n" {
			t.Errorf("records are\n%s", rebound)
		}
		mta.Run(59 * time.Minute)
		if n := len(mta.Peer("a.test").Received()); n != 0 {
			t.Errorf("%d messages are sent before their time", n)
		}
		mta.Run(time.Minute)
		if n := len(mta.Peer("a.test").Received()); n != 3 {
			t.Errorf("%d of 3 messages are sent at their time", n)
		}
		mta.Drain(2 * time.Hour)
		for _, r := range mta.Records() {
			if r.Kind == mtakit.Delivered && r.Queue.Domain == "b.test" && (r.Tries != 7 || !r.Time.Equal(due.Add(time.Hour))) {
				t.Errorf("record %s", r.AppendJSON(nil))
			}
		}
	})
}

// Those in a ready queue are reached on demand, those of other queues in it stay in their turn, and what is in hand goes on.
func TestRebindInReady(t *testing.T) {
	t.Parallel()
	for _, inReady := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mta := queuetest.New(t, queuetest.Options{})
			mta.SameSite("a.test", "b.test")
			mta.Peer("a.test").Wait("MAIL", time.Minute)
			for range 100 {
				mta.Submit(&mtakit.Message{To: []string{"u@a.test"}}, "")
				mta.Submit(&mtakit.Message{To: []string{"u@b.test"}}, "")
			}
			mta.Settle()
			domain := "a.test"
			mta.Queue.Rebind(queue.Rebind{Match: queue.Match{Domain: &domain}, InReady: inReady, Change: func(m *mtakit.Message) error {
				m.Queue, m.Due = mtakit.QueueName{Domain: "c.test"}, time.Now().Add(time.Hour)
				return nil
			}})
			mta.Drain(3 * time.Hour)
			moved := len(mta.Peer("c.test").Received())
			if inReady && moved < 100-32 || !inReady && moved != 0 {
				t.Errorf("in ready %v: %d messages are moved", inReady, moved)
			}
			if stayed := len(mta.Peer("a.test").Received()); stayed+moved != 200 {
				t.Errorf("%d stayed and %d moved", stayed, moved)
			}
		})
	}
}

// A queue that is excepted is not looked into, however the order names the others.
func TestRebindExcept(t *testing.T) {
	t.Parallel()
	for _, match := range []queue.Match{{}, {QueueNames: []string{"a.test", "b.test"}}} {
		synctest.Test(t, func(t *testing.T) {
			mta := queuetest.New(t, queuetest.Options{})
			for _, to := range []string{"u@a.test", "u@b.test"} {
				mta.Submit(&mtakit.Message{To: []string{to}, Due: time.Now().Add(time.Hour)}, "")
			}
			mta.Settle()
			var asked atomic.Int32
			mta.Queue.Rebind(queue.Rebind{Match: match, Except: mtakit.QueueName{Domain: "b.test"}, Change: func(m *mtakit.Message) error {
				asked.Add(1)
				if m.To[0] != "u@a.test" {
					t.Errorf("asked about the message to %s", m.To)
				}
				return nil
			}})
			mta.Settle()
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
			mta.Drain(2 * time.Hour)
		})
	}
}
