package eventlog_test

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/eventlog"
	"github.com/mtakit/mtakit/internal/vfs"
)

func TestSegmentRules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		l := open(t, eventlog.Config{MaxFileSize: 1500, MaxSegmentDuration: time.Minute}, disk)
		flush := func() {
			t.Helper()
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 { // about 700 bytes each: three fill a segment
			l.Record(record(i))
		}
		flush()
		names := segments(t, disk, "/logs")
		if want := []string{"20000101-000000", "20000101-000000.000000001", "20000101-000000.000000002", "20000101-000000.000000003"}; !slices.Equal(names, want) {
			t.Errorf("segments %q, want %q", names, want)
		}
		for i, n := range names {
			if got, want := readOnly(t, disk, "/logs/"+n), i < 3; got != want {
				t.Errorf("segment %d is read-only: %v", i, got)
			}
			if got, want := len(lines(t, disk, "/logs/"+n)), min(3, 10-3*i); got != want {
				t.Errorf("segment %d has %d lines, want %d", i, got, want)
			}
		}
		advance(time.Minute - 1) // of the bubble's time: nobody records, the segment is not due
		if readOnly(t, disk, "/logs/"+names[3]) {
			t.Error("segment was completed before its time")
		}
		advance(time.Nanosecond)
		if !readOnly(t, disk, "/logs/"+names[3]) {
			t.Error("idle segment was not completed at its time")
		}
		l.Record(record(10))
		flush()
		if got := segments(t, disk, "/logs"); len(got) != 5 || got[4] != "20000101-000100" {
			t.Errorf("segments %q, want a fifth, 20000101-000100", got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !readOnly(t, disk, "/logs/20000101-000100") {
			t.Error("Close left a segment open")
		}
		wantUnbroken(t, records(t, disk, "/logs"))
		if err := l.Flush(t.Context()); err != nil {
			t.Errorf("Flush with nothing to write: %v", err)
		}
	})
}

func TestSegmentName(t *testing.T) {
	t.Parallel()
	base := time.Date(2025, 9, 12, 11, 8, 1, 0, time.UTC)
	for _, c := range []struct {
		ns   int
		want string
	}{
		{0, "20250912-110801"},
		{440e6, "20250912-110801.440"},
		{440526e3, "20250912-110801.440526"},
		{440526026, "20250912-110801.440526026"},
		{1, "20250912-110801.000000001"},
	} {
		tm := base.Add(time.Duration(c.ns))
		if got := eventlog.SegmentName(tm); got != c.want {
			t.Errorf("name of +%dns is %s, want %s", c.ns, got, c.want)
		}
		if got := eventlog.SegmentTime(c.want + "-bounces"); !got.Equal(tm) {
			t.Errorf("time of %s is %s, want %s", c.want, got, tm)
		}
	}
	if got := eventlog.SegmentTime("README"); !got.IsZero() {
		t.Errorf("time of README is %s", got)
	}
}

// Segments with a suffix are found in the order in which they were written, though a letter sorts after the digits of a fraction.
func TestSuffixKeepsOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // begins at a whole second
		disk := &vfs.Mem{}
		l := open(t, eventlog.Config{MaxFileSize: 1500, PerRecord: map[mtakit.Kind]eventlog.KindConfig{eventlog.Any: {Suffix: "x"}}}, disk)
		for i := range 10 {
			l.Record(record(i))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if names := segments(t, disk, "/logs"); len(names) != 4 {
			t.Errorf("segments %q, want 4", names)
		}
		wantUnbroken(t, records(t, disk, "/logs"))
	})
}

// The clock is set back: new segments sort after the old ones all the same.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		if err := disk.MkdirAll("/logs", 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := disk.OpenFile("/logs/20300101-000000.5", os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		l := open(t, eventlog.Config{}, disk)
		l.Record(record(1))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := segments(t, disk, "/logs"); len(got) != 2 || got[1] != "20300101-000000.500000001" {
			t.Errorf("segments %q", got)
		}
		if !readOnly(t, disk, "/logs/20300101-000000.5") {
			t.Error("a segment found at start was not marked complete")
		}
	})
}
