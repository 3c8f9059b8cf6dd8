package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/mtakit/mtakit/internal/vfs"
)

// windowSize is how far the compressor looks back: more gains nothing on records and costs memory for each stream.
const windowSize = 1 << 20

// segment is an open file of a stream.
type segment struct {
	name     string // in the stream's directory
	path     string
	file     vfs.File
	size     int64 // records, before compression
	deadline time.Time

	out     bytes.Buffer // compressed, not yet written
	written int64        // bytes of the file
	good    int64        // the part of these that whole, acknowledged records end with

	frame int64 // bytes given to the current frame
	dirty bool  // the encoder has bytes that are not in out
	ended bool  // the last frame is closed
}

// due says whether the segment has to be completed.
func (g *segment) due(now time.Time) bool { return !g.deadline.IsZero() && !now.Before(g.deadline) }

// write writes a block and completes segments that are full. After an error it is to be called again, with the same block.
func (s *stream) write(b *block) error {
	for {
		if g := s.seg; g != nil && (g.ended || g.size >= s.log.cfg.MaxFileSize || g.due(time.Now())) && b.added == b.done {
			if err := s.finish(); err != nil {
				return err
			}
		}
		rest := b.buf[b.done:]
		if len(rest) == 0 {
			return nil
		}
		if s.seg == nil {
			if err := s.openSegment(s.log.routeOf(lineKind(rest)).header); err != nil {
				return err
			}
		}
		if b.added == b.done {
			n := fit(rest, s.log.cfg.MaxFileSize-s.seg.size)
			s.add(rest[:n])
			s.seg.size += int64(n)
			b.added += n
			s.last = max(s.last, lineSeq(lastLine(rest[:n]))) // from now on it may be read
		}
		if err := s.flush(); err != nil {
			bySync := s.seg.out.Len() == 0 // the next one would succeed without what this one has lost
			if bySync || !diskFull(err) {  // the file is not to be trusted any more
				s.abandon(err)
				b.added = b.done
			}
			return err
		}
		b.done, s.seg.good = b.added, s.seg.written
		if s.seg.frame >= s.log.frameSize {
			s.nextFrame()
		}
	}
}

// fit is the length of the lines that go into a segment with that room: up to the one that fills it.
func fit(lines []byte, room int64) int {
	if int64(len(lines)) <= room {
		return len(lines)
	}
	n := 0
	for int64(n) < room {
		n += bytes.IndexByte(lines[n:], '\n') + 1
	}
	return n
}

func lastLine(lines []byte) []byte {
	return lines[bytes.LastIndexByte(lines[:len(lines)-1], '\n')+1:]
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// openSegment begins a file whose name sorts after all others of the directory, and notes it in the directory's state.
func (s *stream) openSegment(header string) error {
	now := time.Now()
	t := now
	if !t.After(s.dir.lastTime) { // the clock was set back; who follows the directory must still find it
		t = s.dir.lastTime.Add(1)
	}
	if s.suffix != "" && s.suffix[0] > '9' && t.Nanosecond()%1000 == 0 {
		t = t.Add(1) // a shorter fraction with this suffix would sort after a longer one
	}
	g := &segment{name: segmentName(t) + s.suffix}
	g.path = filepath.Join(s.dir.path, g.name)
	if dir := filepath.Dir(g.path); dir != filepath.Clean(s.dir.path) {
		if err := vfs.MakeDir(s.log.fs, dir, 0o755); err != nil {
			return err
		}
	}
	s.dir.lastTime = t
	if s.log.cfg.MaxSegmentDuration > 0 {
		g.deadline = now.Add(s.log.cfg.MaxSegmentDuration)
	}
	var err error
	if g.file, err = s.log.fs.OpenFile(g.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644); err != nil {
		return err
	}
	old := s.mark
	s.mark = mark{Segment: g.name, Seq: s.last}
	if err := s.dir.saveState(s.log, false); err != nil {
		s.mark = old
		return errors.Join(err, g.file.Close(), s.log.fs.Remove(g.path))
	}
	s.seg = g
	s.encoder().Reset(&g.out)
	if header != "" {
		s.add([]byte(header))
	}
	return nil
}

// segmentName is the time in UTC, with 0, 3, 6 or 9 digits of the second: the fewest that are exact.
func segmentName(t time.Time) string {
	layout := "20060102-150405.000000000"
	switch ns := t.Nanosecond(); {
	case ns == 0:
		layout = "20060102-150405"
	case ns%1e6 == 0:
		layout = "20060102-150405.000"
	case ns%1e3 == 0:
		layout = "20060102-150405.000000"
	}
	return t.UTC().Format(layout)
}

// encoder is the stream's compressor, made when it is first needed.
func (s *stream) encoder() *zstd.Encoder {
	if s.enc == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(windowSize),
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(s.log.cfg.CompressionLevel)))
		if err != nil {
			panic("eventlog: zstd: " + err.Error()) // only options are checked
		}
		s.enc = enc
	}
	return s.enc
}

// add gives bytes to the encoder; errors could only come from out, which is memory.
func (s *stream) add(p []byte) {
	g := s.seg
	if _, err := s.enc.Write(p); err != nil {
		panic("eventlog: zstd: " + err.Error())
	}
	g.frame += int64(len(p))
	g.dirty = true
}

// flush makes what was added readable in the file.
func (s *stream) flush() error {
	g := s.seg
	if g.dirty {
		if err := s.enc.Flush(); err != nil {
			panic("eventlog: zstd: " + err.Error())
		}
		g.dirty = false
	}
	if err := g.drain(); err != nil {
		return err
	}
	if s.log.cfg.Sync {
		return g.file.Datasync()
	}
	return nil
}

// drain writes out; what a failed write left goes first the next time.
func (g *segment) drain() error {
	for g.out.Len() > 0 {
		n, err := g.file.Write(g.out.Bytes())
		g.out.Next(n)
		g.written += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// nextFrame ends the frame and notes where the next begins, so that recovery need not read this one.
func (s *stream) nextFrame() {
	g := s.seg
	if err := s.enc.Close(); err != nil {
		panic("eventlog: zstd: " + err.Error())
	}
	s.enc.Reset(&g.out)
	g.frame = 0
	if err := g.drain(); err != nil {
		return // out keeps the rest; the next write fails too, or goes through
	}
	g.good = g.written
	s.mark = mark{Segment: g.name, Offset: g.written, Seq: s.last}
	if err := s.dir.saveState(s.log, false); err != nil {
		s.log.cfg.Logger.Warn("position in the event log was not noted, recovery would take longer", "dir", s.dir.path, "err", err)
	}
}

// finish completes the segment: ends the stream of zstd and makes the file read-only, by which readers know.
func (s *stream) finish() error {
	g := s.seg
	if !g.ended {
		if err := s.enc.Close(); err != nil {
			panic("eventlog: zstd: " + err.Error())
		}
		g.ended = true
	}
	err := g.drain()
	if err == nil {
		err = g.file.Sync()
	}
	if err == nil {
		err = seal(s.log.fs, g.path)
	}
	switch {
	case err == nil:
		s.seg = nil
		s.log.closeFile(g)
	case !diskFull(err):
		s.abandon(err) // all records are there; a missing end of the last frame harms nobody
		err = nil
	}
	return err
}

// abandon gives a segment up whose file failed. The caller writes what is not acknowledged to another.
func (s *stream) abandon(cause error) {
	g := s.seg
	s.seg = nil
	// Without the rest, no record is there twice. If that fails too they are, under the same number.
	terr := g.file.Truncate(g.good)
	cerr := seal(s.log.fs, g.path)
	s.log.cfg.Logger.Error("segment of the event log failed, going on in another", "file", g.path, "err", errors.Join(cause, terr, cerr))
	s.log.closeFile(g)
}

func (l *Log) closeFile(g *segment) {
	if err := g.file.Close(); err != nil {
		l.cfg.Logger.Warn("segment of the event log was closed with an error", "file", g.path, "err", err)
	}
}

// seal makes a file read-only if it is not.
func seal(fsys vfs.FS, path string) error {
	st, err := fsys.Stat(path)
	if err != nil {
		return fmt.Errorf("eventlog: %w", err)
	}
	if mode := st.Mode(); mode.IsRegular() && mode&0o222 != 0 {
		if err := fsys.Chmod(path, mode.Perm()&^fs.FileMode(0o222)); err != nil {
			return fmt.Errorf("eventlog: %w", err)
		}
	}
	return nil
}
