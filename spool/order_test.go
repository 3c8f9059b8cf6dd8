package spool_test

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// Compact gives back what the background goroutine leaves alone, and loses nothing.
func TestCompact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := new(spooltest.Disk)
		s := open(t, "/spool", spool.Options{FS: disk, SegmentSize: 64 << 10, CheckpointInterval: time.Hour})
		w := newWorld(t, s)
		w.strict = true
		for n := range 200 { // a third is removed: no segment is half dead
			ids := w.store(mtakit.Durable, 2000, 2000, 2000)
			w.remove(ids[n%3])
			if n%10 == 0 {
				w.reschedule(ids[(n+1)%3])
			}
		}
		before := s.Stats()
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := s.Stats()
		live := int64(400 * 2000)
		if before.LogBytes < live*3/2 || after.LogBytes > live*5/4 || after.Copied < 300 {
			t.Errorf("the log had %d bytes and has %d, %d of them in messages; %d were copied", before.LogBytes, after.LogBytes, live, after.Copied)
		}
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again := s.Stats(); again.Copied != after.Copied {
			t.Errorf("a second one copied %d", again.Copied-after.Copied)
		}
		w.ledger.verify(t, s, false)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wants(t, s.Compact(ctx), context.Canceled, "Compact after the end of its context")
		for range s.Scan(t.Context(), mtakit.ID{0xff}) {
			if err := s.Compact(t.Context()); err == nil {
				t.Error("it was compacted during a scan")
			}
			break
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wants(t, s.Compact(t.Context()), mtakit.ErrClosed, "Compact after Close")
		s = open(t, "/spool", withDisk(disk))
		w.ledger.verify(t, s, true)
		s.Close()
	})
}

// A disk that fails is told, and once it works again there is something to do.
func TestCompactFails(t *testing.T) {
	t.Parallel()
	bubble(t, spool.Options{SegmentSize: 64 << 10, CheckpointInterval: time.Hour, RetryInterval: time.Second}, func(t *testing.T, w *world, disk *spooltest.Disk) {
		w.strict = true
		for range 50 {
			ids := w.store(mtakit.Buffered, 2000, 1500)
			w.remove(ids[1])
		}
		failing(disk, "datasync", syscall.EIO)
		wants(t, w.s.Compact(t.Context()), mtakit.ErrUnhealthy, "Compact on a disk that fails")
		wants(t, w.s.Compact(t.Context()), mtakit.ErrUnhealthy, "Compact of a spool that is unhealthy")
		failing(disk, "none", nil)
		w.idle(2 * time.Second)
		if err := w.s.Compact(t.Context()); err != nil {
			t.Error(err)
		}
		w.ledger.verify(t, w.s, false)
	})
}
