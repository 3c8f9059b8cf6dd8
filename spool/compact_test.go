package spool

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
)

// rig is a spool whose segments are turned by hand.
type rig struct {
	*Spool
	t *testing.T
}

func newRig(t *testing.T, disk *vfs.Mem) rig {
	t.Helper()
	s, err := Open("/spool", Options{FS: disk, SegmentSize: minSegment, CheckpointInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return rig{s, t}
}

func (r rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r rig) store(m *mtakit.Message) {
	r.t.Helper()
	r.ok(r.Store(r.t.Context(), []mtakit.Submission{{Message: m, Body: mtakit.Bytes(strings.Repeat("x", 200))}}, mtakit.Durable))
}

// turn begins another segment and returns the one before.
func (r rig) turn() *segment {
	r.t.Helper()
	r.writeMu.Lock()
	defer r.writeMu.Unlock()
	g := r.active
	r.ok(r.rotate())
	return g
}

func (r rig) close() {
	r.t.Helper()
	r.ok(r.Close())
}

func letter(n byte) *mtakit.Message {
	return &mtakit.Message{ID: mtakit.ID{0, 0, 0, 0, 0, n, 0x70, 15: n}, Sender: "a@example.com", To: []string{"b@example.org"}}
}

// A reschedule is copied forward while the message's owner has something queued that has not been written yet.
func TestOwnerIsQuickerThanCopying(t *testing.T) {
	t.Parallel()
	due := time.Unix(2_000_000_000, 0).UTC()
	begin := func(t *testing.T) (rig, *mtakit.Message, *segment, *op) {
		s, m := newRig(t, new(vfs.Mem)), letter(1)
		s.store(m)
		s.turn()
		s.ok(s.Reschedule(t.Context(), m.ID, due, 3))
		g := s.turn()
		e, _ := s.index.get(m.ID)
		o := newOp(kindRemove)
		o.expect, o.ref.id = e, m.ID
		return s, m, g, o
	}
	queue := func(s rig, o *op) {
		o.finish()
		s.queueMu.Lock()
		s.queue = append(s.queue, o)
		s.queueMu.Unlock()
	}
	t.Run("remove", func(t *testing.T) {
		s, m, g, o := begin(t)
		defer s.close()
		o.frame = appendRemove(o.frame, m.ID)
		queue(s, o)
		s.ok(s.copyForward(g))
		if _, err := s.Load(t.Context(), m.ID); !errors.Is(err, mtakit.ErrNotFound) || s.Len() != 0 {
			t.Errorf("Load of the removed message: %v; there are %d messages", err, s.Len())
		}
	})
	t.Run("reschedule", func(t *testing.T) {
		s, m, g, o := begin(t)
		defer s.close()
		o.kind, o.frame = kindReschedule, newFrame(o.frame, kindReschedule)
		o.ref.due, _ = packDue(due.Add(time.Hour))
		o.ref.tries = 4
		o.frame = appendReschedule(o.frame, m.ID, o.ref.due, o.ref.tries)
		queue(s, o)
		s.ok(s.copyForward(g))
		got, err := s.Load(t.Context(), m.ID)
		s.ok(err)
		if !got.Due.Equal(due.Add(time.Hour)) || got.Tries != 4 {
			t.Errorf("it is due %v after %d tries, want %v after 4", got.Due, got.Tries, due.Add(time.Hour))
		}
	})
}

// A message is given another due time while it is copied: it is copied again, so that its segment can be freed.
func TestCopyingTriesAgain(t *testing.T) {
	t.Parallel()
	s, m := newRig(t, new(vfs.Mem)), letter(1)
	defer s.close()
	s.store(m)
	g := s.turn()
	o := newOp(kindReschedule)
	o.expect, _ = s.index.get(m.ID)
	o.ref.id, o.ref.tries = m.ID, 1
	o.frame = appendReschedule(o.frame, m.ID, 0, 1)
	o.finish()
	s.queue = append(s.queue, o)
	s.ok(s.copyForward(g))
	if got, err := s.Load(t.Context(), m.ID); err != nil || got.Tries != 1 {
		t.Errorf("Load: %+v, %v; want it after one try", got, err)
	}
	if g.live != 0 || g.stuck {
		t.Errorf("the segment has %d live records; stuck: %t", g.live, g.stuck)
	}
}

// A message that was removed has come again, under the id that it had. That its removal is copied forward does not take it out.
func TestRemovedAndStoredAgain(t *testing.T) {
	t.Parallel()
	disk := new(vfs.Mem)
	s, m := newRig(t, disk), letter(1)
	s.store(letter(2)) // keeps the first segment
	s.store(m)
	s.turn()
	s.ok(s.Remove(t.Context(), m.ID))
	g := s.turn()
	s.store(m)
	s.ok(s.copyForward(g))
	for range 2 {
		if _, err := s.Load(t.Context(), m.ID); err != nil || s.Len() != 2 {
			t.Errorf("Load: %v; there are %d messages", err, s.Len())
		}
		s.close()
		if err := disk.Remove("/spool/index.db"); err != nil {
			t.Fatal(err)
		}
		s = newRig(t, disk)
	}
	s.close()
}

// A message is stored under an id that is there already, and its body was not where its envelope is: what is freed is its own.
func TestStoredOverAnUpdated(t *testing.T) {
	t.Parallel()
	s, m := newRig(t, new(vfs.Mem)), letter(1)
	defer s.close()
	s.store(letter(2))
	first := s.turn()
	s.store(m)
	second := s.turn()
	s.ok(s.Update(t.Context(), m))
	s.turn()
	s.store(m)
	if first.live != 1 || second.live != 0 {
		t.Errorf("segments of the other message and of the old body have %d and %d live records, want 1 and 0", first.live, second.live)
	}
}

// Somebody has deleted the files that are kept for further segments.
func TestSpareIsGone(t *testing.T) {
	t.Parallel()
	disk := new(vfs.Mem)
	s := newRig(t, disk)
	defer s.close()
	s.store(letter(1))
	s.turn()
	s.ok(s.Remove(t.Context(), letter(1).ID))
	s.ok(s.Compact(t.Context()))
	s.createMu.Lock()
	spares := s.spares
	s.createMu.Unlock()
	if len(spares) == 0 {
		t.Fatal("there is no spare")
	}
	for _, sp := range spares {
		s.ok(disk.Remove(s.path(sp.name)))
	}
	for range 2 + len(spares) {
		s.turn()
	}
	s.ok(s.Err())
}

// An envelope that is larger than what can be read again is refused, and the one before stays.
func TestUpdateTooLarge(t *testing.T) {
	t.Parallel()
	s, m := newRig(t, new(vfs.Mem)), letter(1)
	defer s.close()
	s.store(m)
	large := letter(1)
	large.Meta = map[string]any{"large": strings.Repeat("x", maxHeads)}
	if err := s.Update(t.Context(), large); err == nil {
		t.Error("it was taken")
	}
	got, err := s.Load(t.Context(), m.ID)
	s.ok(err)
	if len(got.Meta) != 0 {
		t.Error("it was stored")
	}
}

// The record of a message's envelope is copied forward and its segment freed, then that of its removal, but not that of its first record. When the
// index is lost then, the message does not come back.
func TestRemovalOutlivesFirstRecord(t *testing.T) {
	t.Parallel()
	disk := new(vfs.Mem)
	s, m := newRig(t, disk), letter(1)
	for n := range byte(16) { // so that the segment is not worth copying
		s.store(letter(2 + n))
	}
	s.store(m)
	s.turn()
	s.ok(s.Update(t.Context(), m))
	s.ok(s.copyForward(s.turn()))
	s.ok(s.Remove(t.Context(), m.ID))
	s.ok(s.Compact(t.Context()))
	s.close()
	s.ok(disk.Remove("/spool/index.db"))
	s = newRig(t, disk)
	defer s.close()
	if _, err := s.Load(t.Context(), m.ID); !errors.Is(err, mtakit.ErrNotFound) || s.Len() != 16 {
		t.Errorf("Load of a message that was removed: %v; there are %d messages", err, s.Len())
	}
}

// A file of the log was removed and the directory not synced, and that is tried again, while somebody reads the file.
func TestFreedTwiceWhileRead(t *testing.T) {
	t.Parallel()
	disk := new(vfs.Mem)
	s, m := newRig(t, disk), letter(1)
	defer s.close()
	large := mtakit.Bytes(strings.Repeat("x", maxPooled+1))
	s.ok(s.Store(t.Context(), []mtakit.Submission{{Message: m, Body: large}}, mtakit.Durable))
	body, err := s.Open(t.Context(), m.ID)
	s.ok(err)
	defer body.Close()
	s.turn()
	s.ok(s.Remove(t.Context(), m.ID))
	before := ""
	disk.SetBefore(func(o vfs.Op) (err error) {
		if before == "remove" && o.Kind == "syncdir" {
			err = syscall.EIO
		}
		before = o.Kind
		return err
	})
	if err := s.Compact(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Compact: %v, want EIO", err)
	}
	disk.SetBefore(nil)
	s.store(letter(2))
	s.ok(s.Compact(t.Context()))
	if _, err := body.ReadAt(make([]byte, 1), 0); err != nil {
		t.Errorf("reading an open body: %v", err)
	}
}
