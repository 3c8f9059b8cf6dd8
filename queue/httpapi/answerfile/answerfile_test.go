package answerfile_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/httpapi/answerfile"
	"github.com/mtakit/mtakit/spool/spooltest"
)

var _ httpapi.Answers = (*answerfile.Answers)(nil)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, key := context.Background(), sha256.Sum256([]byte("client and key"))
	kept, err := answerfile.Open(dir, answerfile.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := kept.Keep(ctx, key, &httpapi.Answer{Body: []byte(`{"success_count":1}`)}); err != nil {
		fmt.Println(err)
	}
	kept.Close()

	kept, err = answerfile.Open(dir, answerfile.Options{}) // in another process
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kept.Close()
	a, err := kept.Answer(ctx, key)
	fmt.Printf("%s %v\n", a.Body, err)
	// Output: {"success_count":1} <nil>
}

func keyOf(i int) (k [32]byte) {
	binary.BigEndian.PutUint64(k[:], uint64(i))
	return k
}

func answerOf(i, size int) *httpapi.Answer {
	return &httpapi.Answer{Request: sha256.Sum256([]byte{byte(i)}), Body: bytes.Repeat([]byte{'a' + byte(i%26)}, size), Done: i % 3}
}

func open(t testing.TB, o answerfile.Options) *answerfile.Answers {
	t.Helper()
	a, err := answerfile.Open("/data/answers", o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func keep(t testing.TB, a *answerfile.Answers, i, size int) {
	t.Helper()
	if err := a.Keep(t.Context(), keyOf(i), answerOf(i, size)); err != nil {
		t.Fatal(err)
	}
}

// has says whether the answer is there, and checks that it is the one that was kept.
func has(t testing.TB, a *answerfile.Answers, i, size int) bool {
	t.Helper()
	got, err := a.Answer(t.Context(), keyOf(i))
	if err != nil {
		t.Fatal(err)
	}
	if want := answerOf(i, size); got != nil && (got.Request != want.Request || got.Done != want.Done || !bytes.Equal(got.Body, want.Body)) {
		t.Errorf("answer %d is %.40q, want %.40q", i, got.Body, want.Body)
	}
	return got != nil
}

// What is kept is bounded by number, size and time, over restarts as well.
func TestWindow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		o           answerfile.Options
		size        int
		pace        time.Duration
		least, most int // of 200
	}{
		{"number", answerfile.Options{Max: 50}, 10, time.Second, 25, 50},
		{"bytes", answerfile.Options{MaxBytes: 50_000}, 1000 - 88, time.Second, 25, 50},
		{"time", answerfile.Options{For: time.Hour}, 10, time.Minute, 61, 61},
		{"all", answerfile.Options{}, 10, 0, 200, 200},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarts %v", c.name, restarts), func(t *testing.T) {
				t.Parallel()
				now := time.Unix(1_000_000, 0)
				o := c.o // of this run
				o.FS, o.Now = new(spooltest.Disk), func() time.Time { return now }
				a := open(t, o)
				for i := range 200 {
					now = now.Add(c.pace)
					keep(t, a, i, c.size)
					if restarts && i%7 == 0 {
						if err := a.Close(); err != nil {
							t.Fatal(err)
						}
						a = open(t, o)
					}
				}
				first := 0
				for !has(t, a, first, c.size) {
					first++
				}
				for i := first; i < 200; i++ {
					if !has(t, a, i, c.size) {
						t.Errorf("%d is there, %d is not", first, i)
					}
				}
				if n := 200 - first; n < c.least || n > c.most || a.Len() > 122 && c.most < 200 {
					t.Errorf("%d answers are there, %d in memory", n, a.Len())
				}
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
				entries, err := o.FS.ReadDir("/data/answers")
				if err != nil || len(entries) > 3 {
					t.Errorf("%d files, %v", len(entries), err)
				}
			})
		}
	}
}

func TestOpenAndClose(t *testing.T) {
	t.Parallel()
	disk := new(spooltest.Disk)
	o := answerfile.Options{FS: disk, MaxBytes: 1000}
	a := open(t, o)
	if _, err := answerfile.Open("/data/answers", o); err == nil {
		t.Error("two can have the directory open")
	}
	if err := a.Keep(t.Context(), keyOf(1), answerOf(1, 1000)); !errors.Is(err, answerfile.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	keep(t, a, 1, 10)
	keep(t, a, 1, 20) // once more
	if !has(t, a, 1, 20) || has(t, a, 2, 0) {
		t.Error("not what was kept")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := a.Answer(t.Context(), keyOf(1))
	for _, err := range []error{err, a.Keep(t.Context(), keyOf(1), answerOf(1, 1)), a.Close()} {
		if !errors.Is(err, mtakit.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	a = open(t, o)
	if !has(t, a, 1, 20) {
		t.Error("the older one came back")
	}
	a.Close()
	for _, o := range []answerfile.Options{{For: -1}, {Max: -1}, {MaxBytes: -1}} {
		if _, err := answerfile.Open("/x", o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// Whatever happens at whatever operation, what was acknowledged is there afterwards, and nothing else is but what was about to be kept.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	run := func(disk *spooltest.Disk) (acked int) {
		o := answerfile.Options{FS: disk, Max: 8}
		for range 3 {
			a, err := answerfile.Open("/data/answers", o)
			if err != nil {
				return acked
			}
			for range 7 {
				if a.Keep(context.Background(), keyOf(acked), answerOf(acked, 100+acked)) != nil {
					return acked
				}
				acked++
			}
			if a.Close() != nil {
				return acked
			}
		}
		return acked
	}
	whole := new(spooltest.Disk)
	if n := run(whole); n != 21 {
		t.Fatalf("%d answers are kept without a crash", n)
	}
	for n := 1; n <= whole.Count(); n++ {
		for _, loss := range []spooltest.Loss{spooltest.LoseAll, spooltest.LoseSome, spooltest.LoseNone} {
			disk := new(spooltest.Disk)
			disk.CrashAt(n)
			acked := run(disk)
			o := answerfile.Options{FS: disk.Crash(loss, rand.New(rand.NewPCG(uint64(n), 1))), Max: 8}
			a, err := answerfile.Open("/data/answers", o)
			if err != nil {
				t.Fatalf("crash at %d, %v: %v", n, loss, err)
			}
			for i := range 22 {
				if there := has(t, a, i, 100+i); !there && i < acked && i >= acked-4 || there && i > acked {
					t.Errorf("crash at %d, %v, %d acknowledged: %d there %v", n, loss, acked, i, there)
				}
			}
			keep(t, a, 99, 5) // and it goes on
			a.Close()
			a = open(t, o)
			if !has(t, a, 99, 5) {
				t.Errorf("crash at %d, %v: what came afterwards is not there", n, loss)
			}
			a.Close()
		}
	}
}

// A disk that fails is told, and what was kept before is there as before.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"write", "datasync", "create", "syncdir", "remove"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			disk := new(spooltest.Disk)
			o := answerfile.Options{FS: disk, Max: 4}
			a := open(t, o)
			for i := range 4 {
				keep(t, a, i, 10+i)
			}
			disk.SetBefore(func(op spooltest.Op) error {
				if op.Kind == kind {
					return syscall.EIO
				}
				return nil
			})
			err := a.Keep(t.Context(), keyOf(4), answerOf(4, 14))
			if kind != "remove" && !errors.Is(err, syscall.EIO) || kind == "remove" && err != nil {
				t.Errorf("Keep: %v", err)
			}
			disk.SetBefore(nil)
			for i := 2; i < 4; i++ {
				if !has(t, a, i, 10+i) {
					t.Errorf("%d is gone", i)
				}
			}
			keep(t, a, 5, 15)
			a.Close()
			a = open(t, o)
			if !has(t, a, 5, 15) || !has(t, a, 3, 13) {
				t.Error("not there after a restart")
			}
			a.Close()
		})
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	a, err := answerfile.Open(t.TempDir(), answerfile.Options{Max: 200})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 100 {
				i := g*1000 + n
				keep(t, a, i, i%50)
				if !has(t, a, i, i%50) && a.Len() < 100 {
					t.Errorf("%d is not there", i)
				}
			}
		})
	}
	wg.Wait()
	if n := a.Len(); n < 100 || n > 200 {
		t.Errorf("%d are kept", n)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzOpen: whatever is in the file, it is opened, what it has is what was written, and what is kept then is there the next time.
func FuzzOpen(f *testing.F) {
	disk := new(spooltest.Disk)
	a := open(f, answerfile.Options{FS: disk})
	for i := range 3 {
		keep(f, a, i, i)
	}
	a.Close()
	g, err := disk.OpenFile("/data/answers/0000000000000001.answers", os.O_RDONLY, 0)
	if err != nil {
		f.Fatal(err)
	}
	size, _ := g.Size()
	whole := make([]byte, size)
	g.ReadAt(whole, 0)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(whole[:100:100], whole[101:]...))
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := new(spooltest.Disk)
		if err := disk.MkdirAll("/data/answers", 0o700); err != nil {
			t.Fatal(err)
		}
		g, err := disk.OpenFile("/data/answers/0000000000000001.answers", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		g.WriteAt(b, 0)
		o := answerfile.Options{FS: disk, Now: func() time.Time { return time.Unix(0, 0) }}
		for round := range 2 {
			a, err := answerfile.Open("/data/answers", o)
			if err != nil {
				t.Fatal(err)
			}
			if round == 1 && !has(t, a, 99, 7) {
				t.Fatal("not there")
			}
			keep(t, a, 99, 7)
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// BenchmarkKeep is an answer on stable storage.
func BenchmarkKeep(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			a, err := answerfile.Open(filepath.Join(b.TempDir(), "answers"), answerfile.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer a.Close()
			body := answerOf(1, 100)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			var next atomic.Int64
			for range writers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if err := a.Keep(context.Background(), keyOf(int(i)), body); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// A directory that can't be made is an error.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var path *fs.PathError
	if _, err := answerfile.Open(filepath.Join(file, "answers"), answerfile.Options{}); !errors.As(err, &path) {
		t.Errorf("%v", err)
	}
}
