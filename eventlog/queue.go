package eventlog

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtakit/mtakit"
)

// blockSize is the memory that lines of one stream share. Blocks are reused.
const blockSize = 256 << 10

// maxSpare is how many unused blocks are kept.
const maxSpare = 16

// block holds whole lines of a stream. Whoever has it owns it: the queue until take, then the writer.
type block struct {
	stream  *stream
	buf     []byte
	records int
	added   int // bytes given to the encoder of the stream's segment
	done    int // bytes of these that are written
}

// queue is the records that wait for the writer.
type queue struct {
	mu       sync.Mutex
	full     []*block // in the order in which they filled up
	spare    []*block
	recorded uint64        // records ever put in
	taken    uint64        // of these, records that the writer has, or has had
	written  uint64        // of these, records that are written; moves when all that was taken at once is, for streams do not keep the order
	progress chan struct{} // closed, and replaced, whenever the writer got on
	closed   bool          // nothing comes in any more
	ended    bool          // nor is anything written

	records, bytes atomic.Int64 // that wait; changed with mu held
}

// put numbers a line and adds it. full says that a block is ready to be written.
func (q *queue) put(s *stream, line []byte) (ok, full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, false
	}
	need := len(line) + 24 // digits of the number, and the end
	b := s.block
	if b != nil && cap(b.buf)-len(b.buf) < need {
		q.full, b, full = append(q.full, b), nil, true
	}
	if b == nil {
		b = q.newBlock(s, need)
	}
	s.seq++
	before := len(b.buf)
	b.buf = appendSeq(append(b.buf, line...), s.seq)
	b.records++
	s.block = b
	q.recorded++
	q.records.Add(1)
	q.bytes.Add(int64(len(b.buf) - before))
	return true, full
}

func (q *queue) newBlock(s *stream, need int) *block {
	if n := len(q.spare); n > 0 && need <= blockSize {
		b := q.spare[n-1]
		q.spare = q.spare[:n-1]
		*b = block{stream: s, buf: b.buf[:0]}
		return b
	}
	return &block{stream: s, buf: make([]byte, 0, max(need, blockSize))}
}

// take appends all blocks with records to dst, and leaves none.
func (q *queue) take(dst []*block, streams []*stream) []*block {
	q.mu.Lock()
	defer q.mu.Unlock()
	dst = append(dst, q.full...)
	clear(q.full)
	q.full = q.full[:0]
	for _, s := range streams {
		if s.block != nil {
			dst = append(dst, s.block)
			s.block = nil
		}
	}
	q.taken = q.recorded
	return dst
}

// wrote takes a written block back and tells those who wait; last says that it was the last of those that were taken.
func (q *queue) wrote(b *block, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if last {
		q.written = q.taken
	}
	q.records.Add(int64(-b.records))
	q.bytes.Add(int64(-len(b.buf)))
	if cap(b.buf) == blockSize && len(q.spare) < maxSpare {
		q.spare = append(q.spare, b)
	}
	q.tell()
}

// tell wakes those who wait, with mu held.
func (q *queue) tell() {
	close(q.progress)
	q.progress = make(chan struct{})
}

// recovered tells that writing goes on.
func (q *queue) recovered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tell()
}

// close lets no more records in.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.tell()
}

// end says that nothing more will be written.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.tell()
}

// wait returns nil when met, or ErrClosed when given up, which both are asked with mu held.
func (q *queue) wait(ctx context.Context, met, givenUp func() bool) error {
	for {
		q.mu.Lock()
		ok, closed, progress := met(), givenUp(), q.progress
		q.mu.Unlock()
		switch {
		case ok:
			return nil
		case closed:
			return mtakit.ErrClosed
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Flush returns when everything that was recorded before the call is written: handed to the operating system, or with
// [Config.Sync] on stable storage. While the disk does not take it, it waits for that or the end of ctx.
func (l *Log) Flush(ctx context.Context) error {
	q := &l.queue
	q.mu.Lock()
	target := q.recorded
	ok := q.written >= target
	q.mu.Unlock()
	if ok {
		return nil
	}
	signal(l.urgent)
	signal(l.wake)
	return q.wait(ctx, func() bool { return q.written >= target }, func() bool { return q.ended })
}

// Pace implements [mtakit.Pacer]. It also waits while writing fails.
func (l *Log) Pace(ctx context.Context) error {
	if !l.crowded() {
		l.counts.latency.Observe(0)
		return nil
	}
	l.counts.full.Inc()
	start := time.Now()
	err := l.queue.wait(ctx, func() bool { return !l.crowded() }, func() bool { return l.queue.closed })
	l.counts.latency.Observe(time.Since(start))
	return err
}

func (l *Log) crowded() bool {
	return l.queue.records.Load() >= int64(l.cfg.BackPressure) || l.queue.bytes.Load() >= l.cfg.MaxPending || l.failing.Load() != nil
}
