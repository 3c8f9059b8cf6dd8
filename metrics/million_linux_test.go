package metrics_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/metrics"
	"github.com/mtakit/mtakit/queue"
)

// bigSpool has many messages that wait, each in a queue of its own, and takes everything.
type bigSpool struct {
	mtakit.Spool // for what is not used here
	waiting      int
	removed      atomic.Int64
}

func (*bigSpool) Store(context.Context, []mtakit.Submission, mtakit.Durability) error { return nil }
func (s *bigSpool) Remove(context.Context, mtakit.ID) error {
	s.removed.Add(1)
	return nil
}

func (s *bigSpool) Scan(context.Context, mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {
		src, due := &mtakit.IDSource{}, time.Now().Add(24*time.Hour)
		for i := range s.waiting {
			name := mtakit.QueueName{Campaign: fmt.Sprintf("c%d", i%100), Tenant: fmt.Sprintf("tenant%d", i%1000), Domain: fmt.Sprintf("mail%07d.example.com", i)}
			if !yield(mtakit.Entry{ID: src.New(due), Queue: name, Due: due}, nil) {
				return
			}
		}
	}
}

// accepting is a peer that takes everything at once.
type accepting struct{}

func (accepting) Connect(context.Context, *mtakit.Path) (mtakit.Session, error) {
	return accepting{}, nil
}
func (accepting) Info() *mtakit.SessionInfo { return &mtakit.SessionInfo{} }
func (accepting) Close() error              { return nil }
func (accepting) Send(_ context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	for _, n := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: n, Response: mtakit.Response{Code: 250}})
	}
	if next != nil {
		next()
	}
	return nil
}

// bigQueue runs a queue with so many scheduled queues, of which the last readies are for ready queues that have just been used.
func bigQueue(b *testing.B, scheduled, readies int) (*queue.Queue, *bigSpool) {
	spool := &bigSpool{waiting: scheduled}
	site := func(_ context.Context, domain string) (*mtakit.Site, error) {
		return &mtakit.Site{Name: "mx." + domain, Hosts: []mtakit.Host{{Name: "mx." + domain}}}, nil
	}
	q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(site), Egress: accepting{}, MemoryLimit: -1})
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
	m := mail{q: q, spool: spool, domains: readies}
	for range readies {
		m.send(b)
	}
	m.drain()
	return q, spool
}

// mail submits messages to many domains in turn.
type mail struct {
	q       *queue.Queue
	spool   *bigSpool
	domains int
	n       int64
}

func (m *mail) send(b *testing.B) {
	msg := &mtakit.Message{Sender: "a@x.test", To: []string{fmt.Sprintf("b@d%d.test", m.n%int64(m.domains))}}
	if err := m.q.Submit(context.Background(), []mtakit.Submission{{Message: msg, Body: mtakit.Bytes("Subject: x\r\n\r\nx\r\n")}}, mtakit.Durable); err != nil {
		b.Error(err)
	}
	for m.n++; m.n-m.spool.removed.Load() > 1000; {
		runtime.Gosched()
	}
}

func (m *mail) drain() {
	for m.spool.removed.Load() < m.n {
		runtime.Gosched()
	}
}

// heapBytes is what objects take, garbage included.
func heapBytes() uint64 {
	s := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(s)
	return s[0].Value.Uint64()
}

type scrape struct {
	first, total, cpu time.Duration // cpu is of the process, the reader included
	bytes             int64
	growth            uint64
}

// cpuTime is what the process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fetch reads the document as Prometheus would.
func fetch(b *testing.B, url, encoding string) (s scrape) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", encoding)
	start, cpu := time.Now(), cpuTime()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	s.first = time.Since(start)
	if s.bytes, err = io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	s.total, s.cpu = time.Since(start), cpuTime()-cpu
	return s
}

// fetchWatched is fetch with an eye on the heap.
func fetchWatched(b *testing.B, url, encoding string) scrape {
	runtime.GC()
	before, most := heapBytes(), uint64(0)
	var watcher sync.WaitGroup
	stop := make(chan struct{})
	watcher.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, heapBytes())
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	s := fetch(b, url, encoding)
	close(stop)
	watcher.Wait()
	s.growth = max(most, before) - before
	return s
}

// million is a queue with a million scheduled and ten thousand ready queues, and its metrics over HTTP.
func million(b *testing.B) (m *mail, url string) {
	q, spool := bigQueue(b, 1_000_000, 10_000)
	var reg metrics.Registry
	if err := reg.Register(q, metrics.NewProcess()); err != nil {
		b.Fatal(err)
	}
	srv := httptest.NewServer(reg.Text())
	b.Cleanup(srv.Close)
	return &mail{q: q, spool: spool, domains: 10_000, n: spool.removed.Load()}, srv.URL
}

// BenchmarkScrapeMillion is a scrape of a million scheduled and ten thousand ready queues over HTTP, its reader included. The figures are the worst.
func BenchmarkScrapeMillion(b *testing.B) {
	_, url := million(b)
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			var worst scrape
			for b.Loop() {
				s := fetchWatched(b, url, encoding)
				worst = scrape{max(worst.first, s.first), max(worst.total, s.total), max(worst.cpu, s.cpu), s.bytes, max(worst.growth, s.growth)}
			}
			b.ReportMetric(float64(worst.first.Microseconds())/1000, "ms-first-byte")
			b.ReportMetric(worst.total.Seconds(), "s-total")
			b.ReportMetric(worst.cpu.Seconds(), "s-CPU")
			b.ReportMetric(float64(worst.growth)/(1<<20), "MiB-growth")
			b.ReportMetric(float64(worst.bytes)/1e6, "MB")
		})
	}
}

// BenchmarkMailWhileScraped is mail through the queue of a million while nobody looks, and while it is scraped, side by side. There is neither network
// nor disk in it. At a rate that leaves the processors some time, one scrape follows the other, and mail must not notice. When mail has all processors,
// the two divide them, and what counts is how many scrapes there are: one in fifteen seconds, so let it run for a multiple of that.
func BenchmarkMailWhileScraped(b *testing.B) {
	m, url := million(b)
	for _, c := range []struct {
		name  string
		rate  int // messages a second; 0 is as many as there can be
		every time.Duration
	}{{"10000 a second", 10_000, 0}, {"saturated", 0, 15 * time.Second}} {
		for _, encoding := range []string{"", "identity", "gzip"} {
			b.Run(c.name+"/"+cmp.Or(encoding, "idle"), func(b *testing.B) {
				ctx, cancel := context.WithCancel(b.Context())
				var scraper sync.WaitGroup
				scrapes := 0
				if encoding != "" {
					scraper.Go(func() {
						for ctx.Err() == nil {
							next := time.After(c.every)
							fetch(b, url, encoding)
							scrapes++
							select {
							case <-next:
							case <-ctx.Done():
							}
						}
					})
				}
				start, first := time.Now(), m.n
				var took []time.Duration
				for b.Loop() {
					if c.rate > 0 {
						<-time.After(time.Until(start.Add(time.Duration(m.n-first) * time.Second / time.Duration(c.rate))))
					}
					before := time.Now()
					m.send(b)
					took = append(took, time.Since(before))
				}
				m.drain()
				b.ReportMetric(float64(m.n-first)/time.Since(start).Seconds(), "messages/s")
				cancel()
				scraper.Wait()
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "µs-p99-submit")
				b.ReportMetric(float64(scrapes), "scrapes")
			})
		}
	}
}
