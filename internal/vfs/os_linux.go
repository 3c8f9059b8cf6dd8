package vfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVectors is Linux's limit of one writev call (UIO_MAXIOV).
const maxVectors = 1024

// vectors is what WritevAt hands to the kernel, kept from call to call.
type vectors struct {
	mu  sync.Mutex
	iov []unix.Iovec
}

func (f *osFile) WritevAt(bufs [][]byte, off int64) (n int64, err error) {
	if len(bufs) == 1 {
		m, err := f.WriteAt(bufs[0], off)
		return int64(m), err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(bufs) > 0 {
		iov := f.iov[:0]
		var want int64
		for len(bufs) > 0 && len(iov) < maxVectors {
			if b := bufs[0]; len(b) > 0 {
				iov = append(iov, unix.Iovec{Base: unsafe.SliceData(b)})
				iov[len(iov)-1].SetLen(len(b))
				want += int64(len(b))
			}
			bufs = bufs[1:]
		}
		f.iov = iov
		if want == 0 {
			continue
		}
		m, err := pwritev(f.fd, iov, off+n)
		n += m
		if err != nil {
			return n, &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
	}
	clear(f.iov) // keeps nobody's body alive
	return n, nil
}

// pwritev writes all of iov, however many calls that takes; it changes iov.
func pwritev(fd uintptr, iov []unix.Iovec, off int64) (n int64, err error) {
	for len(iov) > 0 {
		m, _, e := unix.Syscall6(unix.SYS_PWRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)),
			uintptr(off+n), uintptr(uint64(off+n)>>32), 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return n, e
		}
		if m == 0 {
			return n, io.ErrShortWrite
		}
		n += int64(m)
		for m > 0 {
			if l := uintptr(iov[0].Len); m < l {
				iov[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(iov[0].Base), m))
				iov[0].SetLen(int(l - m))
				break
			} else {
				m -= l
				iov = iov[1:]
			}
		}
	}
	return n, nil
}

func (f *osFile) Datasync() error {
	for {
		if err := unix.Fdatasync(int(f.fd)); err != unix.EINTR {
			return pathErr("fdatasync", f.Name(), err)
		}
	}
}

func (f *osFile) Preallocate(size int64) error {
	for {
		err := unix.Fallocate(int(f.fd), 0, 0, size)
		switch {
		case err == unix.EINTR:
		case errors.Is(err, errors.ErrUnsupported):
			return nil
		default:
			return pathErr("fallocate", f.Name(), err)
		}
	}
}

func (f *osFile) DropCache() error {
	return pathErr("fadvise", f.Name(), unix.Fadvise(int(f.fd), 0, 0, unix.FADV_DONTNEED))
}

func (osFS) Usage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Usage{}, pathErr("statfs", name, err)
	}
	return Usage{
		Bytes: st.Blocks * uint64(st.Bsize), Free: st.Bavail * uint64(st.Bsize),
		Inodes: st.Files, FreeInodes: st.Ffree,
	}, nil
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if err != unix.EWOULDBLOCK {
			return nil, pathErr("flock", name, err)
		}
		b, _ := io.ReadAll(io.LimitReader(f, 32))
		pid, _ := strconv.Atoi(string(bytes.TrimSpace(b)))
		return nil, &LockedError{Name: name, PID: pid}
	}
	// The sticky bit keeps cleaners of old files away.
	err = errors.Join(f.Truncate(0), f.Chmod(0o600|os.ModeSticky))
	if err == nil {
		_, err = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil // closing it gives the lock back
}

func pathErr(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}
