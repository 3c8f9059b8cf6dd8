package spool

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/vfs"
)

// putFrame is a frame of messages with these bodies, placed at off.
func putFrame(t testing.TB, salt uint32, off int64, bodies ...string) (*op, []byte) {
	var batch []mtakit.Submission
	for i, b := range bodies {
		batch = append(batch, mtakit.Submission{
			Message: &mtakit.Message{ID: mtakit.ID{byte(i + 1)}, Sender: "s", To: []string{"t"}, Queue: mtakit.QueueName{Domain: "d"}},
			Body:    mtakit.Bytes(b),
		})
	}
	o := newOp(kindPut)
	if err := o.store(batch); err != nil {
		t.Fatal(err)
	}
	stampFrame(o.frame, salt, off, 64)
	return o, append(slices.Concat(append([][]byte{o.frame}, o.bodies...)...), padding[:o.length-int64(len(o.frame))-o.size]...)
}

// reader has b as the contents of a segment from offset 64 on.
func reader(t testing.TB, salt uint32, b []byte) *frames {
	f, err := new(vfs.Mem).OpenFile("x", 0x42, 0) // O_RDWR|O_CREATE
	if err == nil {
		_, err = f.WriteAt(append(make([]byte, segmentHeader), b...), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &frames{g: &segment{number: 1, salt: salt, file: f}, size: int64(segmentHeader + len(b))}
}

func TestFrameRoundTrip(t *testing.T) {
	t.Parallel()
	for _, bodies := range [][]string{{""}, {"x"}, {"12345678"}, {"", "a", "", "body"}, {string(make([]byte, 100_000)), "z"}} {
		o, b := putFrame(t, 7, segmentHeader, bodies...)
		if int64(len(b)) != o.length || len(b)%8 != 0 {
			t.Fatalf("frame has %d bytes, says %d", len(b), o.length)
		}
		r := reader(t, 7, b)
		f, raw, err := r.frame(segmentHeader, true)
		if err != nil || f.count != len(bodies) || f.length != o.length || f.synced != 64 {
			t.Fatalf("read %+v, %v", f, err)
		}
		i := 0
		err = eachHead(f, bytes.Clone(raw), func(at int64, h *head) error {
			got := make([]byte, h.size)
			if err := readFull(r.g, got, segmentHeader+at+h.body); err != nil || string(got) != bodies[i] || h.id != (mtakit.ID{byte(i + 1)}) {
				t.Errorf("body %d of %s: %d bytes, %v", i, h.id, len(got), err)
			}
			i++
			return nil
		})
		if err != nil || i != len(bodies) {
			t.Errorf("%d heads, %v", i, err)
		}
		if _, _, err := r.frame(segmentHeader+8, true); err != errBadFrame {
			t.Errorf("a frame where none is: %v", err)
		}
	}
}

// A frame counts only in its segment and at its place.
func TestFrameElsewhere(t *testing.T) {
	t.Parallel()
	_, b := putFrame(t, 7, segmentHeader, "body")
	if _, _, err := reader(t, 8, b).frame(segmentHeader, false); err != errBadFrame {
		t.Errorf("in a segment with another salt: %v", err)
	}
	if _, _, err := reader(t, 7, append(make([]byte, 8), b...)).frame(segmentHeader+8, false); err != errBadFrame {
		t.Errorf("8 bytes further: %v", err)
	}
}

func TestNextFindsFrames(t *testing.T) {
	t.Parallel()
	for _, gap := range []int{8, 16, 64, 1000, readAhead - 32, readAhead - 8, readAhead, readAhead + 8, 3*readAhead - 40} {
		gap = pad8(gap)
		noise := bytes.Repeat([]byte{7, 0, 0, 0, 'M', 'F', 1, 0}, gap/8) // salts everywhere
		_, b := putFrame(t, 7, segmentHeader+int64(gap), "body")
		r := reader(t, 7, append(noise, b...))
		if p, err := r.next(segmentHeader); p != segmentHeader+int64(gap) || err != nil {
			t.Errorf("gap of %d: next frame is at %d, %v", gap, p-segmentHeader, err)
		}
		if p, err := r.next(segmentHeader + int64(gap)); p != r.size || err != nil {
			t.Errorf("gap of %d: one more at %d, %v", gap, p, err)
		}
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want time.Time }{
		{time.Time{}, time.Time{}},
		{time.Unix(1, 5), time.Unix(1, 5)},
		{time.Unix(0, 0), time.Unix(1, 0)},
		{time.Unix(-5, 0), time.Unix(1, 0)},
		{time.Unix(math.MaxUint32+9, 0), time.Unix(math.MaxUint32, 0)},
	} {
		if got := unpackDue(packDue(c.in)); !got.Equal(c.want) {
			t.Errorf("%v comes back as %v, want %v", c.in, got, c.want)
		}
	}
}

// Whatever is in a segment, reading it neither panics nor takes something for a frame that is not written byte for byte.
func FuzzFrames(f *testing.F) {
	_, b := putFrame(f, 7, segmentHeader, "a body", "")
	f.Add(b)
	f.Add(append(bytes.Clone(b), b...))
	rm := appendRemove(newFrame(nil, kindRemove), mtakit.ID{1})
	closeFrame(rm, 1, 0)
	stampFrame(rm, 7, segmentHeader, 0)
	f.Add(rm)
	f.Add(bytes.Repeat([]byte{7, 0, 0, 0}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader(t, 7, b)
		for off := int64(segmentHeader); off < r.size; {
			fr, raw, err := r.frame(off, true)
			if err != nil {
				n, err := r.next(off)
				if err != nil || n <= off {
					t.Fatalf("next frame behind %d is at %d, %v", off, n, err)
				}
				off = n
				continue
			}
			if off+fr.length > r.size {
				t.Fatalf("a frame of %d bytes at %d in %d", fr.length, off, r.size)
			}
			again := bytes.Clone(raw)
			stampFrame(again, 7, off, fr.synced)
			if !bytes.Equal(again, raw) {
				t.Fatalf("a frame that would be written as another")
			}
			if fr.kind == kindPut {
				_ = eachHead(fr, again, func(_ int64, h *head) error {
					_, err := h.message(entry{})
					return err
				})
			} else {
				_, _ = parseRef(fr.kind, again[frameSize:])
			}
			off += fr.length
		}
	})
}

// What parses as entries of the index is what it would be written as.
func FuzzEntries(f *testing.F) {
	list := []saved{
		{off: 64, id: mtakit.ID{1}, due: 5, class: 2, tries: 1, queue: []byte("\x00\x00\x01d\x00")},
		{off: 640, id: mtakit.ID{2}, due: 7, class: 15, tries: 65535, queue: []byte("\x00\x00\x01e\x00"), body: 77},
		{off: maxSegment - 8, id: mtakit.ID{3}, queue: []byte("\x00\x00\x01d\x00")},
	}
	f.Add(appendEntries(nil, list))
	f.Add(appendEntries(nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got []saved
		if parseEntries(b, func(e *saved) error { got = append(got, *e); return nil }) != nil {
			return
		}
		var again []saved
		if err := parseEntries(appendEntries(nil, got), func(e *saved) error { again = append(again, *e); return nil }); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v\ncomes back as %+v", got, again)
		}
	})
}
