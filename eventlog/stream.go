package eventlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/mtakit/mtakit/internal/uuid"
	"github.com/mtakit/mtakit/internal/vfs"
)

// stream is an unbroken sequence of records in the segments of one directory and suffix.
type stream struct {
	log    *Log
	dir    *directory
	suffix string
	id     string // a UUID
	tail   []byte // what stands between a record and its number

	seq   uint64 // last number given; guarded by queue.mu
	block *block // being filled, nil if there is none; guarded by queue.mu

	// The writer's.
	enc  *zstd.Encoder
	seg  *segment // nil if none is open
	last uint64   // last number that may be in a file
	mark mark
}

// directory is a directory of segments.
type directory struct {
	path     string
	lock     io.Closer
	streams  []*stream
	space    space
	lastTime time.Time            // that a segment is named for; the writer's
	unused   map[string]savedMark // of streams that the configuration no longer has
}

func openDirectory(fsys vfs.FS, path string, lim limits) (*directory, error) {
	if err := vfs.MakeDir(fsys, path, 0o755); err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(path, ".lock"))
	if err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	return &directory{path: path, lock: lock, space: space{limits: lim}}, nil
}

// stateFile keeps, for a directory, which streams there are and where they stand. It is hidden, so that no one takes it
// for a segment.
const stateFile = ".streams"

// state is the content of the stateFile.
type state struct {
	// Boot names the run of the machine. Across a restart of it, an unclean state says nothing about what was read: records
	// may have been seen that are not on the disk any more.
	Boot    string               `json:"boot"`
	Clean   bool                 `json:"clean"`   // written by Close: the marks are the ends
	Streams map[string]savedMark `json:"streams"` // by suffix
}

type savedMark struct {
	ID string `json:"id"`
	mark
}

// mark is a place in a stream from which its end can be found: number Seq was the last before Offset in Segment.
type mark struct {
	Segment string `json:"segment,omitempty"` // "" if nothing was written after Seq
	Offset  int64  `json:"offset,omitempty"`  // where a frame begins
	Seq     uint64 `json:"seq"`
}

func (d *directory) saveState(l *Log, clean bool) error {
	st := state{Boot: l.boot, Clean: clean, Streams: map[string]savedMark{}}
	for _, s := range d.streams {
		m := s.mark
		if clean {
			m = mark{Seq: s.last}
		}
		st.Streams[s.suffix] = savedMark{ID: s.id, mark: m}
	}
	for suffix, m := range d.unused {
		st.Streams[suffix] = m
	}
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return writeFile(l.fs, filepath.Join(d.path, stateFile), b)
}

// writeFile replaces a small file: after a crash it has the old content or the new.
func writeFile(fsys vfs.FS, name string, b []byte) (err error) {
	f, err := fsys.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(name+".tmp", name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func readFile(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// recover seals what a crash left open and finds where the streams go on.
func (d *directory) recover(l *Log) error {
	entries, err := l.fs.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("eventlog: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		switch err := seal(l.fs, filepath.Join(d.path, e.Name())); {
		case errors.Is(err, fs.ErrPermission): // it is somebody else's
			l.cfg.Logger.Warn("file cannot be marked complete; who follows the event log will wait for more of it", "dir", d.path, "err", err)
		case err != nil:
			return err
		}
		if t := segmentTime(e.Name()); t.After(d.lastTime) {
			d.lastTime = t
		}
	}
	var st state
	b, err := readFile(l.fs, filepath.Join(d.path, stateFile))
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.cfg.Logger.Warn("state of the event log is not readable, new streams begin", "dir", d.path, "err", err)
		st = state{}
	}
	for _, s := range d.streams {
		old, ok := st.Streams[s.suffix]
		delete(st.Streams, s.suffix)
		if ok {
			s.id, s.seq, ok = s.goOn(old, st)
		}
		if !ok {
			s.id, s.seq = uuid.New(), 0
		}
		s.last = s.seq
		s.mark = mark{Seq: s.seq}
		s.tail = fmt.Appendf(nil, `,"stream":"%s","seq":`, s.id)
	}
	if st.Clean || st.Boot == l.boot && l.boot != "" { // else their ends are not known, and what is saved now would say that they are
		d.unused = st.Streams
	}
	return d.saveState(l, false)
}

// goOn finds the last number of a stream; ok is false if it cannot be known.
func (s *stream) goOn(old savedMark, st state) (id string, seq uint64, ok bool) {
	log := s.log.cfg.Logger.With("dir", s.dir.path, "stream", old.ID)
	if old.ID == "" {
		return "", 0, false
	}
	if !st.Clean && (st.Boot != s.log.boot || st.Boot == "") {
		log.Warn("machine went down while the event log was open, a new stream begins")
		return "", 0, false
	}
	if old.Segment == "" {
		return old.ID, old.Seq, true
	}
	seq, err := s.lastSeq(old)
	if err != nil {
		log.Warn("end of the event log cannot be found, a new stream begins", "file", old.Segment, "err", err)
		return "", 0, false
	}
	return old.ID, seq, true
}

// lastSeq reads the segment from the mark on.
func (s *stream) lastSeq(old savedMark) (seq uint64, err error) {
	path := filepath.Join(s.dir.path, old.Segment)
	f, err := s.log.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if err := seal(s.log.fs, path); err != nil { // a suffix may have put it into a directory of its own
		return 0, err
	}
	seq = old.Seq
	want := fmt.Appendf(nil, `,"stream":"%s","seq":`, old.ID)
	err = readLines(io.NewSectionReader(f, old.Offset, size-old.Offset), func(line []byte) bool {
		if bytes.Contains(line, want) {
			seq = max(seq, lineSeq(line))
		}
		return true
	})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // where the crash cut it
	}
	return seq, err
}

// segmentTime is the time that a segment is named for, zero if it is not the name of one.
func segmentTime(name string) time.Time {
	n := len("20060102-150405")
	if len(name) < n {
		return time.Time{}
	}
	if len(name) > n && name[n] == '.' {
		for n++; n < len(name) && '0' <= name[n] && name[n] <= '9'; n++ {
		}
	}
	t, err := time.Parse("20060102-150405", name[:n]) // takes a fraction after the seconds
	if err != nil {
		return time.Time{}
	}
	return t
}

// bootID changes when the machine restarts; "" is not known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
