package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

// The process is killed at each operation. Then everything flushed is there, numbers are given once, and the stream goes on.
func TestKilledAtEveryOperation(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		reached := false
		synctest.Test(t, func(t *testing.T) {
			disk := &vfs.Mem{}
			disk.CrashAt(n)
			cfg := eventlog.Config{Dir: "/logs", Logger: quiet, MaxFileSize: 2000}
			flushed := 0
			l, err := eventlog.OpenOn(cfg, disk, "boot 1")
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				for i := range 8 {
					l.Record(record(i))
					if l.Flush(ctx) == nil {
						flushed = i + 1
					}
				}
				cancel()
				if l.Close() == nil {
					return
				}
			}
			reached = true
			disk = disk.Crash(vfs.LoseNone, nil)
			before := records0(t, disk)
			if len(before) < flushed {
				t.Errorf("killed at operation %d: %d records, %d were flushed", n, len(before), flushed)
			}
			l = open(t, cfg, disk)
			l.Record(record(100))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			streams := wantUnbroken(t, records(t, disk, "/logs"))
			if len(before) > 0 && len(streams) != 1 {
				t.Errorf("killed at operation %d: %d streams", n, len(streams))
			}
		})
		if !reached || t.Failed() {
			break
		}
	}
}

// The power fails at each operation of a log that syncs. Then everything flushed is there, and no number means two records.
func TestPowerFailsAtEveryOperation(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := 1; ; n++ {
		reached := false
		synctest.Test(t, func(t *testing.T) {
			disk := &vfs.Mem{}
			disk.CrashAt(n)
			cfg := eventlog.Config{Dir: "/var/logs", Logger: quiet, MaxFileSize: 2000, Sync: true}
			flushed := 0
			l, err := eventlog.OpenOn(cfg, disk, "boot 1")
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				for i := range 8 {
					l.Record(record(i))
					if l.Flush(ctx) == nil {
						flushed = i + 1
					}
				}
				cancel()
				if l.Close() == nil {
					return
				}
			}
			reached = true
			disk = disk.Crash(vfs.LoseSome, rnd)
			if l, err = eventlog.OpenOn(cfg, disk, "boot 2"); err != nil {
				t.Fatal(err)
			}
			l.Record(record(100))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			seen, last := map[string]int64{}, map[string]uint64{}
			for _, r := range records(t, disk, "/var/logs") {
				key := fmt.Sprint(r.Stream, r.Seq)
				if size, ok := seen[key]; ok && size != r.Size {
					t.Errorf("power failed at operation %d: two records have number %d", n, r.Seq)
				}
				seen[key], last[r.Stream] = r.Size, max(last[r.Stream], r.Seq)
			}
			if len(seen) < flushed+1 {
				t.Errorf("power failed at operation %d: %d records, %d were flushed", n, len(seen), flushed+1)
			}
		})
		if !reached || t.Failed() {
			break
		}
	}
}

func records0(t testing.TB, disk vfs.FS) []mtakit.Record {
	if _, err := disk.ReadDir("/logs"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return records(t, disk, "/logs")
}

func TestStreamsOverRestarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		restart func(*eventlog.Log, *vfs.Mem) (*vfs.Mem, string)
		streams int
	}{
		{"closed", func(l *eventlog.Log, m *vfs.Mem) (*vfs.Mem, string) { l.Close(); return m, "boot 1" }, 1},
		{"closed, machine restarted", func(l *eventlog.Log, m *vfs.Mem) (*vfs.Mem, string) { l.Close(); return m, "boot 2" }, 1},
		{"killed", func(_ *eventlog.Log, m *vfs.Mem) (*vfs.Mem, string) { return m.Crash(vfs.LoseNone, nil), "boot 1" }, 1},
		{"killed, then machine restarted", func(_ *eventlog.Log, m *vfs.Mem) (*vfs.Mem, string) { return m.Crash(vfs.LoseNone, nil), "boot 2" }, 2},
		{"killed, segment removed", func(_ *eventlog.Log, m *vfs.Mem) (*vfs.Mem, string) {
			m = m.Crash(vfs.LoseNone, nil)
			for _, n := range segments(t, m, "/logs") {
				m.Remove("/logs/" + n)
			}
			return m, "boot 1"
		}, 2},
		{"closed, segment removed", func(l *eventlog.Log, m *vfs.Mem) (*vfs.Mem, string) {
			l.Close()
			for _, n := range segments(t, m, "/logs") {
				m.Remove("/logs/" + n)
			}
			return m, "boot 1"
		}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := &vfs.Mem{}
			cfg := eventlog.Config{Dir: "/logs", Logger: quiet}
			l := open(t, cfg, disk)
			for i := range 3 {
				l.Record(record(i))
			}
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			first := records(t, disk, "/logs")
			restarted, boot := c.restart(l, disk)
			l.Close()
			l, err := eventlog.OpenOn(cfg, restarted, boot)
			if err != nil {
				t.Fatal(err)
			}
			l.Record(record(3))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			all := records(t, restarted, "/logs")
			got := all[len(all)-1]
			if c.streams == 1 && (got.Stream != first[0].Stream || got.Seq != 4) {
				t.Errorf("%s: goes on with %s %d, want %s 4", c.name, got.Stream, got.Seq, first[0].Stream)
			}
			if c.streams == 2 && (got.Stream == first[0].Stream || got.Seq != 1) {
				t.Errorf("%s: goes on with %s %d, want a new stream", c.name, got.Stream, got.Seq)
			}
		})
	}
}

func TestTwoLogsOneDirectory(t *testing.T) {
	t.Parallel()
	cfg := eventlog.Config{Dir: t.TempDir(), Logger: quiet, MinFreeSpace: "0", MinFreeInodes: "0"}
	l, err := eventlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var locked *vfs.LockedError
	if _, err := eventlog.Open(cfg); !errors.As(err, &locked) {
		t.Errorf("second Open: %v, want LockedError", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = eventlog.Open(cfg); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A file in the directory is somebody else's and cannot be made read-only: that is no reason not to start.
func TestFileOfAnother(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	if err := open(t, eventlog.Config{}, disk).Close(); err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile("/logs/notes", os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	disk.SetBefore(func(o vfs.Op) error {
		if o.Kind == "chmod" {
			return syscall.EPERM
		}
		return nil
	})
	l := open(t, eventlog.Config{}, disk)
	disk.SetBefore(nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// The machine goes down while a stream is written, and the next configuration does not have that stream. The one after that has it again: since the
// end of it is not known, a new one begins.
func TestUnusedStreamOverPowerFailure(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	with := eventlog.Config{Dir: "/logs", Logger: quiet, PerRecord: map[mtakit.Kind]eventlog.KindConfig{mtakit.Bounce: {Suffix: "-b"}}}
	without := eventlog.Config{Dir: "/logs", Logger: quiet}
	run := func(cfg eventlog.Config, boot string) *eventlog.Log {
		l, err := eventlog.OpenOn(cfg, disk, boot)
		if err != nil {
			t.Fatal(err)
		}
		l.Record(&mtakit.Record{Kind: mtakit.Bounce})
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		return l
	}
	crash := run(with, "boot 1")
	disk = disk.Crash(vfs.LoseNone, nil)
	if err := crash.Close(); err == nil {
		t.Error("Close succeeded after the crash")
	}
	for _, cfg := range []eventlog.Config{without, with} {
		if err := run(cfg, "boot 2").Close(); err != nil {
			t.Fatal(err)
		}
	}
	if streams := wantUnbroken(t, records(t, disk, "/logs")); len(streams) != 3 {
		t.Errorf("there are %d streams, want 3", len(streams))
	}
}
