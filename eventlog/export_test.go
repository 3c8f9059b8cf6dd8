package eventlog

import (
	"io"

	"github.com/mtakit/mtakit/internal/vfs"
)

// OpenOn is Open on another file system and with another run of the machine. Frames are small.
func OpenOn(cfg Config, fsys vfs.FS, boot string) (*Log, error) {
	return open(cfg, system{fs: fsys, boot: boot, frameSize: 1000})
}

// ReadLines is the reader of segments.
func ReadLines(r io.Reader, yield func([]byte) bool) error { return readLines(r, yield) }

var (
	SegmentName = segmentName
	SegmentTime = segmentTime
)
