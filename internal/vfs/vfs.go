// Package vfs is the few file operations that the spool and the event log are made of, as an interface with two
// implementations: [OS], which adds nothing to the operating system's calls, and [Mem], a disk in memory that loses what
// was not synced, tears the last write, fills up, and fails or stops at a chosen operation.
//
// The rules that callers follow, and that Mem enforces, are those of a careful POSIX program: bytes are on stable storage
// after Sync or Datasync of their file, names after SyncDir of their directory, and a failed sync means that what was
// written since the last good one may be lost even though it can still be read.
//
// The package starts no goroutine. All methods of FS may be called concurrently, and those of File too, except that
// Write, WriteAt and Truncate of overlapping ranges are the caller's to order.
package vfs

import (
	"fmt"
	"io"
	"io/fs"
)

// FS is a file system. Names are paths as package os takes them.
type FS interface {
	// OpenFile is [os.OpenFile]; flag is made of os.O_RDONLY, O_WRONLY, O_RDWR, O_CREATE, O_EXCL, O_TRUNC and O_APPEND.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newName if it exists.
	Rename(oldName, newName string) error
	Remove(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	MkdirAll(name string, perm fs.FileMode) error
	Chmod(name string, mode fs.FileMode) error
	// SyncDir makes creations, renames and removals in the directory durable.
	SyncDir(name string) error
	// Lock takes the lock file name, creating it if need be, and writes the process id into it. If another process, or
	// another caller in this one, has it, the error is a [*LockedError]. Close gives it back.
	Lock(name string) (io.Closer, error)
	// Usage says how full the file system is that holds name. All zero is not known.
	Usage(name string) (Usage, error)
}

// File is an open file.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WritevAt writes the slices of bufs one after the other from off on, with as few system calls as there are. It keeps
	// none of them and may reorder nothing. n counts the bytes written, also where err is not nil.
	WritevAt(bufs [][]byte, off int64) (n int64, err error)
	// Sync makes contents and metadata durable, Datasync contents and what is needed to read them.
	Sync() error
	Datasync() error
	Truncate(size int64) error
	// Preallocate reserves room for the first size bytes, so that writing there needs no new metadata; the file grows to
	// that size, with zeros. Where that is not supported it does nothing.
	Preallocate(size int64) error
	// DropCache asks the system to forget what it has cached of the file, so that reads come from the device.
	DropCache() error
	Size() (int64, error)
}

// Usage is how full a file system is. Free and FreeInodes are what unprivileged users may still take. File systems
// without a fixed number of inodes have Inodes 0.
type Usage struct {
	Bytes, Free        uint64
	Inodes, FreeInodes uint64
}

// LockedError says that a lock file is taken.
type LockedError struct {
	Name string
	PID  int // of the owner; 0 if it could not be read
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", e.Name)
	}
	return fmt.Sprintf("%s is locked by process %d", e.Name, e.PID)
}
