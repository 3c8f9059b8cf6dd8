package queue_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

func names(list []queue.ScheduledQueue) (n []string) {
	for _, s := range list {
		n = append(n, s.Name)
	}
	return n
}

// The list agrees with sorting everything, whatever the number of queues, the limit and the search.
func TestScheduledQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		size := map[string]int{}
		var batch []mtakit.Submission
		for i := range 1500 {
			name := fmt.Sprintf("d%d.test", i)
			if i%3 == 0 {
				name = fmt.Sprintf("Camp%d:t@d%d.test", i%2, i)
			}
			size[name] = 1 + i*7919%5
			q := mtakit.ParseQueueName(name)
			for range size[name] {
				m := &mtakit.Message{To: []string{"x@" + q.Domain}, Due: mta.Queue.Now().Add(time.Hour), Meta: map[string]any{"campaign": q.Campaign, "tenant": q.Tenant}}
				if q.Campaign == "" {
					m.Meta = nil
				}
				batch = append(batch, mtakit.Submission{Message: m, Body: mtakit.Bytes("x\r\n")})
			}
		}
		if err := mta.Queue.Submit(t.Context(), batch, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		for _, search := range []string{"", "camp1", "CAMP0:T@", "d12", "nothing"} {
			var want []string
			for n := range size {
				if strings.Contains(strings.ToLower(n), strings.ToLower(search)) {
					want = append(want, n)
				}
			}
			slices.SortFunc(want, func(a, b string) int {
				if d := size[b] - size[a]; d != 0 {
					return d
				}
				return strings.Compare(a, b)
			})
			for _, limit := range []int{1, 7, 1000} {
				list, matched, err := mta.Queue.ScheduledQueues(queue.ListOptions{Search: search, Sort: "waiting", Limit: limit})
				if err != nil || matched != len(want) || !slices.Equal(names(list), want[:min(limit, len(want))]) {
					t.Errorf("search %q, limit %d: %v, %d match, want %d: %.10q", search, limit, err, matched, len(want), names(list))
				}
				for _, s := range list {
					if s.Messages != size[s.Name] || s.Waiting != s.Messages || s.Due != 0 || s.Hold != (queue.Hold{}) {
						t.Fatalf("%+v", s)
					}
				}
			}
		}
		for sort, want := range map[string]error{"": nil, "changed": nil, "in_flight": nil, "due": nil, "delayed": nil, "name": queue.ErrSort} {
			if list, _, err := mta.Queue.ScheduledQueues(queue.ListOptions{Sort: sort}); !errors.Is(err, want) || err == nil && len(list) != 50 {
				t.Errorf("sort by %q: %v, %d", sort, err, len(list))
			}
		}
		one := slices.Collect(maps.Keys(size))[0]
		if s, ok := mta.Queue.ScheduledQueue(one); !ok || s.Name != one || s.Messages != size[one] {
			t.Errorf("%q: %+v, %v", one, s, ok)
		}
		if _, ok := mta.Queue.ScheduledQueue("other.test"); ok {
			t.Error("a queue that is not there is told of")
		}
		if n := mta.Queue.Census().Queues; n != int64(len(size)) {
			t.Errorf("%d queues after the question for one that is not there, want %d", n, len(size))
		}
	})
}

// Each reason for which mail waits is told.
func TestHold(t *testing.T) {
	t.Parallel()
	limited := mtakit.DefaultQueueSettings()
	limited.MaxMessageRate = mtakit.Rate{N: 1, Per: time.Hour, Burst: 1}
	for _, c := range []struct {
		name  string
		set   *mtakit.QueueSettings
		path  func(*mtakit.PathConfig)
		peer  func(*queuetest.Peer)
		then  func(*queue.Queue)
		sched queue.HoldReason
		ready queue.HoldReason
		text  string // of either
	}{
		{name: "nothing"},
		{name: "suspended", then: func(q *queue.Queue) { q.Suspend(queue.Match{}, "incident 7", time.Time{}) }, sched: queue.HeldSuspended, text: "incident 7"},
		{
			name: "bounced", then: func(q *queue.Queue) {
				q.AdminBounce(queue.Match{QueueNames: []string{"d.test"}}, "spam run", time.Time{}, false)
			},
			sched: queue.HeldBounced, text: "spam run",
		},
		{name: "rate of the queue", set: &limited, sched: queue.HeldRate, text: "max_message_rate of the queue is 1/h,max_burst=1"},
		{
			name: "full", path: func(c *mtakit.PathConfig) { c.MaxReady, c.ConnectionLimit.N = 2, 1 }, peer: func(p *queuetest.Peer) { p.Wait(".", time.Minute) },
			sched: queue.HeldReadyFull, ready: "", text: "waits for room in unspecified->mx.d.test@smtp_client, which has 2 of 2 messages",
		},
		{
			name: "ready queue suspended",
			then: func(q *queue.Queue) { q.SuspendReady("unspecified->mx.d.test@smtp_client", "their wish", time.Time{}) },
			peer: func(p *queuetest.Peer) { p.Wait(".", time.Minute) }, ready: queue.HeldSuspended, text: "their wish",
		},
		{
			name: "message rate", path: func(c *mtakit.PathConfig) { c.MaxMessageRate = mtakit.Rate{N: 1, Per: 3 * time.Second, Burst: 1} },
			ready: queue.HeldRate, text: "every connection waits for a message rate",
		},
		{name: "nobody there", peer: func(p *queuetest.Peer) { p.Refuse() }, ready: queue.HeldConnecting, text: "connecting failed 5 times in a row"},
		{
			name: "rate of connections", path: func(c *mtakit.PathConfig) {
				c.MaxConnectionRate = mtakit.Rate{N: 1, Per: time.Hour, Burst: 1}
				c.MaxDeliveriesPerConnection = 1
			},
			sched: queue.HeldRate, ready: queue.HeldRate, text: "a rate of unspecified->mx.d.test@smtp_client is used up",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				policy := queue.Policy{}
				if c.path != nil {
					policy = pathPolicy(c.path)
				}
				if c.set != nil {
					policy.Settings = settingsPolicy(c.set)
				}
				mta := queuetest.New(t, queuetest.Options{Policy: policy})
				if c.peer != nil {
					c.peer(mta.Peer("d.test"))
				}
				for range 5 {
					mta.Inject("a@x.test", "b@d.test", "x\r\n")
					mta.Settle()
				}
				if c.then != nil {
					c.then(mta.Queue)
					mta.Settle()
				}
				s, _ := mta.Queue.ScheduledQueue("d.test")
				if s.Hold.Reason != c.sched {
					t.Errorf("the scheduled queue is held by %+v, want %q", s.Hold, c.sched)
				}
				ready, matched, err := mta.Queue.ReadyQueues(queue.ListOptions{Search: "D.TEST"})
				if err != nil || matched > 1 || c.ready != "" && matched != 1 {
					t.Fatalf("%d ready queues, %v", matched, err)
				}
				text := s.Hold.Text
				for _, r := range ready {
					if r.Hold.Reason != c.ready {
						t.Errorf("the ready queue is held by %+v, want %q", r.Hold, c.ready)
					}
					if c.ready != "" {
						text = r.Hold.Text
					}
					if again, ok := mta.Queue.ReadyQueue(r.Name); !ok || again != r {
						t.Errorf("alone it is %+v, in the list %+v", again, r)
					}
				}
				if text != c.text {
					t.Errorf("text %q, want %q", text, c.text)
				}
			})
		})
	}
}

// Sources and the summary add up what the ready queues have.
func TestSummary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mta := queuetest.New(t, queuetest.Options{})
		mta.Peer("slow.test").Wait(".", time.Hour)
		mta.Peer("no.test").Reply("RCPT", "550 5.1.1 no")
		for _, to := range []string{"a@slow.test", "b@slow.test", "c@ok.test", "d@no.test"} {
			mta.Inject("s@x.test", to, "x\r\n")
		}
		mta.Settle()
		s := mta.Queue.Summary()
		c := mta.Queue.Census()
		if s.Messages != 2 || s.Waiting != c.Waiting || s.Ready != c.Ready || s.Connections != c.Sessions || s.ScheduledQueues != 3 || s.ReadyQueues != 3 ||
			s.Accepted != 4 || s.Done != 2 || !s.Recovered {
			t.Errorf("%+v, census %+v", s, c)
		}
		want := queue.SourceState{Name: "unspecified", ReadyQueues: 3, Connections: int(c.Sessions), Delivered: 1, Failed: 1}
		if got := mta.Queue.Sources(); len(got) != 1 || got[0] != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// manyQueues is a spool with a message for each of n queues, or more for some.
type manyQueues struct {
	*noSpool
	n int
}

func (m manyQueues) Scan(context.Context, mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {
		ids := &mtakit.IDSource{}
		due := time.Now().Add(time.Hour)
		for i := range m.n {
			for range 1 + i%97/90 {
				q := mtakit.QueueName{Campaign: fmt.Sprintf("c%d", i%10), Tenant: fmt.Sprintf("tenant%d", i%7), Domain: fmt.Sprintf("d%d.example", i)}
				if !yield(mtakit.Entry{ID: ids.New(time.Now()), Queue: q, Due: due}, nil) {
					return
				}
			}
		}
	}
}

// BenchmarkList is a list of a hundred thousand queues.
func BenchmarkList(b *testing.B) {
	const n = 100_000
	q, err := queue.New(queue.Config{Spool: manyQueues{&noSpool{}, n}, Router: mtakit.RouterFunc(oneSite), Egress: instant{Code: 250}, MemoryLimit: -1})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	<-q.Recovered()
	for _, o := range []queue.ListOptions{{}, {Search: "tenant3@d999"}} {
		b.Run("search="+o.Search, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, matched, err := q.ScheduledQueues(o); err != nil || matched == 0 {
					b.Fatal(matched, err)
				}
			}
		})
	}
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
