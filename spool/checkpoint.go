package spool

import (
	"cmp"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/mtakit/mtakit/spool/internal/envelope"
)

// The index on disk, each value with its checksum behind it:
//
//	"p"                  format 4, number 8 and offset 8 of where the log was when it was written, sum 8 of all that follows
//	"s" number           of a segment: length 8, live 8, puts 8, oldest 8, refBytes 8
//	"e" number chunk 1   the entries whose records begin in the chunk
//
// with numbers in keys big endian. A value of entries is
//
//	n (length queue)*n                                       names of queues, stored form
//	n (offset id due class tries queue [segment])*n          ascending; offset as the distance from the one before, in units of 8;
//	                                                         queue is its position above times 2, plus 1 if the body is in the segment that follows
//
// in uvarints, but id 16 bytes, due 4 and class 1. The sum is that of the checksums of each key with its value: bbolt checks
// its meta pages only, and of a damaged file it may show a part, or an older state.
//
// A value of entries is a summary of records that never change where they are, so that an entry is of
// use even if the value is old: what counts is which places the index in memory has.
const (
	positionKey   = "p"
	indexName     = "index.db"
	damagedSuffix = ".damaged"
)

func segmentKey(number uint64) string {
	return string(be.AppendUint64([]byte("s"), number))
}

func chunkKey(number uint64, chunk int) string {
	return string(append(be.AppendUint64([]byte("e"), number), byte(chunk)))
}

// checkpointer is what writes the index; storeMu lets it be replaced under the readers of a scan.
type checkpointer struct {
	storeMu  sync.RWMutex
	store    store
	position position          // that the index on disk covers
	sums     map[string]uint64 // by key, of what is in the store
	doomed   []*segment        // out of the log, files still there, in the order in which they have to go
	gone     []uint64          // numbers of segments that the index on disk may still describe
}

type position struct {
	number uint64
	off    int64
}

// cut is what a checkpoint takes from the log's state at one moment.
type cut struct {
	position position
	dirty    map[uint32]uint64 // chunks by slot
	segments []*segment
	free     []*segment // without a live record
	values   map[string][]byte
	sums     map[string]uint64 // of the store with values in it
}

func (s *Spool) takeCut() *cut {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	c := &cut{
		position: position{s.active.number, s.active.end}, dirty: map[uint32]uint64{},
		segments: slices.Clone(s.segments), values: map[string][]byte{}, sums: maps.Clone(s.sums),
	}
	for _, g := range s.segments {
		if g.dirty != 0 {
			c.dirty[g.slot], g.dirty = g.dirty, 0
		}
		if g.live == 0 && g != s.active {
			c.free = append(c.free, g)
		}
		v := le.AppendUint64(nil, uint64(g.end))
		v = le.AppendUint64(v, uint64(g.live))
		v = le.AppendUint64(v, uint64(g.puts))
		v = le.AppendUint64(v, g.oldest)
		v = le.AppendUint64(v, uint64(g.refBytes))
		c.values[segmentKey(g.number)] = sealValue(v)
	}
	for _, number := range s.gone {
		c.values[segmentKey(number)] = nil
	}
	return c
}

// restore makes the chunks of a cut dirty again that did not get to disk.
func (s *Spool) restore(c *cut) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	for _, g := range c.segments {
		g.dirty |= c.dirty[g.slot]
	}
}

// checkpoint brings the index on disk up to date and frees segments that no longer have a live record. It is called by the
// background goroutine, and by Close after that has ended.
//
// Between the cut and the writing, entries change. That is harmless: what changes them is in the log behind the cut's
// position, is applied again at start, and applying a frame twice is the same as once. What must not be is an entry that
// names a record which is not durable, hence the sync before.
func (s *Spool) checkpoint(closing bool) error {
	if s.store == nil {
		if err := s.newStore(); err != nil {
			return err
		}
	}
	c := s.takeCut()
	if c.position == s.position && len(c.dirty) == 0 {
		return nil
	}
	err := s.writeCut(c)
	switch {
	case err == nil:
		s.position, s.sums, s.gone = c.position, c.sums, nil
		s.stats.checkpoints.Inc()
	case s.sick() != nil:
		s.restore(c)
		return err
	case noSpace(err) && len(c.free) == 0:
		s.restore(c)
		return err
	case noSpace(err):
		// There is no room to write that there could be room. The log is durable up to here and needs no index.
		s.log.Warn("spool gives its index up to free segments", "dir", s.dir, "err", err)
		if err := s.dropStore(s.fs.Remove(s.path(indexName))); err != nil {
			return err
		}
	default:
		s.log.Error("spool cannot write its index; it begins a new one", "dir", s.dir, "err", err)
		return errors.Join(err, s.dropStore(s.fs.Rename(s.path(indexName), s.path(indexName+damagedSuffix))))
	}
	if closing {
		return nil
	}
	return s.free(c.free)
}

func (s *Spool) writeCut(c *cut) error {
	if err := s.collect(c); err != nil {
		return err
	}
	s.syncMu.Lock()
	err := s.sync()
	s.syncMu.Unlock()
	if err != nil {
		return err
	}
	for k, v := range c.values {
		if v == nil {
			delete(c.sums, k)
		} else {
			c.sums[k] = valueSum([]byte(k), v)
		}
	}
	var sum uint64
	for _, v := range c.sums {
		sum += v
	}
	p := le.AppendUint32(nil, formatVersion)
	p = le.AppendUint64(p, c.position.number)
	p = le.AppendUint64(p, uint64(c.position.off))
	c.values[positionKey] = sealValue(le.AppendUint64(p, sum))
	return s.store.commit(c.values)
}

// valueSum is what a key with its value adds to the sum.
func valueSum(k, v []byte) uint64 {
	return uint64(crc32.Checksum(k, crcTable))<<32 | uint64(crc32.Checksum(v, crcTable))
}

// collect makes the values of the dirty chunks.
func (s *Spool) collect(c *cut) error {
	var list []entry
	s.index.each(func(e entry) {
		if c.dirty[e.slot()]&chunkBit(e.off()) != 0 {
			list = append(list, e)
		}
	})
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.place, b.place) }) // by slot and offset
	buf := headBuffer()
	var old []byte
	for _, g := range c.segments {
		bits := c.dirty[g.slot]
		for chunk := 0; bits != 0; chunk, bits = chunk+1, bits>>1 {
			if bits&1 == 0 {
				continue
			}
			lo, _ := slices.BinarySearchFunc(list, makePlace(g.slot, int64(chunk)<<chunkShift, false, 0), compareStart)
			hi, _ := slices.BinarySearchFunc(list, makePlace(g.slot, int64(chunk+1)<<chunkShift-8, false, 0), compareEnd)
			key := chunkKey(g.number, chunk)
			if lo == hi {
				c.values[key] = nil
				continue
			}
			old, _ = s.stored(key, old[:0])
			v, err := s.summarize(g, list[lo:hi], old, buf)
			if err != nil {
				return err
			}
			c.values[key] = v
		}
	}
	return nil
}

func compareStart(e entry, p place) int { return cmp.Compare(e.start(), p) }

// compareEnd finds what is behind p.
func compareEnd(e entry, p place) int {
	if e.start() <= p {
		return -1
	}
	return 1
}

// summarize makes the value for entries of one chunk, ascending, with the help of its old value.
func (s *Spool) summarize(g *segment, list []entry, old []byte, buf *[]byte) ([]byte, error) {
	out := make([]saved, 0, len(list))
	i := 0
	add := func(e entry, from *saved) {
		out = append(out, saved{e.off(), from.id, e.due, uint8(e.place >> classShift & maxSize), e.tries(), from.queue, from.body})
		i++
	}
	// fromLog adds what is before off and not in the old value.
	fromLog := func(off int64) error {
		for i < len(list) && list[i].off() < off {
			e := list[i]
			h, err := readHead(g, e.off(), buf)
			var q []byte
			if err == nil {
				q, err = envelope.CutQueue(h.env)
			}
			if err != nil {
				if errors.As(err, new(ioError)) {
					return err
				}
				if d := s.damagedAt(g, e.off(), err); d.File == "" {
					return d
				}
				i++
				continue
			}
			add(e, &saved{id: h.id, queue: slices.Clone(q), body: h.segment})
		}
		return nil
	}
	if old, err := openValue(old); err == nil {
		err := parseEntries(old, func(o *saved) error {
			if err := fromLog(o.off); err != nil {
				return err
			}
			if i < len(list) && list[i].off() == o.off {
				add(list[i], o)
			}
			return nil
		})
		if err != nil && !errors.Is(err, errIndex) {
			return nil, err
		}
	}
	if err := fromLog(maxSegment); err != nil {
		return nil, err
	}
	return sealValue(appendEntries(nil, out)), nil
}

// dropStore ends the use of the index on disk, whose file was taken away with result err. The next checkpoint begins another.
func (s *Spool) dropStore(err error) error {
	s.storeMu.Lock()
	defer s.storeMu.Unlock()
	cerr := s.store.close()
	s.store = nil
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = s.fs.SyncDir(s.dir)
	}
	return errors.Join(err, cerr)
}

// newStore begins an index on disk, to be filled by a checkpoint.
func (s *Spool) newStore() error {
	st, err := openStore(s.fs, s.path(indexName), s.dir)
	if err != nil {
		return err
	}
	s.storeMu.Lock()
	s.store = st
	s.storeMu.Unlock()
	s.position, s.sums = position{}, map[string]uint64{}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	for _, g := range s.segments {
		g.dirty = ^uint64(0)
	}
	return nil
}

// stored appends to dst what the index on disk has under key; ok is false if it has nothing, or cannot be read.
func (s *Spool) stored(key string, dst []byte) (value []byte, ok bool) {
	s.storeMu.RLock()
	defer s.storeMu.RUnlock()
	if s.store == nil {
		return dst, false
	}
	v, ok, err := s.store.get(key, dst)
	return v, ok && err == nil
}
