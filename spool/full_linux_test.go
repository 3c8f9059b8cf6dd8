package spool_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
)

// A disk that the spool itself has filled to the last byte is freed by the removal of messages: nobody else has to make room first, though the index has
// to be written before a segment may go. It needs the right to mount a file system, since only there has bbolt a disk that is full.
func TestFullDiskFreesItself(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	s, err := spool.Open(dir, spool.Options{SegmentSize: 256 << 10, MinFree: spool.Limit{Bytes: 1}, CheckpointInterval: 100 * time.Millisecond, CheckInterval: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ids := &mtakit.IDSource{}
	store := func() (mtakit.ID, error) {
		m := &mtakit.Message{ID: ids.New(time.Now()), Sender: "a@x.test", To: []string{"b@y.test"}, Queue: mtakit.QueueName{Domain: "y.test"}}
		return m.ID, s.Store(t.Context(), []mtakit.Submission{{Message: m, Body: mtakit.Bytes(fmt.Sprintf("%020000d", 1))}}, mtakit.Buffered)
	}
	for round := range 3 {
		var all []mtakit.ID
		for {
			id, err := store()
			if errors.Is(err, mtakit.ErrSpoolFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, id)
		}
		for _, id := range all {
			// There may be no room for one more, until the next segment is freed.
			for end := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
				err := s.Remove(t.Context(), id)
				if err == nil {
					break
				}
				if !errors.Is(err, mtakit.ErrSpoolFull) || time.Now().After(end) {
					t.Fatalf("round %d: message can't be removed: %v", round, err)
				}
			}
		}
		for end := time.Now().Add(time.Minute); ; {
			if _, err := store(); err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatalf("round %d: %d messages were removed, and still: %v", round, len(all), err)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}
