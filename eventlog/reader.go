package eventlog

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxLine is the longest line that is read.
	maxLine = 32 << 20
	// maxWindow is the largest window of zstd's levels.
	maxWindow = 128 << 20
)

var errLongLine = errors.New("a line is too long")

// readLines decompresses a segment and gives each complete line, with its line end, to yield until that returns false. Lines
// are valid during the call. Lines before damage are given; the error is io.ErrUnexpectedEOF for a segment that ends early,
// whether within a frame or within a line.
func readLines(r io.Reader, yield func(line []byte) bool) error {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer dec.Close()
	buf := make([]byte, 0, 64<<10)
	for {
		if len(buf) == cap(buf) {
			if len(buf) >= maxLine {
				return errLongLine
			}
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := dec.Read(buf[len(buf):cap(buf)])
		from := len(buf)
		buf = buf[:from+n]
		start := 0
		for {
			i := bytes.IndexByte(buf[from:], '\n')
			if i < 0 {
				break
			}
			end := from + i + 1
			if !yield(buf[start:end]) {
				return nil
			}
			start, from = end, end
		}
		buf = append(buf[:0], buf[start:]...)
		switch {
		case err == io.EOF && len(buf) > 0:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
