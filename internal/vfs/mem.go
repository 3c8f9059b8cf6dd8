package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
