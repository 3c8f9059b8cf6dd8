package queuetest_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

const text = "Subject: hello\r\n\r\nhello\r\n"

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Parallel()
	synctest.Test(t, f)
}

// This is the test of the package comment: a policy that retries patiently, and a peer that lets nobody in at first.
func TestGreylisting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		patient := mtakit.DefaultQueueSettings()
		patient.RetryInterval = mtakit.Duration(15 * time.Minute)
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return &patient, nil },
		}})
		mta.Peer("example.com").Reply("RCPT", "451 4.7.1 slow down").Times(2)
		id := mta.Inject("a@x.test", "vip@example.com", text)
		mta.Run(3 * time.Hour)
		mta.WantRecords("Reception", "TransientFailure", "TransientFailure", "Delivery")
		got := mta.Peer("example.com").Received()
		if len(got) != 1 || got[0].ID != id || got[0].To[0] != "vip@example.com" {
			t.Errorf("received %+v", got)
		}
		if n := mta.Count(id, "TransientFailure"); n != 2 {
			t.Errorf("%d records", n)
		}
	})
}

func TestPeerSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		peer  func(*queuetest.Peer)
		kind  mtakit.Kind
		reply string
	}{
		{"consent", func(*queuetest.Peer) {}, mtakit.Delivered, "250 2.0.0 ok"},
		{"MAIL", func(p *queuetest.Peer) { p.Reply("MAIL", "550 5.7.1 not you") }, mtakit.Bounce, "550 5.7.1 not you"},
		{"RCPT", func(p *queuetest.Peer) { p.Reply("RCPT", "450 busy") }, mtakit.TransientFailure, "450 busy"},
		{"RCPT of another", func(p *queuetest.Peer) { p.Reply("RCPT", "450 busy").For("d@b.test") }, mtakit.Delivered, "250 2.0.0 ok"},
		{"DATA", func(p *queuetest.Peer) { p.Reply("DATA", "554 no") }, mtakit.Bounce, "554 no"},
		{"end", func(p *queuetest.Peer) { p.Reply(".", "250 queued as 1") }, mtakit.Delivered, "250 queued as 1"},
		{"end refused", func(p *queuetest.Peer) { p.Reply(".", "552 5.3.4 too big") }, mtakit.Bounce, "552 5.3.4 too big"},
		{"goodbye", func(p *queuetest.Peer) { p.Reply("MAIL", "421 bye") }, mtakit.TransientFailure, "421 bye"},
		{"hang up", func(p *queuetest.Peer) { p.HangUp(".") }, mtakit.TransientFailure,
			"400 KumoMTA internal: failed to send message: connection reset by peer"},
		{"refuse", func(p *queuetest.Peer) { p.Refuse() }, mtakit.TransientFailure,
			"400 KumoMTA internal: failed to connect to any candidate hosts: connect to mx.b.test: connection reset by peer"},
		{"settle", func(p *queuetest.Peer) {
			p.Settle(&mtakit.PathError{Response: mtakit.Response{Code: 556, Enhanced: [3]uint16{5, 1, 10}, Text: "null MX"}})
		}, mtakit.Bounce, "556 5.1.10 null MX"},
		{"slow", func(p *queuetest.Peer) { p.Wait("DATA", time.Second).Reply("451 later") }, mtakit.TransientFailure, "451 later"},
		{"slow and gone", func(p *queuetest.Peer) { p.Wait("DATA", time.Second).HangUp() }, mtakit.TransientFailure,
			"400 KumoMTA internal: failed to send message: connection reset by peer"},
		{"script", func(p *queuetest.Peer) {
			p.Script(func(step, to string, m *mtakit.Message) string {
				if step == "RCPT" {
					return fmt.Sprintf("550 %s of %s?", to, m.Sender)
				}
				return ""
			})
		}, mtakit.Bounce, "550 c@b.test of a@x.test?"},
		{"rule before script", func(p *queuetest.Peer) {
			p.Script(func(step, _ string, _ *mtakit.Message) string {
				if step == "MAIL" {
					return "550 script"
				}
				return ""
			})
			p.Reply("MAIL", "551 rule")
		}, mtakit.Bounce, "551 rule"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{})
				c.peer(mta.Peer("b.test"))
				mta.Inject("a@x.test", "c@b.test", text)
				mta.Run(time.Minute)
				mta.WantRecords("Reception", c.kind)
				if r := mta.Records()[1]; r.Response.String() != c.reply {
					t.Errorf("reply is %q, want %q", r.Response, c.reply)
				}
				if open, _, _ := mta.Peer("b.test").Connections(); open != 0 {
					t.Errorf("%d connections are open after the idle time", open)
				}
			})
		})
	}
}

func TestRestartAndDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		p := mta.Peer("b.test")
		p.Reply("MAIL", "451 later")
		for range 5 {
			mta.Inject("a@x.test", "c@b.test", text)
		}
		mta.Run(time.Hour)
		mta.Restart()
		if c := mta.Queue.Census(); c.Recovered != 5 || c.Accepted != 0 {
			t.Errorf("after the restart: %+v", c)
		}
		p.Forget()
		mta.Drain(24 * time.Hour)
		if n := len(p.Received()); n != 5 {
			t.Errorf("%d messages received, want 5", n)
		}
	})
}

func TestRouting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		mta.SameSite("one.test", "two.test")
		mta.Unresolvable("three.test", true)
		mta.Inject("a@x.test", "c@one.test", text)
		mta.Inject("a@x.test", "c@two.test", text)
		mta.Inject("a@x.test", "c@three.test", text)
		mta.Settle()
		if n := len(mta.Peer("two.test").Received()); n != 2 || mta.Peer("two.test") != mta.Peer("one.test") {
			t.Errorf("the shared site received %d messages, want 2", n)
		}
		mta.Unresolvable("three.test", false)
		mta.Drain(time.Hour)
		if n := len(mta.Peer("three.test").Received()); n != 1 {
			t.Errorf("%d messages received, want 1", n)
		}
	})
}

func TestHosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := mtakit.DefaultPathConfig()
		path.TryNextHostOnTransportError = true
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Path: func(context.Context, string, string, *mtakit.Site) (*mtakit.PathConfig, error) { return &path, nil },
		}})
		p := mta.Peer("b.test")
		p.Hosts(3)
		p.HangUp(".").Times(2)
		mta.Inject("a@x.test", "c@b.test", text)
		mta.Settle()
		mta.WantRecords("Reception", "TransientFailure", "TransientFailure", "Delivery")
		if r := mta.Records()[3]; r.PeerName != "mx.b.test#3" {
			t.Errorf("delivered to %s", r.PeerName)
		}
	})
}

func TestTrySubmit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		if _, err := mta.TrySubmit(&mtakit.Message{Sender: "a@x.test"}, text, mtakit.Durable); err == nil {
			t.Error("a message without recipients was accepted")
		}
		mta.Stop()
		if _, err := mta.TrySubmit(&mtakit.Message{To: []string{"c@b.test"}}, text, mtakit.Durable); !errors.Is(err, mtakit.ErrClosed) {
			t.Errorf("Submit after the end: %v", err)
		}
	})
}

// Peers that decide by message make a run the same each time, however many connections there are.
func TestSameSeedSameRecords(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (log string) {
		synctest.Test(t, func(t *testing.T) {
			mta := queuetest.New(t, queuetest.Options{Seed: seed})
			for i := range 3 {
				mta.Peer(fmt.Sprintf("d%d.test", i)).Script(func(step, _ string, m *mtakit.Message) string {
					if step != "MAIL" {
						return ""
					}
					h := fnv.New32()
					fmt.Fprint(h, m.ID, m.Tries)
					return []string{"", "", "451 later", "450 busy", "421 bye", "hang up", "550 never"}[h.Sum32()%7]
				})
			}
			for i := range 200 {
				mta.Inject("a@x.test", fmt.Sprintf("c%d@d%d.test", i, i%3), text)
				if i%50 == 49 {
					mta.Run(time.Hour)
				}
			}
			mta.Run(8 * time.Hour)
			mta.Restart()
			mta.Drain(30 * 24 * time.Hour)
			log = mta.Log()
		})
		return log
	}
	a, b := run(7), run(7)
	if a != b {
		t.Error("two runs with one seed differ")
	}
	if a == run(8) {
		t.Error("another seed makes no difference")
	}
}
