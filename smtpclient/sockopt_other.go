//go:build !linux

package smtpclient

import "syscall"

func control(_, _ string, _ syscall.RawConn) error { return nil }
