package spool

import (
	"encoding/binary"

	"github.com/mtakit/mtakit"
)

// saved is an entry in the index on disk.
type saved struct {
	off   int64
	id    mtakit.ID
	due   uint32
	class uint8
	tries uint16
	queue []byte // stored form
	body  uint64 // number of the segment that has the body; 0: the same
}

func appendEntries(b []byte, list []saved) []byte {
	number := map[string]int{}
	var names [][]byte
	for i := range list {
		if _, ok := number[string(list[i].queue)]; !ok {
			number[string(list[i].queue)] = len(names)
			names = append(names, list[i].queue)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, q := range names {
		b = append(binary.AppendUvarint(b, uint64(len(q))), q...)
	}
	b = binary.AppendUvarint(b, uint64(len(list)))
	var last int64
	for i := range list {
		e := &list[i]
		b = binary.AppendUvarint(b, uint64(e.off-last)/8)
		last = e.off
		b = append(b, e.id[:]...)
		b = append(le.AppendUint32(b, e.due), e.class)
		b = binary.AppendUvarint(b, uint64(e.tries))
		q := uint64(number[string(e.queue)]) * 2
		if e.body == 0 {
			b = binary.AppendUvarint(b, q)
		} else {
			b = binary.AppendUvarint(binary.AppendUvarint(b, q+1), e.body)
		}
	}
	return b
}

// parseEntries calls f for each entry of b; the entry is valid during the call.
func parseEntries(b []byte, f func(*saved) error) error {
	bad := false
	number := func() uint64 {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[w:]
		return n
	}
	take := func(n uint64) []byte {
		if n > uint64(len(b)) {
			bad, b = true, nil
			return nil
		}
		p := b[:n]
		b = b[n:]
		return p
	}
	var names [][]byte
	for n := number(); n > 0 && !bad; n-- {
		names = append(names, take(number()))
	}
	var e saved
	for n := number(); n > 0 && !bad; n-- {
		e.off += int64(number()) * 8
		id := take(21)
		e.tries = uint16(number())
		q := number()
		e.body = 0
		if q&1 != 0 {
			e.body = number()
		}
		if bad || q/2 >= uint64(len(names)) || e.off >= maxSegment {
			return errIndex
		}
		e.id, e.due, e.class, e.queue = mtakit.ID(id), le.Uint32(id[16:]), id[20]&maxSize, names[q/2]
		if err := f(&e); err != nil {
			return err
		}
	}
	if bad || len(b) > 0 {
		return errIndex
	}
	return nil
}
