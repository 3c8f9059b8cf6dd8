package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mtakit/mtakit/internal/vfs"
)

// both runs f on the operating system's disk and on the one in memory.
func both(t *testing.T, f func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("os", func(t *testing.T) { t.Parallel(); f(t, vfs.OS, t.TempDir()) })
	t.Run("mem", func(t *testing.T) { t.Parallel(); f(t, new(vfs.Mem), "/") })
}

func create(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFileOperations(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, fsys vfs.FS, dir string) {
		sub := filepath.Join(dir, "a", "b")
		ok(t, fsys.MkdirAll(sub, 0o700))
		f := create(t, fsys, filepath.Join(sub, "x"))
		ok(t, f.Preallocate(4096))
		var bufs [][]byte
		var want []byte
		for i := range 3000 { // more than one writev takes
			b := bytes.Repeat([]byte{byte(i)}, i%5)
			bufs, want = append(bufs, b), append(want, b...)
		}
		n, err := f.WritevAt(bufs, 10)
		if n != int64(len(want)) || err != nil {
			t.Fatalf("WritevAt = %d, %v; want %d", n, err, len(want))
		}
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 10); err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadAt does not give what WritevAt wrote: %v", err)
		}
		ok(t, f.Datasync())
		ok(t, f.Sync())
		ok(t, f.DropCache())
		ok(t, f.Truncate(5))
		if n, err := f.Size(); n != 5 || err != nil {
			t.Errorf("Size = %d, %v; want 5", n, err)
		}
		if n, err := f.ReadAt(got[:10], 0); n != 5 || err != io.EOF {
			t.Errorf("ReadAt past the end = %d, %v; want 5, EOF", n, err)
		}
		ok(t, f.Close())
		ok(t, fsys.Rename(filepath.Join(sub, "x"), filepath.Join(sub, "y")))
		ok(t, fsys.SyncDir(sub))
		ok(t, fsys.Chmod(filepath.Join(sub, "y"), 0o640))
		st, err := fsys.Stat(filepath.Join(sub, "y"))
		ok(t, err)
		if st.Size() != 5 || st.Mode() != 0o640 {
			t.Errorf("Stat: %d bytes, mode %v", st.Size(), st.Mode())
		}
		list, err := fsys.ReadDir(sub)
		ok(t, err)
		if len(list) != 1 || list[0].Name() != "y" {
			t.Errorf("ReadDir = %v, want y", list)
		}
		f, err = fsys.OpenFile(filepath.Join(sub, "y"), os.O_WRONLY|os.O_APPEND, 0)
		ok(t, err)
		_, err = f.Write([]byte("end"))
		ok(t, err)
		if n, _ := f.Size(); n != 8 {
			t.Errorf("after an append the size is %d, want 8", n)
		}
		ok(t, f.Close())
		ok(t, fsys.Remove(filepath.Join(sub, "y")))
		if _, err := fsys.OpenFile(filepath.Join(sub, "y"), os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("opening a removed file: %v", err)
		}
	})
}

func TestLockNamesOwner(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "lock")
		l, err := fsys.Lock(name)
		ok(t, err)
		_, err = fsys.Lock(name)
		var locked *vfs.LockedError
		if !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Errorf("second Lock: %v, want a LockedError with our pid", err)
		}
		ok(t, l.Close())
		l, err = fsys.Lock(name)
		ok(t, err)
		ok(t, l.Close())
	})
}

func read(t *testing.T, m *vfs.Mem, name string) string {
	t.Helper()
	f, err := m.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	ok(t, err)
	b, err := io.ReadAll(f)
	ok(t, err)
	return string(b)
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	m := new(vfs.Mem)
	f := create(t, m, "named")
	_, err := f.WriteAt([]byte("first "), 0)
	ok(t, err)
	ok(t, f.Datasync())
	_, err = f.WriteAt([]byte("second"), 6)
	ok(t, err)
	ok(t, m.SyncDir("/"))
	g := create(t, m, "nameless")
	_, err = g.WriteAt([]byte("x"), 0)
	ok(t, err)
	ok(t, g.Sync())

	c := m.Crash(vfs.LoseNone, nil)
	if got := read(t, c, "named"); got != "first second" {
		t.Errorf("lose none: %q", got)
	}
	if got := read(t, c, "nameless"); got != "x" {
		t.Errorf("lose none: %q", got)
	}
	if got := read(t, c.Crash(vfs.LoseAll, nil), "named"); got != "first " {
		t.Errorf("lose none, then lose all: %q", got)
	}
	c = m.Crash(vfs.LoseAll, nil)
	if got := read(t, c, "named"); got != "first " {
		t.Errorf("lose all: %q", got)
	}
	if got := read(t, c, "nameless"); got != "absent" {
		t.Errorf("a file in a directory that was not synced: %q", got)
	}
	for seed := range uint64(20) {
		c = m.Crash(vfs.LoseSome, rand.New(rand.NewPCG(seed, 1)))
		if got := read(t, c, "named"); got != "first " && got != "first second" {
			t.Errorf("lose some: %q", got)
		}
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, vfs.ErrCrashed) {
		t.Errorf("a write after the crash: %v", err)
	}
}

func TestFailedSyncLosesWrites(t *testing.T) {
	t.Parallel()
	m := new(vfs.Mem)
	f := create(t, m, "x")
	_, err := f.WriteAt([]byte("kept"), 0)
	ok(t, err)
	ok(t, f.Sync())
	_, err = f.WriteAt([]byte("lost"), 0)
	ok(t, err)
	m.FailAt(m.Count()+1, syscall.EIO)
	if err := f.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Datasync: %v, want EIO", err)
	}
	ok(t, f.Datasync()) // and does not help
	if got := read(t, m, "x"); got != "lost" {
		t.Errorf("the cache has %q", got)
	}
	ok(t, f.DropCache())
	if got := read(t, m, "x"); got != "kept" {
		t.Errorf("the device has %q", got)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	m := new(vfs.Mem)
	m.SetCapacity(100)
	f := create(t, m, "x")
	if n, err := f.WriteAt(make([]byte, 120), 0); n != 100 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("WriteAt = %d, %v; want 100 and ENOSPC", n, err)
	}
	if u, _ := m.Usage("/"); u.Bytes != 100 || u.Free != 0 {
		t.Errorf("Usage = %+v", u)
	}
	ok(t, f.Truncate(10))
	if err := f.Preallocate(101); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Preallocate: %v", err)
	}
	ok(t, f.Preallocate(100))
}

func TestOperationsAreCountedAndNamed(t *testing.T) {
	t.Parallel()
	m := new(vfs.Mem)
	m.Record()
	f := create(t, m, "x")
	_, err := f.WriteAt([]byte("abc"), 7)
	ok(t, err)
	ok(t, f.Datasync())
	ok(t, m.Rename("x", "y"))
	want := []string{"create x", "write x 7+3", "datasync x", "rename x y"}
	for i, o := range m.Ops() {
		if o.String() != want[i] || o.N != i+1 {
			t.Errorf("operation %d is %d %q, want %q", i+1, o.N, o, want[i])
		}
	}
	m.CrashAt(5)
	if err := m.SyncDir("/"); !errors.Is(err, vfs.ErrCrashed) {
		t.Errorf("SyncDir: %v", err)
	}
}

// A directory that was made is there after a crash, with those above it.
func TestMakeDir(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, fsys vfs.FS, dir string) {
		dir = filepath.Join(dir, "a", "b", "c")
		for range 2 {
			if err := vfs.MakeDir(fsys, dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if m, ok := fsys.(*vfs.Mem); ok {
			fsys = m.Crash(vfs.LoseAll, nil)
		}
		if i, err := fsys.Stat(dir); err != nil || !i.IsDir() {
			t.Errorf("%v, %v", i, err)
		}
		create(t, fsys, filepath.Join(dir, "file"))
		if err := vfs.MakeDir(fsys, filepath.Join(dir, "file", "d"), 0o700); err == nil {
			t.Error("a directory was made in a file")
		}
	})
}
