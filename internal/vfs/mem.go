package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrCrashed is what every operation of a [Mem] returns once it has stopped.
var ErrCrashed = errors.New("vfs: the machine has stopped")

// Op is one operation that changes a [Mem].
type Op struct {
	N    int    // from 1
	Kind string // create, write, truncate, preallocate, sync, datasync, rename, remove, mkdir, chmod, syncdir
	Name string // base name of the file or directory
	To   string // base name, for rename
	Off  int64  // for write
	Len  int64  // bytes written, or the size
}

func (o Op) String() string {
	switch o.Kind {
	case "write":
		return fmt.Sprintf("write %s %d+%d", o.Name, o.Off, o.Len)
	case "truncate", "preallocate":
		return fmt.Sprintf("%s %s %d", o.Kind, o.Name, o.Len)
	case "rename":
		return "rename " + o.Name + " " + o.To
	}
	return o.Kind + " " + o.Name
}

// Mem is a disk in memory. It keeps what was synced apart from what was only written, and [Mem.Crash] shows what is left
// after the power went. The zero value is an empty disk of unlimited size.
type Mem struct {
	// Before, if set, is asked before each operation that changes the disk; an error becomes the operation's. A write
	// that fails with ENOSPC or EIO changes nothing. A sync that fails loses for good what it should have made durable,
	// although reads see it until DropCache. ErrCrashed stops the disk in the middle of the operation.
	// It is called with the disk locked. Set it before use, or with SetBefore.
	Before func(Op) error
	// Now is the clock of modification times; nil is time.Now.
	Now func() time.Time

	mu       sync.Mutex
	root     *node
	ops      []Op
	n        int
	keepOps  bool
	crashed  bool
	capacity int64
	locks    map[string]bool
}

// node is a file or a directory.
type node struct {
	name string // the last it got
	dir  bool
	mode fs.FileMode
	mod  time.Time

	// A file: what reads see, what is durable, and the writes between.
	data, durable []byte
	pending       []change

	// A directory, likewise.
	kids, durableKids map[string]*node
	pendingNames      []nameChange
}

type change struct {
	off  int64
	data []byte // nil: the file gets size off
}

type nameChange struct {
	name string
	node *node  // nil: removed
	from string // for rename: the name that goes at the same moment
}

func (c change) apply(b []byte) []byte {
	if c.data == nil {
		return resize(b, c.off)
	}
	if end := c.off + int64(len(c.data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[c.off:], c.data)
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func (c nameChange) apply(m map[string]*node) {
	if c.from != "" {
		delete(m, c.from)
	}
	if c.node == nil {
		delete(m, c.name)
	} else {
		m[c.name] = c.node
	}
}

// SetBefore replaces the hook.
func (m *Mem) SetBefore(f func(Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Before = f
}

// SetCapacity limits the sum of all file sizes, and so what [FS.Usage] tells; 0 is unlimited.
func (m *Mem) SetCapacity(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = n
}

// Record begins to keep operations for [Mem.Ops].
func (m *Mem) Record() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keepOps, m.ops = true, nil
}

// Ops are the operations since Record, and Count how many there were in all.
func (m *Mem) Ops() []Op {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ops)
}

// Count is the number of operations since the disk was made.
func (m *Mem) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

// CrashAt makes operation n, counted from the disk's making, the one in which it stops.
func (m *Mem) CrashAt(n int) {
	m.SetBefore(func(o Op) error {
		if o.N == n {
			return ErrCrashed
		}
		return nil
	})
}

// FailAt makes operation n fail with err, once.
func (m *Mem) FailAt(n int, err error) {
	m.SetBefore(func(o Op) error {
		if o.N == n {
			return err
		}
		return nil
	})
}

// begin counts an operation and asks whether it may be. crash says that it happens, without being durable, and that the
// disk stops with it.
func (m *Mem) begin(o Op) (crash bool, err error) {
	if m.crashed {
		return false, ErrCrashed
	}
	m.n++
	o.N = m.n
	if m.Before != nil {
		err = m.Before(o)
	}
	if m.keepOps {
		m.ops = append(m.ops, o)
	}
	if errors.Is(err, ErrCrashed) {
		m.crashed = true
		return true, nil
	}
	return false, err
}

func end(crash bool) error {
	if crash {
		return ErrCrashed
	}
	return nil
}

func (m *Mem) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

func (m *Mem) top() *node {
	if m.root == nil {
		m.root = newDir(0o755)
	}
	return m.root
}

func newDir(mode fs.FileMode) *node {
	return &node{dir: true, mode: mode | fs.ModeDir, kids: map[string]*node{}, durableKids: map[string]*node{}}
}

func parts(name string) []string {
	return strings.FieldsFunc(filepath.ToSlash(filepath.Clean(name)), func(r rune) bool { return r == '/' })
}

// find walks to name; parent is nil for the root, n nil if there is no such name.
func (m *Mem) find(op, name string) (parent, n *node, base string, err error) {
	n = m.top()
	for _, p := range parts(name) {
		if n == nil || !n.dir {
			return nil, nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		parent, n, base = n, n.kids[p], p
	}
	if m.crashed {
		return nil, nil, "", &fs.PathError{Op: op, Path: name, Err: ErrCrashed}
	}
	return parent, n, base, nil
}

func (m *Mem) must(op, name string) (parent, n *node, base string, err error) {
	parent, n, base, err = m.find(op, name)
	if err == nil && n == nil {
		err = &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return
}

func (d *node) change(c nameChange) {
	c.apply(d.kids)
	d.pendingNames = append(d.pendingNames, c)
}

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
