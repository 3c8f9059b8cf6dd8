package metrics_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/metrics"
	"github.com/mtakit/mtakit/metrics/metricstest"
)

// A strict reader understands every document, with the labels as they were given.
func TestStrictReader(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "kumomta_"} {
		var doc bytes.Buffer
		if err := everything(t).WriteText(&doc, prefix); err != nil {
			t.Fatal(err)
		}
		families, err := metricstest.Parse(&doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if !strings.HasPrefix(f.Name, prefix) {
				t.Errorf("%s has not got the prefix %q", f.Name, prefix)
			}
		}
		i := slices.IndexFunc(families, func(f metricstest.Family) bool { return f.Name == prefix+"total_messages_delivered" })
		if i < 0 || !slices.ContainsFunc(families[i].Samples, func(s metricstest.Sample) bool {
			return s.Get("service") == "smtp_client:a'b\\c\nd\ufffdé"
		}) {
			t.Errorf("the label is not there in %+v", families)
		}
	}
}

// A HEAD has the headers of a GET and no body, whatever the encoding.
func TestHead(t *testing.T) {
	t.Parallel()
	reg := everything(t)
	for _, h := range []http.Handler{reg.Text(), reg.JSON()} {
		for _, encoding := range []string{"", "gzip", "deflate"} {
			var headers [2]http.Header
			for i, method := range []string{"GET", "HEAD"} {
				req := httptest.NewRequest(method, "/metrics", nil)
				req.Header.Set("Accept-Encoding", encoding)
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, req)
				headers[i] = rec.Result().Header
				if method == "HEAD" && rec.Body.Len() > 0 {
					t.Errorf("%q: a HEAD has a body of %d bytes", encoding, rec.Body.Len())
				}
			}
			for _, name := range []string{"Content-Type", "Content-Encoding", "Vary"} {
				if headers[0].Get(name) != headers[1].Get(name) {
					t.Errorf("%q: %s is %q, for a HEAD %q", encoding, name, headers[0].Get(name), headers[1].Get(name))
				}
			}
		}
	}
}

// Any text may be a label: the text form keeps all but quotation marks and what is not UTF-8, and the JSON form all that is UTF-8.
func FuzzSeries(f *testing.F) {
	f.Add("a", "b", "c")
	f.Add("x\"} 1\n", "\\", "\xff\x00")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		labels := []string{a, b, c}
		col := &collector{
			families: []mtakit.MetricFamily{
				{Name: "one", Type: mtakit.GaugeType, Labels: []string{"z"}, Streamed: true},
				{Name: "three", Type: mtakit.GaugeType, Labels: []string{"z", "y", "x"}, Streamed: true},
			},
			samples: map[string][]mtakit.Sample{"one": {{Labels: labels[:1], Value: 1}}, "three": {{Labels: labels, Value: 3}}},
		}
		var reg metrics.Registry
		if err := reg.Register(col); err != nil {
			t.Fatal(err)
		}
		var doc bytes.Buffer
		if err := reg.WriteText(&doc, ""); err != nil {
			t.Fatal(err)
		}
		families, err := metricstest.Parse(bytes.NewReader(doc.Bytes()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, &doc)
		}
		got := families[len(families)-1].Samples[0]
		for i, name := range []string{"z", "y", "x"} {
			if want := toValid(strings.ReplaceAll(labels[i], `"`, "'")); got.Labels[i] != (metricstest.Label{Name: name, Value: want}) {
				t.Errorf("label %+v, want %q", got.Labels[i], want)
			}
		}
		doc.Reset()
		if err := reg.WriteJSON(&doc); err != nil {
			t.Fatal(err)
		}
		var parsed struct {
			One struct {
				Value struct {
					Z map[string]float64 `json:"z"`
				} `json:"value"`
			} `json:"one"`
			Three struct {
				Value []map[string]any `json:"value"`
			} `json:"three"`
		}
		if err := json.Unmarshal(doc.Bytes(), &parsed); err != nil {
			t.Fatalf("%v in\n%s", err, &doc)
		}
		if parsed.One.Value.Z[toValid(a)] != 1 {
			t.Errorf("one is %v, want %q", parsed.One, a)
		}
		if row := parsed.Three.Value[0]; row["@"] != 3.0 || row["z"] != toValid(a) || row["y"] != toValid(b) || row["x"] != toValid(c) {
			t.Errorf("three is %q", row)
		}
	})
}

// toValid replaces each byte that is not UTF-8.
func toValid(s string) string { return string([]rune(s)) }
