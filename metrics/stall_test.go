package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mtakit/mtakit/metrics"
)

// deadlines is a ResponseWriter that keeps the deadlines it is given.
type deadlines struct {
	*httptest.ResponseRecorder
	set    []time.Time
	writes int
	after  []int // how many writes there were before each
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set, d.after = append(d.set, t), append(d.after, d.writes)
	return nil
}

func (d *deadlines) Write(b []byte) (int, error) {
	d.writes++
	return d.ResponseRecorder.Write(b)
}

// No chunk is written without a deadline that lies ahead, and none is left for the next answer.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	var reg metrics.Registry
	if err := reg.Register(&queues{n: 100_000}); err != nil {
		t.Fatal(err)
	}
	for _, encoding := range []string{"", "gzip", "deflate"} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		req.Header.Set("Accept-Encoding", encoding)
		begun := time.Now()
		reg.Text().ServeHTTP(w, req)
		last := len(w.set) - 1
		if last < 100 || w.after[0] != 0 {
			t.Fatalf("%q: %d deadlines for %d writes, the first after %d", encoding, len(w.set), w.writes, w.after[0])
		}
		for _, d := range w.set[:last] {
			if d.Before(begun) {
				t.Errorf("%q: a deadline of %v", encoding, d)
			}
		}
		if !w.set[last].IsZero() || w.after[last] != w.writes {
			t.Errorf("%q: the last deadline is %v, after %d of %d writes", encoding, w.set[last], w.after[last], w.writes)
		}
	}
}
