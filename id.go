package mtakit

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// ID names a message for its whole life on a node. It is a UUID of version 7 (RFC 9562, 5.7): its bytes sort by
// creation time, and it carries that time, which nothing else stores. It prints as 32 lowercase hex digits.
// The zero ID names no message.
type ID [16]byte

// ErrBadID is wrapped by the errors of [ParseID].
var ErrBadID = errors.New("not a message id")

// ParseID reads the 32 hex digits that [ID.String] prints, or the hyphenated form of a UUID, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	h := s
	if len(s) == 36 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return id, fmt.Errorf("mtakit: %q is %w: hyphens are misplaced", s, ErrBadID)
		}
		h = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	if len(h) != 32 {
		return id, fmt.Errorf("mtakit: %.64q is %w: want 32 hex digits", s, ErrBadID)
	}
	if _, err := hex.Decode(id[:], []byte(h)); err != nil {
		return ID{}, fmt.Errorf("mtakit: %q is %w: %v", s, ErrBadID, err)
	}
	return id, nil
}

// String returns 32 lowercase hex digits.
func (id ID) String() string { return string(id.Append(make([]byte, 0, 32))) }

// Append appends what String returns.
func (id ID) Append(dst []byte) []byte { return hex.AppendEncode(dst, id[:]) }

// MarshalText and UnmarshalText use the form of String; the zero ID is the empty text.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return id.Append(nil), nil
}

// UnmarshalText reads what [ParseID] reads, or an empty text.
func (id *ID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	*id, err = ParseID(string(b))
	return err
}

// IsZero says whether id names no message.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders ids by creation time; it returns -1, 0 or +1.
func (id ID) Compare(o ID) int {
	for i := range id {
		if id[i] != o[i] {
			if id[i] < o[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// Time is the creation time, to about a quarter of a microsecond. Ids of version 1, as other systems make them, are
// read for their time too; any other version gives the zero time.
func (id ID) Time() time.Time {
	switch id[6] >> 4 {
	case 7:
		ticks := binary.BigEndian.Uint64(id[:8])
		ms, frac := int64(ticks>>16), int64(ticks&0xfff)
		return time.UnixMilli(ms).Add(time.Duration(frac*int64(time.Millisecond)/4096 + 1)).UTC()
	case 1:
		// 100 ns since 1582-10-15, low, middle and high part (RFC 9562, 5.1).
		t := int64(binary.BigEndian.Uint32(id[:4])) | int64(binary.BigEndian.Uint16(id[4:6]))<<32 |
			int64(binary.BigEndian.Uint16(id[6:8])&0xfff)<<48
		t -= 122192928000000000
		return time.Unix(t/1e7, t%1e7*100).UTC()
	}
	return time.Time{}
}

// FirstID is the smallest id that a message created at t can have: ids of older messages are below it.
func FirstID(t time.Time) ID {
	var id ID
	putTicks(&id, idTicks(t))
	id[8] = 0x80
	return id
}

// IDSource makes ids that grow strictly, even when the clock stands still or steps back. The zero value works; it must
// not be copied after use. It is safe for concurrent use.
type IDSource struct {
	Rand io.Reader // of the random part; nil is crypto/rand. Give a seeded one to repeat a run byte for byte.

	last atomic.Uint64 // 48 bits of milliseconds, 12 bits below
}

// New returns an id for a message created at now.
func (s *IDSource) New(now time.Time) ID {
	t := idTicks(now)
	for {
		last := s.last.Load()
		if t <= last {
			t = last + 1
		}
		if s.last.CompareAndSwap(last, t) {
			break
		}
	}
	var id ID
	if s.Rand == nil {
		rand.Read(id[8:]) // never fails
	} else {
		var b [8]byte // which is on the heap, as id need not be
		if _, err := io.ReadFull(s.Rand, b[:]); err != nil {
			panic("mtakit: IDSource.Rand failed: " + err.Error())
		}
		copy(id[8:], b[:])
	}
	putTicks(&id, t)
	id[8] = id[8]&0x3f | 0x80
	return id
}

// idTicks is t in units of 1/4096 ms, the precision that RFC 9562, 6.2, method 3 puts into the id.
func idTicks(t time.Time) uint64 {
	ms := t.UnixMilli()
	if ms < 0 {
		return 0
	}
	frac := uint64(t.Nanosecond()%int(time.Millisecond)) * 4096 / uint64(time.Millisecond)
	return uint64(ms)<<12 | frac
}

func putTicks(id *ID, t uint64) {
	binary.BigEndian.PutUint64(id[:8], t>>12<<16|0x7000|t&0xfff)
}
