package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// Open opens the spool in dir, which is made if need be. It reads the index and the log from where that ends, so that the
// time it takes does not depend on the sizes of messages. A directory that another process has is refused with an error
// that names it, one of a newer format with a [*FormatError].
func Open(dir string, o Options) (*Spool, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Spool{
		dir: dir, fs: o.FS, o: o, log: o.Log, gather: new(group),
		wakeup: make(chan struct{}, 1), stop: make(chan struct{}), stats: newCounters(),
	}
	s.slots.Store(new([]*segment))
	s.index.hash = hashID
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("spool: opening %s: %w", dir, err)
	}
	s.ended.Add(1)
	go s.background()
	return s, nil
}

func (s *Spool) open() (err error) {
	if _, err := s.fs.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
		if err := s.fs.SyncDir(filepath.Dir(s.dir)); err != nil {
			return err
		}
	}
	if s.lock, err = s.fs.Lock(s.path("lock")); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			for _, g := range s.segments {
				g.release()
			}
			if s.store != nil {
				err = errors.Join(err, s.store.close())
			}
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if err := s.openFiles(); err != nil {
		return err
	}
	if err := s.openIndex(); err != nil {
		return err
	}
	if err := s.replay(); err != nil {
		return err
	}
	for _, g := range s.segments {
		s.logBytes.Add(g.end)
	}
	if n := len(s.segments); n > 0 {
		s.active = s.segments[n-1]
		s.lastNumber = max(s.lastNumber, s.active.number)
	}
	// What was torn is never written behind: a new segment.
	if err := s.rotate(); err != nil {
		if !noSpace(err) || s.active == nil {
			return err
		}
		_ = s.writeFailed(err) // it is full already, and can be emptied
	}
	s.unsynced = nil // replay has
	s.check()
	return nil
}

// openFiles opens the segments and puts spares in order.
func (s *Spool) openFiles() error {
	list, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, d := range list {
		name := d.Name()
		switch number, ok := segmentNumber(name); {
		case ok:
			if err := s.openSegment(number); err != nil {
				return err
			}
		case strings.HasSuffix(name, spareSuffix):
			if st, err := d.Info(); err == nil && st.Size() >= minSegment && st.Size() <= maxSegment && len(s.spares) < maxSpares {
				s.spares = append(s.spares, spare{name, st.Size()})
				continue
			}
			fallthrough
		case strings.HasSuffix(name, tempSuffix):
			if err := s.fs.Remove(s.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Spool) openSegment(number uint64) error {
	f, err := s.fs.OpenFile(s.path(segmentName(number)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	g := &segment{number: number, oldest: number, file: f, end: segmentHeader}
	g.refs.Store(1)
	if g.size, err = f.Size(); err == nil {
		err = s.readSegmentHeader(g)
	}
	if err == nil {
		err = s.addSegment(g) // ReadDir sorts
	}
	if err != nil {
		f.Close()
	}
	return err
}

func (s *Spool) readSegmentHeader(g *segment) (err error) {
	r := &frames{g: g, size: g.size}
	b, err := r.bytes(0, segmentHeader)
	if err != nil {
		return err
	}
	g.salt, err = parseSegmentHeader(b, g.number)
	if err == errBadFrame {
		// The frames have the salt too.
		s.log.Error("header of a segment is damaged", "segment", g.number)
		if b, err = r.bytes(segmentHeader, frameSize); err == nil && len(b) == frameSize {
			g.salt = le.Uint32(b[4:])
		}
	}
	return err
}

// openIndex opens the index and loads it. One that is damaged is set aside, and all is read from the log.
func (s *Spool) openIndex() error {
	st, err := openStore(s.fs, s.path(indexName), s.dir)
	if err == nil {
		s.store = st
		if err = s.load(); err == nil {
			return nil
		}
		if !errors.Is(err, errIndex) {
			return err
		}
		s.store = nil
		err = errors.Join(err, st.close())
	}
	if !errors.Is(err, errIndex) {
		return err
	}
	s.log.Error("index of the spool is damaged and set aside; reading the whole log", "dir", s.dir, "err", err)
	s.stats.rebuilds.Inc()
	if err := s.setIndexAside(); err != nil {
		return err
	}
	s.index = index{hash: s.index.hash}
	s.live.Store(0)
	s.position, s.sums, s.gone = position{}, map[string]uint64{}, nil
	for _, g := range s.segments {
		g.live, g.liveBytes, g.puts, g.dirty, g.oldest, g.refBytes, g.end = 0, 0, 0, 0, g.number, 0, segmentHeader
	}
	s.store, err = openStore(s.fs, s.path(indexName), s.dir)
	return err
}

// load reads the index from the store.
func (s *Spool) load() error {
	s.sums = map[string]uint64{}
	p, ok, err := s.store.get(positionKey, nil)
	if err != nil || !ok {
		return err
	}
	if p, err = openValue(p); err != nil {
		return err
	}
	if len(p) < 4 {
		return errIndex
	}
	if v := le.Uint32(p); v > formatVersion {
		return &FormatError{Found: int(v)}
	}
	if len(p) != 28 {
		return errIndex
	}
	s.position = position{le.Uint64(p[4:]), int64(le.Uint64(p[12:]))}
	s.lastNumber = s.position.number
	if err := s.loadSegments(); err != nil {
		return err
	}
	err = s.store.each("e", func(k, sealed []byte) error {
		v, err := openValue(sealed)
		if err != nil || len(k) != 10 {
			return errIndex
		}
		s.sums[string(k)] = valueSum(k, sealed)
		g := s.numbered(be.Uint64(k[1:]))
		if g == nil {
			return errMissing
		}
		return parseEntries(v, func(e *saved) error {
			bodySlot := uint32(noSlot)
			if e.body != 0 {
				b := s.numbered(e.body)
				if b == nil {
					return errMissing
				}
				bodySlot = b.slot
			}
			s.replayPut(e.id, entry{makePlace(g.slot, e.off, e.body != 0, e.class).with(e.tries), e.due}, bodySlot)
			return nil
		})
	})
	if err != nil {
		return err
	}
	var sum uint64
	for _, v := range s.sums {
		sum += v
	}
	if sum != le.Uint64(p[20:]) {
		return fmt.Errorf("%w: a part of it is missing", errIndex)
	}
	for _, g := range s.segments {
		g.dirty = 0
	}
	return nil
}

// errMissing: either the index is older than the log, or a file of the log was taken away.
var errMissing = fmt.Errorf("%w: it names a segment that is not there", errIndex)

func (s *Spool) loadSegments() error {
	live := 0
	err := s.store.each("s", func(k, sealed []byte) error {
		v, err := openValue(sealed)
		if err != nil || len(k) != 9 || len(v) != 40 {
			return errIndex
		}
		s.sums[string(k)] = valueSum(k, sealed)
		number := be.Uint64(k[1:])
		g := s.numbered(number)
		if g == nil {
			s.gone = append(s.gone, number)
			return nil
		}
		g.end = min(int64(le.Uint64(v)), g.size)
		live += int(le.Uint64(v[8:]))
		g.puts, g.oldest, g.refBytes = int64(le.Uint64(v[16:])), le.Uint64(v[24:]), int64(le.Uint64(v[32:]))
		g.synced.Store(g.end)
		return nil
	})
	s.index.reserve(live)
	return err
}

// replay applies the log from the position of the index on, and cuts off what is torn.
func (s *Spool) replay() error {
	start := time.Now()
	var n, torn int64
	for i, g := range s.segments {
		from := int64(segmentHeader)
		switch {
		case g.number < s.position.number:
			continue
		case g.number == s.position.number:
			from = max(from, s.position.off)
		}
		var next *segment
		if i+1 < len(s.segments) {
			next = s.segments[i+1]
		}
		m, t, err := s.replaySegment(g, next, from)
		if err != nil {
			return err
		}
		n, torn = n+m, torn+t
	}
	if n > 0 || torn > 0 {
		s.stats.torn.Add(torn)
		s.log.Info("spool has read its log", "dir", s.dir, "frames", n, "torn_bytes", torn, "messages", s.live.Load(),
			"duration", time.Since(start))
	}
	return nil
}

// replaySegment applies g from off on. It returns how many frames that were, and how many bytes were torn and cut off.
func (s *Spool) replaySegment(g, next *segment, off int64) (n, torn int64, err error) {
	r := &frames{g: g, size: g.size}
	for {
		f, raw, err := r.frame(off, true)
		if err == nil {
			if err := s.replayFrame(g, off, f, raw); err == nil {
				off += f.length
				n++
				continue
			} else if err != errBadFrame {
				return n, 0, err
			}
		} else if err != errBadFrame {
			return n, 0, err
		}
		// Either nothing was written here, or it did not get to the disk whole before a crash, or it was damaged later.
		// Only in the last case is there something behind it that was written when this was durable already.
		durable, last, err := s.attested(r, next, off)
		if err != nil {
			return n, 0, err
		}
		if off >= durable {
			torn = last - off
			break
		}
		to, err := r.next(off)
		if err != nil {
			return n, 0, err
		}
		if to = min(to, max(durable, off+8)); to == r.size {
			to = durable
		}
		if err := s.replayDamage(g, off, to); err != nil {
			return n, 0, err
		}
		off = to
	}
	g.end = off
	if torn > 0 {
		s.log.Warn("end of a segment was torn and is cut off", "segment", g.number, "offset", off, "bytes", torn)
	}
	if off < g.size {
		if err := g.file.Truncate(off); err != nil {
			return n, torn, err
		}
		g.size = off
	}
	if n > 0 || torn > 0 { // after the end of a process it may be in the system's memory only
		if err := g.file.Sync(); err != nil {
			return n, torn, err
		}
	}
	g.synced.Store(off)
	return n, torn, nil
}

// attested says how far g is known to have been durable, from frames behind off and in the next segment; and where the last
// frame behind off ends, or seems to.
func (s *Spool) attested(r *frames, next *segment, off int64) (durable, last int64, err error) {
	last = off
	if r.g.number == s.position.number {
		durable = s.position.off
	}
	if b, err := r.bytes(off, frameSize); err != nil {
		return 0, 0, err
	} else if f, ok := parseFrame(b, r.g.salt); ok {
		last = min(off+f.length, r.size)
	}
	for p, err := r.next(off); p < r.size; p, err = r.next(p) {
		if err != nil {
			return 0, 0, err
		}
		f, _, err := r.frame(p, false)
		if err != nil {
			return 0, 0, err
		}
		durable, last = max(durable, f.synced), max(last, p+f.length)
	}
	if next == nil {
		return durable, last, nil
	}
	nr := &frames{g: next, size: next.size}
	f, raw, err := nr.frame(segmentHeader, false)
	if err != nil || f.kind != kindRotate || le.Uint64(raw[frameSize:]) != r.g.number {
		return durable, last, ignoreBad(err)
	}
	length := int64(le.Uint64(raw[frameSize+8:]))
	for p := int64(segmentHeader); p < nr.size; {
		if f, _, err := nr.frame(p, false); err == nil && f.synced > segmentHeader {
			return max(durable, length), last, nil // one cannot be synced before the other
		} else if ignoreBad(err) != nil {
			return 0, 0, err
		}
		if p, err = nr.next(p); err != nil {
			return 0, 0, err
		}
	}
	return durable, last, nil
}

func ignoreBad(err error) error {
	if err == errBadFrame {
		return nil
	}
	return err
}

// replayDamage sets aside what is between two offsets.
func (s *Spool) replayDamage(g *segment, off, to int64) error {
	e := &DamagedError{Segment: g.number, Offset: off, Length: to - off, Err: errBadFrame}
	if h, err := readHead(g, off+frameSize, headBuffer()); err == nil {
		e.ID = h.id
	}
	name, err := s.setAside(fmt.Sprintf("%016x-%d", g.number, off), []part{{g, off, to - off}})
	if err != nil {
		return err
	}
	e.File = name
	s.found = append(s.found, e)
	s.noteDamage(e)
	return nil
}

// replayFrame applies a frame that may have been applied before.
func (s *Spool) replayFrame(g *segment, off int64, f frame, raw []byte) error {
	switch f.kind {
	case kindPut:
		return eachHead(f, raw, func(at int64, h *head) error {
			g.puts++
			bodySlot := uint32(noSlot)
			if h.split {
				b := s.numbered(h.segment)
				if b == nil {
					return nil // what follows has put it elsewhere, or removed it
				}
				bodySlot = b.slot
			}
			s.replayPut(h.id, entry{makePlace(g.slot, off+at, h.split, sizeClass(h.size)).with(h.tries), h.due}, bodySlot)
			return nil
		})
	case kindRemove, kindReschedule:
		r, err := parseRef(f.kind, raw[frameSize:])
		if err != nil {
			return errBadFrame
		}
		g.noteRef(r.oldest, f.length)
		s.replayRef(f.kind, r)
	}
	return nil
}

func (s *Spool) replayPut(id mtakit.ID, e entry, bodySlot uint32) {
	old := s.index.put(id, e, func(old entry) bool { return s.isRecordOf(old, id) })
	switch {
	case old.place == 0:
		s.live.Add(1)
	case old.record() == e.record():
		return
	default:
		s.drop(old.place, s.bodySlotOf(old))
	}
	s.hold(e.place, bodySlot)
}

func (s *Spool) replayRef(k kind, r ref) {
	e, ok := s.index.get(r.id)
	if !ok {
		return
	}
	g := s.at(e.slot())
	if k == kindReschedule {
		s.index.put(r.id, entry{e.with(r.tries), r.due}, func(old entry) bool { return s.isRecordOf(old, r.id) })
		g.dirty |= chunkBit(e.off())
		return
	}
	s.drop(e.place, s.bodySlotOf(e))
	s.index.remove(r.id)
	s.live.Add(-1)
}

// bodySlotOf reads from the record at e which segment has its body.
func (s *Spool) bodySlotOf(e entry) uint32 {
	if !e.split() {
		return noSlot
	}
	h, err := readHead(s.at(e.slot()), e.off(), headBuffer())
	if err != nil || !h.split {
		return noSlot
	}
	if b := s.numbered(h.segment); b != nil {
		return b.slot
	}
	return noSlot
}
