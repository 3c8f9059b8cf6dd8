package metrics_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/metrics"
)

func Example() {
	c := &collector{families: []mtakit.MetricFamily{
		{Name: "scheduled_count", Help: "messages in a scheduled queue", Type: mtakit.GaugeType, Labels: []string{"queue"}, Streamed: true},
	}, samples: map[string][]mtakit.Sample{"scheduled_count": {{Labels: []string{"tenant@example.com"}, Value: 3}}}}

	var reg metrics.Registry
	if err := reg.Register(c); err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", reg.Text())

	var out strings.Builder
	if err := reg.WriteText(&out, ""); err != nil {
		panic(err)
	}
	fmt.Print(out.String())
	// Output:
	// # HELP metrics_scrape_count how many times metrics were asked for
	// # TYPE metrics_scrape_count counter
	// metrics_scrape_count 1
	// # HELP scheduled_count messages in a scheduled queue
	// # TYPE scheduled_count gauge
	// scheduled_count{queue="tenant@example.com"} 3
}

// collector is a Collector of given samples.
type collector struct {
	families []mtakit.MetricFamily
	samples  map[string][]mtakit.Sample
}

func (c *collector) Families() []mtakit.MetricFamily { return c.families }

func (c *collector) Collect(family string, yield func(mtakit.Sample) bool) {
	for _, s := range c.samples[family] {
		if !yield(s) {
			return
		}
	}
}

func everything(t testing.TB) *metrics.Registry {
	h, h2 := mtakit.NewHistogram(), mtakit.NewHistogram(1, 2.5)
	h.Observe(7 * time.Millisecond)
	h.Observe(time.Minute)
	h2.Observe(2 * time.Second)
	streamed := &collector{families: []mtakit.MetricFamily{
		{Name: "total_messages_delivered", Help: "deliveries", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
		{Name: "delivered_by_provider_and_source", Type: mtakit.CounterType, Labels: []string{"provider", "source", "pool"}, Streamed: true},
		{Name: "ready_full", Help: "none", Type: mtakit.CounterType, Labels: []string{"service"}, Streamed: true},
	}, samples: map[string][]mtakit.Sample{
		"total_messages_delivered": {
			{Labels: []string{"smtp_client"}, Value: 1e7},
			{Labels: []string{`smtp_client:a"b\c` + "\nd\xff\u00e9"}, Value: 2},
		},
		"delivered_by_provider_and_source": {{Labels: []string{"p", "s", "o"}, Value: 4}},
	}}
	plain := &collector{families: []mtakit.MetricFamily{
		{Name: "user_latency", Type: mtakit.HistogramType, Labels: []string{"label"}},
		{Name: "message_count", Help: `of \ and` + "\nline", Type: mtakit.GaugeType},
		{Name: "a_latency", Type: mtakit.HistogramType},
		{Name: "never", Type: mtakit.CounterType, Labels: []string{"x"}},
		{Name: "source_failures", Type: mtakit.CounterType, Labels: []string{"source", "kind"}},
	}, samples: map[string][]mtakit.Sample{
		"user_latency":    {{Labels: []string{"x"}, Histogram: h}, {Labels: []string{"y"}, Histogram: h2}},
		"message_count":   {{Value: 1234567890.5}},
		"a_latency":       {{Histogram: h2}},
		"source_failures": {{Labels: []string{"s1", "Unplumbed"}, Value: 1}, {Labels: []string{"wrong number"}, Value: 1}},
	}}
	other := &collector{families: []mtakit.MetricFamily{
		{Name: "source_failures", Type: mtakit.CounterType, Labels: []string{"source", "kind"}},
	}, samples: map[string][]mtakit.Sample{"source_failures": {{Labels: []string{"s2", "ProxyUnhealthy"}, Value: 2}}}}
	reg := new(metrics.Registry)
	if err := reg.Register(streamed, plain, other); err != nil {
		t.Fatal(err)
	}
	return reg
}

const wantText = `# HELP x_a_latency 
# TYPE x_a_latency histogram
x_a_latency_bucket{le="1"} 0
x_a_latency_bucket{le="2.5"} 1
x_a_latency_bucket{le="+Inf"} 1
x_a_latency_sum 2
x_a_latency_count 1
# HELP x_user_latency 
# TYPE x_user_latency histogram
x_user_latency_bucket{label="x",le="0.005"} 0
x_user_latency_bucket{label="x",le="0.01"} 1
x_user_latency_bucket{label="x",le="0.025"} 1
x_user_latency_bucket{label="x",le="0.05"} 1
x_user_latency_bucket{label="x",le="0.1"} 1
x_user_latency_bucket{label="x",le="0.25"} 1
x_user_latency_bucket{label="x",le="0.5"} 1
x_user_latency_bucket{label="x",le="1"} 1
x_user_latency_bucket{label="x",le="2.5"} 1
x_user_latency_bucket{label="x",le="5"} 1
x_user_latency_bucket{label="x",le="10"} 1
x_user_latency_bucket{label="x",le="+Inf"} 2
x_user_latency_sum{label="x"} 60.007
x_user_latency_count{label="x"} 2
x_user_latency_bucket{label="y",le="1"} 0
x_user_latency_bucket{label="y",le="2.5"} 1
x_user_latency_bucket{label="y",le="+Inf"} 1
x_user_latency_sum{label="y"} 2
x_user_latency_count{label="y"} 1
# HELP x_message_count of \\ and\nline
# TYPE x_message_count gauge
x_message_count 1234567890.5
# HELP x_metrics_scrape_count how many times metrics were asked for
# TYPE x_metrics_scrape_count counter
x_metrics_scrape_count 1
# HELP x_source_failures 
# TYPE x_source_failures counter
x_source_failures{kind="Unplumbed",source="s1"} 1
x_source_failures{kind="ProxyUnhealthy",source="s2"} 2
# HELP x_total_messages_delivered deliveries
# TYPE x_total_messages_delivered counter
x_total_messages_delivered{service="smtp_client"} 10000000
x_total_messages_delivered{service="smtp_client:a'b\\c\nd` + "\ufffd\u00e9" + `"} 2
# HELP x_delivered_by_provider_and_source 
# TYPE x_delivered_by_provider_and_source counter
x_delivered_by_provider_and_source{provider="p", source="s", pool="o"} 4
# HELP x_ready_full none
# TYPE x_ready_full counter
`

func TestText(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := everything(t).WriteText(&out, "x_"); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != wantText {
		t.Errorf("got:\n%s\nwant:\n%s", got, wantText)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := everything(t).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	want := `{"a_latency":{"type":"histogram","value":{"count":1,"sum":2,"avg":2,"bucket":[[1,0],[2.5,1]]}},` +
		`"user_latency":{"type":"histogram","value":{"label":{` +
		`"x":{"count":2,"sum":60.007,"avg":30.0035,"bucket":[[0.005,0],[0.01,1],[0.025,1],[0.05,1],[0.1,1],[0.25,1],[0.5,1],[1,1],[2.5,1],[5,1],[10,1]]},` +
		`"y":{"count":1,"sum":2,"avg":2,"bucket":[[1,0],[2.5,1]]}}}},` +
		`"message_count":{"help":"of \\ and\nline","type":"gauge","value":1234567890.5},` +
		`"metrics_scrape_count":{"help":"how many times metrics were asked for","type":"counter","value":1},` +
		`"never":{"type":"counter","value":null},` +
		`"source_failures":{"type":"counter","value":[{"kind":"Unplumbed","source":"s1","@":1},{"kind":"ProxyUnhealthy","source":"s2","@":2}]},` +
		`"total_messages_delivered":{"help":"deliveries","type":"counter","value":{"service":{"smtp_client":10000000,"smtp_client:a\"b\\c\nd\ufffdé":2}}},` +
		`"delivered_by_provider_and_source":{"type":"counter","value":[{"provider":"p","source":"s","pool":"o","@":4}]},` +
		`"ready_full":{"help":"none","type":"counter","value":null}}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !json.Valid(out.Bytes()) {
		t.Error("it is not JSON")
	}
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	var reg metrics.Registry
	good := mtakit.MetricFamily{Name: "a", Type: mtakit.GaugeType, Labels: []string{"x"}}
	if err := reg.Register(&collector{families: []mtakit.MetricFamily{good}}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []mtakit.MetricFamily{
		{Name: ""}, {Name: "1a"}, {Name: "a-b"},
		{Name: "b", Labels: []string{"le"}}, {Name: "b", Labels: []string{"x", "x"}}, {Name: "b", Labels: []string{"\n"}},
		{Name: "b", Type: mtakit.HistogramType, Streamed: true},
		{Name: "b", Type: 9},
		{Name: "a", Type: mtakit.CounterType, Labels: []string{"x"}}, {Name: "a", Type: mtakit.GaugeType}, {Name: "a", Type: mtakit.GaugeType, Labels: []string{"x"}, Streamed: true},
	} {
		if err := reg.Register(&collector{families: []mtakit.MetricFamily{{Name: "fine"}, f}}); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
	var out strings.Builder
	if err := reg.WriteText(&out, ""); err != nil || strings.Contains(out.String(), "fine") {
		t.Errorf("a refused Collector is shown: %v\n%s", err, out.String())
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	reg := everything(t)
	for _, c := range []struct {
		accept, encoding string
		open             func(io.Reader) (io.ReadCloser, error)
	}{
		{"", "", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil }},
		{"br, gzip;q=0", "", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil }},
		{"deflate, gzip", "gzip", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
		{"gzip;q=0.5, DEFLATE", "deflate", zlib.NewReader},
	} {
		for _, h := range []struct {
			handler http.Handler
			ctype   string
			want    string
		}{{reg.Text(), "text/plain; charset=utf-8", "x_ready_full"}, {reg.JSON(), "application/json; charset=utf-8", `"ready_full"`}} {
			req := httptest.NewRequest("GET", "/metrics?prefix=x_", nil)
			if c.accept != "" {
				req.Header.Set("Accept-Encoding", c.accept)
			}
			rec := httptest.NewRecorder()
			h.handler.ServeHTTP(rec, req)
			if got := rec.Header().Get("Content-Encoding"); got != c.encoding {
				t.Errorf("%q: encoding %q, want %q", c.accept, got, c.encoding)
			}
			if got := rec.Header().Get("Content-Type"); got != h.ctype {
				t.Errorf("%q: type %q, want %q", c.accept, got, h.ctype)
			}
			r, err := c.open(rec.Body)
			if err != nil {
				t.Fatalf("%q: %v", c.accept, err)
			}
			body, err := io.ReadAll(r)
			if err != nil || !strings.Contains(string(body), h.want) || body[len(body)-1] != '\n' {
				t.Errorf("%q: %v, body:\n%s", c.accept, err, body)
			}
		}
	}
	rec := httptest.NewRecorder()
	reg.Text().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics?prefix=a%0Ab", nil))
	if rec.Code != http.StatusBadRequest {
		t.Errorf("a prefix with a line end: status %d, want 400", rec.Code)
	}
}

// queues is a Collector of very many series, which it makes as it goes.
type queues struct {
	n       int
	started chan struct{} // if set, closed when the first series is asked for
	gate    chan struct{} // if set, waited for before the first series
}

func (q *queues) Families() []mtakit.MetricFamily {
	return []mtakit.MetricFamily{
		{Name: "scheduled_count", Help: "scheduled messages", Type: mtakit.GaugeType, Labels: []string{"queue"}, Streamed: true},
		{Name: "queue_latency", Help: "latency", Type: mtakit.HistogramType},
	}
}

var latency = mtakit.NewHistogram()

func (q *queues) Collect(family string, yield func(mtakit.Sample) bool) {
	if family == "queue_latency" {
		yield(mtakit.Sample{Histogram: latency})
		return
	}
	if q.gate != nil {
		close(q.started)
		<-q.gate
	}
	labels := []string{"campaign:tenant@example-with-a-usual-length.com"}
	for i := range q.n {
		if !yield(mtakit.Sample{Labels: labels, Value: float64(i)}) {
			return
		}
	}
}

// The first bytes arrive although the queues have not given anything yet.
func TestFirstByteIsEarly(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"", "gzip"} {
		q := &queues{n: 10, started: make(chan struct{}), gate: make(chan struct{})}
		var reg metrics.Registry
		if err := reg.Register(q); err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(reg.Text())
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", encoding)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var in io.Reader = resp.Body
		if encoding != "" {
			if in, err = gzip.NewReader(in); err != nil {
				t.Fatal(err)
			}
		}
		lines := bufio.NewScanner(in)
		if !lines.Scan() || lines.Text() != "# HELP queue_latency latency" {
			t.Errorf("first line %q", lines.Text())
		}
		<-q.started
		close(q.gate)
		n := 1
		for lines.Scan() {
			n++
		}
		if lines.Err() != nil || n < 10 {
			t.Errorf("%d lines, %v", n, lines.Err())
		}
		resp.Body.Close()
		srv.Close()
	}
}

// A hundred thousand series leave no more garbage than ten.
func TestMemoryDoesNotGrow(t *testing.T) {
	measure := func(n int) uint64 {
		var reg metrics.Registry
		if err := reg.Register(&queues{n: n}); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, write := range []func() error{
			func() error { return reg.WriteText(io.Discard, "") },
			func() error { return reg.WriteJSON(io.Discard) },
		} {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	few, many := measure(10), measure(100_000)
	if many > few+64<<10 {
		t.Errorf("100,000 series allocate %d bytes, 10 series %d", many, few)
	}
}

func TestWriterFails(t *testing.T) {
	t.Parallel()
	var reg metrics.Registry
	q := &queues{n: 1 << 40} // for ever, if it went on
	if err := reg.Register(q); err != nil {
		t.Fatal(err)
	}
	if err := reg.WriteText(failAfter(10_000), ""); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("WriteText: %v", err)
	}
	if err := reg.WriteJSON(failAfter(10_000)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("WriteJSON: %v", err)
	}
}

func failAfter(n int) io.Writer { return &failing{n} }

type failing struct{ n int }

func (f *failing) Write(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func BenchmarkText(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for _, encoding := range []string{"plain", "gzip"} {
			b.Run(strconv.Itoa(n)+"/"+encoding, func(b *testing.B) {
				var reg metrics.Registry
				if err := reg.Register(&queues{n: n}); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if encoding == "gzip" {
						z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
						err = reg.WriteText(z, "")
					} else {
						err = reg.WriteText(io.Discard, "")
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/series")
			})
		}
	}
}
