package httpapi_test

import (
	"context"
	"fmt"
	"iter"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
)

// manySpool has a message for each of n queues, and forgets what it is given.
type manySpool struct {
	mtakit.Spool // for what is not used here
	n            int
	due          time.Time
}

func (*manySpool) Store(context.Context, []mtakit.Submission, mtakit.Durability) error { return nil }
func (*manySpool) Update(context.Context, *mtakit.Message) error                       { return nil }
func (*manySpool) Reschedule(context.Context, mtakit.ID, time.Time, int) error         { return nil }
func (*manySpool) Remove(context.Context, mtakit.ID) error                             { return nil }

func (*manySpool) Load(_ context.Context, id mtakit.ID) (*mtakit.Message, error) {
	return &mtakit.Message{ID: id, Sender: "a@x.test", To: []string{"b@y.test"}, Size: 5}, nil
}

func (*manySpool) Open(context.Context, mtakit.ID) (mtakit.Body, error) {
	return mtakit.Bytes("body\n"), nil
}

func (s *manySpool) Scan(context.Context, mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {
		ids := &mtakit.IDSource{}
		for i := range s.n {
			name := mtakit.QueueName{Campaign: "spring", Tenant: fmt.Sprintf("t%d", i%1000), Domain: fmt.Sprintf("d%07d.example.com", i)}
			if !yield(mtakit.Entry{ID: ids.New(s.due), Queue: name, Due: s.due.Add(time.Duration(i%3600) * time.Second)}, nil) {
				return
			}
		}
	}
}

// taker is a peer that takes everything at once, and tells of each message.
type taker chan struct{}

func (p taker) Connect(context.Context, *mtakit.Path) (mtakit.Session, error) { return p, nil }

func (p taker) Send(_ context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	for _, n := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: n, Response: mtakit.Response{Code: 250}})
	}
	p <- struct{}{}
	if next != nil {
		next()
	}
	return nil
}

func (taker) Info() *mtakit.SessionInfo { return &mtakit.SessionInfo{} }
func (taker) Close() error              { return nil }

// manyQueues is an API of a queue that runs, with n scheduled queues of one message each.
func manyQueues(b testing.TB, n int, peer taker) (*httpapi.API, *queue.Queue) {
	b.Helper()
	site := &mtakit.Site{Name: "mx.test", Hosts: []mtakit.Host{{Name: "mx.test"}}}
	q, err := queue.New(queue.Config{
		Spool: &manySpool{n: n, due: time.Now().Add(24 * time.Hour)}, Egress: peer, MemoryLimit: -1, State: queue.StateFile(b.TempDir() + "/rules.json"),
		Router: mtakit.RouterFunc(func(context.Context, string) (*mtakit.Site, error) { return site, nil }),
	})
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
	<-q.Recovered()
	api, err := httpapi.New(httpapi.Config{Queue: q})
	if err != nil {
		b.Fatal(err)
	}
	return api, q
}

// lastFound is the queue whose message a sweep comes to last.
const lastFound = "spring:t0@d0000000.example.com"

// BenchmarkAdmin is one request each, with a million scheduled queues beside a single one. What an order does in the background goes on meanwhile.
func BenchmarkAdmin(b *testing.B) {
	const nobody = `"domain":"nobody.test"`
	domain := "nobody.test"
	for _, queues := range []int{1, 1_000_000} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			api, q := manyQueues(b, queues, nil)
			q.AdminBounce(queue.Match{Domain: &domain}, "for the list", time.Time{}, false)
			for _, c := range []struct{ name, method, path, body string }{
				{"bounce-list", "GET", "/api/admin/bounce/v1", "null"},
				{"suspend", "POST", "/api/admin/suspend/v1", `{"reason":"x",` + nobody + `}`},
				{"suspend-list", "GET", "/api/admin/suspend/v1", "null"},
				{"suspend-ready-q", "POST", "/api/admin/suspend-ready-q/v1", `{"reason":"x","name":"a->b@smtp_client"}`},
				{"suspend-ready-q-list", "GET", "/api/admin/suspend-ready-q/v1", "null"},
				{"bump-config-epoch", "POST", "/api/admin/bump-config-epoch", ""},
				{"machine-info", "GET", "/api/machine-info", "null"},
				{"memory-stats", "GET", "/api/admin/memory/stats", "null"},
				{"task-dump", "GET", "/api/admin/task-dump", "null"},
				{"liveness", "GET", "/api/check-liveness/v1", ""},
				{"inspect-sched-q", "GET", "/api/admin/inspect-sched-q/v1?limit=1&queue_name=" + lastFound, "null"},
				{"inspect-message", "GET", "/api/admin/inspect-message/v1?id=0123456789ab7def8123456789abcdef&want_body=true", "null"},
				{"ready-q-states", "GET", "/api/admin/ready-q-states/v1", "null"},
				{"resolve-egress-path", "GET", "/api/admin/resolve-egress-path/v1?domain=d0000000.example.com", "null"},
				{"explain-address", "GET", "/api/admin/explain/v1?address=b@d0000000.example.com", ""},
				{"explain-queue", "GET", "/api/admin/explain/v1?queue=" + lastFound, ""},
				{"summary", "GET", "/api/admin/summary/v1", "null"},
				{"queues", "GET", "/api/admin/queues/v1?kind=scheduled&limit=20", "null"},
				// Last, since what they do in the background goes on.
				{"bounce", "POST", "/api/admin/bounce/v1", `{"reason":"x",` + nobody + `}`},
				{"rebind", "POST", "/api/admin/rebind/v1", `{"reason":"x","data":{},` + nobody + `}`},
			} {
				b.Run(c.name, func(b *testing.B) {
					b.ReportAllocs()
					var worst []time.Duration
					for b.Loop() {
						start := time.Now()
						r := httptest.NewRequest(c.method, "http://127.0.0.1:8000"+c.path, strings.NewReader(c.body))
						r.Header.Set("Content-Type", "application/json")
						r.RemoteAddr = "127.0.0.1:1"
						w := httptest.NewRecorder()
						w.Body = nil
						api.ServeHTTP(w, r)
						if w.Code != 200 {
							b.Fatal(w.Code)
						}
						worst = append(worst, time.Since(start))
					}
					slices.Sort(worst)
					b.ReportMetric(float64(worst[len(worst)*99/100].Microseconds())/1000, "p99-ms")
				})
			}
			if n := q.Census().Waiting; n != int64(queues) {
				b.Errorf("%d messages wait", n)
			}
		})
	}
}

// BenchmarkInspectMillion is what it costs mail that somebody looks all the time at queues among a million: how long a message takes through the queue
// meanwhile, beside when nobody looks.
func BenchmarkInspectMillion(b *testing.B) {
	peer := make(taker)
	api, q := manyQueues(b, 1_000_000, peer)
	looks := []string{"/api/admin/inspect-sched-q/v1?limit=1&queue_name=" + lastFound, "/api/admin/ready-q-states/v1", "/api/admin/explain/v1?queue=" + lastFound}
	sum := make(map[string]float64)
	for b.Loop() {
		for _, what := range []string{"idle", "meanwhile"} {
			stop, stopped, n := make(chan struct{}), make(chan struct{}), 0
			go func() {
				defer close(stopped)
				for what == "meanwhile" {
					select {
					case <-stop:
						return
					default:
						do(api, call{path: looks[n%len(looks)]})
						n++
					}
				}
			}()
			all := make([]time.Duration, 20_000)
			for i := range all {
				start := time.Now()
				m := &mtakit.Message{Sender: "a@x.test", To: []string{"b@mail.test"}}
				if err := q.Submit(b.Context(), []mtakit.Submission{{Message: m, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
					b.Fatal(err)
				}
				<-peer
				all[i] = time.Since(start)
			}
			close(stop)
			<-stopped
			slices.Sort(all)
			sum[what+"-µs"] += float64(all[len(all)/2].Nanoseconds()) / 1000
			sum[what+"-p99-µs"] += float64(all[len(all)*99/100].Nanoseconds()) / 1000
			sum["looks"] += float64(n)
		}
	}
	for unit, v := range sum {
		b.ReportMetric(v/float64(b.N), unit)
	}
}

// BenchmarkBounceMillion is a bounce of a million queues: how long until the answer and until everything is bounced, how much the heap grows, and how long a
// message takes through the queue meanwhile, beside when there is nothing else to do.
func BenchmarkBounceMillion(b *testing.B) {
	const n = 1_000_000
	sum := make(map[string]float64)
	for b.Loop() {
		peer := make(taker)
		api, q := manyQueues(b, n, peer)
		mail := func() time.Duration {
			start := time.Now()
			m := &mtakit.Message{Sender: "a@x.test", To: []string{"b@mail.test"}}
			if err := q.Submit(b.Context(), []mtakit.Submission{{Message: m, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
				b.Fatal(err)
			}
			<-peer
			return time.Since(start)
		}
		// How long messages take while it lasts: the middle one, and the slowest but for one in a hundred.
		measure := func(what string, lasts func() bool) {
			var all []time.Duration
			for lasts() {
				all = append(all, mail())
			}
			slices.Sort(all)
			sum[what+"-µs"] += float64(all[len(all)/2].Microseconds())
			sum[what+"-p99-µs"] += float64(all[len(all)*99/100].Microseconds())
		}
		left := 20_000
		measure("idle", func() bool { left--; return left > 0 })
		heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		runtime.GC()
		metrics.Read(heap)
		before, peak := heap[0].Value.Uint64(), uint64(0)
		start := time.Now()
		r := do(api, call{method: "POST", path: "/api/admin/bounce/v1", header: asJSON, body: `{"reason":"x","campaign":"spring"}`})
		sum["answer-ms"] += float64(time.Since(start).Microseconds()) / 1e3
		if r.StatusCode != 200 {
			b.Fatal(r.StatusCode)
		}
		rule := q.Bounces()[0]
		measure("meanwhile", func() bool {
			metrics.Read(heap)
			peak = max(peak, heap[0].Value.Uint64())
			return rule.Total() < n
		})
		sum["bounced-ms"] += float64(time.Since(start).Milliseconds())
		sum["live-heap-MiB"] += float64(int64(peak)-int64(before)) / (1 << 20)
		start = time.Now()
		do(api, call{path: "/api/admin/bounce/v1"})
		sum["list-ms"] += float64(time.Since(start).Microseconds()) / 1e3
	}
	for unit, v := range sum {
		b.ReportMetric(v/float64(b.N), unit)
	}
}
