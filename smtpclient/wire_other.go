//go:build !unix

package smtpclient

import (
	"os"
	"time"
)

// writeNow writes nothing: the background write does.
func (w *wire) writeNow([]byte) (int, error) { return 0, nil }

// peek sees the end only.
func (w *wire) peek() (some, eof bool) {
	if w.Conn.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
		return false, true
	}
	_, err := w.Conn.Read(make([]byte, 1))
	return err == nil, err != nil && !os.IsTimeout(err)
}
