package vfs

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"
)

type memFile struct {
	m      *Mem
	n      *node
	append bool
	pos    int64 // guarded by m.mu
	closed bool
}

func (f *memFile) check() error {
	if f.closed {
		return &fs.PathError{Op: "use", Path: f.n.name, Err: fs.ErrClosed}
	}
	if f.m.crashed {
		return ErrCrashed
	}
	return nil
}

func (f *memFile) Read(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	n, err := f.readAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.readAt(p, off)
}

func (f *memFile) readAt(p []byte, off int64) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.append {
		f.pos = int64(len(f.n.data))
	}
	n, err := f.writeAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.writeAt(p, off)
}

func (f *memFile) WritevAt(bufs [][]byte, off int64) (int64, error) {
	n, err := f.WriteAt(slices.Concat(bufs...), off)
	return int64(n), err
}

// writeAt writes what fits on the disk.
func (f *memFile) writeAt(p []byte, off int64) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	crash, err := f.m.begin(Op{Kind: "write", Name: f.n.name, Off: off, Len: int64(len(p))})
	if err != nil {
		return 0, &fs.PathError{Op: "write", Path: f.n.name, Err: err}
	}
	if grow := off + int64(len(p)) - int64(len(f.n.data)); grow > 0 && f.m.capacity > 0 {
		if over := f.m.top().total() + grow - f.m.capacity; over > 0 {
			p = p[:max(0, int64(len(p))-over)]
			err = &fs.PathError{Op: "write", Path: f.n.name, Err: syscall.ENOSPC}
		}
	}
	if len(p) > 0 {
		f.n.put(change{off: off, data: slices.Clone(p)})
		f.n.mod = f.m.now()
	}
	return len(p), errors.Join(err, end(crash))
}

func (n *node) put(c change) {
	n.data = c.apply(n.data)
	n.pending = append(n.pending, c)
}

func (m *Mem) truncate(n *node, size int64) error {
	crash, err := m.begin(Op{Kind: "truncate", Name: n.name, Len: size})
	if err != nil {
		return &fs.PathError{Op: "truncate", Path: n.name, Err: err}
	}
	n.put(change{off: size})
	n.mod = m.now()
	return end(crash)
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	return f.m.truncate(f.n, size)
}

func (f *memFile) Preallocate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	crash, err := f.m.begin(Op{Kind: "preallocate", Name: f.n.name, Len: size})
	grow := size - int64(len(f.n.data))
	if err == nil && f.m.capacity > 0 && grow > 0 && f.m.top().total()+grow > f.m.capacity {
		err = syscall.ENOSPC
	}
	if err != nil {
		return &fs.PathError{Op: "fallocate", Path: f.n.name, Err: err}
	}
	if grow > 0 {
		f.n.put(change{off: size})
	}
	return end(crash)
}

func (f *memFile) Sync() error     { return f.sync("sync") }
func (f *memFile) Datasync() error { return f.sync("datasync") }

func (f *memFile) sync(kind string) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	crash, err := f.m.begin(Op{Kind: kind, Name: f.n.name})
	if crash {
		return ErrCrashed
	}
	if err == nil {
		for _, c := range f.n.pending {
			f.n.durable = c.apply(f.n.durable)
		}
	} else {
		err = &fs.PathError{Op: kind, Path: f.n.name, Err: err}
	}
	f.n.pending = nil // after a failure the pages count as clean: nothing writes them again
	return err
}

func (f *memFile) DropCache() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	f.n.data = slices.Clone(f.n.durable)
	for _, c := range f.n.pending {
		f.n.data = c.apply(f.n.data)
	}
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check(); err != nil {
		return 0, err
	}
	return int64(len(f.n.data)), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.n.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}
