package queue_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
)

func TestWheel(t *testing.T) {
	t.Parallel()
	queuetest.TestScheduler(t, queue.NewWheel)
}

func TestHeap(t *testing.T) {
	t.Parallel()
	queuetest.TestScheduler(t, queue.NewHeap)
}

func entryID(n int) (id mtakit.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func TestWheelAllocs(t *testing.T) {
	s := queue.NewWheel()
	start := time.Unix(1_750_000_000, 0)
	for i := range 10_000 {
		s.Add(mtakit.Entry{ID: entryID(i), Queue: mtakit.QueueName{Domain: fmt.Sprint("d", i%50)}, Due: start.Add(time.Duration(i) * time.Second)})
	}
	now, dst := start, make([]mtakit.Entry, 0, 64)
	if n := testing.AllocsPerRun(10_000, func() {
		due, next := s.Pop(now, dst)
		for _, e := range due {
			e.Due = e.Due.Add(10_000 * time.Second)
			s.Add(e)
		}
		now = next
	}); n != 0 {
		t.Errorf("Pop and Add allocate %v times, want 0", n)
	}
}

func TestWheelLimits(t *testing.T) {
	t.Parallel()
	s := queue.NewWheel()
	s.Add(mtakit.Entry{ID: entryID(1), Due: time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC), Tries: 70_000})
	last := time.Date(2106, 2, 7, 6, 28, 15, 0, time.UTC)
	if due, _ := s.Pop(last.Add(-time.Second), make([]mtakit.Entry, 0, 1)); len(due) != 0 {
		t.Errorf("an entry is due a second before the end of time: %+v", due)
	}
	due, _ := s.Pop(last, make([]mtakit.Entry, 0, 1))
	if len(due) != 1 || !due[0].Due.Equal(last) || due[0].Tries != 65535 {
		t.Errorf("Pop = %+v", due)
	}
}

// BenchmarkScheduler is Pop and Add again for each entry, with a hundred thousand waiting in a thousand queues.
func BenchmarkScheduler(b *testing.B) {
	for _, impl := range []struct {
		name string
		new  func() mtakit.Scheduler
	}{{"Wheel", queue.NewWheel}, {"Heap", queue.NewHeap}} {
		b.Run(impl.name, func(b *testing.B) {
			const n = 100_000
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			s := impl.new()
			now := time.Unix(1_750_000_000, 0)
			for i := range n {
				s.Add(mtakit.Entry{
					ID: entryID(i), Queue: mtakit.QueueName{Tenant: "tenant", Domain: fmt.Sprintf("d%d.example.com", i%1000)},
					Due: now.Add(time.Duration(i%1200) * time.Second),
				})
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportAllocs()
			dst := make([]mtakit.Entry, 0, 256)
			left := 0
			for b.Loop() {
				if left--; left > 0 {
					continue
				}
				var due []mtakit.Entry
				for left = 0; left == 0; left = len(due) {
					var next time.Time
					if due, next = s.Pop(now, dst); next.After(now) {
						now = next
					}
				}
				for _, e := range due {
					e.Due = now.Add(20 * time.Minute)
					s.Add(e)
				}
			}
			b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/n, "B/entry")
		})
	}
}
