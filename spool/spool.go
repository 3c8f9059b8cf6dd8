package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
	"github.com/mtakit/mtakit/spool/internal/envelope"
)

// Spool is a [mtakit.Spool] in a directory. It is safe for concurrent use.
type Spool struct {
	dir  string
	fs   vfs.FS
	o    Options
	log  *slog.Logger
	lock io.Closer

	index index
	live  atomic.Int64               // messages
	slots atomic.Pointer[[]*segment] // by slot, nil where free; replaced, not changed, with writeMu held
	stats counters
	health

	// Locks, outermost first: syncMu, writeMu, createMu or queueMu, a shard of the index.

	syncMu sync.Mutex // held while the log is synced; see commit

	writeMu  sync.Mutex // held while the log is written and the index changes
	segments []*segment // by number; the last is active
	active   *segment
	unsynced []*segment // sealed since the last sync
	taken    []*op      // scratch of flush
	bufs     [][]byte   // scratch of writeRun

	createMu   sync.Mutex // held while a file of the log is made or put aside
	next       *segment   // ready to become active
	lastNumber uint64     // of all segments ever
	spares     []spare

	queueMu sync.Mutex
	queue   []*op  // waiting for flush
	gather  *group // of durable writers
	lone    *group // used once more
	closed  bool   // no op enters the queue any more

	checkpointer         // the background goroutine's own
	found        []error // damage that Open found, for Scan
	scans        atomic.Int32

	orders chan order
	wakeup chan struct{}
	stop   chan struct{}
	ended  sync.WaitGroup
}

var _ mtakit.Spool = (*Spool)(nil)

// Store implements [mtakit.Spool]. The batch is one record with one checksum. [mtakit.Volatile] is stored like
// [mtakit.Buffered]: who can do without storing does not call.
func (s *Spool) Store(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	start := time.Now()
	if err := s.admit(len(batch)); err != nil {
		return err
	}
	o := newOp(kindPut)
	defer o.free()
	if err := o.store(batch); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	err := s.commit(o, d == mtakit.Durable)
	if err != nil {
		if o.err == nil && !errors.Is(err, mtakit.ErrClosed) {
			s.forget(o)
		}
		return err
	}
	s.stats.stored.Add(int64(len(batch)))
	s.stats.saveLatency.Observe(time.Since(start))
	return nil
}

// store fills o with a batch.
func (o *op) store(batch []mtakit.Submission) (err error) {
	for i := range batch {
		m := batch[i].Message
		due, ns := packDue(m.Due)
		h := head{id: m.ID, due: due, dueNS: ns, tries: packTries(m.Tries)}
		first := len(o.bodies)
		if err := o.addBody(&h, batch[i].Body); err != nil {
			return fmt.Errorf("body of %s: %w", m.ID, err)
		}
		for _, c := range o.bodies[first:] {
			h.bodyCRC = crc32.Update(h.bodyCRC, crcTable, c)
		}
		at := len(o.frame)
		o.frame = append(o.frame, make([]byte, headSize)...)
		if o.frame, err = envelope.Append(o.frame, m); err != nil {
			return fmt.Errorf("message %s: %w", m.ID, err)
		}
		o.frame = finishHead(o.frame, at, &h)
		o.puts = append(o.puts, put{id: m.ID, at: int64(at), due: due, tries: h.tries, class: sizeClass(h.size)})
	}
	return o.sealBodies()
}

// addBody appends what body has to o.bodies.
func (o *op) addBody(h *head, body mtakit.Body) error {
	h.size = body.Size()
	if c, ok := body.(mtakit.ChunkedBody); ok {
		first := len(o.bodies)
		o.bodies = c.Chunks(o.bodies)
		var n int64
		for _, b := range o.bodies[first:] {
			n += int64(len(b))
		}
		if n != h.size {
			return fmt.Errorf("its chunks have %d bytes, Size says %d", n, h.size)
		}
		return nil
	}
	b := o.room(h.size)
	if n, err := body.ReadAt(b, 0); n < len(b) {
		return fmt.Errorf("%d of %d bytes: %w", n, len(b), err)
	}
	o.bodies = append(o.bodies, b)
	return nil
}

// room is n bytes that are o's until free.
func (o *op) room(n int64) []byte {
	if free := int64(cap(o.copy) - len(o.copy)); free < n {
		o.copy = make([]byte, 0, max(n, 64<<10)) // what was handed out stays where it is
	}
	at := len(o.copy)
	o.copy = o.copy[:at+int(n)]
	return o.copy[at : at+int(n) : at+int(n)]
}

// sealBodies tells each head where its body is, bodies being in the order of the heads, and completes the frame.
func (o *op) sealBodies() error {
	if err := o.checkHeads(); err != nil {
		return err
	}
	body := int64(len(o.frame))
	for i := range o.puts {
		end := len(o.frame)
		if i+1 < len(o.puts) {
			end = int(o.puts[i+1].at)
		}
		at := o.puts[i].at
		p := o.frame[at:end]
		sealHead(p, body-at)
		body += int64(le.Uint64(p[40:]))
	}
	o.size = body - int64(len(o.frame))
	o.finish()
	return nil
}

// forget takes messages out of the index whose storing was not acknowledged, so that they do not turn up as well if
// storage recovers. On disk they may be.
func (s *Spool) forget(o *op) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	for i := range o.puts {
		if e, ok := s.index.remove(o.puts[i].id); ok {
			s.drop(e.place, 0)
			s.live.Add(-1)
		}
	}
}

// Load implements [mtakit.Spool]. A message that turns out to be damaged is a [*DamagedError].
func (s *Spool) Load(ctx context.Context, id mtakit.ID) (*mtakit.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	start := time.Now()
	var m *mtakit.Message
	err := s.again(func() error {
		r, err := s.read(id)
		if err != nil {
			return err
		}
		defer r.release()
		if m, err = r.head.message(r.entry); err != nil {
			return s.damaged(r, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.stats.loadLatency.Observe(time.Since(start))
	return m, nil
}

// Open implements [mtakit.Spool]. The checksum has been verified when it returns. A body of up to 256 KiB is in memory and a
// [mtakit.ChunkedBody]; larger ones are read from the log.
func (s *Spool) Open(ctx context.Context, id mtakit.ID) (mtakit.Body, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	start := time.Now()
	var b mtakit.Body
	err := s.again(func() error {
		r, err := s.read(id)
		if err != nil {
			return err
		}
		defer r.release()
		b, err = s.openBody(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.stats.openLatency.Observe(time.Since(start))
	return b, nil
}

// Update implements [mtakit.Spool]. It writes the envelope; the body stays where it is.
func (s *Spool) Update(ctx context.Context, m *mtakit.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.again(func() error {
		r, err := s.read(m.ID)
		if err != nil {
			return err
		}
		defer r.release()
		h := r.head
		if !h.split {
			h.split, h.segment, h.body = true, r.segment.number, r.entry.off()+h.body
		}
		var ns uint32
		h.due, ns = packDue(m.Due)
		h.dueNS, h.tries = ns, packTries(m.Tries)
		o := newOp(kindPut)
		defer o.free()
		at := len(o.frame)
		o.frame = append(o.frame, make([]byte, headSize)...)
		if o.frame, err = envelope.Append(o.frame, m); err != nil {
			return fmt.Errorf("spool: message %s: %w", m.ID, err)
		}
		o.frame = finishHead(o.frame, at, &h)
		if err := o.put(r, &h); err != nil {
			return fmt.Errorf("spool: message %s: %w", m.ID, err)
		}
		return s.commit(o, true)
	})
}

// put completes a frame of one head, h, that replaces r and whose body is elsewhere.
func (o *op) put(r *reading, h *head) error {
	if err := o.checkHeads(); err != nil {
		return err
	}
	sealHead(o.frame[frameSize:], h.body)
	o.puts = append(o.puts, put{id: h.id, at: frameSize, due: h.due, tries: h.tries, split: true,
		class: sizeClass(h.size), bodySlot: r.bodySegment().slot})
	o.expect, o.expectBody = r.entry, r.bodySegment().slot
	o.finish()
	return nil
}

// checkHeads refuses heads that would not be read again.
func (o *op) checkHeads() error {
	if n := len(o.frame) - frameSize; n > maxHeads {
		return fmt.Errorf("envelopes of %d bytes, at most %d can be stored at once", n, maxHeads)
	}
	return nil
}

// Reschedule implements [mtakit.Spool].
func (s *Spool) Reschedule(ctx context.Context, id mtakit.ID, due time.Time, tries int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.again(func() error { return s.refer(kindReschedule, id, due, tries, false) })
}

// Remove implements [mtakit.Spool]. It does not wait for a sync.
func (s *Spool) Remove(ctx context.Context, id mtakit.ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.again(func() error { return s.refer(kindRemove, id, time.Time{}, 0, false) })
	if err == nil {
		s.stats.removed.Inc()
	}
	return err
}

// refer writes a record that is about another; last says that it is not the owner of the message who asks.
func (s *Spool) refer(k kind, id mtakit.ID, due time.Time, tries int, last bool) error {
	e, ok := s.index.get(id)
	if !ok {
		return s.absent()
	}
	o := newOp(k)
	defer o.free()
	o.expect = e
	if e.split() {
		r, err := s.read(id)
		if err != nil {
			return err
		}
		defer r.release()
		o.expect, o.expectBody = r.entry, r.bodySegment().slot
	}
	o.ref.id = id
	if k == kindReschedule {
		o.ref.due, _ = packDue(due)
		o.ref.tries = packTries(tries)
		o.frame = appendReschedule(o.frame, id, o.ref.due, o.ref.tries)
	} else {
		o.frame = appendRemove(o.frame, id)
	}
	o.finish()
	if last {
		return s.writeLast(o)
	}
	return s.commit(o, false)
}

// again repeats f while its message is moved by the copying of a segment.
func (s *Spool) again(f func() error) error {
	for {
		if err := f(); err != errMoved {
			return err
		}
	}
}

// absent is the error for an id that the index has not.
func (s *Spool) absent() error {
	if err := s.closedErr(); err != nil {
		return err
	}
	return mtakit.ErrNotFound
}

func (s *Spool) closedErr() error {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	if s.closed {
		return mtakit.ErrClosed
	}
	return nil
}

// Len is the number of messages.
func (s *Spool) Len() int { return int(s.live.Load()) }

// Close writes what is buffered and the index, and gives the directory back. Open bodies stay readable. A second Close
// returns ErrClosed.
func (s *Spool) Close() error {
	s.queueMu.Lock()
	if s.closed {
		s.queueMu.Unlock()
		return mtakit.ErrClosed
	}
	s.closed = true
	close(s.stop)
	err := s.enqueue(new(op), true) // nothing, in the last group: when it is through, so is everybody else
	s.ended.Wait()
	if err == nil {
		err = s.checkpoint(true)
	}
	return errors.Join(err, s.release())
}

// release closes all files and gives the lock back.
func (s *Spool) release() (err error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.createMu.Lock()
	defer s.createMu.Unlock()
	if s.next != nil {
		s.next.release()
		err = s.fs.Remove(s.path(segmentName(s.next.number)))
		s.next = nil
	}
	// What was reserved and not used is given back, and the next Open need not search it for torn frames. If that fails, it will.
	_ = s.active.file.Truncate(s.active.end)
	for _, g := range s.segments {
		g.release()
	}
	if s.store != nil {
		err = errors.Join(err, s.store.close())
	}
	return errors.Join(err, s.lock.Close())
}

// damageDir holds what was set aside.
func (s *Spool) damageDir() string { return filepath.Join(s.dir, "damaged") }
