package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
)

// DamagedError says that a part of the log is not what was written. What is there was copied to a file of its own, under
// damaged/ in the directory of the spool, and the message is no longer in the spool.
type DamagedError struct {
	ID      mtakit.ID // zero if not even that could be read
	Segment uint64
	Offset  int64 // in the segment
	Length  int64
	File    string // name of the copy; "" if it could not be made, and the message is still in the spool
	Err     error
}

func (e *DamagedError) Error() string {
	what := "a part of the log"
	if !e.ID.IsZero() {
		what = "message " + e.ID.String()
	}
	where := "it could not be set aside"
	if e.File != "" {
		where = "set aside as " + filepath.Base(e.File)
	}
	return fmt.Sprintf("spool: %s is damaged (segment %016x, %d bytes from %d; %s): %v", what, e.Segment, e.Length, e.Offset, where, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// damagedUnlessIO is damaged, unless the failure was one to read.
func (s *Spool) damagedUnlessIO(r *reading, err error) error {
	var io ioError
	if errors.As(err, &io) {
		return err
	}
	return s.damaged(r, err)
}

func (s *Spool) damagedRelease(r *reading, err error) error {
	defer r.release()
	return s.damaged(r, err)
}

// damaged sets the record of r aside and takes the message out, and returns a [*DamagedError].
func (s *Spool) damaged(r *reading, cause error) error {
	e := &DamagedError{ID: r.head.id, Segment: r.segment.number, Offset: r.entry.off(), Err: cause}
	if now, ok := s.index.get(e.ID); ok && now.record() != r.entry.record() {
		return errMoved // and so it need not be damaged
	}
	var parts []part
	if r.head.env == nil { // the head is unreadable, so nothing says how long it is
		e.Length = min(s.endOf(r.segment)-e.Offset, 1<<20)
		parts = []part{{r.segment, e.Offset, e.Length}}
	} else {
		n := int64(r.head.len())
		e.Length = n + r.head.size
		parts = []part{{r.segment, e.Offset, n}, {r.bodySegment(), r.bodyAt(), r.head.size}}
	}
	name, err := s.setAside(e.ID.String(), parts)
	if err != nil {
		s.log.Error("spool cannot set a damaged message aside", "id", e.ID.String(), "err", err)
		return e
	}
	if err := s.forgetDamaged(e.ID, r); err != nil {
		s.log.Error("spool cannot take a damaged message out", "id", e.ID.String(), "err", err)
		return e
	}
	e.File = name
	s.noteDamage(e)
	return e
}

// damagedAt sets aside what is at off, where a record should be that has no readable id, and takes it out of the index by
// its place. The log cannot say so, and need not: it cannot be read from there again.
func (s *Spool) damagedAt(g *segment, off int64, cause error) *DamagedError {
	e := &DamagedError{Segment: g.number, Offset: off, Length: min(s.endOf(g)-off, 1<<20), Err: cause}
	name, err := s.setAside(fmt.Sprintf("%016x-%d", g.number, off), []part{{g, off, e.Length}})
	if err != nil {
		s.log.Error("spool cannot set a damaged message aside", "segment", g.number, "offset", off, "err", err)
		return e
	}
	e.File = name
	s.writeMu.Lock()
	if old, ok := s.index.removePlace(makePlace(g.slot, off, false, 0)); ok {
		s.drop(old.place, noSlot)
		s.live.Add(-1)
	}
	s.writeMu.Unlock()
	s.noteDamage(e)
	return e
}

func (s *Spool) noteDamage(e *DamagedError) {
	s.stats.damaged.Inc()
	s.log.Error("spool has set damage aside", "id", e.ID.String(), "segment", e.Segment, "offset", e.Offset, "file", e.File, "err", e.Err)
}

// forgetDamaged removes a message whose record cannot be trusted to say where its body is.
func (s *Spool) forgetDamaged(id mtakit.ID, r *reading) error {
	o := newOp(kindRemove)
	defer o.free()
	o.expect, o.ref.id = r.entry, id
	if r.entry.split() {
		if r.other == nil {
			// The body's segment is not known. It keeps a reference until the next start, which costs room and no mail.
			o.expectBody = noSlot
		} else {
			o.expectBody = r.other.slot
		}
	}
	o.frame = appendRemove(o.frame, id)
	o.finish()
	return unlessGone(s.writeLast(o))
}

// part is a piece of a segment.
type part struct {
	g      *segment
	off, n int64
}

// setAside copies parts to a new file that is durable when it returns.
func (s *Spool) setAside(name string, parts []part) (string, error) {
	dir := s.damageDir()
	if err := vfs.MakeDir(s.fs, dir, 0o700); err != nil {
		return "", err
	}
	name = filepath.Join(dir, name)
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	b := newMemBody(maxPooled)
	defer b.Close()
	var at int64
	for _, p := range parts {
		for n := int64(0); n < p.n && err == nil; {
			c := b.Bytes[:min(maxPooled, p.n-n)]
			m, rerr := p.g.file.ReadAt(c, p.off+n)
			if _, err = f.WriteAt(c[:m], at); err == nil && rerr != nil {
				break // what can be read is what there is
			}
			at += int64(m)
			n += int64(m)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.fs.SyncDir(dir)
	}
	return name, err
}

func (s *Spool) endOf(g *segment) int64 {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	return g.end
}
