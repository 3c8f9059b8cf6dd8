package spool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
	"github.com/mtakit/mtakit/spool/spooltest"
)

func wants(t *testing.T, err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// bubble runs f with a spool on a disk in memory.
func bubble(t *testing.T, o spool.Options, f func(t *testing.T, w *world, disk *spooltest.Disk)) {
	synctest.Test(t, func(t *testing.T) {
		disk := new(spooltest.Disk)
		o.FS = disk
		s, err := spool.Open("/spool", o)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, s)
		f(t, w, disk)
		if err := w.s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// failing makes operations of one kind on segments fail.
func failing(disk *spooltest.Disk, kind string, err error) {
	disk.SetBefore(func(o spooltest.Op) error {
		if o.Kind == kind && strings.Contains(o.Name, ".log") {
			return err
		}
		return nil
	})
}

func TestFailedSync(t *testing.T) {
	t.Parallel()
	for _, loss := range []spooltest.Loss{spooltest.LoseAll, spooltest.LoseNone} {
		t.Run(loss.String(), func(t *testing.T) {
			bubble(t, crashOptions, func(t *testing.T, w *world, disk *spooltest.Disk) {
				old := w.store(mtakit.Durable, 1000, 2000, 100)
				buffered := w.store(mtakit.Buffered, 3000)
				w.remove(old[0])
				failing(disk, "datasync", syscall.EIO)
				n := w.store(mtakit.Durable, 10) // the error is not that of this call alone: buffered is in doubt too
				wants(t, w.s.Err(), mtakit.ErrUnhealthy, "Err after a failed sync")
				wants(t, w.s.Err(), syscall.EIO, "Err after a failed sync")
				failing(disk, "none", nil)
				// A second sync would succeed, and would be a lie.
				ctx := context.Background()
				m := &mtakit.Message{ID: w.src.New(epoch), To: []string{"a@b"}}
				wants(t, w.s.Store(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes("x")}}, mtakit.Durable), mtakit.ErrUnhealthy, "Store")
				wants(t, w.s.Update(ctx, &mtakit.Message{ID: old[1]}), mtakit.ErrUnhealthy, "Update")
				wants(t, w.s.Remove(ctx, old[1]), mtakit.ErrUnhealthy, "Remove")
				if _, err := w.s.Load(ctx, old[1]); err != nil {
					t.Errorf("Load while unhealthy: %v", err)
				}
				if _, err := w.s.Load(ctx, n[0]); !errors.Is(err, mtakit.ErrNotFound) {
					t.Errorf("a message whose Store failed: %v, want ErrNotFound", err)
				}
				w.idle(2 * time.Second)
				if err := w.s.Err(); err != nil {
					t.Fatalf("Err after the disk has recovered: %v", err)
				}
				// What the failed sync had lost is safe now.
				w.strict = true
				w.store(mtakit.Durable, 5)
				w.update(buffered[0])
				after := disk.Crash(loss, nil)
				_ = w.s.Close()
				s, err := spool.Open("/spool", withDisk(after))
				if err != nil {
					t.Fatal(err)
				}
				w.s = s
				w.ledger.verify(t, s, loss == spooltest.LoseAll)
				if st := s.Stats(); st.Damaged != 0 {
					t.Errorf("%d damaged pieces after the repair", st.Damaged)
				}
			})
		})
	}
}

// The disk fails at each operation once, with EIO; the spool comes back, and a power failure afterwards loses nothing that
// was acknowledged.
func TestFailureAtEveryOperation(t *testing.T) {
	t.Parallel()
	all := count(t)
	for n := 8; n <= all; n += crashStep { // earlier, Open fails
		synctest.Test(t, func(t *testing.T) {
			disk := new(spooltest.Disk)
			disk.FailAt(n, syscall.EIO)
			l := run(t, disk, false)
			after := disk.Crash(spooltest.LoseAll, rand.New(rand.NewPCG(uint64(n), 1)))
			s, err := spool.Open("/spool", withDisk(after))
			if err != nil {
				t.Fatalf("failure at %d: Open: %v", n, err)
			}
			defer s.Close()
			l.verify(t, s, true)
			if t.Failed() {
				t.Fatalf("failure at %d", n)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func TestUnhealthyUntilTheDiskWorks(t *testing.T) {
	t.Parallel()
	bubble(t, crashOptions, func(t *testing.T, w *world, disk *spooltest.Disk) {
		w.store(mtakit.Durable, 100)
		failing(disk, "write", syscall.EIO)
		w.store(mtakit.Durable, 100)
		for range 5 {
			w.idle(2 * time.Second)
			wants(t, w.s.Err(), mtakit.ErrUnhealthy, "Err")
		}
		failing(disk, "none", nil)
		w.idle(2 * time.Second)
		if err := w.s.Err(); err != nil {
			t.Errorf("Err: %v", err)
		}
		w.strict = true
		w.store(mtakit.Durable, 100)
		w.ledger.verify(t, w.s, false)
	})
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	o := crashOptions
	o.MinFree = spool.Limit{Bytes: 1}
	bubble(t, o, func(t *testing.T, w *world, disk *spooltest.Disk) {
		disk.SetCapacity(300 << 10)
		var list []mtakit.ID
		full := false
		for range 40 {
			ids := w.store(mtakit.Durable, 20<<10)
			if full = errors.Is(w.s.Err(), mtakit.ErrSpoolFull); full {
				break
			}
			list = append(list, ids...)
			w.idle(100 * time.Millisecond)
		}
		if !full {
			t.Fatal("300 KiB hold more than 800")
		}
		w.ledger.verify(t, w.s, false) // nothing is half there
		w.strict = true
		w.reschedule(list[0]) // goes on
		w.remove(list[1:]...)
		w.idle(5 * time.Second)
		if err := w.s.Err(); err != nil {
			t.Fatalf("Err after all but one was removed: %v", err)
		}
		w.store(mtakit.Durable, 20<<10)
		w.ledger.verify(t, w.s, false)
	})
}

// There is not even room for the index that would say which segments can go.
func TestFullDiskWithoutRoomForTheIndex(t *testing.T) {
	t.Parallel()
	o := crashOptions
	o.MinFree = spool.Limit{Bytes: 1}
	bubble(t, o, func(t *testing.T, w *world, disk *spooltest.Disk) {
		disk.SetCapacity(300 << 10)
		var list []mtakit.ID
		for w.s.Err() == nil {
			list = append(list, w.store(mtakit.Durable, 20<<10)...)
			w.idle(10 * time.Millisecond)
		}
		f, err := disk.OpenFile("/others", os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 300<<10), 0); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
		w.remove(list...)
		w.idle(10 * time.Second)
		if err := w.s.Err(); err != nil {
			t.Fatalf("Err after all was removed: %v", err)
		}
		w.strict = true
		w.store(mtakit.Durable, 20<<10)
		w.ledger.verify(t, w.s, false)
		w.idle(2 * time.Second)
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		o.FS = disk
		if w.s, err = spool.Open("/spool", o); err != nil {
			t.Fatal(err)
		}
		w.ledger.verify(t, w.s, false)
	})
}

func TestFullDiskOfOthers(t *testing.T) {
	t.Parallel()
	o := crashOptions
	o.MinFree = spool.Limit{Bytes: 1}
	bubble(t, o, func(t *testing.T, w *world, disk *spooltest.Disk) {
		keep := w.store(mtakit.Durable, 1000)
		failing(disk, "write", syscall.ENOSPC)
		w.store(mtakit.Durable, 2000, 3000)
		wants(t, w.s.Err(), mtakit.ErrSpoolFull, "Err")
		failing(disk, "none", nil)
		w.idle(1100 * time.Millisecond)
		if err := w.s.Err(); err != nil {
			t.Errorf("Err a second after there was room: %v", err)
		}
		w.strict = true
		w.store(mtakit.Durable, 10)
		w.remove(keep...)
		w.ledger.verify(t, w.s, false)
	})
}

func TestFreeSpaceLimit(t *testing.T) {
	t.Parallel()
	o := crashOptions
	o.MinFree = spool.Limit{Percent: 50}
	bubble(t, o, func(t *testing.T, w *world, disk *spooltest.Disk) {
		w.store(mtakit.Durable, 10)
		steps := []struct {
			capacity int64
			full     bool
		}{{1 << 20, false}, {200 << 10, true}, {270 << 10, true}, {300 << 10, false}} // two segments take 128 KiB: 50 % are free from 256 on, and 55 % from 285
		for _, c := range steps {
			disk.SetCapacity(c.capacity)
			w.idle(6 * time.Second)
			if full := errors.Is(w.s.Err(), mtakit.ErrSpoolFull); full != c.full {
				t.Errorf("disk of %d bytes: full is %v (%v), want %v", c.capacity, full, w.s.Err(), c.full)
			}
		}
	})
}

func TestCountLimit(t *testing.T) {
	t.Parallel()
	o := crashOptions
	o.MaxMessages = 100
	bubble(t, o, func(t *testing.T, w *world, disk *spooltest.Disk) {
		var list []mtakit.ID
		for range 100 {
			list = append(list, w.store(mtakit.Buffered, 10)...)
		}
		if w.s.Len() != 100 || w.s.Err() != nil {
			t.Fatalf("%d messages, Err %v", w.s.Len(), w.s.Err())
		}
		w.store(mtakit.Buffered, 10)
		if w.s.Len() != 100 {
			t.Errorf("%d messages, the limit is 100", w.s.Len())
		}
		wants(t, w.s.Err(), mtakit.ErrSpoolFull, "Err at the limit")
		w.remove(list[:4]...)
		wants(t, w.s.Err(), mtakit.ErrSpoolFull, "Err with 4 % free")
		w.remove(list[4])
		if err := w.s.Err(); err != nil {
			t.Errorf("Err with 5 %% free: %v", err)
		}
		w.ledger.verify(t, w.s, false)
	})
}

func TestByteLimit(t *testing.T) {
	t.Parallel()
	o := crashOptions
	o.MaxBytes = 500 << 10
	bubble(t, o, func(t *testing.T, w *world, disk *spooltest.Disk) {
		var list []mtakit.ID
		for w.s.Err() == nil {
			list = append(list, w.store(mtakit.Durable, 10<<10)...)
		}
		wants(t, w.s.Err(), mtakit.ErrSpoolFull, "Err")
		if n := len(list); n < 45 || n > 50 {
			t.Errorf("500 KiB hold %d messages of 10 KiB", n)
		}
		for i, id := range list { // two of three in each segment
			if i%3 != 0 {
				w.remove(id)
			}
		}
		w.idle(5 * time.Second)
		if err := w.s.Err(); err != nil {
			t.Errorf("Err after two thirds were removed: %v", err)
		}
		w.ledger.verify(t, w.s, false)
	})
}

func TestDirectoryRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/spool"
	s := open(t, dir, spool.Options{CheckInterval: time.Millisecond, RetryInterval: time.Millisecond})
	if err := os.Rename(dir, dir+"-gone"); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for s.Err() == nil {
		select {
		case <-deadline:
			t.Fatal("the directory is gone and the spool is still healthy")
		case <-time.After(time.Millisecond):
		}
	}
	wants(t, s.Err(), mtakit.ErrUnhealthy, "Err")
	if err := s.Close(); err == nil {
		t.Error("Close of a spool whose directory is gone reports nothing")
	}
}

// Writers, readers and removers while segments of the smallest size are copied and freed under them.
func TestConcurrentWithCopying(t *testing.T) {
	t.Parallel()
	disk := new(spooltest.Disk)
	s := open(t, "/spool", spool.Options{FS: disk, SegmentSize: 64 << 10, CheckpointInterval: time.Millisecond})
	var wg sync.WaitGroup
	var mu sync.Mutex
	all := &ledger{track: map[mtakit.ID]*track{}}
	for g := range 6 {
		wg.Go(func() {
			w := newWorld(t, s)
			w.src.New(epoch.Add(time.Duration(g) * time.Hour)) // ids of their own
			w.strict = true
			rnd := rand.New(rand.NewPCG(uint64(g), 3))
			var live []mtakit.ID
			for range 100 {
				live = append(live, w.store(mtakit.Durability(rnd.IntN(3)), 1+rnd.IntN(6000), 1+rnd.IntN(100))...)
				for range 4 {
					i := rnd.IntN(len(live))
					switch rnd.IntN(4) {
					case 0:
						w.update(live[i])
					case 1:
						w.reschedule(live[i])
					default:
						w.remove(live[i])
						live = append(live[:i], live[i+1:]...)
					}
					if len(live) == 0 {
						break
					}
					if id := live[rnd.IntN(len(live))]; read(t, s, id) != w.ledger.now(id) {
						t.Errorf("read %v, want %v", read(t, s, id), w.ledger.now(id))
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.ids = append(all.ids, w.ledger.ids...)
			for id, k := range w.ledger.track {
				k.batch += g << 20
				all.track[id] = k
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(time.Minute); s.Stats().Freed == 0 || s.Stats().Copied == 0; { // it is done in the background
		if time.Now().After(end) {
			t.Fatalf("nothing was freed or copied: %+v", s.Stats())
		}
		<-time.After(time.Millisecond)
	}
	all.verify(t, s, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, "/spool", withDisk(disk))
	all.verify(t, s, false)
	s.Close()
	if err := disk.Remove("/spool/index.db"); err != nil {
		t.Fatal(err)
	}
	s = open(t, "/spool", withDisk(disk))
	all.verify(t, s, false)
	s.Close()
}
