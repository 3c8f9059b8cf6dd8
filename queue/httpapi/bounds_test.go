package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// Of each kind of rules as many are listed as were asked for, with a hundred names each; how many there are is told.
func TestListedRules(t *testing.T) {
	t.Parallel()
	var q *queue.Queue
	api := fullAPI(t, func(c *httpapi.Config) { q = c.Queue })
	names := make([]string, 152)
	for i := range names {
		names[i] = fmt.Sprintf("d%d.test", i)
	}
	end := time.Now().Add(time.Hour)
	for i := range 3 {
		match := queue.Match{QueueNames: names[i : 150+i]} // a rule for the same queues would take the place of another
		q.AdminBounce(match, "x", end, false)
		q.Suspend(match, "x", end)
		q.SuspendReady(fmt.Sprint("ready", i), "x", end)
	}
	type rule struct {
		Match struct {
			Names []string `json:"queue_names"`
			Total int      `json:"queue_names_total"`
		}
	}
	var got struct {
		Total                int
		Bounces, Suspensions []rule
		Ready                []rule `json:"ready_suspensions"`
	}
	if err := json.Unmarshal([]byte(bodyOf(t, do(api, call{path: "/api/admin/rules/v1?limit=2"}))), &got); err != nil {
		t.Fatal(err)
	}
	if got.Total != 9 || len(got.Bounces) != 2 || len(got.Suspensions) != 2 || len(got.Ready) != 2 {
		t.Errorf("of %d rules there are %d, %d and %d", got.Total, len(got.Bounces), len(got.Suspensions), len(got.Ready))
	}
	for _, r := range append(got.Bounces, got.Suspensions...) {
		if r.Match.Total != 150 || len(r.Match.Names) != 100 {
			t.Errorf("of %d names there are %d", r.Match.Total, len(r.Match.Names))
		}
	}
}

// A list of queues takes memory for what it returns, however many there are.
func TestListAllocations(t *testing.T) {
	for _, query := range []string{"", "&sort=changed", "&search=EXAMPLE"} {
		var took [2]float64
		for i, n := range []int{100, 20_000} {
			api, _ := manyQueues(t, n, nil)
			took[i] = testing.AllocsPerRun(5, func() {
				if r := do(api, call{path: "/api/admin/queues/v1?kind=scheduled&limit=20" + query}); r.StatusCode != 200 {
					t.Fatal(r.StatusCode)
				}
			})
		}
		if took[1] > took[0]+2000 {
			t.Errorf("%q: %.0f allocations for 100 queues, %.0f for 20,000", query, took[0], took[1])
		}
	}
}

// A reason is in each record of what happens for it, so that its length has a limit.
func TestReasonLength(t *testing.T) {
	t.Parallel()
	api := fullAPI(t, nil)
	for n, status := range map[int]int{4096: 200, 4097: 422} {
		r := do(api, call{method: "POST", path: "/api/admin/suspend/v1", header: asJSON, body: `{"reason":"` + strings.Repeat("x", n) + `"}`})
		if r.StatusCode != status {
			t.Errorf("a reason of %d bytes: %d, want %d", n, r.StatusCode, status)
		}
	}
}

// hurried is a ResponseWriter that keeps the deadlines it is given, as what is left of the time.
type hurried struct {
	*httptest.ResponseRecorder
	left []time.Duration // 0 is no deadline
}

func (h *hurried) SetWriteDeadline(t time.Time) error {
	left := time.Duration(0)
	if !t.IsZero() {
		left = time.Until(t).Round(time.Minute)
	}
	h.left = append(h.left, left)
	return nil
}

// A client that does not read its dump is given up, after ten minutes at most; the next answer on the connection has no deadline.
func TestTaskDumpDeadline(t *testing.T) {
	t.Parallel()
	api := fullAPI(t, nil)
	for timeout, want := range map[string]time.Duration{"120": 2 * time.Minute, "4294967295": 10 * time.Minute} {
		w := &hurried{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("GET", "http://127.0.0.1:8000/api/admin/task-dump?timeout="+timeout, http.NoBody)
		r.RemoteAddr = "127.0.0.1:1"
		api.ServeHTTP(w, r)
		if w.Code != 200 || len(w.left) != 2 || w.left[0] != want || w.left[1] != 0 {
			t.Errorf("%s: status %d, deadlines %v, want %v and none", timeout, w.Code, w.left, want)
		}
	}
}

// pipes is a listener for connections of this process.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// post sends a request on a new connection and does not read the answer.
func (p pipes) post(t *testing.T, body string) net.Conn {
	client, server := net.Pipe()
	p <- server
	client.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(client, "POST /api/inject/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	return client
}

// A client that does not read its answer takes no room from others, and is given up. The connection can be used again after one that does.
func TestUnreadAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, _ := newAPI(t, func(c *httpapi.Config) {
			c.MaxInFlight = 1 // a request at a time
			c.Permit = func(context.Context, *httpapi.Access) (httpapi.Permission, error) { return httpapi.Allowed, nil }
		})
		clients := make(pipes)
		srv := &http.Server{Handler: api}
		go srv.Serve(clients)
		defer srv.Close()
		const bad = `{"email":""},`
		request := `{"envelope_sender":"","content":{"text_body":"x"},"recipients":[` + strings.Repeat(bad, 10_000) + `{"email":"a@b.c"}]}`
		stuck := clients.post(t, request)
		synctest.Wait()
		other := clients.post(t, request)
		read := func(r *bufio.Reader) error {
			resp, err := http.ReadResponse(r, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			return err
		}
		in := bufio.NewReader(other)
		if err := read(in); err != nil {
			t.Fatalf("while somebody does not read, others get %v", err)
		}
		time.Sleep(5 * time.Minute)
		stuck.SetDeadline(time.Time{})
		if n, err := stuck.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after five minutes there is still an answer: %d, %v", n, err)
		}
		other.SetDeadline(time.Time{})
		fmt.Fprint(other, "GET /api/check-liveness/v1 HTTP/1.1\r\nHost: x\r\n\r\n")
		if err := read(in); err != nil {
			t.Errorf("the next answer on the same connection: %v", err)
		}
		other.Close()
	})
}

// lender is a spool that counts the bodies that were not given back.
type lender struct {
	mtakit.Spool
	open, opened atomic.Int32
}

func (l *lender) Open(ctx context.Context, id mtakit.ID) (mtakit.Body, error) {
	b, err := l.Spool.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	l.opened.Add(1)
	return &lent{b, l}, nil
}

type lent struct {
	mtakit.Body
	by *lender
}

func (b *lent) Close() error {
	b.by.open.Add(-1)
	return b.Body.Close()
}

// The body of a message that is shown goes back to the spool.
func TestInspectGivesBodiesBack(t *testing.T) {
	t.Parallel()
	spool := &lender{Spool: &spooltest.Memory{}}
	id := (&mtakit.IDSource{}).New(time.Now())
	m := &mtakit.Message{ID: id, Sender: "a@x.test", To: []string{"b@d.test"}, Size: 3}
	if err := spool.Store(t.Context(), []mtakit.Submission{{Message: m, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
		t.Fatal(err)
	}
	q, err := queue.New(queue.Config{Spool: spool, Router: mtakit.RouterFunc(nil), Egress: mtakit.EgressMap{}, MemoryLimit: -1})
	if err != nil {
		t.Fatal(err)
	}
	api, err := httpapi.New(httpapi.Config{Queue: q})
	if err != nil {
		t.Fatal(err)
	}
	r := do(api, call{path: "/api/admin/inspect-message/v1?want_body=true&id=" + id.String()})
	if got := bodyOf(t, r); r.StatusCode != 200 || !strings.Contains(got, `"data":"x\r\n"`) {
		t.Errorf("%d %s", r.StatusCode, got)
	}
	if spool.opened.Load() != 1 || spool.open.Load() != 0 {
		t.Errorf("%d of %d bodies are not closed", spool.open.Load(), spool.opened.Load())
	}
}
