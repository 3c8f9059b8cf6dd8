package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
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

// The screens in testdata/top.screens, on a terminal of 70 columns and 24 lines.
func TestTopDraws(t *testing.T) {
	t.Parallel()
	tp := topAt(t, 5)
	var got strings.Builder
	for _, look := range []struct {
		name string
		keys []string
	}{
		{"time series", nil}, {"each column two looks, from the end", []string{"+", "\x1b[F"}}, {"heat maps", []string{"-", "\t"}}, {"help", []string{"\t"}},
		{"while a filter is typed", []string{"\t", "f", "c", "n"}}, {"with a filter", []string{"\r"}},
	} {
		for _, key := range look.keys {
			tp.press(key, 10)
		}
		fmt.Fprintf(&got, "-- %s --\n", look.name)
		for _, line := range tp.draw(70, 24) {
			got.WriteString(strings.TrimRight(strings.ReplaceAll(line, "\x1b", "^"), " ") + "\n")
		}
	}
	const file = "testdata/top.screens"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got.String() != string(want) {
		t.Errorf("%v; drawn:\n%s", err, got.String())
	}
}

// Nothing is drawn beyond the edges of a terminal, however small.
func TestTopFits(t *testing.T) {
	t.Parallel()
	tp := topAt(t, 5)
	for _, size := range [][2]int{{20, 5}, {1, 1}, {0, 0}, {300, 100}} {
		for range tabs {
			tp.press("\t", 1)
			lines := tp.draw(size[0], size[1])
			if len(lines) > max(size[1], 5) {
				t.Errorf("%d lines on a terminal of %d", len(lines), size[1])
			}
			for _, line := range lines[1:] {
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

// Keys that come together are told apart.
func TestReadKeys(t *testing.T) {
	t.Parallel()
	keys := make(chan string, 100)
	readKeys(strings.NewReader("dl\x1b[A\x1b[5~é\x1b[1;5Bq\x1b"), keys)
	want := []string{"d", "l", "\x1b[A", "\x1b[5~", "é", "\x1b[1;5B", "q", "\x1b"}
	if got := slices.Collect(func(yield func(string) bool) {
		for k := range keys {
			yield(k)
		}
	}); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What is remembered of a counter is bounded, and one that begins anew is no negative rate.
func TestHistory(t *testing.T) {
	t.Parallel()
	h := newHistory()
	for i := range keep + 10 {
		h.add(&snapshot{at: time.Unix(int64(i), 0), values: map[string]float64{"Delivered": float64(i)}})
	}
	h.add(&snapshot{at: time.Unix(keep+20, 0), values: map[string]float64{"Delivered": 3}})
	if s := h.series["Delivered"]; len(s.values) != keep || s.now != 0 {
		t.Errorf("%d values, the last %v", len(s.values), s.now)
	}
}
