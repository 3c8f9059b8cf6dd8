package queue_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// noSpool takes everything and has nothing, so that what is measured is the queue.
type noSpool struct {
	mtakit.Spool // for what is not used here
	removed      atomic.Int64
	scan         []mtakit.Entry
}

func (*noSpool) Store(context.Context, []mtakit.Submission, mtakit.Durability) error { return nil }

func (*noSpool) Load(_ context.Context, id mtakit.ID) (*mtakit.Message, error) {
	return &mtakit.Message{ID: id, Sender: "a@x.test", To: []string{"b@y.test"}, Size: 5}, nil
}

func (*noSpool) Open(context.Context, mtakit.ID) (mtakit.Body, error) {
	return mtakit.Bytes("body\n"), nil
}

func (*noSpool) Reschedule(context.Context, mtakit.ID, time.Time, int) error { return nil }

func (s *noSpool) Remove(context.Context, mtakit.ID) error {
	s.removed.Add(1)
	return nil
}

func (s *noSpool) Scan(context.Context, mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {
		for _, e := range s.scan {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// instant is a peer that says the same to everybody, and at once.
type instant mtakit.Response

func (i instant) Connect(context.Context, *mtakit.Path) (mtakit.Session, error) { return i, nil }

func (i instant) Send(_ context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	for _, n := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: n, Response: mtakit.Response(i)})
	}
	if next != nil {
		next()
	}
	return nil
}

func (instant) Info() *mtakit.SessionInfo { return &mtakit.SessionInfo{} }
func (instant) Close() error              { return nil }

var site = &mtakit.Site{Name: "mx.test", Hosts: []mtakit.Host{{Name: "mx.test"}}}

func oneSite(context.Context, string) (*mtakit.Site, error) { return site, nil }

func startBench(b *testing.B, spool *noSpool, peer instant, change func(*queue.Config)) *queue.Queue {
	cfg := queue.Config{Spool: spool, Router: mtakit.RouterFunc(oneSite), Egress: peer, MemoryLimit: -1}
	if change != nil {
		change(&cfg)
	}
	q, err := queue.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return q
}

// BenchmarkDeliver is the way of one message from Submit to its removal, without the spool and the network. The message itself is made outside of the
// measured path: 3 of the allocations.
func BenchmarkDeliver(b *testing.B) {
	for _, bb := range []struct {
		name   string
		queues int
		rule   bool // for another queue
	}{{"queues=1", 1, false}, {"queues=1000", 1000, false}, {"queues=1000/rule", 1000, true}} {
		b.Run(bb.name, func(b *testing.B) {
			queues, spool := bb.queues, &noSpool{}
			q := startBench(b, spool, instant{Code: 250}, func(c *queue.Config) {
				c.Record = mtakit.RecorderFunc(func(*mtakit.Record) {})
			})
			if bb.rule {
				other := "other.test"
				q.Suspend(queue.Match{Domain: &other}, "held", time.Now().Add(time.Hour))
			}
			to := make([][]string, queues)
			for i := range to {
				to[i] = []string{fmt.Sprintf("b@d%d.test", i)}
			}
			body := mtakit.Bytes("Subject: x\r\n\r\nx\r\n")
			batch := make([]mtakit.Submission, 1)
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				batch[0] = mtakit.Submission{Message: &mtakit.Message{Sender: "a@x.test", To: to[int(n)%queues]}, Body: body}
				if err := q.Submit(b.Context(), batch, mtakit.Durable); err != nil {
					b.Fatal(err)
				}
				n++
				for n-spool.removed.Load() > 1000 {
					runtime.Gosched()
				}
			}
			for spool.removed.Load() < n {
				runtime.Gosched()
			}
		})
	}
}

// TestAllocs is the promise: no more than ten allocations for the way of a message, its own included.
func TestAllocs(t *testing.T) {
	spool := &noSpool{}
	q, err := queue.New(queue.Config{
		Spool: spool, Router: mtakit.RouterFunc(oneSite), Egress: instant{Code: 250}, MemoryLimit: -1,
		Record: mtakit.RecorderFunc(func(*mtakit.Record) {}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	batch, to, body := make([]mtakit.Submission, 1), []string{"b@d.test"}, mtakit.Bytes("x\r\n")
	n := int64(0)
	allocs := testing.AllocsPerRun(5000, func() {
		batch[0] = mtakit.Submission{Message: &mtakit.Message{Sender: "a@x.test", To: to}, Body: body}
		if err := q.Submit(ctx, batch, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		n++
		for spool.removed.Load() < n {
			runtime.Gosched()
		}
	})
	if allocs > 10 {
		t.Errorf("%v allocations a message", allocs)
	}
	t.Logf("%v allocations", allocs)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// BenchmarkWaiting is what a waiting message and a waiting queue cost in memory, and how the garbage collector bears them: how long a cycle takes, on all
// processors at once, and how long the world stands still for it.
func BenchmarkWaiting(b *testing.B) {
	const n = 1_000_000
	for _, queues := range []int{1000, n} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			var before, after runtime.MemStats
			var cycle, pause time.Duration
			for b.Loop() {
				spool := &noSpool{}
				src := &mtakit.IDSource{}
				due := time.Now().Add(time.Hour)
				names := make([]mtakit.QueueName, queues)
				for i := range names {
					names[i] = mtakit.QueueName{Tenant: "tenant", Domain: fmt.Sprintf("d%07d.example.com", i)}
				}
				for i := range n {
					spool.scan = append(spool.scan, mtakit.Entry{ID: src.New(due), Queue: names[i%queues], Due: due.Add(time.Duration(i%3600) * time.Second)})
				}
				q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(oneSite), Egress: instant{Code: 250}, MemoryLimit: -1})
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&before)
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error)
				go func() { done <- q.Run(ctx) }()
				<-q.Recovered()
				runtime.GC()
				runtime.ReadMemStats(&after)
				if c := q.Census(); c.Waiting != n {
					b.Fatalf("%+v", c)
				}
				spool.scan, names = nil, nil
				var stats debug.GCStats
				for range 5 {
					start := time.Now()
					runtime.GC()
					cycle = max(cycle, time.Since(start))
					debug.ReadGCStats(&stats)
					pause = max(pause, stats.Pause[0])
				}
				cancel()
				<-done
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/message")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(queues), "B/queue")
			b.ReportMetric(float64(cycle.Microseconds())/1000, "ms-GC-cycle")
			b.ReportMetric(float64(pause.Microseconds()), "µs-GC-pause")
		})
	}
}

// BenchmarkRetry is one temporary failure: taken out of the scheduler, loaded, refused, and put back.
func BenchmarkRetry(b *testing.B) {
	const n = 1000
	spool := &noSpool{}
	var now, failures atomic.Int64
	now.Store(time.Now().UnixNano())
	q := startBench(b, spool, instant{Code: 451, Text: "later"}, func(c *queue.Config) {
		c.Now = func() time.Time { return time.Unix(0, now.Load()) }
		c.Record = mtakit.RecorderFunc(func(r *mtakit.Record) {
			if r.Kind == mtakit.TransientFailure {
				failures.Add(1)
			}
		})
		set := mtakit.DefaultQueueSettings()
		set.MaxAge, set.MaxRetryInterval = set.MaxAge*1000, set.RetryInterval
		c.Policy.Settings = func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return &set, nil }
	})
	for i := range n {
		m := &mtakit.Message{Sender: "a@x.test", To: []string{fmt.Sprintf("b@d%d.test", i%10)}}
		if err := q.Submit(b.Context(), []mtakit.Submission{{Message: m, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
			b.Fatal(err)
		}
	}
	settle := func(rounds int) {
		for failures.Load() < int64(rounds*n) || q.Census().Waiting < n {
			runtime.Gosched()
		}
	}
	settle(1)
	b.ReportAllocs()
	rounds := 1
	for b.Loop() {
		q.Passed(30 * time.Minute)
		now.Add(int64(30 * time.Minute))
		q.Poke()
		rounds++
		settle(rounds)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64((rounds-1)*n), "ns/message")
}

// BenchmarkFull is the way of a message into a ready queue that is full, and into which others want as well.
func BenchmarkFull(b *testing.B) {
	for _, queues := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			n, body := int64(max(2*queues, 20_000)), mtakit.Bytes("Subject: x\r\n\r\nx\r\n")
			b.ReportAllocs()
			var took time.Duration
			for b.Loop() {
				spool, begin := &noSpool{}, make(chan struct{})
				q := startBench(b, spool, instant{Code: 250}, func(c *queue.Config) {
					c.Egress = mtakit.EgressFunc(func(context.Context, *mtakit.Path) (mtakit.Session, error) {
						<-begin
						return instant{Code: 250}, nil
					})
				})
				for i := range n {
					m := &mtakit.Message{Sender: "a@x.test", To: []string{"b@d.test"}, Meta: map[string]any{mtakit.MetaTenant: fmt.Sprint("t", i%int64(queues))}}
					if err := q.Submit(b.Context(), []mtakit.Submission{{Message: m, Body: body}}, mtakit.Durable); err != nil {
						b.Fatal(err)
					}
				}
				start := time.Now()
				close(begin)
				for spool.removed.Load() < n {
					runtime.Gosched()
				}
				took += time.Since(start)
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(int64(b.N)*n), "ns/message")
		})
	}
}
