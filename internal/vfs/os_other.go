//go:build !linux

package vfs

import (
	"io"
	"os"
)

type vectors struct{}

func (f *osFile) WritevAt(bufs [][]byte, off int64) (n int64, err error) {
	for _, b := range bufs {
		m, err := f.WriteAt(b, off+n)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (f *osFile) Datasync() error         { return f.Sync() }
func (f *osFile) Preallocate(int64) error { return nil }
func (f *osFile) DropCache() error        { return nil }

// Usage is not known here.
func (osFS) Usage(string) (Usage, error) { return Usage{}, nil }

// Lock opens the file and locks nothing: here the lock of the bbolt file has to keep a second process out.
func (osFS) Lock(name string) (io.Closer, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}
