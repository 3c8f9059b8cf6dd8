package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// exposition is the metrics of a daemon that has been up for n seconds.
func exposition(n int) string {
	return fmt.Sprintf(`# TYPE total_messages_delivered counter
total_messages_delivered{service="smtp_client"} %d
total_messages_delivered{service="smtp_client:s->mx@smtp_client"} %d
# TYPE total_messages_received counter
total_messages_received{service="esmtp_listener"} %d
total_messages_received{service="http_listener"} %d
# TYPE ready_count gauge
ready_count{service="smtp_client"} 9
ready_count{service="smtp_client:a@smtp_client"} 4
ready_count{service="smtp_client:b@smtp_client"} 5
# TYPE scheduled_count_total gauge
scheduled_count_total 1234567
# TYPE scheduled_count gauge
scheduled_count{queue="q1"} 1
# TYPE memory_usage gauge
memory_usage 3221225472
# TYPE thread_pool_size gauge
thread_pool_size{pool="spoolin"} 4
# TYPE thread_pool_parked gauge
thread_pool_parked{pool="spoolin"} 3
# TYPE latency histogram
latency_bucket{service="smtp",le="0.005"} %d
latency_bucket{service="smtp",le="0.5"} %d
latency_bucket{service="smtp",le="+Inf"} %d
latency_sum{service="smtp"} %d
latency_count{service="smtp"} %d
latency_bucket{service="init",le="+Inf"} 1
`, 100*n, 100*n, 50*n, 10*n, n, 3*n, 4*n, n, 4*n)
}

func topAt(t *testing.T, looks int) *top {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	n := 0
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, exposition(n)) }))
	defer daemon.Close()
	var e endpoint
	if err := e.UnmarshalText([]byte(daemon.URL)); err != nil {
		t.Fatal(err)
	}
	c := &console{api: newClient(e.url, nil, time.Minute), now: func() time.Time { return at.Add(time.Duration(n) * time.Second) }}
	tp := &top{history: newHistory(), zoom: 1}
	for n = 1; n <= looks; n++ {
		s, err := takeSnapshot(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		tp.history.add(s)
	}
	return tp
}

func TestTopDraws(t *testing.T) {
	t.Parallel()
	tp := topAt(t, 5)
	screen := strings.Join(tp.draw(70, 24), "\n")
	for _, want := range []string{
		"\x1b[7m Time Series \x1b[0m  Heatmaps   Help", "Delivered", "  100/s ████", "Received", "   60/s ████", "Scheduled", "1,234,567 █████", "Ready", "       9 █",
		"Memory", "3.0GiB", "pool spoolin", "25%", "freq: latency - smtp", "4/s", "avg: latency - smtp", "250,000µs",
	} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is not on the screen", want)
		}
	}
	if strings.Contains(screen, "init") || strings.Contains(screen, "q1") {
		t.Error("what is to be left out is on the screen")
	}
	tp.press("\t", 10)
	heat := strings.Join(tp.draw(70, 24), "\n")
	for _, want := range []string{"latency - smtp", "more  ▒▒▒▒", "≤ 500ms  ████", "≤ 5ms  ▒▒▒▒"} {
		if !strings.Contains(heat, want) {
			t.Errorf("%q is not on the heat map", want)
		}
	}
	if t.Failed() {
		t.Logf("\n%s\n%s", screen, heat)
	}
	for _, size := range [][2]int{{20, 5}, {1, 1}, {0, 0}, {300, 100}} { // none of them panics
		for range tabs {
			tp.press("\t", 1)
			for _, line := range tp.draw(size[0], size[1])[1:] {
				if n := len([]rune(strings.NewReplacer(string(red), "", reset, "").Replace(line))); n > max(size[0], 20) {
					t.Errorf("%d columns: %q", size[0], line)
				}
			}
		}
	}
}

func TestTopKeys(t *testing.T) {
	t.Parallel()
	tp := topAt(t, 3)
	for _, key := range []string{"f", "d", "l", "v"} {
		tp.press(key, 10)
	}
	if s := strings.Join(tp.draw(70, 24), "\n"); !strings.Contains(s, "Delivered") || strings.Contains(s, "Received") || !strings.Contains(s, "filter: dlv") {
		t.Errorf("with a filter:\n%s", s)
	}
	tp.press("\x7f", 10)
	tp.press("\r", 10)
	if tp.filter != "dl" || tp.typing {
		t.Errorf("filter %q, typing %v", tp.filter, tp.typing)
	}
	tp.press("f", 10)
	tp.press("\x1b", 10)
	if tp.filter != "" || tp.press("x", 10) {
		t.Errorf("Esc keeps the filter %q", tp.filter)
	}
	tp.press("\x1b[F", 10)
	if tp.draw(70, 6); tp.scroll == 0 {
		t.Error("End doesn't scroll")
	}
	tp.press("\x1b[H", 10)
	tp.press("\x1b[A", 10)
	if tp.draw(70, 6); tp.scroll != 0 {
		t.Errorf("scrolled to %d", tp.scroll)
	}
	for range 20 {
		tp.press("+", 1)
	}
	if tp.zoom != maxZoom {
		t.Errorf("zoom %d", tp.zoom)
	}
	for _, key := range []string{"q", "\x1b", "\x03"} {
		if !tp.press(key, 1) {
			t.Errorf("%q doesn't quit", key)
		}
	}
}

// The whole command: it draws, shows what fails, goes on, and leaves the terminal as it was.
func TestTopRuns(t *testing.T) {
	t.Parallel()
	looks := make(chan int, 100)
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := len(looks)
		looks <- n
		if n == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, exposition(n+1))
	}))
	defer daemon.Close()
	keys := make(chan string)
	drawn := &drawing{seen: make(chan string, 1000)}
	restored := false
	sc := &screen{out: drawn, size: func() (int, int) { return 60, 20 }, keys: keys, raw: func() (func(), error) { return func() { restored = true }, nil }}
	var out, stderr bytes.Buffer
	exit := make(chan int, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		exit <- run(ctx, []string{"--endpoint", daemon.URL, "top", "--update-interval", "0.1"}, &console{out: &out, err: &stderr, screen: sc, now: time.Now})
	}()
	drawn.wait(t, ctx, "Delivered")
	drawn.wait(t, ctx, "503")
	drawn.wait(t, ctx, "/s █")
	keys <- "q"
	if code := <-exit; code != 0 || !restored || out.Len()+stderr.Len() > 0 {
		t.Errorf("exit code %d, terminal restored %v, %s%s", code, restored, &out, &stderr)
	}
	if code := run(ctx, []string{"--endpoint", daemon.URL, "top"}, &console{out: &out, err: &stderr}); code != 2 || !strings.Contains(stderr.String(), "needs a terminal") {
		t.Errorf("without a terminal: %d %s", code, &stderr)
	}
}

// drawing is a terminal's output.
type drawing struct{ seen chan string }

func (d *drawing) Write(b []byte) (int, error) {
	select {
	case d.seen <- string(b):
	default:
	}
	return len(b), nil
}

func (d *drawing) wait(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	for {
		select {
		case s := <-d.seen:
			if strings.Contains(s, want) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("%q is never drawn", want)
		}
	}
}

func FuzzReadMetrics(f *testing.F) {
	f.Add(exposition(3))
	f.Add("# TYPE x counter\nx{a=\"\\\"\\n\\\\\",b=\"\"} 1\nx 2\n")
	f.Add("# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx{} 3\nx_ 4\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := &snapshot{values: make(map[string]float64), histos: make(map[string]*histo)}
		n := 0
		err := readMetrics(strings.NewReader(text), func(string, string) bool { return true }, func(m *sample) {
			if n++; m.family == "" || strings.ContainsAny(m.family, " \n") {
				t.Fatalf("family %q", m.family)
			}
			if m.kind == "histogram" {
				s.histogram(m)
			}
		})
		if err != nil || n > strings.Count(text, "\n") {
			t.Fatalf("%d samples of %q: %v", n, text, err)
		}
		h := newHistory()
		h.add(s)
		h.add(&snapshot{at: time.Unix(1, 0), values: s.values, histos: s.histos})
		h.heatmaps("", 1, 80)
		h.rows("", 2, 80)
	})
}

// A million queues are passed over without being kept.
func BenchmarkMetrics(b *testing.B) {
	var text bytes.Buffer
	text.WriteString("# TYPE scheduled_count gauge\n")
	for i := range 100000 {
		fmt.Fprintf(&text, "scheduled_count{queue=\"c%d:t@d%d.example\"} 1\n", i%100, i)
	}
	text.WriteString(exposition(1))
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := readMetrics(bytes.NewReader(text.Bytes()), func(family, _ string) bool { return family != "scheduled_count" }, func(*sample) { n++ }); err != nil || n == 0 {
			b.Fatal(n, err)
		}
	}
}
