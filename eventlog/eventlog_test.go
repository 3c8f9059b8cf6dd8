package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	err = eventlog.ReadLines(f, func(line []byte) bool {
		lines = append(lines, strings.TrimSuffix(string(line), "\n"))
		return true
	})
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
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

func TestPerRecord(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{
		Filter: func(r *mtakit.Record) bool { return r.Size != 99 },
		PerRecord: map[mtakit.Kind]eventlog.KindConfig{
			eventlog.Any:     {Suffix: "-other", SegmentHeader: "# other\n"},
			mtakit.Bounce:    {Dir: "/bounces"},
			mtakit.Rejection: {Suffix: "-rejected"},
			mtakit.Delayed:   {Disable: true},
		},
	}, disk)
	for _, k := range []mtakit.Kind{mtakit.Reception, mtakit.Bounce, mtakit.Rejection, mtakit.Delayed, mtakit.Delivered} {
		for _, size := range []int64{1, 99} {
			l.Record(&mtakit.Record{Kind: k, Size: size})
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, dir := range []string{"/logs", "/bounces"} {
		for _, name := range segments(t, disk, dir) {
			_, suffix, _ := strings.Cut(name[len("20000101-"):], "-")
			for _, line := range lines(t, disk, dir+"/"+name) {
				kind, _, _ := strings.Cut(strings.TrimPrefix(line, `{"type":"`), `"`)
				got[dir+" "+suffix] = append(got[dir+" "+suffix], kind)
			}
		}
	}
	want := map[string][]string{
		"/logs other":    {"# other", "Reception", "Delivery"},
		"/logs rejected": {"Rejection", "Rejection"}, // which the filter is not asked about
		"/bounces ":      {"Bounce"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCapture(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{
		Meta:    []string{"tenant", "missing", "nothing", "x_*"},
		Headers: []string{"subject", "X-*", "Received"},
	}, disk)
	if !l.WantsBody() {
		t.Error("WantsBody is false although headers are captured")
	}
	r := record(1)
	r.Message = &mtakit.Message{Meta: map[string]any{"tenant": "a", "nothing": nil, "secret": "s", "x_n": 5, "x_nil": nil}}
	r.Body = mtakit.Bytes("received: 1\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nX-One: 1\r\nTo: x\r\nReceived: 2\r\nRECEIVED: 3\r\n\r\nSubject: no\r\n")
	before := *r
	l.Record(r)
	if fmt.Sprint(*r) != fmt.Sprint(before) {
		t.Error("Record changed the record")
	}
	l.Record(record(2)) // nothing to capture from
	l.Record(&mtakit.Record{Kind: mtakit.Rejection, Meta: map[string]any{"tenant": "b", "secret": "s"}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rs := records(t, disk, "/logs")
	for i, want := range []struct{ meta, headers string }{
		{"map[tenant:a x_n:5 x_nil:<nil>]", "map[Subject:café X-One:1 received:[1 2 3]]"},
		{"map[]", "map[]"},
		{"map[tenant:b]", "map[]"},
	} {
		if got := fmt.Sprint(rs[i].Meta); got != want.meta {
			t.Errorf("record %d: meta %s, want %s", i, got, want.meta)
		}
		if got := fmt.Sprint(rs[i].Headers); got != want.headers {
			t.Errorf("record %d: headers %s, want %s", i, got, want.headers)
		}
	}
}

// The reference's example, with what identifies the record in its stream after it.
func TestGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/delivery.json")
	if err != nil {
		t.Fatal(err)
	}
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{Headers: []string{"Subject"}}, disk)
	id, err := mtakit.ParseID("1d98076abbbc11ed940250ebf67f93bd")
	if err != nil {
		t.Fatal(err)
	}
	l.Record(&mtakit.Record{
		Kind: mtakit.Delivered, ID: id, Sender: "user@sender.example.com", To: []string{"user@recipient.example.com"},
		Queue: mtakit.QueueName{Campaign: "campaign", Tenant: "tenant", Domain: "recipient.example.com"},
		Site:  "source2->mx.recipient.example.com@smtp_client", Size: 1047,
		Response: mtakit.Response{Code: 250, Enhanced: [3]uint16{2, 0, 0}, Text: "OK ids=8a54", Command: "."},
		PeerName: "mx.recipient.example.com.", PeerAddr: netip.MustParseAddrPort("192.0.2.27:0"),
		Time: time.Unix(1757675281, 440526026), Created: time.Unix(1757675280, 912345000), Pool: "pool0", Source: "source2",
		SourceAddr: netip.MustParseAddrPort("10.0.0.1:53210"), DeliveryProtocol: "ESMTP", ReceptionProtocol: "HTTP",
		NodeID: "557f3ad4-2c8c-11ee-976e-782d7e12e173", TLSCipher: "TLS_AES_256_GCM_SHA384", TLSVersion: "TLSv1.3",
		TLSSubject: []string{"CN=mx.example"}, SessionID: "9bcd689e-23d9-41b7-a015-63a1382f8b57",
		Body: mtakit.Bytes("Subject: hello\r\n\r\n"),
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := lines(t, disk, "/logs/"+segments(t, disk, "/logs")[0])[0]
	r := records(t, disk, "/logs")[0]
	if got = strings.Replace(got, r.Stream, "STREAM", 1); got != strings.TrimSpace(string(want)) {
		t.Errorf("record:\n%s\nwant:\n%s", got, want)
	}
	// What Record puts at the end is what AppendJSON would.
	if again := strings.Replace(string(r.AppendJSON(nil)), r.Stream, "STREAM", 1); again != got {
		t.Errorf("decoded and encoded again:\n%s\nwant:\n%s", again, got)
	}
}

func TestConcurrentRecords(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	l := open(t, eventlog.Config{MaxFileSize: 300_000}, disk)
	var wg sync.WaitGroup
	const writers, each = 8, 200
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := l.Pace(t.Context()); err != nil {
					t.Error(err)
				}
				l.Record(record(w*each + i))
				if i%50 == 0 {
					if err := l.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rs := records(t, disk, "/logs")
	wantUnbroken(t, rs)
	seen := map[int64]bool{}
	for _, r := range rs {
		seen[r.Size] = true
	}
	if len(seen) != writers*each || len(rs) != len(seen) {
		t.Errorf("%d records, %d different ones, want %d", len(rs), len(seen), writers*each)
	}
}

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
					l := open(t, eventlog.Config{MaxFileSize: 3000, Sync: n%2 == 0}, disk)
					first := disk.Count() + n
					disk.SetBefore(func(o vfs.Op) error {
						if o.N >= first && o.N < first+failures {
							reached = true
							return cause
						}
						return nil
					})
					for i := range 12 {
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
					if len(seen) != 12 {
						t.Errorf("%v at operation %d: %d records of 12; Close: %v", cause, n, len(seen), err)
					}
				})
				if !reached || t.Failed() {
					break
				}
			}
		}
	}
}

// The process is killed at each operation. Then everything flushed is there, numbers are given once, and the stream goes on.
func TestKilledAtEveryOperation(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		reached := false
		synctest.Test(t, func(t *testing.T) {
			disk := &vfs.Mem{}
			disk.CrashAt(n)
			cfg := eventlog.Config{Dir: "/logs", Logger: quiet, MaxFileSize: 3000}
			flushed := 0
			l, err := eventlog.OpenOn(cfg, disk, "boot 1")
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				for i := range 12 {
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

func TestFreeSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &vfs.Mem{}
		disk.SetCapacity(1 << 20)
		l := open(t, eventlog.Config{MinFreeSpace: "50%"}, disk)
		defer l.Close()
		if err := l.Err(); err != nil {
			t.Errorf("Err on an empty disk: %v", err)
		}
		f, err := disk.OpenFile("/ballast", os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, 600<<10)); err != nil {
			t.Fatal(err)
		}
		advance(6 * time.Second)
		if err := l.Err(); !errors.Is(err, eventlog.ErrDiskFull) {
			t.Errorf("Err is %v, want ErrDiskFull", err)
		}
		var pct float64
		l.Collect("disk_free_percent", func(s mtakit.Sample) bool {
			if s.Labels[0] == "log dir /logs" {
				pct = s.Value
			}
			return true
		})
		if pct != 41 {
			t.Errorf("disk_free_percent is %v, want 41", pct)
		}
		if err := disk.Remove("/ballast"); err != nil {
			t.Fatal(err)
		}
		advance(6 * time.Second)
		if err := l.Err(); err != nil {
			t.Errorf("Err when there is room again: %v", err)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, cfg := range []eventlog.Config{
		{},
		{Dir: "/logs", MaxFileSize: -1},
		{Dir: "/logs", CompressionLevel: 22},
		{Dir: "/logs", BackPressure: -1},
		{Dir: "/logs", FlushInterval: -1},
		{Dir: "/logs", MinFreeSpace: "lots"},
		{Dir: "/logs", MinFreeInodes: "101%"},
		{Dir: "/logs", Headers: []string{""}},
	} {
		if l, err := eventlog.OpenOn(cfg, &vfs.Mem{}, ""); err == nil {
			l.Close()
			t.Errorf("%+v was accepted", cfg)
		} else if !strings.HasPrefix(err.Error(), "eventlog: ") {
			t.Errorf("%+v: %v does not say whose error it is", cfg, err)
		}
	}
}

func TestPanickingFilterAndLateRecord(t *testing.T) {
	t.Parallel()
	disk := &vfs.Mem{}
	var diag bytes.Buffer
	l := open(t, eventlog.Config{Filter: func(*mtakit.Record) bool { panic("oops") }, Logger: slog.New(slog.NewTextHandler(&diag, nil))}, disk)
	l.Record(record(1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Record(record(2))
	if n := len(records(t, disk, "/logs")); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
	for _, want := range []string{"oops", "after the log was closed"} {
		if !strings.Contains(diag.String(), want) {
			t.Errorf("diagnostic log does not tell of %q: %s", want, diag.String())
		}
	}
}
