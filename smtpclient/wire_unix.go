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
	if w.look == nil {
		b := make([]byte, 1)
		w.look = func(fd uintptr) {
			for {
				w.triedN, _, w.triedE = syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
				if w.triedE != syscall.EINTR {
					return
				}
			}
		}
	}
	if w.raw.Control(w.look) != nil {
		return false, true
	}
	switch {
	case w.triedE == syscall.EAGAIN:
		return false, false
	case w.triedE != nil || w.triedN == 0:
		return false, true
	}
	return true, false
}
