package smtpclient

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// control lets the system choose the port when it connects and not when it binds, so that one source address has all its ports for
// each destination instead of for all of them together.
func control(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// A kernel without it does as it did before.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
