package spool

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
)

// frames reads the frames of a segment one after the other.
type frames struct {
	g    *segment
	size int64 // of the file
	buf  []byte
	at   int64 // where buf begins
}

const (
	readAhead = 1 << 20
	lookAhead = 32 << 10 // of next; much less, so that most steps find their bytes in the buffer
)

// bytes returns what is at off, n bytes or fewer at the end of the file. They are valid until the next call.
func (r *frames) bytes(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), r.size-off))
	if n <= 0 {
		return nil, nil
	}
	if off < r.at || off+int64(n) > r.at+int64(len(r.buf)) {
		want := int(min(int64(max(n, readAhead)), r.size-off))
		if cap(r.buf) < want {
			r.buf = make([]byte, want)
		}
		r.buf, r.at = r.buf[:want], off
		m, err := r.g.file.ReadAt(r.buf, off)
		r.buf = r.buf[:m]
		if err != nil && err != io.EOF {
			return nil, ioError{fmt.Errorf("spool: read of segment %016x: %w", r.g.number, err)}
		}
		n = min(n, m)
	}
	return r.buf[off-r.at:][:n], nil
}

// frame reads the frame at off. The error is errBadFrame if there is none, or an ioError. raw is header and heads, valid
// until the next call.
func (r *frames) frame(off int64, bodies bool) (f frame, raw []byte, err error) {
	b, err := r.bytes(off, frameSize)
	if err != nil {
		return f, nil, err
	}
	f, ok := parseFrame(b, r.g.salt)
	if !ok || off+f.length > r.size {
		return f, nil, errBadFrame
	}
	raw, err = r.bytes(off, frameSize+f.heads)
	if err != nil {
		return f, nil, err
	}
	if len(raw) < frameSize+f.heads || frameCRC(raw, off) != le.Uint32(raw[8:]) {
		return f, nil, errBadFrame
	}
	if bodies && f.kind == kindPut && f.length > int64(frameSize+pad8(f.heads)) {
		raw = bytes.Clone(raw)
		if err := r.verifyBodies(f, raw, off); err != nil {
			return f, nil, err
		}
	}
	return f, raw, nil
}

func (r *frames) verifyBodies(f frame, raw []byte, off int64) error {
	return eachHead(f, raw, func(at int64, h *head) error {
		if h.split {
			return nil
		}
		var crc uint32
		for pos, left := off+at+h.body, h.size; left > 0; {
			b, err := r.bytes(pos, int(min(left, readAhead)))
			if err != nil {
				return err
			}
			if len(b) == 0 {
				return errBadFrame
			}
			crc = crc32.Update(crc, crcTable, b)
			pos, left = pos+int64(len(b)), left-int64(len(b))
		}
		if crc != h.bodyCRC {
			return errBadFrame
		}
		return nil
	})
}

// eachHead calls fn for the heads of a put, with where they are in the frame.
func eachHead(f frame, raw []byte, fn func(at int64, h *head) error) error {
	at := int64(frameSize)
	for range f.count {
		h, err := parseHead(raw[at:])
		if err != nil {
			return errBadFrame
		}
		if err := fn(at, &h); err != nil {
			return err
		}
		at += int64(h.len())
	}
	return nil
}

// next finds the first frame behind off, sound apart perhaps from its bodies. It returns the size of the file if there is none.
func (r *frames) next(off int64) (int64, error) {
	salt := le.AppendUint32(nil, r.g.salt)
	for off = off + 8; off+frameSize <= r.size; {
		b, err := r.bytes(off, lookAhead)
		if err != nil {
			return 0, err
		}
		if len(b) < frameSize {
			break
		}
		i := bytes.Index(b, salt)
		if i < 0 {
			off = pad8(off + int64(len(b)) - 11) // the next salt may begin in the last bytes
			continue
		}
		if p := off + int64(i) - 4; i >= 4 && p%8 == 0 {
			if _, _, err := r.frame(p, false); err == nil {
				return p, nil
			} else if err != errBadFrame {
				return 0, err
			}
		}
		off = max(off+8, (off+int64(i)-3)/8*8)
	}
	return r.size, nil
}
