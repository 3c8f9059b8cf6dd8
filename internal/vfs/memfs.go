package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// OpenFile implements [FS].
func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, n, base, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return fail(fs.ErrNotExist)
	case n != nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return fail(fs.ErrExist)
	case n != nil && n.dir:
		return fail(syscall.EISDIR)
	case n == nil:
		crash, err := m.begin(Op{Kind: "create", Name: base})
		if err != nil {
			return fail(err)
		}
		n = &node{name: base, mode: perm, mod: m.now()}
		parent.change(nameChange{name: base, node: n})
		if crash {
			return fail(ErrCrashed)
		}
	case flag&os.O_TRUNC != 0 && len(n.data) > 0:
		if err := m.truncate(n, 0); err != nil {
			return fail(err)
		}
	}
	return &memFile{m: m, n: n, append: flag&os.O_APPEND != 0}, nil
}

// Rename implements [FS]. Both names change at once, in memory and after a crash, if they are in one directory.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	op, n, ob, err := m.must("rename", oldName)
	if err != nil {
		return err
	}
	np, _, nb, err := m.find("rename", newName)
	if err != nil {
		return err
	}
	crash, err := m.begin(Op{Kind: "rename", Name: ob, To: nb})
	if err != nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: err}
	}
	n.name = nb
	if op == np {
		np.change(nameChange{name: nb, node: n, from: ob})
	} else {
		np.change(nameChange{name: nb, node: n})
		op.change(nameChange{name: ob})
	}
	return end(crash)
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, n, base, err := m.must("remove", name)
	if err != nil {
		return err
	}
	if n.dir && len(n.kids) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	crash, err := m.begin(Op{Kind: "remove", Name: base})
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	parent.change(nameChange{name: base})
	return end(crash)
}

// MkdirAll implements [FS].
func (m *Mem) MkdirAll(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.top()
	for _, p := range parts(name) {
		k := n.kids[p]
		if k == nil {
			crash, err := m.begin(Op{Kind: "mkdir", Name: p})
			if err != nil {
				return &fs.PathError{Op: "mkdir", Path: name, Err: err}
			}
			k = newDir(perm)
			n.change(nameChange{name: p, node: k})
			if crash {
				return ErrCrashed
			}
		}
		if !k.dir {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		n = k
	}
	return nil
}

// Chmod implements [FS]; the mode is durable at once.
func (m *Mem) Chmod(name string, mode fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, n, base, err := m.must("chmod", name)
	if err != nil {
		return err
	}
	crash, err := m.begin(Op{Kind: "chmod", Name: base})
	if err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	n.mode = n.mode&fs.ModeType | mode
	return end(crash)
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, n, base, err := m.must("sync", name)
	if err != nil {
		return err
	}
	crash, err := m.begin(Op{Kind: "syncdir", Name: base})
	if err != nil || crash {
		return errors.Join(err, end(crash))
	}
	for _, c := range n.pendingNames {
		c.apply(n.durableKids)
	}
	n.pendingNames = nil
	return nil
}

// ReadDir implements [FS].
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, n, _, err := m.must("readdir", name)
	if err != nil {
		return nil, err
	}
	var out []fs.DirEntry
	for name, k := range n.kids {
		out = append(out, fs.FileInfoToDirEntry(k.info(name)))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, n, base, err := m.must("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(base), nil
}

// Lock implements [FS]. A crash frees all locks.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return nil, ErrCrashed
	}
	name = filepath.Clean(name)
	if m.locks[name] {
		return nil, &LockedError{Name: name, PID: os.Getpid()}
	}
	if m.locks == nil {
		m.locks = map[string]bool{}
	}
	m.locks[name] = true
	return &memLock{m, name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// Usage implements [FS].
func (m *Mem) Usage(string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return Usage{}, ErrCrashed
	}
	if m.capacity == 0 {
		return Usage{}, nil
	}
	return Usage{Bytes: uint64(m.capacity), Free: uint64(max(0, m.capacity-m.top().total()))}, nil
}

func (n *node) total() (sum int64) {
	for _, k := range n.kids {
		sum += k.total()
	}
	return sum + int64(len(n.data))
}

type info struct {
	name string
	size int64
	mode fs.FileMode
	mod  time.Time
}

func (n *node) info(name string) fs.FileInfo { return info{name, int64(len(n.data)), n.mode, n.mod} }

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.mod }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
