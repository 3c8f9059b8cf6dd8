package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// free deletes segments that had no live record at a checkpoint that is now on disk.
//
// A segment also holds what is said of messages in older ones: that they are gone, or due later. If the index on disk is
// lost, and an older one still has the message, only that keeps it from coming back. So a segment goes only after all
// between the oldest that it speaks of and itself, and names go in that order, also over a crash.
func (s *Spool) free(list []*segment) error {
	s.writeMu.Lock()
	for _, g := range list { // ascending
		if s.freeable(g) {
			s.dropSegment(g)
			s.logBytes.Add(-g.end)
			s.doomed = append(s.doomed, g)
		}
	}
	s.writeMu.Unlock()
	for len(s.doomed) > 0 {
		g := s.doomed[0]
		if err := s.deleteSegment(g); err != nil {
			return fmt.Errorf("spool: freeing segment %016x: %w", g.number, err)
		}
		s.doomed = s.doomed[1:]
		s.gone = append(s.gone, g.number)
		s.stats.freed.Inc()
	}
	return nil
}

func (s *Spool) freeable(g *segment) bool {
	if g == s.active || s.numbered(g.number) != g || slices.Contains(s.unsynced, g) {
		return false
	}
	i, _ := slices.BinarySearchFunc(s.segments, g.oldest, func(o *segment, n uint64) int { return cmp.Compare(o.number, n) })
	return s.segments[i] == g
}

// deleteSegment removes the file of a segment, or keeps it for another. It may be called again after an error.
func (s *Spool) deleteSegment(g *segment) error {
	s.createMu.Lock()
	defer s.createMu.Unlock()
	name := segmentName(g.number)
	switch {
	case g.deleted: // and the directory not synced
	// Nobody may read what is going to be written over.
	case len(s.spares) < maxSpares && g.size >= minSegment && s.full.Load() == nil && g.refs.CompareAndSwap(1, 0):
		g.file.Close()
		sp := spare{strings.TrimSuffix(name, segmentSuffix) + spareSuffix, g.size}
		if err := s.fs.Rename(s.path(name), s.path(sp.name)); err != nil {
			return err
		}
		s.spares = append(s.spares, sp)
	default:
		if err := s.fs.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if g.refs.Load() > 0 {
			g.release()
		}
	}
	g.deleted = true
	return s.fs.SyncDir(s.dir)
}
