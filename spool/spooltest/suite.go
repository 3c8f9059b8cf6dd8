package spooltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/mtakit/mtakit"
)

// TestSpool checks a Spool against the contract of [mtakit.Spool]. open returns an empty one each time it is called; those
// that are an [io.Closer] are closed. A failure begins with the sentence of the contract that does not hold.
func TestSpool(t *testing.T, open func() mtakit.Spool) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			s := open()
			k := &checker{T: t, s: s, sentence: c.sentence, ctx: t.Context()}
			defer func() {
				if cl, ok := s.(io.Closer); ok && !k.closed {
					k.ok(cl.Close(), "Close")
				}
			}()
			c.run(k)
		})
	}
}

// checker is one check on one spool.
type checker struct {
	*testing.T
	s        mtakit.Spool
	sentence string
	ctx      context.Context
	ids      mtakit.IDSource
	closed   bool
}

func (k *checker) failf(format string, args ...any) {
	k.Helper()
	k.Errorf("broken: %q\n%s", k.sentence, fmt.Sprintf(format, args...))
}

func (k *checker) ok(err error, what string) {
	k.Helper()
	if err != nil {
		k.Fatalf("broken: %q\n%s: %v", k.sentence, what, err)
	}
}

func (k *checker) is(err, want error, what string) {
	k.Helper()
	if !errors.Is(err, want) {
		k.failf("%s: error is %v, want one that wraps %v", what, err, want)
	}
}

// base is the time of the messages here, with a fraction of a second.
var base = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func (k *checker) message() *mtakit.Message {
	return &mtakit.Message{
		ID: k.ids.New(base), Sender: "from@example.com", To: []string{"a@example.org", "b@example.org"},
		Meta: map[string]any{
			"string": "value", "number": 1.5, "serial": int64(1234567890123456789), "true": true, "false": false, "null": nil, "": "empty key",
			"list": []any{"x", 1.0, nil}, "object": map[string]any{"k": "v", "hash": uint64(math.MaxUint64)}, mtakit.MetaTLSPeerSubject: []string{"CN=a", "O=b"},
		},
		Queue:    mtakit.QueueName{Campaign: "c", Tenant: "t", Domain: "example.org", Routing: "relay.example"},
		Due:      base.Add(time.Hour),
		Tries:    3,
		Schedule: &mtakit.Schedule{First: base.Truncate(time.Second), Expires: base.Add(48 * time.Hour).Truncate(time.Second)},
	}
}

func (k *checker) store(d mtakit.Durability, bodies ...mtakit.Body) (list []*mtakit.Message) {
	k.Helper()
	var batch []mtakit.Submission
	for _, b := range bodies {
		m := k.message()
		m.Size = b.Size()
		list = append(list, m)
		batch = append(batch, mtakit.Submission{Message: m, Body: b})
	}
	k.ok(k.s.Store(k.ctx, batch, d), "Store")
	return list
}

func (k *checker) one() *mtakit.Message {
	k.Helper()
	return k.store(mtakit.Durable, mtakit.Bytes("body\r\n"))[0]
}

// same compares a message with what Load gives.
func (k *checker) same(want *mtakit.Message) {
	k.Helper()
	got, err := k.s.Load(k.ctx, want.ID)
	k.ok(err, "Load")
	if !got.Due.Equal(want.Due) {
		k.failf("due %v, want %v", got.Due, want.Due)
	}
	c := *got
	c.Due = want.Due
	if !reflect.DeepEqual(&c, want) {
		k.failf("loaded %+v\nwant   %+v", got, want)
	}
}

func (k *checker) body(id mtakit.ID) []byte {
	k.Helper()
	b, err := k.s.Open(k.ctx, id)
	k.ok(err, "Open")
	defer b.Close()
	got := make([]byte, b.Size())
	if n, err := b.ReadAt(got, 0); n < len(got) {
		k.ok(err, "ReadAt")
	}
	return got
}

func (k *checker) absent(id mtakit.ID) {
	k.Helper()
	_, err := k.s.Load(k.ctx, id)
	k.is(err, mtakit.ErrNotFound, "Load")
	_, err = k.s.Open(k.ctx, id)
	k.is(err, mtakit.ErrNotFound, "Open")
	k.is(k.s.Update(k.ctx, &mtakit.Message{ID: id, To: []string{"x@y"}}), mtakit.ErrNotFound, "Update")
	k.is(k.s.Reschedule(k.ctx, id, base, 1), mtakit.ErrNotFound, "Reschedule")
	k.is(k.s.Remove(k.ctx, id), mtakit.ErrNotFound, "Remove")
}

func (k *checker) scan(before mtakit.ID) map[mtakit.ID]mtakit.Entry {
	k.Helper()
	m := map[mtakit.ID]mtakit.Entry{}
	for e, err := range k.s.Scan(k.ctx, before) {
		k.ok(err, "Scan")
		if _, ok := m[e.ID]; ok {
			k.failf("message %s was yielded twice", e.ID)
		}
		m[e.ID] = e
	}
	return m
}

// last is above every id.
var last = mtakit.ID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// opaque hides that a body is in memory.
type opaque struct{ b mtakit.Bytes }

func (o opaque) ReadAt(p []byte, off int64) (int, error) { return o.b.ReadAt(p, off) }
func (o opaque) Size() int64                             { return o.b.Size() }
func (o opaque) Close() error                            { return errors.New("closed by the spool") }

// pieces is a body of several chunks.
type pieces struct {
	mtakit.Bytes
	n int
}

func (p pieces) Chunks(dst [][]byte) [][]byte {
	for b := p.Bytes; len(b) > 0; {
		n := min(p.n, len(b))
		dst, b = append(dst, b[:n]), b[n:]
	}
	return dst
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13)
	}
	return b
}

var checks = []struct {
	name, sentence string
	run            func(*checker)
}{
	{"store and load", "Load returns a new Message, with Due and Tries as last stored", func(k *checker) {
		m := k.one()
		k.same(m)
		a, err := k.s.Load(k.ctx, m.ID)
		k.ok(err, "Load")
		a.Sender, a.Meta["string"], a.To[0] = "changed", "changed", "changed"
		k.same(m)
	}},
	{"keeps nothing", "Store keeps neither messages nor bodies and closes no body", func(k *checker) {
		m, b := k.message(), pattern(100)
		m.Size = 100
		k.ok(k.s.Store(k.ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes(b)}}, mtakit.Buffered), "Store")
		stored := *m
		stored.Meta = map[string]any{}
		for key, v := range m.Meta {
			stored.Meta[key] = v
		}
		stored.To = append([]string(nil), m.To...)
		m.Meta["string"], m.To[0], m.Sender = "changed", "changed", "changed"
		clear(b)
		k.same(&stored)
		if !bytes.Equal(k.body(m.ID), pattern(100)) {
			k.failf("the body changed with the caller's bytes")
		}
	}},
	{"minimal message", "Store adds the messages of batch", func(k *checker) {
		m := &mtakit.Message{ID: k.ids.New(base), To: []string{"x@example.org"}}
		k.ok(k.s.Store(k.ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes(nil)}}, mtakit.Durable), "Store")
		k.same(m)
		if n := len(k.body(m.ID)); n != 0 {
			k.failf("an empty body has %d bytes", n)
		}
	}},
	{"bodies", "Store adds the messages of batch with their bodies", func(k *checker) {
		for _, n := range []int{0, 1, 7, 8, 9, 4095, 4096, 4097, 70_000, 256 << 10, 256<<10 + 1, 3 << 20} {
			want := pattern(n)
			for i, b := range []mtakit.Body{mtakit.Bytes(want), opaque{want}, pieces{want, 1000}} {
				m := k.store(mtakit.Buffered, b)[0]
				if got := k.body(m.ID); !bytes.Equal(got, want) {
					k.failf("body of %d bytes, form %d: read %d bytes that differ", n, i, len(got))
				}
			}
		}
	}},
	{"batch", "Store adds the messages of batch with their bodies, all or none", func(k *checker) {
		list := k.store(mtakit.Durable, mtakit.Bytes("one"), opaque{mtakit.Bytes("two")}, mtakit.Bytes(nil), pieces{pattern(5000), 999})
		for i, want := range []string{"one", "two", "", string(pattern(5000))} {
			k.same(list[i])
			if got := string(k.body(list[i].ID)); got != want {
				k.failf("body %d of the batch has %d bytes, want %d", i, len(got), len(want))
			}
		}
	}},
	{"failing batch", "after any error except an ErrUnhealthy one nothing of the batch is there", func(k *checker) {
		good, bad := k.message(), k.message()
		bad.Meta = map[string]any{"func": func() {}}
		err := k.s.Store(k.ctx, []mtakit.Submission{{Message: good, Body: mtakit.Bytes("x")}, {Message: bad, Body: mtakit.Bytes("y")}}, mtakit.Durable)
		if err == nil {
			k.failf("metadata without a JSON form was stored")
		}
		k.absent(good.ID)
		k.absent(bad.ID)
	}},
	{"empty batch", "Store adds the messages of batch, all or none", func(k *checker) {
		k.ok(k.s.Store(k.ctx, nil, mtakit.Durable), "Store of nothing")
	}},
	{"not found", "ErrNotFound if there is none", func(k *checker) {
		k.absent(k.ids.New(base))
		k.absent(mtakit.ID{})
	}},
	{"body is random access", "ReadAt may be called concurrently", func(k *checker) {
		want := pattern(600_000)
		m := k.store(mtakit.Durable, mtakit.Bytes(want))[0]
		b, err := k.s.Open(k.ctx, m.ID)
		k.ok(err, "Open")
		defer b.Close()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				p := make([]byte, 1000)
				for off := i * 1000; off+len(p) <= len(want); off += 50_000 {
					if n, err := b.ReadAt(p, int64(off)); n != len(p) || !bytes.Equal(p, want[off:off+n]) {
						k.failf("ReadAt at %d: %d bytes, %v", off, n, err)
					}
				}
			})
		}
		wg.Wait()
		p := make([]byte, 10)
		if n, err := b.ReadAt(p, int64(len(want)-4)); n != 4 || err != io.EOF {
			k.failf("ReadAt over the end gives %d, %v; want 4, EOF", n, err)
		}
		if n, err := b.ReadAt(p, int64(len(want))); n != 0 || err != io.EOF {
			k.failf("ReadAt at the end gives %d, %v; want 0, EOF", n, err)
		}
	}},
	{"update", "Update replaces envelope, metadata, due time and tries; the body stays", func(k *checker) {
		m := k.one()
		for i := range 3 {
			m.Sender, m.To, m.Meta = fmt.Sprint("new", i, "@example.com"), []string{"c@example.net"}, map[string]any{"n": float64(i)}
			m.Queue, m.Due, m.Tries, m.Schedule = mtakit.QueueName{Domain: "example.net"}, base.Add(time.Duration(i)*time.Minute), 7+i, nil
			k.ok(k.s.Update(k.ctx, m), "Update")
			k.same(m)
			if got := string(k.body(m.ID)); got != "body\r\n" {
				k.failf("the body is %q", got)
			}
		}
		if e := k.scan(last)[m.ID]; e.Queue != m.Queue || e.Tries != m.Tries {
			k.failf("Scan yields %+v", e)
		}
		k.ok(k.s.Remove(k.ctx, m.ID), "Remove")
		k.absent(m.ID)
	}},
	{"reschedule", "Reschedule replaces due time (to the second) and tries only", func(k *checker) {
		m := k.one()
		m.Due, m.Tries = base.Add(5*time.Hour).Truncate(time.Second), 4
		k.ok(k.s.Reschedule(k.ctx, m.ID, m.Due, m.Tries), "Reschedule")
		k.same(m)
		m.Sender = "x@example.com"
		k.ok(k.s.Update(k.ctx, m), "Update")
		m.Due, m.Tries = m.Due.Add(time.Hour), 5
		k.ok(k.s.Reschedule(k.ctx, m.ID, m.Due, m.Tries), "Reschedule")
		k.same(m)
		if e := k.scan(last)[m.ID]; !e.Due.Equal(m.Due) || e.Tries != 5 {
			k.failf("Scan yields %+v", e)
		}
	}},
	{"remove", "Remove forgets the message; an open Body stays readable", func(k *checker) {
		for _, n := range []int{100, 1 << 20} {
			m := k.store(mtakit.Durable, mtakit.Bytes(pattern(n)))[0]
			b, err := k.s.Open(k.ctx, m.ID)
			k.ok(err, "Open")
			k.ok(k.s.Remove(k.ctx, m.ID), "Remove")
			k.absent(m.ID)
			got := make([]byte, n)
			if m, err := b.ReadAt(got, 0); m < n || !bytes.Equal(got, pattern(n)) {
				k.failf("a body opened before gives %d of %d bytes, %v", m, n, err)
			}
			k.ok(b.Close(), "Close of the body")
		}
	}},
	{"scan", "Scan yields the stored messages with an ID below before", func(k *checker) {
		var list []*mtakit.Message
		for range 50 {
			list = append(list, k.one())
		}
		k.ok(k.s.Remove(k.ctx, list[10].ID), "Remove")
		got := k.scan(list[40].ID)
		for i, m := range list {
			e, ok := got[m.ID]
			if want := i < 40 && i != 10; ok != want {
				k.failf("message %d of 50, cut at 40, 10 removed: yielded %v, want %v", i, ok, want)
			} else if ok && (e.Queue != m.Queue || e.Tries != m.Tries || !e.Due.Truncate(time.Second).Equal(m.Due.Truncate(time.Second))) {
				k.failf("message %d: yielded %+v, stored %+v", i, e, m)
			}
		}
		if len(got) != 39 {
			k.failf("yielded %d messages, want 39", len(got))
		}
		for range k.s.Scan(k.ctx, last) {
			break // may stop at any time
		}
	}},
	{"scan shares names", "strings shared by all entries of the queue", func(k *checker) {
		for range 3 {
			k.one()
		}
		p := map[*byte]bool{}
		for _, e := range k.scan(last) {
			p[unsafe.StringData(e.Queue.Domain)] = true
		}
		if len(p) != 1 {
			k.failf("3 entries of one queue have %d copies of its domain", len(p))
		}
	}},
	{"scan while busy", "Scan yields the stored messages, while other calls go on", func(k *checker) {
		for range 100 {
			k.one()
		}
		n := 0
		for e, err := range k.s.Scan(k.ctx, last) {
			k.ok(err, "Scan")
			if n++; n <= 100 {
				k.one()
				k.ok(k.s.Reschedule(k.ctx, e.ID, base, 9), "Reschedule")
				k.ok(k.s.Remove(k.ctx, e.ID), "Remove")
			}
		}
		if n < 100 {
			k.failf("yielded %d of 100 messages that each were there when it came to them", n)
		}
	}},
	{"concurrent", "All methods may be called concurrently", func(k *checker) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				var src mtakit.IDSource
				for i := range 30 {
					m := k.message()
					m.ID = src.New(base.Add(time.Duration(w) * time.Second))
					body := mtakit.Bytes(pattern(100*w + i))
					m.Size = body.Size()
					if err := k.s.Store(k.ctx, []mtakit.Submission{{Message: m, Body: body}}, mtakit.Durability(i%3)); err != nil {
						k.failf("Store: %v", err)
						return
					}
					if i%3 == 0 {
						m.Tries, m.Due = i, base.Truncate(time.Second)
						if err := k.s.Reschedule(k.ctx, m.ID, m.Due, i); err != nil {
							k.failf("Reschedule: %v", err)
						}
					}
					if i%4 == 0 {
						m.Sender = "updated@example.com"
						if err := k.s.Update(k.ctx, m); err != nil {
							k.failf("Update: %v", err)
						}
					}
					if got, err := k.s.Load(k.ctx, m.ID); err != nil || got.Sender != m.Sender || got.Tries != m.Tries {
						k.failf("Load: %+v, %v", got, err)
					}
					if b, err := k.s.Open(k.ctx, m.ID); err != nil {
						k.failf("Open: %v", err)
					} else {
						p := make([]byte, len(body))
						if n, _ := b.ReadAt(p, 0); n < len(p) || !bytes.Equal(p, body) {
							k.failf("a body differs")
						}
						b.Close()
					}
					if err := k.s.Remove(k.ctx, m.ID); err != nil {
						k.failf("Remove: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if n := len(k.scan(last)); n != 0 {
			k.failf("%d messages are left", n)
		}
	}},
	{"onlookers", "Load and Open are also called by those who look: they see the message as it is or was", func(k *checker) {
		want := mtakit.Bytes(pattern(5000))
		m, done := k.store(mtakit.Durable, want)[0], make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for tries := 0; ; {
					got, err := k.s.Load(k.ctx, m.ID)
					switch {
					case errors.Is(err, mtakit.ErrNotFound):
						return
					case err != nil || got.Tries < tries || got.Sender != m.Sender && got.Sender != fmt.Sprintf("%d@example.com", got.Tries/2*2):
						k.failf("Load: %+v, %v", got, err)
						return
					}
					tries = got.Tries
					if b, err := k.s.Open(k.ctx, m.ID); err == nil {
						p := make([]byte, b.Size())
						if n, _ := b.ReadAt(p, 0); n != len(want) || !bytes.Equal(p, want) {
							k.failf("the body differs")
						}
						b.Close()
					} else if !errors.Is(err, mtakit.ErrNotFound) {
						k.failf("Open: %v", err)
					}
				}
			})
		}
		go func() { defer close(done); wg.Wait() }()
		owner := *m
		for i := 4; i <= 100; i += 2 {
			owner.Tries, owner.Sender = i, fmt.Sprintf("%d@example.com", i)
			k.ok(k.s.Update(k.ctx, &owner), "Update")
			k.ok(k.s.Reschedule(k.ctx, m.ID, base, i+1), "Reschedule")
		}
		k.ok(k.s.Remove(k.ctx, m.ID), "Remove")
		<-done
	}},
	{"context", "ctx bounds the wait for a turn", func(k *checker) {
		m := k.one()
		ctx, cancel := context.WithCancel(k.ctx)
		cancel()
		n := k.message()
		k.is(k.s.Store(ctx, []mtakit.Submission{{Message: n, Body: mtakit.Bytes("x")}}, mtakit.Durable), context.Canceled, "Store")
		k.absent(n.ID)
		_, err := k.s.Load(ctx, m.ID)
		k.is(err, context.Canceled, "Load")
		k.same(m)
	}},
	{"closed", "ErrClosed: the spool, queue or log has been closed", func(k *checker) {
		m := k.one()
		c, ok := k.s.(io.Closer)
		if !ok {
			k.Skip("not an io.Closer")
		}
		k.closed = true
		k.ok(c.Close(), "Close")
		k.is(k.s.Store(k.ctx, []mtakit.Submission{{Message: k.message(), Body: mtakit.Bytes("x")}}, mtakit.Durable), mtakit.ErrClosed, "Store")
		_, err := k.s.Load(k.ctx, m.ID)
		k.is(err, mtakit.ErrClosed, "Load")
		_, err = k.s.Open(k.ctx, m.ID)
		k.is(err, mtakit.ErrClosed, "Open")
		k.is(k.s.Update(k.ctx, m), mtakit.ErrClosed, "Update")
		k.is(k.s.Reschedule(k.ctx, m.ID, base, 1), mtakit.ErrClosed, "Reschedule")
		k.is(k.s.Remove(k.ctx, m.ID), mtakit.ErrClosed, "Remove")
		for _, err := range k.s.Scan(k.ctx, last) {
			k.is(err, mtakit.ErrClosed, "Scan")
		}
	}},
}
