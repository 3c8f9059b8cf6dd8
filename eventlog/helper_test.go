package eventlog_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, cfg eventlog.Config, fsys vfs.FS) *eventlog.Log {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = "/logs"
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	l, err := eventlog.OpenOn(cfg, fsys, "boot 1")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// openReal opens a log on the operating system's files.
func openReal(t testing.TB, dir string) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Open(eventlog.Config{Dir: dir, Logger: quiet, MinFreeSpace: "0", MinFreeInodes: "0"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func record(n int) *mtakit.Record {
	return &mtakit.Record{Kind: mtakit.Delivered, To: []string{fmt.Sprintf("user%d@example.com", n)}, Size: int64(n)}
}

// advance lets time pass in a bubble, and everything happen that was to happen in it.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// segments are the names in a directory, without hidden ones.
func segments(t testing.TB, fsys vfs.FS, dir string) (names []string) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func readOnly(t testing.TB, fsys vfs.FS, name string) bool {
	t.Helper()
	st, err := fsys.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode()&0o222 == 0
}

// lines are those of a segment, whether it is whole or not.
func lines(t testing.TB, fsys vfs.FS, name string) (lines []string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// An error is the end of what can be read; that nothing is missing the caller finds out.
	eventlog.ReadLines(f, func(line []byte) bool {
		lines = append(lines, strings.TrimSuffix(string(line), "\n"))
		return true
	})
	return lines
}

// records decodes all segments of a directory, in order.
func records(t testing.TB, fsys vfs.FS, dir string) (rs []mtakit.Record) {
	t.Helper()
	for _, name := range segments(t, fsys, dir) {
		for _, line := range lines(t, fsys, filepath.Join(dir, name)) {
			var r mtakit.Record
			if err := r.UnmarshalJSON([]byte(line)); err != nil {
				t.Fatalf("%s: %q: %v", name, line, err)
			}
			rs = append(rs, r)
		}
	}
	return rs
}

// wantUnbroken checks that each stream counts from 1 without a gap or a repeat, and returns how many records there are of each.
func wantUnbroken(t testing.TB, rs []mtakit.Record) map[string]uint64 {
	t.Helper()
	last := map[string]uint64{}
	for _, r := range rs {
		if r.Seq != last[r.Stream]+1 {
			t.Errorf("stream %s: number %d after %d", r.Stream, r.Seq, last[r.Stream])
		}
		last[r.Stream] = r.Seq
	}
	return last
}
