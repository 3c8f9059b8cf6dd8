package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool/internal/envelope"
)

// The log is a sequence of frames, each written by one call. All numbers are little endian, all frames and heads begin at
// multiples of 8.
//
//	frame    0 magic   2 bytes, "MF"
//	         2 kind    1
//	         3 zero    1
//	         4 salt    of the segment: what an earlier life of the file left has another, and no sender can guess it
//	         8 crc     CRC-32C of bytes 0-8 and 12-32 and of the heads, begun with the offset
//	        12 count   heads
//	        16 heads   bytes of the heads together
//	        20 synced  bytes of this segment that were durable when the frame was written, in units of 8
//	        24 length  bytes of the frame, padding included
//	        32 heads, then bodies, then padding
//
//	head of  0 crc     CRC-32C of the rest of the head
//	a put    4 length  bytes of the envelope
//	         8 id      16
//	        24 due     seconds since 1970, 0 is now
//	        28 due     nanoseconds
//	        32 tries   2
//	        34 flags   2, bit 0: the body is elsewhere
//	        36 crc     CRC-32C of the body
//	        40 size    bytes of the body, 8
//	        48 body    where it begins: counted from the head, or from the start of the segment where it is
//	        56 segment number of the segment that has the body; 0: this one
//	        64 envelope, padded
//
// A remove has id and the number of the oldest segment in which the message may be; a reschedule has these and the due
// seconds and the tries, 4 bytes each; a rotate has the number of the segment before and its length.
//
// Since the checksum of a put covers the checksums of the bodies, a frame is all there or not at all.
const (
	frameSize  = 32
	headSize   = 64
	refSize    = 24 // head of a remove
	reschSize  = 32 // head of a reschedule
	rotateSize = frameSize + 16

	maxHeads = 16 << 20 // of one frame; keeps heads addressable and false lengths harmless
)

type kind uint8

const (
	kindPut kind = 1 + iota
	kindRemove
	kindReschedule
	kindRotate
)

var (
	crcTable = crc32.MakeTable(crc32.Castagnoli)
	le       = binary.LittleEndian
	be       = binary.BigEndian // of keys, so that they sort

	errBadFrame = errors.New("bad frame")
	errBadHead  = errors.New("bad record")
)

func pad8[T int | int64](n T) T { return (n + 7) &^ 7 }

// newFrame begins a frame in b; heads are appended to it.
func newFrame(b []byte, k kind) []byte {
	b = append(b[:0], make([]byte, frameSize)...)
	b[0], b[1], b[2] = 'M', 'F', byte(k)
	return b
}

// closeFrame sets what is known once all heads are appended; bodies is the sum of the bodies' lengths.
func closeFrame(b []byte, count int, bodies int64) {
	le.PutUint32(b[12:], uint32(count))
	le.PutUint32(b[16:], uint32(len(b)-frameSize))
	le.PutUint64(b[24:], uint64(pad8(int64(len(b))+bodies)))
}

// stampFrame sets what is known once the place is.
func stampFrame(b []byte, salt uint32, off, synced int64) {
	le.PutUint32(b[4:], salt)
	le.PutUint32(b[20:], uint32(synced/8))
	le.PutUint32(b[8:], frameCRC(b, off))
}

func frameCRC(b []byte, off int64) uint32 {
	c := crc32.Update(uint32(off), crcTable, b[:8])
	return crc32.Update(c, crcTable, b[12:])
}

// frame is the header of a frame.
type frame struct {
	kind   kind
	count  int
	heads  int
	synced int64
	length int64
}

// parseFrame reads a header. It says whether it looks like one of this segment; the checksum is not looked at.
func parseFrame(b []byte, salt uint32) (f frame, ok bool) {
	if len(b) < frameSize || b[0] != 'M' || b[1] != 'F' || b[3] != 0 || le.Uint32(b[4:]) != salt {
		return f, false
	}
	f = frame{
		kind: kind(b[2]), count: int(le.Uint32(b[12:])), heads: int(le.Uint32(b[16:])),
		synced: int64(le.Uint32(b[20:])) * 8, length: int64(le.Uint64(b[24:])),
	}
	if f.kind < kindPut || f.kind > kindRotate || f.heads > maxHeads || f.heads < refSize-8 || f.count < 1 || f.count > f.heads/16 ||
		f.length < int64(frameSize+f.heads) || f.length%8 != 0 || f.length > math.MaxInt64/2 {
		return f, false
	}
	return f, true
}

// head is the head of a put, parsed. env is a slice of what it was parsed from.
type head struct {
	id      mtakit.ID
	due     uint32
	dueNS   uint32
	tries   uint16
	split   bool
	bodyCRC uint32
	size    int64
	body    int64  // from the head, or from the start of the segment
	segment uint64 // of the body; 0 is the head's
	env     []byte
}

func (h *head) len() int { return headSize + pad8(len(h.env)) }

// appendHead appends h with its envelope. Where the body is, and so the checksum, is for sealHead.
func appendHead(b []byte, h *head) []byte {
	start := len(b)
	b = append(b, make([]byte, headSize)...)
	return finishHead(append(b, h.env...), start, h)
}

// finishHead fills in the head that begins at start, with everything after its fixed part as the envelope.
func finishHead(b []byte, start int, h *head) []byte {
	n := len(b) - start - headSize
	b = append(b, make([]byte, pad8(n)-n)...)
	p := b[start:]
	le.PutUint32(p[4:], uint32(n))
	copy(p[8:24], h.id[:])
	le.PutUint32(p[24:], h.due)
	le.PutUint32(p[28:], h.dueNS)
	le.PutUint16(p[32:], h.tries)
	if h.split {
		p[34] = 1
	}
	le.PutUint32(p[36:], h.bodyCRC)
	le.PutUint64(p[40:], uint64(h.size))
	le.PutUint64(p[56:], h.segment)
	return b
}

// sealHead sets where the body begins, and the checksum, in the head that is all of p.
func sealHead(p []byte, body int64) {
	le.PutUint64(p[48:], uint64(body))
	le.PutUint32(p, crc32.Checksum(p[4:], crcTable))
}

// envLen is the length of the envelope that the fixed part of a head announces, and whether that can be.
func envLen(p []byte) (int, bool) {
	n := le.Uint32(p[4:])
	return int(n), n <= maxHeads
}

// parseHead reads the head at the start of b and checks its sum.
func parseHead(b []byte) (h head, err error) {
	if len(b) < headSize {
		return h, errBadHead
	}
	n, ok := envLen(b)
	if !ok || len(b) < headSize+pad8(n) {
		return h, errBadHead
	}
	b = b[:headSize+pad8(n)]
	if crc32.Checksum(b[4:], crcTable) != le.Uint32(b) {
		return h, errBadHead
	}
	h = head{
		id: mtakit.ID(b[8:24]), due: le.Uint32(b[24:]), dueNS: le.Uint32(b[28:]), tries: le.Uint16(b[32:]),
		split: b[34]&1 != 0, bodyCRC: le.Uint32(b[36:]), size: int64(le.Uint64(b[40:])), body: int64(le.Uint64(b[48:])),
		segment: le.Uint64(b[56:]), env: b[headSize : headSize+n],
	}
	if h.size < 0 || h.body < 0 || h.split != (h.segment != 0) {
		return h, errBadHead
	}
	return h, nil
}

// message makes a Message of h, with due and tries as e has them now.
func (h *head) message(e entry) (*mtakit.Message, error) {
	m := &mtakit.Message{ID: h.id, Size: h.size, Due: time.Time{}, Tries: int(e.tries())}
	if err := envelope.Parse(h.env, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadHead, err)
	}
	if e.due == h.due && e.tries() == h.tries {
		m.Due = unpackDue(h.due, h.dueNS)
	} else {
		m.Due = unpackDue(e.due, 0)
	}
	return m, nil
}

// packDue cuts t to what is stored: from the first second of 1970 to the last of 2106; the zero time is 0.
func packDue(t time.Time) (sec, ns uint32) {
	if t.IsZero() {
		return 0, 0
	}
	switch s := t.Unix(); {
	case s < 1:
		return 1, 0
	case s > math.MaxUint32:
		return math.MaxUint32, 0
	default:
		return uint32(s), uint32(t.Nanosecond())
	}
}

func unpackDue(sec, ns uint32) time.Time {
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(int64(sec), int64(ns)).UTC()
}

func packTries(n int) uint16 { return uint16(min(max(n, 0), maxTries)) }

// ref is the head of a remove or a reschedule.
type ref struct {
	id     mtakit.ID
	oldest uint64 // segment
	due    uint32
	tries  uint16
}

func appendRemove(b []byte, id mtakit.ID) []byte {
	return append(append(b, id[:]...), make([]byte, 8)...)
}

func appendReschedule(b []byte, id mtakit.ID, due uint32, tries uint16) []byte {
	b = appendRemove(b, id)
	b = le.AppendUint32(b, due)
	return le.AppendUint32(b, uint32(tries))
}

func setOldest(b []byte, segment uint64) { le.PutUint64(b[frameSize+16:], segment) }

func parseRef(k kind, b []byte) (r ref, err error) {
	want := refSize
	if k == kindReschedule {
		want = reschSize
	}
	if len(b) != want {
		return r, errBadHead
	}
	r = ref{id: mtakit.ID(b[:16]), oldest: le.Uint64(b[16:])}
	if k == kindReschedule {
		r.due, r.tries = le.Uint32(b[24:]), packTries(int(le.Uint32(b[28:])))
	}
	return r, nil
}

func appendRotate(b []byte, segment uint64, length int64) []byte {
	return le.AppendUint64(le.AppendUint64(b, segment), uint64(length))
}

// The first 64 bytes of a segment are its header:
//
//	0 "mtaspool"  8 format 4  12 crc of the rest 4  16 number 8  24 salt 4  28 zeros
const (
	segmentHeader = 64
	formatVersion = 1
)

func makeSegmentHeader(number uint64, salt uint32) []byte {
	b := make([]byte, segmentHeader)
	copy(b, "mtaspool")
	le.PutUint32(b[8:], formatVersion)
	le.PutUint64(b[16:], number)
	le.PutUint32(b[24:], salt)
	le.PutUint32(b[12:], crc32.Checksum(b[16:], crcTable))
	return b
}

// parseSegmentHeader reads the header of segment number and returns its salt. A newer format is a [*FormatError].
func parseSegmentHeader(b []byte, number uint64) (salt uint32, err error) {
	if len(b) < segmentHeader || string(b[:8]) != "mtaspool" {
		return 0, errBadFrame
	}
	if v := le.Uint32(b[8:]); v > formatVersion {
		return 0, &FormatError{Found: int(v)}
	}
	if le.Uint32(b[12:]) != crc32.Checksum(b[16:segmentHeader], crcTable) || le.Uint64(b[16:]) != number {
		return 0, errBadFrame
	}
	return le.Uint32(b[24:]), nil
}

// FormatError says that a spool was written by a newer version. Nothing was changed.
type FormatError struct{ Found int }

func (e *FormatError) Error() string {
	return fmt.Sprintf("spool: the directory has format %d, and this version reads up to %d: it was written by a newer version; "+
		"use that one, or drain the spool with it first", e.Found, formatVersion)
}
