package queue_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

type fakeSession struct {
	reply func(*mtakit.Delivery) mtakit.Response
}

func (f *fakeSession) Send(ctx context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	for _, n := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: n, Response: f.reply(d)})
	}
	return nil
}
func (f *fakeSession) Info() *mtakit.SessionInfo { return &mtakit.SessionInfo{} }
func (f *fakeSession) Close() error              { return nil }

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		q, err := queue.New(queue.Config{
			Spool:  &mem{m: map[mtakit.ID]mtakit.Submission{}},
			Router: mtakit.RouterFunc(func(context.Context, string) (*mtakit.Site, error) { return mtakit.ListSite("mx.test") }),
			Egress: mtakit.EgressFunc(func(context.Context, *mtakit.Path) (mtakit.Session, error) {
				return &fakeSession{func(*mtakit.Delivery) mtakit.Response {
					if n++; n < 4 {
						return mtakit.Response{Code: 451, Text: "later"}
					}
					return mtakit.Response{Code: 250}
				}}, nil
			}),
			Record: mtakit.RecorderFunc(func(r *mtakit.Record) { t.Log(time.Since(r.Created), string(r.AppendJSON(nil))) }),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.Run(ctx) }()
		if err := q.Submit(ctx, []mtakit.Submission{{Message: &mtakit.Message{Sender: "a@b.test", To: []string{"c@d.test"}}, Body: mtakit.Bytes("x: y\r\n\r\nz\r\n")}}, mtakit.Durable); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Hour)
		c := q.Census()
		t.Logf("%+v %v", c, c.Err())
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

type mem struct {
	mu sync.Mutex
	m  map[mtakit.ID]mtakit.Submission
}

func (s *mem) Store(_ context.Context, b []mtakit.Submission, d mtakit.Durability) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range b {
		c := *x.Message
		s.m[c.ID] = mtakit.Submission{Message: &c, Body: x.Body}
	}
	return nil
}
func (s *mem) Load(_ context.Context, id mtakit.ID) (*mtakit.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.m[id]
	if !ok {
		return nil, mtakit.ErrNotFound
	}
	c := *x.Message
	return &c, nil
}
func (s *mem) Open(_ context.Context, id mtakit.ID) (mtakit.Body, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.m[id]
	if !ok {
		return nil, mtakit.ErrNotFound
	}
	return x.Body, nil
}
func (s *mem) Update(_ context.Context, m *mtakit.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *m
	s.m[m.ID] = mtakit.Submission{Message: &c, Body: s.m[m.ID].Body}
	return nil
}
func (s *mem) Reschedule(_ context.Context, id mtakit.ID, due time.Time, tries int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[id].Message.Due, s.m[id].Message.Tries = due, tries
	return nil
}
func (s *mem) Remove(_ context.Context, id mtakit.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, id)
	return nil
}
func (s *mem) Scan(context.Context, mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {}
}
