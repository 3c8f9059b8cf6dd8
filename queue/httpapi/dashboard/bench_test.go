package dashboard_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// fill makes n queues of one message each.
func (s *station) fill(b *testing.B, n int) {
	b.Helper()
	due := time.Now().Add(24 * time.Hour)
	batch := make([]mtakit.Submission, 0, 1000)
	for i := range n {
		m := &mtakit.Message{Sender: "news@shop.example", To: []string{fmt.Sprintf("u@n%d.example", i)}, Due: due, Meta: map[string]any{"tenant": fmt.Sprintf("t%d", i%100), "campaign": "autumn"}}
		if batch = append(batch, mtakit.Submission{Message: m, Body: mtakit.Bytes("x\r\n")}); len(batch) == cap(batch) || i == n-1 {
			if err := s.queue.Submit(b.Context(), batch, mtakit.Durable); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
}

// BenchmarkEndpoints asks what the page asks of an MTA with a hundred thousand queues.
func BenchmarkEndpoints(b *testing.B) {
	s := newStation(b, nil)
	s.fill(b, 100_000)
	for _, path := range []string{"summary/v1", "queues/v1?kind=scheduled", "queues/v1?kind=scheduled&search=t7@n99", "queues/v1?kind=scheduled&limit=1000", "queues/v1?kind=scheduled&name=autumn:t7@n7.example",
		"queues/v1?kind=ready", "sources/v1", "rules/v1", "failures/v1", "history/v1?span=10m"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			var size int64
			for b.Loop() {
				r, err := http.Get(s.url + "/api/admin/" + path)
				if err != nil {
					b.Fatal(err)
				}
				size, err = io.Copy(io.Discard, r.Body)
				r.Body.Close()
				if err != nil || r.StatusCode != 200 {
					b.Fatal(r.Status, err)
				}
			}
			b.ReportMetric(float64(size), "bytes/answer")
		})
	}
}

// BenchmarkPage is how long a browser takes from the address to what is to be seen, with a hundred thousand queues.
func BenchmarkPage(b *testing.B) {
	s := newStation(b, nil)
	s.fill(b, 100_000)
	c := start(b)
	p := c.open(b, 1440, 1000, "light")
	for view, shown := range map[string]string{"overview": `document.querySelectorAll("main tbody tr").length > 12`, "queues": `document.querySelectorAll("main tbody tr").length === 50`, "queues?limit=1000": `document.querySelectorAll("main tbody tr").length === 1000`} {
		b.Run(view, func(b *testing.B) {
			for b.Loop() {
				p.goTo("about:blank")
				p.goTo(s.url + "/#/" + view)
				p.wait(shown)
			}
		})
	}
}
