package eventlog_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

func TestBackPressure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		l := open(t, eventlog.Config{BackPressure: 10}, disk)
		disk.SetBefore(func(o vfs.Op) error {
			if o.Kind == "write" {
				return syscall.ENOSPC
			}
			return nil
		})
		for i := range 1000 { // Record never blocks
			l.Record(record(i))
		}
		synctest.Wait()
		if err := l.Err(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Err is %v, want ENOSPC", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Pace(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Pace with a full disk: %v, want it to wait", err)
		}
		if err := l.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush with a full disk: %v, want it to wait", err)
		}
		disk.SetBefore(nil)
		if err := l.Pace(t.Context()); err != nil { // when the writer has tried again
			t.Errorf("Pace: %v", err)
		}
		if err := l.Err(); err != nil {
			t.Errorf("Err after recovery: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		rs := records(t, disk, "/logs")
		if wantUnbroken(t, rs); len(rs) != 1000 {
			t.Errorf("%d records, want 1000", len(rs))
		}
		if err := l.Pace(t.Context()); err != nil {
			t.Errorf("Pace after Close: %v", err)
		}
		var full float64
		l.Collect("log_submit_full", func(s mtakit.Sample) bool { full = s.Value; return true })
		if full != 2 {
			t.Errorf("log_submit_full is %v, want 2", full)
		}
	})
}

func TestCloseWithFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		l := open(t, eventlog.Config{}, disk)
		disk.SetBefore(func(vfs.Op) error { return syscall.ENOSPC })
		for i := range 7 {
			l.Record(record(i))
		}
		synctest.Wait()
		err := l.Close()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "7 records") {
			t.Errorf("Close: %v, want ENOSPC and the number of lost records", err)
		}
		if err2 := l.Close(); err2 != err {
			t.Errorf("second Close: %v, want the same", err2)
		}
	})
}

// Each operation on the disk fails once, or for a while: nothing is lost, and repeats carry the number of the first.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, failures := range []int{1, 3} {
			for n := 1; ; n++ {
				reached := false
				synctest.Test(t, func(t *testing.T) {
					disk := &vfs.Mem{}
					l := open(t, eventlog.Config{MaxFileSize: 2000, Sync: n%2 == 0}, disk)
					first := disk.Count() + n
					disk.SetBefore(func(o vfs.Op) error {
						if o.N >= first && o.N < first+failures {
							reached = true
							return cause
						}
						return nil
					})
					for i := range 9 {
						l.Record(record(i))
						if i%3 == 2 {
							if err := l.Flush(t.Context()); err != nil {
								t.Fatal(err)
							}
						}
					}
					err := l.Close() // tries only once more
					disk.SetBefore(nil)
					seen := map[uint64]int64{}
					for _, r := range records(t, disk, "/logs") {
						if size, ok := seen[r.Seq]; ok && size != r.Size {
							t.Errorf("%v at operation %d: two records have number %d", cause, n, r.Seq)
						}
						seen[r.Seq] = r.Size
					}
					if len(seen) != 9 {
						t.Errorf("%v at operation %d: %d records of 9; Close: %v", cause, n, len(seen), err)
					}
				})
				if !reached || t.Failed() {
					break
				}
			}
		}
	}
}

// shortDisk takes the half of a write before it is full, now and then.
type shortDisk struct {
	vfs.FS
	n int
}

type shortFile struct {
	vfs.File
	disk *shortDisk
}

func (d *shortDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(name)[0] == '.' || flag&os.O_WRONLY == 0 {
		return f, err
	}
	return &shortFile{f, d}, nil
}

func (f *shortFile) Write(b []byte) (int, error) {
	if f.disk.n++; f.disk.n%3 != 0 {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:len(b)/2])
	return n, errors.Join(err, syscall.ENOSPC)
}

// A write that went half way goes on where it stopped.
func TestShortWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &shortDisk{FS: &vfs.Mem{}}
		l := open(t, eventlog.Config{}, disk)
		for i := range 100 {
			l.Record(record(i))
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		rs := records(t, disk, "/logs")
		if wantUnbroken(t, rs); len(rs) != 100 || len(segments(t, disk, "/logs")) != 1 {
			t.Errorf("%d records in %d segments, want 100 in one", len(rs), len(segments(t, disk, "/logs")))
		}
	})
}

// Flush waits for what was recorded before it in each stream, whatever more comes in the others.
func TestFlushOfSeveralStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		l := open(t, eventlog.Config{PerRecord: map[mtakit.Kind]eventlog.KindConfig{mtakit.Bounce: {Suffix: "-bounces"}}}, disk)
		full := func(suffix string) {
			disk.SetBefore(func(o vfs.Op) error {
				if o.Kind == "write" && strings.HasSuffix(o.Name, suffix) {
					return syscall.ENOSPC
				}
				return nil
			})
		}
		full("")
		l.Record(record(1))
		synctest.Wait() // the writer has it
		l.Record(&mtakit.Record{Kind: mtakit.Bounce})
		var flushed atomic.Bool
		go func() {
			if err := l.Flush(t.Context()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			flushed.Store(true)
		}()
		synctest.Wait()
		for i := range 5 {
			l.Record(record(2 + i))
		}
		full("-bounces")
		advance(time.Minute)
		if flushed.Load() {
			t.Error("Flush returned, and the bounce is in memory only")
		}
		full("none")
		advance(time.Minute)
		if !flushed.Load() {
			t.Error("Flush waits though everything is written")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if rs := records(t, disk, "/logs"); len(rs) != 7 {
			t.Errorf("there are %d records, want 7", len(rs))
		}
	})
}

// A sync that fails for want of space has lost what it was to make durable, though the next one succeeds.
func TestSyncFindsNoSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		l := open(t, eventlog.Config{Sync: true}, disk)
		failed := false
		disk.SetBefore(func(o vfs.Op) error {
			if o.Kind == "datasync" && !failed {
				failed = true
				return syscall.ENOSPC
			}
			return nil
		})
		l.Record(record(1))
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := disk.Crash(vfs.LoseAll, nil)
		if rs := records(t, after, "/logs"); len(rs) != 1 {
			t.Errorf("%d records are durable, want 1", len(rs))
		}
		if err := l.Close(); err == nil {
			t.Error("Close succeeded after the crash")
		}
	})
}
