package spool

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/mtakit/mtakit"
)

// op is one frame on its way into the log. The goroutine that made it owns it, except between commit and its end.
type op struct {
	kind   kind
	frame  []byte   // header and heads
	bodies [][]byte // what follows them
	size   int64    // of the bodies
	length int64    // of the whole frame
	puts   []put    // for kindPut
	ref    ref      // for the other kinds

	// expect is the entry that the message must have when the frame is written, unless it is zero; expectBody is the slot
	// that has its body, if that is elsewhere. If the entry has changed, nothing is written and the result is errMoved.
	expect     entry
	expectBody uint32
	copied     bool // a remove that is only copied forward: the index has no such message any more

	copy []byte // room for bodies that are not in memory
	done bool   // guarded by writeMu until commit returns
	err  error
}

// put is a message in a frame.
type put struct {
	id       mtakit.ID
	at       int64 // of its head in the frame
	due      uint32
	tries    uint16
	split    bool
	class    uint8  // of the size
	bodySlot uint32 // if split
}

// errMoved: the message got another place since the frame was made; make it again.
var errMoved = errors.New("spool: message moved")

var ops = sync.Pool{New: func() any { return new(op) }}

// maxPooled is the largest buffer that goes back into a pool.
const maxPooled = 256 << 10

func newOp(k kind) *op {
	o := ops.Get().(*op)
	o.kind = k
	o.frame = newFrame(o.frame, k)
	return o
}

func (o *op) free() {
	clear(o.bodies)
	*o = op{frame: o.frame, bodies: o.bodies[:0], puts: o.puts[:0], copy: o.copy}
	if cap(o.frame) > maxPooled {
		o.frame = nil
	}
	if cap(o.copy) > maxPooled {
		o.copy = nil
	}
	ops.Put(o)
}

// finish completes the frame of o.
func (o *op) finish() {
	count := 1
	if o.kind == kindPut {
		count = len(o.puts)
	}
	closeFrame(o.frame, count, o.size)
	o.length = int64(le.Uint64(o.frame[24:]))
}

// group is the durable writers that share a sync.
type group struct {
	n    int
	done chan struct{} // made by the second to come: who is alone waits for nobody
	err  error
}

// commit writes o to the log, and if durable returns when that is on stable storage.
//
// There is no committing goroutine and no timer. Whoever writes first while nobody is leading leads: it writes all that
// is queued by then with one call, syncs once, and wakes those who came along. While it syncs, the next group gathers;
// the first of that waits for syncMu, not for a wake-up by its predecessor. A writer that is alone does all by itself and
// never switches goroutines.
//
// Those that are not durable wait for the writing only, which goes on during a sync, and take with them what is queued.
func (s *Spool) commit(o *op, durable bool) error {
	s.queueMu.Lock()
	if s.closed {
		s.queueMu.Unlock()
		return mtakit.ErrClosed
	}
	return s.enqueue(o, durable)
}

// enqueue is commit from where queueMu is held.
func (s *Spool) enqueue(o *op, durable bool) error {
	s.queue = append(s.queue, o)
	if !durable {
		s.queueMu.Unlock()
		s.writeMu.Lock()
		if !o.done {
			s.flush()
		}
		s.writeMu.Unlock()
		return o.err
	}
	g := s.gather
	g.n++
	first := g.n == 1
	if g.n == 2 {
		g.done = make(chan struct{})
	}
	s.queueMu.Unlock()
	if first {
		s.lead(g)
	} else {
		<-g.done
	}
	err := o.err
	if err == nil {
		err = g.err
	}
	if first && g.done == nil {
		*g = group{}
		s.queueMu.Lock()
		s.lone = g
		s.queueMu.Unlock()
	}
	return err
}

func (s *Spool) lead(g *group) {
	s.syncMu.Lock()
	// Those whom the last leader woke are about to come back. Without this the first of them syncs for itself alone, and
	// every other sync carries one message. It costs nothing when nobody else is ready to run.
	runtime.Gosched()
	s.queueMu.Lock()
	if s.gather = s.lone; s.gather == nil {
		s.gather = new(group)
	}
	s.lone = nil
	s.queueMu.Unlock()
	s.writeMu.Lock()
	s.flush()
	s.writeMu.Unlock()
	g.err = s.sync()
	s.syncMu.Unlock()
	if g.done != nil {
		close(g.done)
	}
}

// sync makes durable what is written. syncMu is held.
func (s *Spool) sync() error {
	if err := s.sick(); err != nil {
		return err
	}
	s.writeMu.Lock()
	active, end := s.active, s.active.end
	old := s.unsynced
	s.unsynced = nil
	s.writeMu.Unlock()
	for i, g := range old { // sealed: their ends do not change
		if err := s.syncSegment(g, g.end); err != nil {
			s.writeMu.Lock()
			s.unsynced = append(old[i:], s.unsynced...)
			s.writeMu.Unlock()
			return err
		}
	}
	return s.syncSegment(active, end)
}

func (s *Spool) syncSegment(g *segment, end int64) error {
	if g.synced.Load() >= end {
		return nil
	}
	s.stats.syncs.Inc()
	if err := g.file.Datasync(); err != nil {
		return s.fail(fmt.Errorf("sync of segment %016x: %w", g.number, err))
	}
	g.synced.Store(end)
	return nil
}

// flush writes what is queued and applies it to the index, in the order of the log; writeMu is held.
func (s *Spool) flush() {
	s.queueMu.Lock()
	batch := s.queue
	s.queue = s.taken[:0]
	s.queueMu.Unlock()
	s.write(batch)
	for _, o := range batch {
		o.done = true
	}
	clear(batch)
	s.taken = batch
}

// writeLast writes o, which is not of its message's owner, behind all that is queued: what the owner has queued is applied then, and the
// comparison with the index is the last word. In one run with o, both would be compared with the same entry.
func (s *Spool) writeLast(o *op) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if err := s.closedErr(); err != nil {
		return err
	}
	s.flush()
	s.write([]*op{o})
	return o.err
}

// write puts frames into the log, as many with one call as the segment takes; writeMu is held.
func (s *Spool) write(batch []*op) {
	for len(batch) > 0 {
		if err := s.sick(); err != nil {
			for _, o := range batch {
				o.err = err
			}
			return
		}
		n := s.fit(batch)
		if n == 0 {
			if err := s.rotate(); err != nil {
				err = s.writeFailed(err)
				if batch[0].kind == kindPut || s.sick() != nil {
					batch[0].err = err
					batch = batch[1:]
					continue
				}
				// What takes out messages is what makes room: let it try behind the end.
			}
			n = 1
		}
		s.writeRun(batch[:n])
		batch = batch[n:]
	}
}

// fit counts the frames at the front of batch that the active segment takes. A frame that is larger than a segment has one
// of its own. The last quarter is for new messages only if there is another segment after this one: on a full disk it is the
// room in which to write what takes messages out.
func (s *Spool) fit(batch []*op) (n int) {
	g := s.active
	end, limit := g.end, g.size-g.size/4
	if end <= segmentHeader+rotateSize {
		n, end = 1, end+batch[0].length
	}
	for ; n < len(batch) && end+batch[n].length <= g.size; n++ {
		end += batch[n].length
		if end > limit && batch[n].adds() {
			if _, err := s.prepare(); err != nil {
				break
			}
			limit = g.size
		}
	}
	return n
}

// adds says whether the frame has new messages.
func (o *op) adds() bool { return o.kind == kindPut && o.expect == (entry{}) }

var padding [8]byte

func (s *Spool) writeRun(run []*op) {
	g := s.active
	bufs, off := s.bufs[:0], g.end
	synced := g.synced.Load()
	for _, o := range run {
		if o.length == 0 {
			continue
		}
		if o.err = s.expected(o); o.err != nil {
			continue
		}
		stampFrame(o.frame, g.salt, off, synced)
		bufs = append(append(bufs, o.frame), o.bodies...)
		if pad := o.length - int64(len(o.frame)) - o.size; pad > 0 {
			bufs = append(bufs, padding[:pad])
		}
		off += o.length
	}
	s.bufs = bufs
	defer clear(bufs)
	if off == g.end {
		return
	}
	s.logBytes.Add(off - g.end)
	if _, err := g.file.WritevAt(bufs, g.end); err != nil {
		s.logBytes.Add(g.end - off)
		if off > g.size {
			_ = g.file.Truncate(max(g.size, g.end)) // gives back what fitted
		}
		if len(run) > 1 && noSpace(err) { // perhaps some fit
			for i := range run {
				s.writeRun(run[i : i+1])
			}
			return
		}
		err = s.writeFailed(fmt.Errorf("write to segment %016x: %w", g.number, err))
		for _, o := range run {
			if o.err == nil {
				o.err = err
			}
		}
		return
	}
	off = g.end
	for _, o := range run {
		if o.err == nil {
			s.apply(g, off, o)
			off += o.length
			s.stats.frames.Inc()
		}
	}
	g.end = off
}

// expected says whether the message of o is where it was when o was made, and sets what depends on that.
func (s *Spool) expected(o *op) error {
	if o.copied {
		if _, ok := s.index.get(o.ref.id); ok {
			return errMoved // it was stored again
		}
		return nil
	}
	if o.expect == (entry{}) {
		return nil
	}
	id := o.ref.id
	if o.kind == kindPut {
		id = o.puts[0].id
	}
	e, ok := s.index.get(id)
	if !ok {
		return mtakit.ErrNotFound
	}
	if e != o.expect {
		return errMoved
	}
	if o.kind != kindPut {
		o.ref.oldest = s.at(e.slot()).number
		if e.split() {
			if g := s.at(o.expectBody); g != nil {
				o.ref.oldest = min(o.ref.oldest, g.number)
			}
		}
		setOldest(o.frame, o.ref.oldest)
	}
	return nil
}
