package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/mtakit/mtakit/internal/vfs"
)

// segment is one file of the log.
type segment struct {
	number uint64 // grows by one with each
	slot   uint32 // its place in Spool.slots, used again after it is gone
	salt   uint32
	file   vfs.File

	// refs is 1 for being in the log and 1 for each reader; the last to go closes the file.
	refs atomic.Int32
	// deleted says that the file has another name or none; guarded by createMu.
	deleted bool
	// synced is how far it is durable; written with syncMu held.
	synced atomic.Int64

	// The rest is guarded by Spool.writeMu.

	size   int64  // where it is full
	end    int64  // where the next frame goes
	live   int64  // records that are the newest of a message, and bodies that such records in other segments use
	dirty  uint64 // chunks of which the index on disk is out of date
	oldest uint64 // the lowest segment that its removes and reschedules are about; number if there are none
	// liveBytes is about what the live records take, refBytes what the removes and reschedules do: together the cost of copying
	// the segment forward.
	liveBytes, refBytes int64
	puts                int64 // records of messages, for each of which at most one remove or reschedule is needed
	stuck               bool  // copying it forward left something
}

// envelopeSize is about what a record takes whose body is elsewhere.
const envelopeSize = 384

// chunkShift divides a segment into 64 chunks, the units in which the index is written to disk.
const chunkShift = 20

func chunkBit(off int64) uint64 { return 1 << (off >> chunkShift) }

// acquire keeps the file open until release. It fails when the segment is gone.
func (g *segment) acquire() bool {
	for {
		n := g.refs.Load()
		if n == 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *segment) release() {
	if g.refs.Add(-1) == 0 {
		g.file.Close() // nothing was written through it that is not synced
	}
}

func (g *segment) noteRef(oldest uint64, bytes int64) {
	g.oldest = min(g.oldest, oldest)
	g.refBytes += bytes
}

// noSlot is the slot of a segment that is not known.
const noSlot = maxSlots

const (
	segmentSuffix = ".log"
	spareSuffix   = ".spare"
	tempSuffix    = ".new"
)

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

// segmentNumber is the inverse of segmentName.
func segmentNumber(name string) (uint64, bool) {
	h, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(h) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(h, 16, 64)
	return n, err == nil
}

func (s *Spool) path(name string) string { return filepath.Join(s.dir, name) }

// spare is the file of a segment that is gone, kept because writing to blocks that a file already has costs no journal entry
// at the sync, and so up to a third of its time.
type spare struct {
	name string
	size int64
}

const maxSpares = 4

// createSegment makes the file of a segment, from a spare if there is one, durable with its name; createMu is held.
func (s *Spool) createSegment(number uint64) (*segment, error) {
	var salt [4]byte
	rand.Read(salt[:])
	g := &segment{number: number, oldest: number, salt: binary.LittleEndian.Uint32(salt[:]), end: segmentHeader}
	g.refs.Store(1)
	name := s.path(segmentName(number))
	temp := name + tempSuffix
	flag := os.O_RDWR | os.O_CREATE | os.O_EXCL
	recycled := false
	for n := len(s.spares); n > 0 && !recycled; n-- {
		sp := s.spares[n-1]
		s.spares = s.spares[:n-1] // also if it fails: it would again
		switch err := s.fs.Rename(s.path(sp.name), temp); {
		case err == nil:
			recycled, g.size, flag = true, sp.size, os.O_RDWR
		case !errors.Is(err, fs.ErrNotExist): // else somebody has deleted it
			return nil, err
		}
	}
	if !recycled {
		g.size = s.segmentSize()
	}
	f, err := s.fs.OpenFile(temp, flag, 0o600)
	if err != nil {
		return nil, err
	}
	g.file = f
	if !recycled {
		err = f.Preallocate(g.size)
	}
	if err == nil {
		_, err = f.WriteAt(makeSegmentHeader(number, g.salt), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.fs.Rename(temp, name)
	}
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		f.Close()
		if rerr := s.fs.Remove(temp); errors.Is(rerr, fs.ErrNotExist) {
			s.fs.Remove(name)
		}
		return nil, err
	}
	g.synced.Store(segmentHeader)
	return g, nil
}

// segmentSize is the configured one, or on a small or nearly full disk a fraction of what is free.
func (s *Spool) segmentSize() int64 {
	size := s.o.SegmentSize
	if u, err := s.fs.Usage(s.dir); err == nil && u.Bytes > 0 {
		size = max(min(size, int64(u.Free/32)), minSegment)
	}
	return size
}

// addSegment gives g a slot; writeMu is held.
func (s *Spool) addSegment(g *segment) error {
	old := *s.slots.Load()
	slots := append(make([]*segment, 0, len(old)+1), old...)
	slot := -1
	for i, o := range slots {
		if o == nil {
			slot = i
			break
		}
	}
	if slot < 0 {
		if len(slots) == maxSlots {
			return fmt.Errorf("spool: more than %d segments", maxSlots)
		}
		slot = len(slots)
		slots = append(slots, nil)
	}
	g.slot = uint32(slot)
	slots[slot] = g
	s.slots.Store(&slots)
	s.segments = append(s.segments, g)
	return nil
}

// dropSegment takes g out of the log; writeMu is held.
func (s *Spool) dropSegment(g *segment) {
	slots := append([]*segment(nil), *s.slots.Load()...)
	slots[g.slot] = nil
	s.slots.Store(&slots)
	for i, o := range s.segments {
		if o == g {
			s.segments = append(s.segments[:i:i], s.segments[i+1:]...)
			break
		}
	}
}

// at is the segment in a slot; nil if there is none.
func (s *Spool) at(slot uint32) *segment {
	slots := *s.slots.Load()
	if int(slot) < len(slots) {
		return slots[slot]
	}
	return nil
}

// numbered is the segment with a number, nil if it is gone; writeMu is held. Numbers ascend.
func (s *Spool) numbered(number uint64) *segment {
	lo, hi := 0, len(s.segments)
	for lo < hi {
		if m := (lo + hi) / 2; s.segments[m].number < number {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo < len(s.segments) && s.segments[lo].number == number {
		return s.segments[lo]
	}
	return nil
}

// prepare sees to it that there is a next segment, and says whether it made one.
func (s *Spool) prepare() (made bool, err error) {
	s.createMu.Lock()
	defer s.createMu.Unlock()
	made = s.next == nil
	return made, s.prepareLocked()
}

func (s *Spool) prepareLocked() error {
	if s.next != nil {
		return nil
	}
	g, err := s.createSegment(s.lastNumber + 1)
	if err != nil {
		return err
	}
	s.lastNumber, s.next = g.number, g
	return nil
}

// rotate makes the next segment the active one; writeMu is held. The rotate frame that begins it says how long the one
// before is: whoever reads a durable frame in the new one knows that the old one was durable to that length.
func (s *Spool) rotate() error {
	s.createMu.Lock()
	defer s.createMu.Unlock()
	if err := s.prepareLocked(); err != nil {
		return err
	}
	g, old := s.next, s.active
	if old != nil {
		b := appendRotate(newFrame(nil, kindRotate), old.number, old.end)
		closeFrame(b, 1, 0)
		stampFrame(b, g.salt, g.end, g.synced.Load())
		if _, err := g.file.WriteAt(b, g.end); err != nil {
			return err
		}
		g.end += int64(len(b))
	}
	if err := s.addSegment(g); err != nil {
		return err
	}
	if old != nil {
		s.unsynced = append(s.unsynced, old)
	}
	s.next, s.active = nil, g
	s.wake()
	return nil
}

// noSpace says whether err is of a disk or a quota that is full.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
