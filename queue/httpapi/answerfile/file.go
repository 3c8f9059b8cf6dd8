package answerfile

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/mtakit/mtakit/internal/vfs"
)

const suffix = ".answers"

func fileName(number uint64) string { return fmt.Sprintf("%016x%s", number, suffix) }

// file is one of the two files. Its fields change with Answers.writing and mu held.
type file struct {
	vfs.File
	number uint64
	end    int64     // behind the last record
	keys   []key     // of its records
	first  time.Time // when the first answer was given
}

// add counts a record that is behind the others.
func (g *file) add(r *record) {
	if len(g.keys) == 0 {
		g.first = r.at
	}
	g.keys = append(g.keys, r.key)
	g.end += int64(r.size())
}

// record is an answer as it is on disk: a checksum of all behind it, the length of the body, the time in nanoseconds, how many recipients are done, key, hash
// of the request, and body. Numbers are little endian.
type record struct {
	at           time.Time
	done         int
	key, request [sha256.Size]byte
	body         []byte
}

const (
	keyAt      = 4 + 4 + 8 + 8
	headerSize = keyAt + 2*sha256.Size
	bodyMax    = 1 << 30
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("the record is damaged")
)

func (r *record) size() int { return headerSize + len(r.body) }

func (r *record) append(b []byte) []byte {
	start := len(b)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, uint32(len(r.body)))
	b = le.AppendUint64(b, uint64(r.at.UnixNano()))
	b = le.AppendUint64(b, uint64(r.done))
	b = append(append(append(b, r.key[:]...), r.request[:]...), r.body...)
	le.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

// parse reads a whole record; the body is not copied.
func parse(b []byte) (*record, error) {
	if len(b) < headerSize || int64(le.Uint32(b[4:])) != int64(len(b)-headerSize) || crc32.Checksum(b[4:], castagnoli) != le.Uint32(b) {
		return nil, errDamaged
	}
	return &record{
		at: time.Unix(0, int64(le.Uint64(b[8:]))), done: int(le.Uint64(b[16:])),
		key: key(b[keyAt:]), request: [sha256.Size]byte(b[keyAt+sha256.Size:]), body: b[headerSize:],
	}, nil
}

// each shows all records of a file of that size up to the first one that is damaged, which is an errDamaged. What is shown is valid during the call.
func (g *file) each(size int64, show func(off int64, r *record)) error {
	in := bufio.NewReaderSize(io.NewSectionReader(g, 0, size), 64<<10)
	var b []byte
	for off := int64(0); off < size; {
		if size-off < headerSize {
			return errDamaged
		}
		head, err := in.Peek(8)
		if err != nil {
			return err
		}
		n := headerSize + int64(le.Uint32(head[4:]))
		if n > min(size-off, bodyMax) {
			return errDamaged
		}
		if int64(cap(b)) < n {
			b = make([]byte, n)
		}
		b = b[:n]
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		r, err := parse(b)
		if err != nil {
			return err
		}
		show(off, r)
		off += n
	}
	return nil
}
