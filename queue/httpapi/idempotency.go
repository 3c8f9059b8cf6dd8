package httpapi

import (
	"context"
	"crypto/sha256"
	"hash"
	"net/http"
	"sync"
	"time"
)

// IdempotencyKey is the header by which a client says that a request is the same as an earlier one: it gets the answer that the earlier one got, and
// nothing is injected twice. Keys are a client's own.
const IdempotencyKey = "Idempotency-Key"

// idempotencyMax is how long a key may be.
const idempotencyMax = 255

// Answer is what a request was answered with.
type Answer struct {
	Request [sha256.Size]byte // of the request's body
	Body    []byte            // JSON, with status 200
	// Done is not zero as long as the request is being worked on: with how many recipients it is through, and Body tells of these.
	Done int
}

// Answers keeps answers for a while, at least for as long as clients go on trying, a day for example. It is called concurrently, but for one key by
// one goroutine at a time.
//
// An answer is kept before it is given, and that of a long request also on the way there, so that a repeat goes on where the process has died. What was
// accepted since the last time, 4,096 recipients at most, is accepted again.
type Answers interface {
	// Answer returns what was kept for the key, or nil. The key is a hash of the client's name and its key.
	Answer(ctx context.Context, key [sha256.Size]byte) (*Answer, error)
	// Keep keeps an answer, which nobody changes any more, in place of one that was kept for the key before.
	Keep(ctx context.Context, key [sha256.Size]byte, a *Answer) error
}

const (
	answersMax  = 10_000
	answersSize = 32 << 20
	answersKept = 24 * time.Hour
)

// MemoryAnswers keeps the last answers in memory: of a day, at most 10,000 and 32 MiB. The zero value is ready; it must not be copied. It forgets with the
// process.
type MemoryAnswers struct {
	// Now is its clock; nil is time.Now.
	Now func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]*Answer
	order []keptAnswer // oldest first
	size  int
}

type keptAnswer struct {
	key    [sha256.Size]byte
	answer *Answer
	at     time.Time
}

func (m *MemoryAnswers) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// Answer implements [Answers].
func (m *MemoryAnswers) Answer(_ context.Context, key [sha256.Size]byte) (*Answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(m.now().Add(-answersKept))
	return m.known[key], nil
}

// Keep implements [Answers].
func (m *MemoryAnswers) Keep(_ context.Context, key [sha256.Size]byte, a *Answer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = make(map[[sha256.Size]byte]*Answer)
	}
	now := m.now()
	m.known[key] = a
	m.order = append(m.order, keptAnswer{key, a, now})
	m.size += len(a.Body)
	m.forget(now.Add(-answersKept))
	return nil
}

// forget drops what is older, and the oldest if there are too many.
func (m *MemoryAnswers) forget(before time.Time) {
	n := 0
	for n < len(m.order) && (m.order[n].at.Before(before) || len(m.order)-n > answersMax || m.size > answersSize && n < len(m.order)-1) {
		k := m.order[n]
		m.size -= len(k.answer.Body)
		if m.known[k.key] == k.answer { // and not a later one
			delete(m.known, k.key)
		}
		n++
	}
	m.order = m.order[n:]
}

// pending is the requests with a key that are being worked on.
type pending struct {
	mu   sync.Mutex
	keys map[[sha256.Size]byte]chan struct{}
}

// enter waits until nobody works on the key. The caller calls leave.
func (p *pending) enter(ctx context.Context, key [sha256.Size]byte) (leave func(), err error) {
	for {
		p.mu.Lock()
		busy, ok := p.keys[key]
		if !ok {
			done := make(chan struct{})
			if p.keys == nil {
				p.keys = make(map[[sha256.Size]byte]chan struct{})
			}
			p.keys[key] = done
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				delete(p.keys, key)
				p.mu.Unlock()
				close(done)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// repeatable is a request with a key.
type repeatable struct {
	key  [sha256.Size]byte
	body hash.Hash
}

// repeatable returns nil for a request without a key; false is a key that is none, which has been answered.
func (a *API) repeatable(w http.ResponseWriter, r *http.Request) (*repeatable, bool) {
	keys := r.Header.Values(IdempotencyKey)
	if len(keys) == 0 {
		return nil, true
	}
	ok := len(keys) == 1 && keys[0] != "" && len(keys[0]) <= idempotencyMax
	for i := 0; ok && i < len(keys[0]); i++ {
		ok = keys[0][i] >= ' ' && keys[0][i] < 0x7f
	}
	if !ok {
		problem(w, http.StatusBadRequest, "%s is one value of 1 to %d printable ASCII characters", IdempotencyKey, idempotencyMax)
		return nil, false
	}
	h := sha256.New()
	for _, s := range [...]string{callerOf(r).auth.Summary(), r.URL.Path, keys[0]} {
		h.Write([]byte(s + "\x00"))
	}
	k := &repeatable{body: sha256.New()}
	h.Sum(k.key[:0])
	return k, true
}

// progress is how far an earlier attempt at a request has got, and how to keep how far this one has. The zero value is a request without a key.
type progress struct {
	known *Answer // nil: it begins
	keep  func(done int, body []byte)
}

// once answers with what was answered before, or else with what work answers, and keeps that if it was a success.
func (a *API) once(ctx context.Context, k *repeatable, work func(context.Context, progress) reply) reply {
	leave, err := a.pending.enter(ctx, k.key)
	if err != nil {
		return interrupted
	}
	defer leave()
	var sum [sha256.Size]byte
	k.body.Sum(sum[:0])
	known, err := a.cfg.Answers.Answer(ctx, k.key)
	switch {
	case err != nil:
		a.cfg.Log.Error("kept answers can't be read", "err", err)
		return reply{status: http.StatusInternalServerError, text: "Error: try again later"}
	case known != nil && known.Request != sum:
		return reply{status: http.StatusUnprocessableEntity, text: "Error: " + IdempotencyKey + " was used with another request before"}
	case known != nil && known.Done == 0:
		return reply{status: http.StatusOK, json: known.Body}
	}
	// A client that has gone comes back for the answer, so that the work is done to its end.
	ctx = context.WithoutCancel(ctx)
	keep := func(done int, body []byte) {
		if err := a.cfg.Answers.Keep(ctx, k.key, &Answer{Request: sum, Body: body, Done: done}); err != nil {
			a.cfg.Log.Error("answer can't be kept; a repeat of the request will be a new one", "err", err)
		}
	}
	answer := work(ctx, progress{known, keep})
	if answer.status == http.StatusOK {
		keep(0, answer.json)
	}
	return answer
}
