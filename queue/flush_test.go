package queue_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// written is a spool and a recorder that note in which order they are called.
type written struct {
	*mem
	mu     sync.Mutex
	events []string
	fails  atomic.Bool // Flush
	keeps  atomic.Bool // Remove fails
}

func (w *written) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, s)
}

// len is the number of messages in the spool.
func (w *written) len() int {
	w.mem.mu.Lock()
	defer w.mem.mu.Unlock()
	return len(w.m)
}

func (w *written) Record(r *mtakit.Record)    { w.note(string(r.Kind)) }
func (w *written) Pace(context.Context) error { return nil }
func (w *written) Flush(ctx context.Context) error {
	if w.fails.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	w.note("flush")
	return nil
}

func (w *written) Store(ctx context.Context, b []mtakit.Submission, d mtakit.Durability) error {
	w.note("store")
	return w.mem.Store(ctx, b, d)
}

func (w *written) Update(ctx context.Context, m *mtakit.Message) error {
	w.note("update")
	return w.mem.Update(ctx, m)
}

func (w *written) Reschedule(ctx context.Context, id mtakit.ID, due time.Time, tries int) error {
	w.note("reschedule")
	return w.mem.Reschedule(ctx, id, due, tries)
}

func (w *written) Remove(ctx context.Context, id mtakit.ID) error {
	w.note("remove")
	if w.keeps.Load() {
		return mtakit.ErrUnhealthy
	}
	return w.mem.Remove(ctx, id)
}

func (w *written) run(t *testing.T, replies ...int) (q *queue.Queue, stop func()) {
	t.Helper()
	var n atomic.Int32
	return w.runWith(t, &fakeSession{func(*mtakit.Delivery) mtakit.Response {
		return mtakit.Response{Code: replies[min(int(n.Add(1)), len(replies))-1]}
	}}, 32)
}

func (w *written) runWith(t *testing.T, conn mtakit.Session, limit int) (q *queue.Queue, stop func()) {
	t.Helper()
	q, err := queue.New(queue.Config{
		Spool: w, Record: w, GracePeriod: 10 * time.Second, Policy: pathPolicy(func(c *mtakit.PathConfig) { c.ConnectionLimit.N = limit }),
		Router: mtakit.RouterFunc(func(context.Context, string) (*mtakit.Site, error) { return mtakit.ListSite("mx.test") }),
		Egress: mtakit.EgressFunc(func(context.Context, *mtakit.Path) (mtakit.Session, error) { return conn, nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- q.Run(ctx) }()
	return q, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// What the event log tells is written before each step that makes it irreversible.
func TestLogBeforeSpool(t *testing.T) {
	for _, tt := range []struct {
		name    string
		to      []string
		replies []int
		want    []string
	}{
		{"delivered", []string{"a@x.test"}, []int{250}, []string{"store", "Reception", "flush", "acknowledged", "Delivery", "flush", "remove"}},
		{"deferred", []string{"a@x.test"}, []int{451, 250}, []string{"store", "Reception", "flush", "acknowledged", "TransientFailure", "flush", "reschedule",
			"Delivery", "flush", "remove"}},
		{"in part", []string{"a@x.test", "b@x.test"}, []int{250, 451, 250}, []string{"store", "Reception", "flush", "acknowledged", "Delivery", "TransientFailure",
			"flush", "update", "Delivery", "flush", "remove"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &written{mem: &mem{m: map[mtakit.ID]mtakit.Submission{}}}
				q, stop := w.run(t, tt.replies...)
				// A message for later: what follows its acknowledgement comes after it.
				due := time.Now().Add(time.Second)
				if err := q.Submit(t.Context(), []mtakit.Submission{{Message: &mtakit.Message{To: tt.to, Due: due}, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
					t.Fatal(err)
				}
				w.note("acknowledged")
				time.Sleep(2 * time.Hour)
				stop()
				events := slices.DeleteFunc(w.events, func(s string) bool { return s == string(mtakit.Delayed) })
				if !slices.Equal(events, tt.want) {
					t.Errorf("order is\n%v, want\n%v", events, tt.want)
				}
			})
		})
	}
}

// While the log can't be written nothing leaves the spool, and a shutdown ends all the same.
func TestLogNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{mem: &mem{m: map[mtakit.ID]mtakit.Submission{}}}
		q, stop := w.run(t, 250)
		w.fails.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Submit(ctx, []mtakit.Submission{{Message: &mtakit.Message{To: []string{"a@x.test"}}, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		start := time.Now()
		stop()
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("the shutdown took %v", d)
		}
		if w.len() != 1 || slices.Contains(w.events, "remove") {
			t.Errorf("%d messages are in the spool, want 1; %v", w.len(), w.events)
		}
	})
}

// A message whose envelope was announced while the log could be written is not sent once the shutdown has ended: it would be repeated for nothing.
func TestAnnouncedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{mem: &mem{m: map[mtakit.ID]mtakit.Submission{}}}
		var sent atomic.Int32
		q, stop := w.runWith(t, announcing{&sent}, 1)
		w.fails.Store(true)
		var batch []mtakit.Submission
		for range 3 {
			batch = append(batch, mtakit.Submission{Message: &mtakit.Message{To: []string{"a@x.test"}}, Body: mtakit.Bytes("x\r\n")})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Submit(ctx, batch, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stop()
		if n := sent.Load(); n != 1 {
			t.Errorf("%d messages were sent, want the one whose record waits", n)
		}
		if n := w.len(); n != 3 {
			t.Errorf("%d messages are in the spool, want 3", n)
		}
	})
}

// announcing is a session that always asks for the next message, and that looks at no context.
type announcing struct{ sent *atomic.Int32 }

func (a announcing) Send(_ context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	a.sent.Add(1)
	next()
	for _, i := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: i, Response: mtakit.Response{Code: 250}})
	}
	return nil
}
func (announcing) Info() *mtakit.SessionInfo { return &mtakit.SessionInfo{} }
func (announcing) Close() error              { return nil }

// What could not be removed from the spool is removed once that works, without a restart.
func TestRemovedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{mem: &mem{m: map[mtakit.ID]mtakit.Submission{}}}
		w.keeps.Store(true)
		q, stop := w.run(t, 250)
		for range 3 {
			if err := q.Submit(t.Context(), []mtakit.Submission{{Message: &mtakit.Message{To: []string{"a@x.test"}}, Body: mtakit.Bytes("x\r\n")}}, mtakit.Durable); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if n, c := w.len(), q.Census(); n != 3 || c.Err() != nil {
			t.Errorf("%d messages are in the spool, want 3; %v", n, c.Err())
		}
		w.keeps.Store(false)
		time.Sleep(2 * time.Minute)
		if n := w.len(); n != 0 {
			t.Errorf("%d messages are in the spool, want none", n)
		}
		stop()
		if n := len(slices.DeleteFunc(w.events, func(s string) bool { return s != string(mtakit.Delivered) })); n != 3 {
			t.Errorf("%d deliveries, want 3", n)
		}
	})
}
