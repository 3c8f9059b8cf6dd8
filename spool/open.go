package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mtakit/mtakit/internal/vfs"
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
		orders: make(chan order), wakeup: make(chan struct{}, 1), stop: make(chan struct{}), stats: newCounters(),
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
	if err := vfs.MakeDir(s.fs, s.dir, 0o700); err != nil {
		return err
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
	if err := s.fs.Rename(s.path(indexName), s.path(indexName+damagedSuffix)); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
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
