package metricstest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mtakit/mtakit/metrics/metricstest"
)

func Example() {
	families, err := metricstest.Parse(strings.NewReader("# HELP ready_count messages in ready queue\n# TYPE ready_count gauge\nready_count{service=\"smtp_client\"} 3\n"))
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		fmt.Println(f.Name, f.Type, f.Samples[0].Get("service"), f.Samples[0].Value)
	}
	// Output: ready_count gauge smtp_client 3
}

const histogram = "# HELP h x\n# TYPE h histogram\n"

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, doc, err string }{
		{"nothing", "", ""},
		{"no samples", "# HELP a b\n# TYPE a gauge\n", ""},
		{"no help text", "# HELP a \n# TYPE a gauge\na 1\n", ""},
		{"escapes", "# HELP a b\n# TYPE a gauge\na{b=\"\\\\\\\"\\n\", c=\"é\"} -1.5e3\n", ""},
		{"histogram", histogram + "h_bucket{a=\"b\",le=\"0.5\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 2\nh_sum{a=\"b\"} 7\nh_count{a=\"b\"} 2\n", ""},
		{"no end", "# HELP a b\n# TYPE a gauge\na 1", "EOF"},
		{"no help", "# TYPE a gauge\na 1\n", "TYPE does not follow"},
		{"no type", "# HELP a b\na 1\n", "before its TYPE"},
		{"no type at the end", "# HELP a b\n", "has no TYPE"},
		{"summary", "# HELP a b\n# TYPE a summary\n", "a type that"},
		{"twice", "# HELP a b\n# TYPE a gauge\n# HELP a b\n", "comes twice"},
		{"another family's", "# HELP a b\n# TYPE a gauge\nb 1\n", "not a sample"},
		{"suffix", "# HELP a b\n# TYPE a gauge\na_sum 1\n", "not a sample"},
		{"timestamp", "# HELP a b\n# TYPE a gauge\na 1 2\n", "no value"},
		{"series twice", "# HELP a b\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"1\"} 2\n", "comes twice"},
		{"other labels", "# HELP a b\n# TYPE a gauge\na{x=\"1\"} 1\na{y=\"1\"} 2\n", "labels are not"},
		{"label twice", "# HELP a b\n# TYPE a gauge\na{x=\"1\",x=\"2\"} 1\n", "label x comes twice"},
		{"bare quotation mark", "# HELP a b\n# TYPE a gauge\na{x=\"1\"2\"} 1\n", "no comma"},
		{"negative count", "# HELP a b\n# TYPE a counter\na -1\n", "negative"},
		{"not a number", "# HELP a b\n# TYPE a counter\na NaN\n", "negative"},
		{"not UTF-8", "# HELP a \xff\n", "UTF-8"},
		{"buckets descend", histogram + "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n", "does not ascend"},
		{"bounds descend", histogram + "h_bucket{le=\"1\"} 2\nh_bucket{le=\"0.5\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n", "does not ascend"},
		{"no last bucket", histogram + "h_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n", "the last bucket"},
		{"other count", histogram + "h_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 3\n", "the last bucket"},
		{"no sum", histogram + "h_bucket{le=\"+Inf\"} 2\nh_count 2\n", "not buckets"},
		{"in pieces", histogram + "h_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count{a=\"b\"} 2\n", "other labels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := metricstest.Parse(strings.NewReader(c.doc))
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestUnescapes(t *testing.T) {
	t.Parallel()
	f, err := metricstest.Parse(strings.NewReader("# HELP a \\\\n\\n\n# TYPE a gauge\na{b=\"\\\\n\\\"\\n\"} 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if f[0].Help != "\\n\n" || f[0].Samples[0].Get("b") != "\\n\"\n" || f[0].Samples[0].Get("c") != "" {
		t.Errorf("%+v", f)
	}
}
