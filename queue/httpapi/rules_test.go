package httpapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// There are bounds to the number of rules of each kind; one that is cancelled makes room.
func TestTooManyRules(t *testing.T) {
	t.Parallel()
	q, err := queue.New(queue.Config{Spool: &spooltest.Memory{}, Router: mtakit.RouterFunc(nil), Egress: mtakit.EgressMap{}, MemoryLimit: -1})
	if err != nil {
		t.Fatal(err)
	}
	api, err := httpapi.New(httpapi.Config{Queue: q})
	if err != nil {
		t.Fatal(err)
	}
	const most = 10_000
	end := time.Now().Add(time.Hour)
	for i := range most - 1 {
		name := fmt.Sprint("q", i)
		q.Suspend(queue.Match{Domain: &name}, "x", end)
		q.SuspendReady(name, "x", end)
	}
	for _, c := range []struct {
		path, body string
		cancel     func()
	}{
		{"/api/admin/suspend/v1", `{"reason":"x","domain":"%s"}`, func() { q.CancelSuspension(q.Suspensions()[0].ID) }},
		{"/api/admin/suspend-ready-q/v1", `{"reason":"x","name":"%s"}`, func() { q.CancelReadySuspension(q.ReadySuspensions()[0].ID) }},
	} {
		for i, want := range []int{200, 503, 200, 503} {
			if i == 2 {
				c.cancel()
			}
			r := do(api, call{method: "POST", path: c.path, header: asJSON, body: fmt.Sprintf(c.body, fmt.Sprint("new", i))})
			if got := bodyOf(t, r); r.StatusCode != want || want == 503 && !strings.HasPrefix(got, "Error: there are 10000 rules already") {
				t.Errorf("%s: %d %s, want %d", c.path, r.StatusCode, got, want)
			}
		}
	}
	r := do(api, call{path: "/api/admin/suspend/v1"})
	if got := bodyOf(t, r); strings.Count(got, `"id"`) != most {
		t.Errorf("%d are listed", strings.Count(got, `"id"`))
	}
}
