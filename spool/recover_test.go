package spool_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
	"github.com/mtakit/mtakit/spool"
	"github.com/mtakit/mtakit/spool/spooltest"
)

var update = flag.Bool("update", false, "rewrite the files under testdata")

// segmentOf is the name and the contents of the file that has the record of id.
func segmentOf(t *testing.T, disk *spooltest.Disk, id mtakit.ID) (string, []byte) {
	t.Helper()
	list, err := disk.ReadDir("/spool")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		name := "/spool/" + e.Name()
		if b := readFile(t, disk, name); strings.HasSuffix(name, ".log") && bytes.Contains(b, id[:]) {
			return name, b
		}
	}
	t.Fatalf("no segment has %s", id)
	return "", nil
}

func readFile(t *testing.T, disk *spooltest.Disk, name string) []byte {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := f.Size()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && n > 0 {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, disk *spooltest.Disk, name string, b []byte) {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// logOf is a disk whose last segment has messages of these sizes that no checkpoint covers.
func logOf(t *testing.T, sizes ...int) (*spooltest.Disk, []mtakit.ID) {
	disk := new(spooltest.Disk)
	var list []mtakit.ID
	s := open(t, "/spool", spool.Options{FS: disk, SegmentSize: 64 << 10})
	w := newWorld(t, s)
	w.strict = true
	for _, n := range sizes {
		list = append(list, w.store(mtakit.Durable, n)...)
	}
	after := disk.Crash(spooltest.LoseAll, nil)
	_ = s.Close()
	return after, list
}

// The last record is cut short or changed at each of its bytes: it is gone or whole, the earlier ones are there.
func TestTornTail(t *testing.T) {
	t.Parallel()
	disk, list := logOf(t, 100, 50, 40)
	name, whole := segmentOf(t, disk, list[2])
	start := bytes.Index(whole, list[2][:]) - 32 - 8
	end := start + 32 + len(strings.TrimRight(string(whole[start+32:]), "\x00"))
	for i := start; i < end; i++ {
		for _, how := range []string{"cut", "bit flipped"} {
			b := bytes.Clone(whole)
			if how == "cut" {
				b = b[:i]
			} else {
				b[i] ^= 1 << (i % 8)
			}
			d := disk.Crash(spooltest.LoseNone, nil)
			writeFile(t, d, name, b)
			s := open(t, "/spool", withDisk(d))
			for k, id := range list {
				if _, err := s.Load(t.Context(), id); k < 2 && err != nil || k == 2 && !errors.Is(err, mtakit.ErrNotFound) {
					t.Fatalf("%s at byte %d of %d: message %d: %v", how, i-start, end-start, k, err)
				}
			}
			for _, err := range s.Scan(t.Context(), mtakit.ID{0xff}) {
				if err != nil {
					t.Fatalf("%s at byte %d: Scan: %v", how, i-start, err)
				}
			}
			st := s.Stats()
			if how == "cut" && i >= start+32 && st.TornBytes == 0 {
				t.Fatalf("%s at byte %d: nothing is reported as torn", how, i-start)
			}
			if st.Damaged != 0 {
				t.Fatalf("%s at byte %d: reported as damage", how, i-start)
			}
			s.Close()
		}
	}
}

// A record that was durable when later ones were written is changed at each byte: it is set aside and reported, and all
// others are there.
func TestDamageInTheMiddle(t *testing.T) {
	t.Parallel()
	disk, list := logOf(t, 100, 50, 40, 30)
	name, whole := segmentOf(t, disk, list[1])
	start := bytes.Index(whole, list[1][:]) - 32 - 8
	end := bytes.Index(whole, list[2][:]) - 32 - 8
	for i := start; i < end; i++ {
		b := bytes.Clone(whole)
		if b[i] ^= 0x10; i >= end-7 && whole[i] == 0 {
			continue // padding
		}
		d := disk.Crash(spooltest.LoseNone, nil)
		writeFile(t, d, name, b)
		s := open(t, "/spool", withDisk(d))
		for k, id := range list {
			if _, err := s.Load(t.Context(), id); k != 1 && err != nil || k == 1 && !errors.Is(err, mtakit.ErrNotFound) {
				t.Fatalf("byte %d: message %d: %v", i-start, k, err)
			}
		}
		var found []*spool.DamagedError
		for _, err := range s.Scan(t.Context(), mtakit.ID{0xff}) {
			var de *spool.DamagedError
			if errors.As(err, &de) {
				found = append(found, de)
			} else if err != nil {
				t.Fatalf("byte %d: Scan: %v", i-start, err)
			}
		}
		if len(found) != 1 || found[0].Offset != int64(start) || found[0].Length != int64(end-start) {
			t.Fatalf("byte %d: Scan yields the damage %v, want one of %d bytes from %d", i-start, found, end-start, start)
		}
		if kept := readFile(t, d, found[0].File); !bytes.Equal(kept, b[start:end]) {
			t.Fatalf("byte %d: what was set aside differs", i-start)
		}
		s.Close()
	}
}

// What is damaged after it was indexed is found when it is used, or copied.
func TestDamageInUse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		at   int // from the start of the head
		use  func(s *spool.Spool, id mtakit.ID) error
	}{
		{"head, by Load", 70, func(s *spool.Spool, id mtakit.ID) error { _, err := s.Load(t.Context(), id); return err }},
		{"body, by Open", 64 + 60, func(s *spool.Spool, id mtakit.ID) error { _, err := s.Open(t.Context(), id); return err }},
		{"head, by Update", 24, func(s *spool.Spool, id mtakit.ID) error { return s.Update(t.Context(), &mtakit.Message{ID: id}) }},
		{"head, by Scan", 9, func(s *spool.Spool, id mtakit.ID) (err error) {
			for _, e := range s.Scan(t.Context(), mtakit.ID{0xff}) {
				err = errors.Join(err, e)
			}
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			disk := new(spooltest.Disk)
			s := open(t, "/spool", withDisk(disk))
			defer s.Close()
			w := newWorld(t, s)
			list := append(append(w.store(mtakit.Durable, 100), w.store(mtakit.Durable, 1000)...), w.store(mtakit.Durable, 100)...)
			name, b := segmentOf(t, disk, list[1])
			at := bytes.Index(b, list[1][:]) - 8 + c.at
			f, err := disk.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{b[at] ^ 1}, int64(at)); err != nil {
				t.Fatal(err)
			}
			err = c.use(s, list[1])
			var de *spool.DamagedError
			if !errors.As(err, &de) || de.File == "" {
				t.Fatalf("%v, want a DamagedError with a file", err)
			}
			if kept := readFile(t, disk, de.File); !bytes.Contains(kept, bytes.Repeat([]byte{2}, 900)) {
				t.Error("the body is not in what was set aside")
			}
			if _, err := s.Load(t.Context(), list[1]); !errors.Is(err, mtakit.ErrNotFound) {
				t.Errorf("Load afterwards: %v, want ErrNotFound", err)
			}
			if s.Len() != 2 || s.Stats().Damaged != 1 {
				t.Errorf("%d messages, %d damaged; want 2 and 1", s.Len(), s.Stats().Damaged)
			}
		})
	}
}

func TestDamagedIndexIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "good"), spool.Options{})
	w := newWorld(t, s)
	w.strict = true
	var list []mtakit.ID
	for n := range 300 {
		list = append(list, w.store(mtakit.Buffered, n)...)
	}
	w.remove(list[:100]...)
	w.reschedule(list[150])
	w.update(list[151])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join("good", "index.db")
	whole, err := os.ReadFile(filepath.Join(dir, index))
	if err != nil {
		t.Fatal(err)
	}
	type damage struct {
		name   string
		change func(b []byte) []byte
	}
	cases := []damage{
		{"empty", func([]byte) []byte { return nil }},
		{"cut to a page", func(b []byte) []byte { return b[:4096] }},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"text", func(b []byte) []byte { return bytes.Repeat([]byte("not a database\n"), 5000) }},
		{"pages of zeros", func(b []byte) []byte { clear(b[8192:]); return b }},
		{"pages of ones", func(b []byte) []byte {
			for i := 8192; i < len(b); i++ {
				b[i] = 0xff
			}
			return b
		}},
		{"bits flipped", func(b []byte) []byte {
			for i := 8192; i < len(b); i += 97 {
				b[i] ^= 4
			}
			return b
		}},
	}
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		cases = append(cases, damage{fmt.Sprint("random ", seed), func(b []byte) []byte {
			for range 1 + rnd.IntN(4) {
				b[rnd.IntN(12)*4096+rnd.IntN(200)] ^= byte(1 + rnd.IntN(255)) // headers and keys of the pages in use
			}
			return b
		}})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			copyTo := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			if err := os.CopyFS(copyTo, os.DirFS(filepath.Join(dir, "good"))); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(copyTo, "index.db"), c.change(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, copyTo, spool.Options{})
			w.ledger.verify(t, s, false)
			rebuilt := s.Stats().Rebuilds != 0
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			s = open(t, copyTo, spool.Options{})
			defer s.Close()
			w.ledger.verify(t, s, false)
			if st := s.Stats(); st.Rebuilds != 0 && rebuilt {
				t.Error("the index that was made is damaged too")
			}
		})
	}
}

func TestSecondOwnerIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	defer s.Close()
	_, err := spool.Open(dir, spool.Options{})
	var locked *vfs.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("second Open: %v, want an error that names process %d", err, os.Getpid())
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	disk, list := logOf(t, 100)
	name, b := segmentOf(t, disk, list[0])
	b[8]++
	writeFile(t, disk, name, b)
	before := disk.Count()
	_, err := spool.Open("/spool", spool.Options{FS: disk})
	var newer *spool.FormatError
	if !errors.As(err, &newer) || newer.Found != 2 || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("Open: %v, want a FormatError for format 2", err)
	}
	if n := disk.Count() - before; n != 0 {
		t.Errorf("Open has changed the directory with %d operations", n)
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]spool.Options{
		"Options.SegmentSize is 1,":            {SegmentSize: 1},
		"Options.SegmentSize is 1073741824":    {SegmentSize: 1 << 30},
		"Options.MaxMessages is -1":            {MaxMessages: -1},
		"Options.MinFreeInodes.Percent is 100": {MinFreeInodes: spool.Limit{Percent: 100}},
		"Options.RetryInterval is -1ns":        {RetryInterval: -1},
	} {
		if _, err := spool.Open("/spool", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open: %v, want %q", err, want)
		}
	}
}

// The order of writes, syncs and renames is what durability is made of: it changes here first.
func TestOrderOfOperations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := new(spooltest.Disk)
		disk.Record()
		var out strings.Builder
		step := func(name string) {
			synctest.Wait()
			fmt.Fprintf(&out, "# %s\n", name)
			var meanwhile []spooltest.Op // the next segment is made beside what the caller waits for
			for _, o := range disk.Ops() {
				if strings.Contains(name, "next") && (strings.HasSuffix(o.Name+o.To, ".new") || o.Kind == "rename" || o.Kind == "syncdir") {
					meanwhile = append(meanwhile, o)
				} else {
					fmt.Fprintln(&out, o)
				}
			}
			for _, o := range meanwhile {
				fmt.Fprintln(&out, "  meanwhile", o)
			}
			disk.Record()
		}
		o := withDisk(disk)
		o.CheckpointInterval = time.Minute
		s := open(t, "/spool", o)
		w := newWorld(t, s)
		w.strict = true
		step("open an empty directory")
		a := w.store(mtakit.Durable, 1000)
		step("store, durable")
		b := w.store(mtakit.Buffered, 1000, 2000)
		step("store two, buffered")
		w.reschedule(a[0])
		step("reschedule")
		w.update(a[0])
		step("update")
		w.remove(b[0])
		step("remove")
		c := w.store(mtakit.Durable, 62000)
		step("store what does not fit, go on in the next segment")
		w.idle(time.Minute)
		step("checkpoint")
		w.remove(a[0], b[1])
		w.idle(time.Minute)
		step("remove all of the first segment, checkpoint")
		d := w.store(mtakit.Durable, 62000)
		step("store, go on in the next segment, make another of the first")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		step("close")
		s = open(t, "/spool", o)
		w.s = s
		step("open")
		w.remove(c[0], d[0])
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		step("remove, close")

		golden := filepath.Join("testdata", "operations.txt")
		if *update {
			if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != string(want) {
			t.Errorf("the operations differ from %s (-update rewrites it):\n%s", golden, got)
		}
	})
}
