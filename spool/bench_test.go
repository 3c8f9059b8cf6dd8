package spool_test

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
)

var ids mtakit.IDSource

func message() *mtakit.Message {
	now := time.Now()
	return &mtakit.Message{
		ID: ids.New(now), Sender: "bounce-1234567@news.example.com", To: []string{"someone@example.org"}, Due: now,
		Queue: mtakit.QueueName{Campaign: "spring", Tenant: "acme", Domain: "example.org"},
		Meta: map[string]any{"reception_protocol": "ESMTP", "received_from": "192.0.2.1:33333", "received_via": "192.0.2.2:25",
			"hostname": "mx.example.com", "ehlo_domain": "client.example.net", "tenant": "acme", "campaign": "spring"},
	}
}

// diskDir is a directory beside the code, since the system's for temporary files may be in memory.
func diskDir(b testing.TB) string {
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(b testing.TB, dir string, o spool.Options) *spool.Spool {
	b.Helper()
	s, err := spool.Open(dir, o)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func fill(b testing.TB, s mtakit.Spool, n, size int) (list []mtakit.ID) {
	body := mtakit.Bytes(make([]byte, size))
	for len(list) < n {
		var batch []mtakit.Submission
		for range min(100, n-len(list)) {
			m := message()
			list = append(list, m.ID)
			batch = append(batch, mtakit.Submission{Message: m, Body: body})
		}
		if err := s.Store(b.Context(), batch, mtakit.Buffered); err != nil {
			b.Fatal(err)
		}
	}
	return list
}

// BenchmarkStoreDurable stores and, so that the log does not grow without end, removes.
func BenchmarkStoreDurable(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 10} {
		for _, writers := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("size=%d/writers=%d", size, writers), func(b *testing.B) {
				s := open(b, diskDir(b), spool.Options{})
				defer s.Close()
				body := mtakit.Bytes(make([]byte, size))
				var wg sync.WaitGroup
				work := make(chan struct{}, 1024)
				b.ReportAllocs()
				b.ResetTimer()
				for range writers {
					wg.Go(func() {
						batch := []mtakit.Submission{{Message: message(), Body: body}}
						for range work {
							batch[0].Message.ID = ids.New(time.Now())
							if err := s.Store(b.Context(), batch, mtakit.Durable); err != nil {
								b.Error(err)
							}
							if err := s.Remove(b.Context(), batch[0].Message.ID); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				wg.Wait()
				st := s.Stats()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
				b.ReportMetric(float64(b.N)/float64(st.Syncs), "msgs/sync")
			})
		}
	}
}

func BenchmarkRemove(b *testing.B) {
	s := open(b, diskDir(b), spool.Options{})
	defer s.Close()
	list := fill(b, s, b.N, 1024)
	b.ReportAllocs()
	b.ResetTimer()
	for _, id := range list {
		if err := s.Remove(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadOpen(b *testing.B) {
	s := open(b, diskDir(b), spool.Options{})
	defer s.Close()
	list := fill(b, s, 10000, 8192)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := list[i%len(list)]
		if _, err := s.Load(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		body, err := s.Open(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		body.Close()
	}
}

func BenchmarkScan(b *testing.B) {
	const n = 100_000
	dir := diskDir(b)
	s := open(b, dir, spool.Options{})
	fill(b, s, n, 1024)
	s.Close()
	s = open(b, dir, spool.Options{})
	defer s.Close()
	last := ids.New(time.Now())
	b.ReportAllocs()
	for b.Loop() {
		got := 0
		for _, err := range s.Scan(b.Context(), last) {
			if err != nil {
				b.Fatal(err)
			}
			got++
		}
		if got != n {
			b.Fatalf("Scan yielded %d of %d", got, n)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkOpenMillion opens a spool with a million messages, and says what one costs in memory.
func BenchmarkOpenMillion(b *testing.B) {
	const n = 1_000_000
	dir := diskDir(b)
	s := open(b, dir, spool.Options{})
	fill(b, s, n, 256)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		s := open(b, dir, spool.Options{})
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		if s.Len() != n {
			b.Fatalf("%d messages, want %d", s.Len(), n)
		}
		s.Close()
		b.StartTimer()
	}
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/n, "B/msg")
}
