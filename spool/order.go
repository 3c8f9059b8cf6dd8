package spool

import (
	"context"
	"errors"

	"github.com/mtakit/mtakit"
)

// order is a Compact that waits for the background goroutine.
type order struct {
	ctx  context.Context
	done chan error // capacity 1
}

var errScanned = errors.New("spool: it can't be compacted while it is being scanned")

// Compact copies forward what lives in segments of which more than an eighth is dead, and frees these: the background goroutine does so by itself, but only
// once it pays. It returns when that is done, and may take as long as it takes to read the spool; mail goes on meanwhile. An end of ctx ends it after the
// segment in hand.
//
// Errors wrap ErrUnhealthy, ErrClosed, or the failure of the file system.
func (s *Spool) Compact(ctx context.Context) error {
	o := order{ctx, make(chan error, 1)}
	select {
	case s.orders <- o:
	case <-s.stop:
		return mtakit.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-o.done
}

// carryOut does what Compact asks for.
func (s *Spool) carryOut(o order) {
	o.done <- func() error {
		if err := o.ctx.Err(); err != nil {
			return err
		}
		if s.scans.Load() > 0 {
			return errScanned
		}
		if err := s.sick(); err != nil {
			return err
		}
		last, err := s.sealSparse()
		if err != nil {
			return s.writeFailed(err)
		}
		if err := s.checkpoint(false); err != nil {
			return err
		}
		for number := uint64(0); ; {
			g := s.sparse(number, last)
			if g == nil {
				return nil
			}
			number = g.number + 1
			if err := s.giveUp(o.ctx, g); err != nil {
				return err
			}
		}
	}()
}

// giveUp copies forward what is needed of a segment and frees it.
func (s *Spool) giveUp(ctx context.Context, g *segment) error {
	select {
	case <-s.stop:
		return mtakit.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	if err := s.copyForward(g); err != nil {
		return err
	}
	if err := s.checkpoint(false); err != nil {
		return err
	}
	if _, err := s.prepare(); err != nil {
		return s.writeFailed(err)
	}
	s.check()
	return s.sick()
}

// isSparse says whether more than an eighth of a segment is dead. What is alive in bytes is an estimate that may be half as much again.
func (g *segment) isSparse() bool { return g.live < g.puts-g.puts/8 || g.needed() < g.end-g.end/8 }

// sealSparse seals the active segment if it is sparse, and returns the number of the last sealed one.
func (s *Spool) sealSparse() (uint64, error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.active.end > segmentHeader && s.active.isSparse() {
		if err := s.rotate(); err != nil {
			return 0, err
		}
	}
	return s.active.number - 1, nil
}

// sparse is the first sparse segment from one number to another; nil if there is none.
func (s *Spool) sparse(from, to uint64) *segment {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	for _, g := range s.segments {
		if g != s.active && g.number >= from && g.number <= to && !g.stuck && g.isSparse() {
			return g
		}
	}
	return nil
}
