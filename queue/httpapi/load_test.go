package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
)

var load = flag.Bool("load", false, "run the tests that take memory and time")

// drain takes messages and keeps nothing.
func drain(count *atomic.Int64) func(context.Context, []mtakit.Submission, mtakit.Durability) error {
	return func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
		count.Add(int64(len(batch)))
		for _, s := range batch {
			s.Body.Close()
		}
		return nil
	}
}

// peakHeap is how much the heap in use grew while f ran.
func peakHeap(f func()) int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, peak := m.HeapAlloc, uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			case <-stop:
				return
			}
		}
	}()
	f()
	close(stop)
	<-done
	return int64(peak) - int64(before)
}

// 50 MB of requests at once, and the same again and again, stay within what Config.MaxInFlight allows.
func TestLoadConcurrent(t *testing.T) {
	if !*load {
		t.Skip("needs -load")
	}
	var count atomic.Int64
	api, _ := newAPI(t, func(c *httpapi.Config) { c.Submit, c.MaxInFlight = drain(&count), 8<<20 })
	srv := httptest.NewServer(api)
	defer srv.Close()
	attachment := base64.StdEncoding.EncodeToString(make([]byte, 768<<10-300))
	body := `{"envelope_sender":"","recipients":[{"email":"a@b.example"},{"email":"c@d.example"}],"content":{"text_body":"{{ email }}","attachments":[{"data":"` + attachment + `","content_type":"a/b","base64":true}]}}`
	grown := peakHeap(func() {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 5 {
					// The body is shared, so that what is measured is the server's.
					r, err := http.Post(srv.URL+"/api/inject/v1", "application/json", strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, r.Body)
					r.Body.Close()
					if r.StatusCode != 200 {
						t.Errorf("%d", r.StatusCode)
					}
				}
			})
		}
		wg.Wait()
	})
	t.Logf("%d requests of %d KiB, 50 at once, %d messages: the heap grew by %d MiB", 250, len(body)>>10, count.Load(), grown>>20)
	if count.Load() != 500 || grown > 96<<20 {
		t.Errorf("%d messages, %d MiB", count.Load(), grown>>20)
	}
}

// A million recipients in one request.
func TestLoadMillion(t *testing.T) {
	if !*load {
		t.Skip("needs -load")
	}
	var count atomic.Int64
	api, _ := newAPI(t, func(c *httpapi.Config) { c.Submit, c.BodyLimit = drain(&count), 1<<30 })
	srv := httptest.NewServer(api)
	defer srv.Close()
	const n = 1_000_000
	start := time.Now()
	grown := peakHeap(func() {
		pr, pw := io.Pipe()
		go func() {
			w := bufio.NewWriterSize(pw, 64<<10)
			fmt.Fprint(w, `{"envelope_sender":"s@example.com","content":{"subject":"Hi {{ name }}","text_body":"number {{ n }}"},"recipients":[`)
			for i := range n {
				if i > 0 {
					w.WriteByte(',')
				}
				fmt.Fprintf(w, `{"email":"r%d@d%d.example","name":"Number %d","substitutions":{"n":%d}}`, i, i%1000, i, i)
			}
			fmt.Fprint(w, `]}`)
			w.Flush()
			pw.Close()
		}()
		r, err := http.Post(srv.URL+"/api/inject/v1", "application/json", pr)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if b, _ := io.ReadAll(r.Body); r.StatusCode != 200 || !bytes.HasPrefix(b, []byte(`{"success_count":1000000,`)) {
			t.Errorf("%d %s", r.StatusCode, b)
		}
	})
	t.Logf("%d messages in %v, the heap grew by %d MiB", count.Load(), time.Since(start).Round(time.Millisecond), grown>>20)
	if count.Load() != n || grown > 64<<20 {
		t.Errorf("%d messages, %d MiB", count.Load(), grown>>20)
	}
}

// A body that is small on the wire and large beyond takes no memory.
func TestLoadCompressedBomb(t *testing.T) {
	if !*load {
		t.Skip("needs -load")
	}
	api, _ := newAPI(t, nil)
	bomb := gzipped(strings.Repeat(" ", 256<<20))
	grown := peakHeap(func() {
		for range 20 {
			if r := inject(api, bomb, "Content-Encoding", "gzip"); r.StatusCode != 413 {
				t.Errorf("%d", r.StatusCode)
			}
		}
	})
	t.Logf("20 times %d KiB that stand for 256 MiB: the heap grew by %d MiB", len(bomb)>>10, grown>>20)
	if grown > 16<<20 {
		t.Errorf("%d MiB", grown>>20)
	}
}

func BenchmarkInject(b *testing.B) {
	var list []string
	for i := range 1000 {
		list = append(list, fmt.Sprintf(`{"email":"r%d@x.example","name":"Number %d"}`, i, i))
	}
	many := `{"envelope_sender":"","recipients":[` + strings.Join(list, ",") + `],`
	html := strings.Repeat("<p>Hello, this is a paragraph of a message.</p>\\n", 200)
	for _, c := range []struct{ name, body string }{
		{"one", minimal},
		{"1000", many + `"content":{"subject":"Hi {{ name }}","text_body":"Hello {{ name }}"}}`},
		{"1000 with static html and attachment", many + `"content":{"subject":"Hi {{ name }}","text_body":"Hello {{ name }}","html_body":"` + html + `","attachments":[{"data":"` +
			strings.Repeat("x", 100<<10) + `","content_type":"application/pdf"}]}}`},
		{"1000 with html", many + `"content":{"subject":"Hi {{ name }}","html_body":"{{ name }}` + html + `"}}`},
		{"1000 raw", many + `"content":"Subject: hi\n\nHello {{ name }}"}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			var count atomic.Int64
			api, _ := newAPI(b, func(cfg *httpapi.Config) { cfg.Submit = drain(&count) })
			b.ReportAllocs()
			for b.Loop() {
				if r := inject(api, c.body); r.StatusCode != 200 {
					b.Fatal(r.StatusCode)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count.Load()), "ns/message")
		})
	}
}

// FuzzInject: whatever is sent, the answer is one that the reference has, and messages keep their form.
func FuzzInject(f *testing.F) {
	f.Add(minimal)
	f.Add(`{"envelope_sender":"","recipients":[{"email":"a@b.c","name":"\r\nBcc: x"}],"content":"Subject: {{ name }}\n\nä","trace_headers":{"include_meta_names":["extra"]}}`)
	f.Add(`{"envelope_sender":"<>","recipients":[{"email":"a@b.c"}],"content":{"html_body":"{{#each x}}{{/each}}","attachments":[{"data":"x","content_type":"a/b","file_name":"ü"}]},"template_dialect":"Handlebars"}`)
	f.Fuzz(func(t *testing.T, body string) {
		api, o := newAPI(t, func(c *httpapi.Config) { c.Template.Steps = 10_000; c.Template.Memory = 1 << 20; c.TempDir = "" })
		r := inject(api, body)
		text := bodyOf(t, r)
		switch r.StatusCode {
		case 200:
			if !strings.HasPrefix(text, `{"success_count":`) {
				t.Fatalf("%s", text)
			}
		case 400, 413, 422, 500:
			if len(o.texts) > 0 || strings.ContainsAny(text, "\r\n") {
				t.Fatalf("%d %q, %d messages", r.StatusCode, text, len(o.texts))
			}
		default:
			t.Fatalf("%d %q", r.StatusCode, text)
		}
		for _, m := range o.texts {
			for line := range strings.SplitSeq(m, "\r\n") {
				if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
					t.Fatalf("line %q", line)
				}
			}
		}
	})
}
