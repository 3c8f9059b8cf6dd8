// Package spooltest helps to test what uses a spool, and spools: [Memory] is a [mtakit.Spool] without a disk, [TestSpool] checks
// an implementation against the contract sentence by sentence, and [Disk] is a disk for spool.Options.FS that crashes, fills up
// and fails on purpose.
package spooltest

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool/internal/envelope"
)

// Memory is a Spool in memory, for tests. The zero value is empty and ready. It is safe for concurrent use and starts no
// goroutine; what it returns shares nothing with what was stored.
type Memory struct {
	// Before, if set, is asked before each operation, with the name of the method and the (first) message concerned; an
	// error becomes that of the method, and nothing is changed. Set it before use.
	Before func(method string, id mtakit.ID) error

	mu     sync.Mutex
	m      map[mtakit.ID]*stored
	closed bool
}

type stored struct {
	envelope []byte
	body     []byte
	due      time.Time
	tries    int
}

var _ mtakit.Spool = (*Memory)(nil)

// begin takes the lock if the operation may be.
func (s *Memory) begin(ctx context.Context, method string, id mtakit.ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Before != nil {
		if err := s.Before(method, id); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return mtakit.ErrClosed
	}
	return nil
}

// find is begin for a method that needs the message.
func (s *Memory) find(ctx context.Context, method string, id mtakit.ID) (*stored, error) {
	if err := s.begin(ctx, method, id); err != nil {
		return nil, err
	}
	if e := s.m[id]; e != nil {
		return e, nil
	}
	s.mu.Unlock()
	return nil, mtakit.ErrNotFound
}

// Store implements [mtakit.Spool].
func (s *Memory) Store(ctx context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
	var list []*stored
	for _, sub := range batch {
		env, err := envelope.Append(nil, sub.Message)
		if err != nil {
			return err
		}
		e := &stored{envelope: env, body: make([]byte, sub.Body.Size()), due: sub.Message.Due, tries: sub.Message.Tries}
		if n, err := sub.Body.ReadAt(e.body, 0); n < len(e.body) {
			return err
		}
		list = append(list, e)
	}
	if len(batch) == 0 {
		return ctx.Err()
	}
	if err := s.begin(ctx, "Store", batch[0].Message.ID); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[mtakit.ID]*stored{}
	}
	for i, sub := range batch {
		s.m[sub.Message.ID] = list[i]
	}
	return nil
}

// Load implements [mtakit.Spool].
func (s *Memory) Load(ctx context.Context, id mtakit.ID) (*mtakit.Message, error) {
	e, err := s.find(ctx, "Load", id)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	m := &mtakit.Message{ID: id, Size: int64(len(e.body)), Due: e.due, Tries: e.tries}
	return m, envelope.Parse(e.envelope, m)
}

// Open implements [mtakit.Spool].
func (s *Memory) Open(ctx context.Context, id mtakit.ID) (mtakit.Body, error) {
	e, err := s.find(ctx, "Open", id)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return mtakit.Bytes(slices.Clone(e.body)), nil
}

// Update implements [mtakit.Spool].
func (s *Memory) Update(ctx context.Context, m *mtakit.Message) error {
	env, err := envelope.Append(nil, m)
	if err != nil {
		return err
	}
	e, err := s.find(ctx, "Update", m.ID)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	e.envelope, e.due, e.tries = env, m.Due, m.Tries
	return nil
}

// Reschedule implements [mtakit.Spool].
func (s *Memory) Reschedule(ctx context.Context, id mtakit.ID, due time.Time, tries int) error {
	e, err := s.find(ctx, "Reschedule", id)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	e.due, e.tries = due.Truncate(time.Second), tries
	return nil
}

// Remove implements [mtakit.Spool].
func (s *Memory) Remove(ctx context.Context, id mtakit.ID) error {
	if _, err := s.find(ctx, "Remove", id); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.m, id)
	return nil
}

// Scan implements [mtakit.Spool]; it yields in the order of ids.
func (s *Memory) Scan(ctx context.Context, before mtakit.ID) iter.Seq2[mtakit.Entry, error] {
	return func(yield func(mtakit.Entry, error) bool) {
		if err := s.begin(ctx, "Scan", before); err != nil {
			yield(mtakit.Entry{}, err)
			return
		}
		var list []mtakit.ID
		for id := range s.m {
			if id.Compare(before) < 0 {
				list = append(list, id)
			}
		}
		s.mu.Unlock()
		slices.SortFunc(list, mtakit.ID.Compare)
		names := map[mtakit.QueueName]mtakit.QueueName{}
		for _, id := range list {
			if err := ctx.Err(); err != nil {
				yield(mtakit.Entry{}, err)
				return
			}
			e, ok, err := s.entry(id, names)
			if (ok || err != nil) && !yield(e, err) {
				return
			}
		}
	}
}

func (s *Memory) entry(id mtakit.ID, names map[mtakit.QueueName]mtakit.QueueName) (mtakit.Entry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[id]
	if e == nil {
		return mtakit.Entry{}, false, nil
	}
	b, err := envelope.CutQueue(e.envelope)
	if err != nil {
		return mtakit.Entry{}, false, err
	}
	q, err := envelope.ParseQueue(b)
	if shared, ok := names[q]; ok {
		q = shared
	} else {
		names[q] = q
	}
	return mtakit.Entry{ID: id, Queue: q, Due: e.due, Tries: e.tries}, err == nil, err
}

// Len is the number of messages.
func (s *Memory) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m)
}

// Err is nil until Close.
func (s *Memory) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return mtakit.ErrClosed
	}
	return nil
}

// Close makes every further call answer ErrClosed.
func (s *Memory) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return mtakit.ErrClosed
	}
	s.closed = true
	return nil
}
