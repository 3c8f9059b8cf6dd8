//go:build unix

package smtpclient

import (
	"syscall"
)

// writeNow writes as much of p as the socket takes without waiting.
func (w *wire) writeNow(p []byte) (int, error) {
	if w.attempt == nil {
		w.attempt = func(fd uintptr) bool {
			for {
				n, err := syscall.Write(int(fd), w.tried)
				if err == syscall.EINTR {
					continue
				}
				if err == syscall.EAGAIN {
					n, err = 0, nil
				}
				w.triedN, w.triedE = max(n, 0), err
				return true
			}
		}
	}
	w.tried = p
	err := w.raw.Write(w.attempt)
	if w.tried = nil; err == nil {
		err = w.triedE
	} else {
		w.triedN = 0
	}
	return w.triedN, err
}

// peek looks at the socket without taking anything.
func (w *wire) peek() (some, eof bool) {
	var b [1]byte
	var n int
	var rerr error
	err := w.raw.Control(func(fd uintptr) {
		for {
			n, _, rerr = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if rerr != syscall.EINTR {
				return
			}
		}
	})
	switch {
	case err != nil:
		return false, true
	case rerr == syscall.EAGAIN:
		return false, false
	case rerr != nil || n == 0:
		return false, true
	}
	return true, false
}
