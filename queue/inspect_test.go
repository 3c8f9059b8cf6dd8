package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

// What waits is found wherever it waits: in the scheduler among others, and in the due list, whether in memory or not.
func TestWaiting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func() mtakit.Scheduler
	}{{"wheel", nil}, {"a Sweeper", queue.NewWheel}, {"any Scheduler", queue.NewHeap}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				set := mtakit.DefaultQueueSettings()
				set.MaxMessageRate = mtakit.Rate{N: 1, Per: 24 * time.Hour}
				mta := queuetest.New(t, queuetest.Options{
					Policy: queue.Policy{Settings: settingsPolicy(&set)},
					Change: func(cfg *queue.Config) { cfg.Scheduler, cfg.Shards = c.make, 1 },
				})
				want := make(map[mtakit.ID]bool)
				for i := range 2000 {
					m := &mtakit.Message{To: []string{fmt.Sprintf("x@d%d.test", i%3)}}
					if i%2 == 0 {
						m.Due = time.Now().Add(time.Duration(i+1) * time.Minute)
					}
					id := mta.Submit(m, "x\r\n")
					if i%3 == 1 {
						want[id] = true
					}
				}
				mta.Settle()
				name := mtakit.ParseQueueName("d1.test")
				for e := range mta.Queue.Waiting(name) {
					delete(want, e.ID)
					if m, err := mta.Queue.Message(t.Context(), e.ID); err != nil || m.Queue != name || e.Queue != name {
						t.Errorf("%v, %v: %v", e, m, err)
					}
				}
				if len(want) != 1 { // the one for which the rate was enough
					t.Errorf("%d messages of the queue are not yielded, want 1", len(want))
				}
				st, err := mta.Queue.Scheduled(name)
				if err != nil || st.Waiting != 666 || st.Due != 333 || st.Settings != &set || st.Hold.Reason != queue.HeldRate {
					t.Errorf("%+v, %v", st, err)
				}
				n := 0
				for range mta.Queue.Waiting(name) {
					if n++; n == 3 {
						break
					}
				}
				for e := range mta.Queue.Waiting(mtakit.ParseQueueName("d4.test")) {
					t.Errorf("%v is in a queue that does not exist", e)
				}
				if _, err := mta.Queue.Scheduled(mtakit.ParseQueueName("d4.test")); !errors.Is(err, queue.ErrNoQueue) {
					t.Error(err)
				}
				if n := mta.Queue.Census().Queues; n != 3 {
					t.Errorf("there are %d queues, want 3: looking makes none", n)
				}
			})
		})
	}
}

// sessionsOf is the phases of the sessions of a ready queue.
func sessionsOf(t *testing.T, q *queue.Queue, name string) (all []queue.SessionStatus, phases string) {
	t.Helper()
	st, err := q.Ready(name)
	if err != nil {
		t.Fatal(err)
	}
	var p []string
	for _, s := range st.Sessions {
		p = append(p, s.Phase)
	}
	return st.Sessions, strings.Join(p, " ")
}

// A session is seen in each of its phases, with the message in hand.
func TestSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) {
			c.MaxConnectionRate, c.MaxMessageRate = mtakit.Rate{N: 1, Per: 5 * time.Second}, mtakit.Rate{N: 1, Per: 7 * time.Second}
			c.IdleTimeout, c.ConnectionLimit.N = mtakit.Duration(10*time.Second), 1
		})})
		const name = "unspecified->mx.d.test@smtp_client"
		peer := mta.Peer("d.test")
		peer.Wait("CONNECT", 3*time.Second).Times(1)
		peer.Wait("DATA", 2*time.Second).Times(1)
		peer.Reply("RCPT", "451 later").Times(1)
		born := time.Now()
		ids := []mtakit.ID{mta.Inject("a@x.test", "b@d.test", "x\r\n"), mta.Inject("a@x.test", "c@d.test", "x\r\n")}
		var own string
		at := func(d time.Duration) queue.SessionStatus {
			t.Helper()
			mta.Run(d - time.Since(born))
			all, _ := sessionsOf(t, mta.Queue, name)
			if len(all) != 1 {
				t.Fatalf("%d sessions after %v", len(all), d)
			}
			if all[0].Age != d || all[0].InPhase > all[0].Age {
				t.Errorf("after %v the age is %v, and %v that of the phase", d, all[0].Age, all[0].InPhase)
			}
			return all[0]
		}
		s := at(time.Second)
		own = s.ID
		if _, err := mtakit.ParseID(own); err != nil || s.Phase != "AttemptingConnection" || s.PeerName != "" || s.InPhase != time.Second {
			t.Errorf("%+v, %v", s, err)
		}
		s = at(4 * time.Second) // the first was refused at once, and the second waits for the rate
		if s.Phase != "MessageRateThrottled" || s.ID != own || s.Deferred != 1 || s.OnConnection != 1 || s.PeerName != "mx.d.test" || !s.Message.IsZero() {
			t.Errorf("%+v", s)
		}
		s = at(11 * time.Second)
		if s.Phase != "DeliveringMessage" || s.Message != ids[1] || s.Recipients != 1 || s.Detail != "send msg with 1 recip(s)" || s.InPhase != time.Second || s.OnConnection != 2 {
			t.Errorf("%+v, want %v", s, ids[1])
		}
		s = at(13 * time.Second)
		if s.Phase != "Idle" || s.Delivered != 1 || s.Deferred != 1 || s.Failed != 0 || !s.Message.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// An operator's abort ends a session in whatever phase it is; the message in hand has lost no attempt, and goes out later.
func TestAbort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase string
		path  func(*mtakit.PathConfig)
		peer  func(*queuetest.Peer)
	}{
		{"DeliveringMessage", nil, func(p *queuetest.Peer) { p.Wait("DATA", time.Hour).Times(1) }},
		{"AttemptingConnection", nil, func(p *queuetest.Peer) { p.Wait("CONNECT", time.Hour).Times(1) }},
		{"Idle", nil, func(*queuetest.Peer) {}},
		{"AcquiringLease", func(c *mtakit.PathConfig) {
			c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "taken", Limit: mtakit.Limit{N: 1}}}
		}, func(*queuetest.Peer) {}},
	} {
		t.Run(c.phase, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(p *mtakit.PathConfig) {
					p.IdleTimeout = mtakit.Duration(time.Minute)
					if c.path != nil {
						c.path(p)
					}
				})})
				mta.Peer("other.test").Wait("DATA", 30*time.Second)
				mta.Inject("a@x.test", "b@other.test", "x\r\n") // has what is taken
				mta.Run(time.Second)
				c.peer(mta.Peer("d.test"))
				id := mta.Inject("a@x.test", "b@d.test", "x\r\n")
				mta.Run(time.Second)
				const name = "unspecified->mx.d.test@smtp_client"
				all, phases := sessionsOf(t, mta.Queue, name)
				if phases != c.phase {
					t.Fatalf("phase is %s", phases)
				}
				if err := mta.Queue.Abort(name, "nobody"); !errors.Is(err, queue.ErrNoSession) {
					t.Error(err)
				}
				if err := mta.Queue.Abort("nobody", all[0].ID); !errors.Is(err, queue.ErrNoQueue) {
					t.Error(err)
				}
				if err := mta.Queue.Abort(name, all[0].ID); err != nil {
					t.Error(err)
				}
				mta.Settle()
				if now, _ := sessionsOf(t, mta.Queue, name); len(now) > 0 && now[0].ID == all[0].ID {
					t.Errorf("it is still there: %+v", now)
				}
				mta.Run(3 * time.Minute)
				if n := mta.Count(id, mtakit.Delivered); n != 1 {
					t.Errorf("delivered %d times", n)
				}
				for _, r := range mta.Records() {
					if r.Kind == mtakit.TransientFailure || r.Kind == mtakit.Delivered && r.Tries != 0 {
						t.Errorf("%s after %d tries", r.Kind, r.Tries)
					}
				}
				if n, err := mta.Queue.AbortAll("unspecified->mx.other.test@smtp_client"); n > 1 || err != nil {
					t.Error(n, err)
				}
			})
		})
	}
}

// What is asked about leaves no trace, and finds what delivery finds.
func TestResolve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := mtakit.DefaultQueueSettings()
		set.EgressPool = "p"
		asked := 0
		mta := queuetest.New(t, queuetest.Options{Policy: queue.Policy{
			Settings: settingsPolicy(&set),
			Pool: func(_ context.Context, name string) (*mtakit.Pool, error) {
				return &mtakit.Pool{Name: name, Entries: []mtakit.PoolEntry{{Name: "ip-1", Weight: 1}}}, nil
			},
			Path: func(_ context.Context, domain, source string, site *mtakit.Site) (*mtakit.PathConfig, error) {
				asked++
				c := mtakit.DefaultPathConfig()
				c.EHLODomain = fmt.Sprint(domain, " ", source, " ", site.Name, " ", asked)
				return &c, nil
			},
		}})
		for i := 1; i < 3; i++ { // no answer is kept
			res, err := mta.Queue.Resolve(t.Context(), mtakit.ParseQueueName("t@d.test"), "ip-1")
			if err != nil || res.Path.Name != "ip-1->mx.d.test@smtp_client" || res.Path.EHLODomain != fmt.Sprint("d.test ip-1 mx.d.test ", i) || res.Settings != &set {
				t.Errorf("%+v, %v", res, err)
			}
		}
		if c := mta.Queue.Census(); c.Queues != 0 || asked != 2 {
			t.Errorf("%+v, asked %d times", c, asked)
		}
		if _, err := mta.Queue.Ready("ip-1->mx.d.test@smtp_client"); !errors.Is(err, queue.ErrNoQueue) {
			t.Error(err)
		}
		mta.Submit(&mtakit.Message{To: []string{"b@d.test"}, Meta: map[string]any{"tenant": "t"}}, "x\r\n")
		mta.Run(time.Second)
		res, err := mta.Queue.Resolve(t.Context(), mtakit.ParseQueueName("t@d.test"), "ip-1")
		if err != nil || res.Path.EHLODomain != "d.test ip-1 mx.d.test 3" || asked != 3 {
			t.Errorf("%+v, %v, asked %d times: want the path in force", res, err, asked)
		}
		mta.Unresolvable("dead.test", true)
		res, err = mta.Queue.Resolve(t.Context(), mtakit.ParseQueueName("dead.test"), "ip-1")
		if err != nil || res.RouteErr == nil || res.Path.Name != "ip-1->dead.test@smtp_client" {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// Ready queues that are held up are listed with what holds them, as long as it does.
func TestHeldQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) {
			c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 1}}}
		})})
		mta.Peer("a.test").Wait("DATA", time.Minute)
		mta.Inject("a@x.test", "b@a.test", "x\r\n")
		mta.Run(time.Second)
		since := time.Now()
		mta.Inject("a@x.test", "b@b.test", "x\r\n")
		mta.Run(time.Second)
		held := func() (all []string) {
			for name, h := range mta.Queue.HeldQueues() {
				all = append(all, fmt.Sprint(name, " ", h.State, " ", h.Context, " ", h.Since.Equal(since)))
			}
			return all
		}
		if got := held(); !slices.Equal(got, []string{"unspecified->mx.b.test@smtp_client connection_limited acquiring connection lease shared true"}) {
			t.Errorf("%q", got)
		}
		names, err := mta.Queue.Feeding("unspecified->mx.b.test@smtp_client")
		if err != nil || !slices.Equal(names, []string{"b.test"}) {
			t.Error(names, err)
		}
		mta.Run(2 * time.Minute)
		if got := held(); len(got) > 0 {
			t.Errorf("%q", got)
		}
	})
}

// A session that waits for a connection is seen while another one delivers, and so is why there are no leases.
func TestHeldBesideABusySession(t *testing.T) {
	t.Parallel()
	for want, throttles := range map[string]mtakit.Throttles{
		"acquiring connection lease shared":              gcra.NewStore(),
		"Error acquiring shared: no connection to Redis": &oneLease{Throttles: gcra.NewStore()},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				mta := queuetest.New(t, queuetest.Options{
					Policy: pathPolicy(func(c *mtakit.PathConfig) {
						c.ConnectionLimit.N = 10
						c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 1}}}
					}),
					Change: func(c *queue.Config) { c.Throttles = throttles },
				})
				mta.Peer("d.test").Wait(".", time.Second)
				for range 20 {
					mta.Inject("a@x.test", "b@d.test", "x\r\n")
				}
				for range 10 {
					mta.Run(1200 * time.Millisecond)
					got := "nothing"
					for _, h := range mta.Queue.HeldQueues() {
						got = h.State + " " + h.Context
					}
					if got != "connection_limited "+want {
						t.Errorf("after %d messages: %s", len(mta.Peer("d.test").Received()), got)
					}
				}
			})
		})
	}
}

// oneLease is Throttles that fail after the first lease.
type oneLease struct {
	mtakit.Throttles
	given atomic.Bool
}

func (o *oneLease) Lease(ctx context.Context, key string, l mtakit.Limit, ttl time.Duration) (mtakit.Lease, error) {
	if strings.HasPrefix(key, "kumomta.") || !o.given.Swap(true) {
		return o.Throttles.Lease(ctx, key, l, ttl)
	}
	return nil, errors.New("no connection to Redis")
}

// Whoever looks, and aborts, while mail is on its way neither loses nor repeats a message.
func TestLookWhileBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{Policy: pathPolicy(func(c *mtakit.PathConfig) {
			c.ConnectionLimit.N, c.MaxReady = 3, 20
			c.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 20}}}
		})})
		mta.Peer("d3.test").Wait("DATA", time.Second)
		const queues, each = 10, 60
		var ids []mtakit.ID
		var wg sync.WaitGroup
		look := func(name string, last mtakit.ID) {
			q, ready, parsed := mta.Queue, "unspecified->mx."+name+"@smtp_client", mtakit.ParseQueueName(name)
			q.Scheduled(parsed)
			for e := range q.Waiting(parsed) {
				q.Message(t.Context(), e.ID)
			}
			if st, err := q.Ready(ready); err == nil && len(st.Sessions) > 3 {
				t.Errorf("%d sessions", len(st.Sessions))
			}
			q.Feeding(ready)
			for range q.HeldQueues() {
			}
			q.AbortAll(ready)
			for _, about := range []queue.Subject{{Address: "x@" + name}, {Queue: parsed}, {ID: last}} {
				if _, err := q.Explain(t.Context(), about); err != nil && !errors.Is(err, mtakit.ErrNotFound) {
					t.Error(err)
				}
			}
		}
		for i := range each {
			for n := range queues {
				ids = append(ids, mta.Inject("a@x.test", fmt.Sprintf("x@d%d.test", n), "x\r\n"))
			}
			last := ids[len(ids)-1]
			for n := range queues {
				wg.Go(func() { look(fmt.Sprintf("d%d.test", n), last) })
			}
			if i%10 == 0 {
				wg.Wait()
				mta.Run(100 * time.Millisecond)
			}
		}
		wg.Wait()
		mta.Drain(24 * time.Hour)
		for _, id := range ids {
			if n := mta.Count(id, mtakit.Delivered); n != 1 {
				t.Errorf("%s is delivered %d times", id, n)
			}
		}
	})
}
