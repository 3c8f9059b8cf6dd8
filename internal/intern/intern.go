// Package intern gives small numbers to queue names, so that a million waiting messages hold four bytes each in
// place of four strings, and the name is in memory once.
//
//	var t intern.Table
//	n := t.Acquire(name) // the same number for the same name
//	name = t.Name(n)
//	t.Release(n)         // forgotten when released as often as acquired
//
// A name costs its text, 40 bytes in a slab and 4 to 8 in an index. Numbers are small and are used again, so that a slice can be
// indexed by them. A Table has no goroutine; one goroutine uses it at a time.
package intern

import (
	"hash/maphash"
	"strings"

	"github.com/mtakit/mtakit"
)

// Table is a set of names that are in use. The zero value is empty; it must not be copied after use.
type Table struct {
	chunks []*[perChunk]Ref
	free   uint32   // head of the list of free records, one more than its number; 0 is none
	made   uint32   // records that were ever used
	index  []uint32 // open addressing with linear probing: one more than a record's number, 0 is free; a power of two
	n      int
}

// Ref is a name in a table, or free with the next free one in refs. Reading the name needs no lock, whatever else is done with the table.
type Ref struct {
	Written
	hash uint32
	refs uint32
}

// Written is a name as a table has it. A copy is good for ever.
type Written struct {
	text   string    // campaign:tenant@domain!routing
	ends   [3]uint32 // where the first three end
	domain uint32    // Hash of the domain
}

var seed = maphash.MakeSeed()

// Hash is of anything, the same in the whole process.
func Hash(s string) uint32 { return uint32(maphash.String(seed, s)) }

// Name returns the name as [Table.Name] does.
func (w *Written) Name() mtakit.QueueName {
	s, e := w.text, w.ends
	q := mtakit.QueueName{Campaign: s[:e[0]], Tenant: s[e[0]:e[1]], Domain: s[e[1]:e[2]], Routing: s[e[2]:]}
	if q.Campaign != "" {
		q.Tenant = q.Tenant[len(":"):]
	}
	if e[1] > 0 {
		q.Domain = q.Domain[len("@"):]
	}
	if q.Routing != "" {
		q.Routing = q.Routing[len("!"):]
	}
	return q
}

// String is [mtakit.QueueName.String] of the name, at no cost.
func (w *Written) String() string { return w.text }

// DomainHash is [Hash] of the domain, without reading it.
func (w *Written) DomainHash() uint32 { return w.domain }

// perChunk times the 40 bytes of a Ref is a whole number of pages.
const perChunk = 1024

// Len is how many names are in use.
func (t *Table) Len() int { return t.n }

// Acquire returns the number of q, to be released once.
func (t *Table) Acquire(q mtakit.QueueName) uint32 {
	if t.index == nil {
		t.index = make([]uint32, 64)
	}
	hash := uint32(maphash.Comparable(seed, q))
	mask := uint32(len(t.index) - 1)
	i := hash & mask
	for ; t.index[i] != 0; i = (i + 1) & mask {
		if r := t.at(t.index[i] - 1); r.hash == hash && r.Name() == q {
			r.refs++
			return t.index[i] - 1
		}
	}
	n := t.alloc()
	*t.at(n) = newRef(q, hash)
	t.index[i] = n + 1
	if t.n++; t.n > len(t.index)/4*3 {
		t.grow()
	}
	return n
}

// Find returns the number of q without acquiring it; ok is false if it is not in use.
func (t *Table) Find(q mtakit.QueueName) (n uint32, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	hash := uint32(maphash.Comparable(seed, q))
	mask := uint32(len(t.index) - 1)
	for i := hash & mask; t.index[i] != 0; i = (i + 1) & mask {
		if r := t.at(t.index[i] - 1); r.hash == hash && r.Name() == q {
			return t.index[i] - 1, true
		}
	}
	return 0, false
}

// Name returns the name with number n, which is in use. Its parts share memory with each other and with every other return
// for n, and stay valid after n has been released.
func (t *Table) Name(n uint32) mtakit.QueueName { return t.at(n).Name() }

// Ref returns a handle of the name with number n, which is in use. It is valid until n is released.
func (t *Table) Ref(n uint32) *Ref { return t.at(n) }

// Release takes back one Acquire. After the last one the number may stand for another name.
func (t *Table) Release(n uint32) {
	r := t.at(n)
	if r.refs--; r.refs > 0 {
		return
	}
	t.unindex(n)
	*r = Ref{refs: t.free}
	t.free = n + 1
	if t.n--; t.n == 0 && t.made > perChunk {
		*t = Table{} // nobody holds a number: the memory of busier times can go
	}
}

func (t *Table) at(n uint32) *Ref { return &t.chunks[n/perChunk][n%perChunk] }

func (t *Table) alloc() uint32 {
	if t.free != 0 {
		n := t.free - 1
		t.free = t.at(n).refs
		return n
	}
	n := t.made
	if n/perChunk == uint32(len(t.chunks)) {
		t.chunks = append(t.chunks, new([perChunk]Ref))
	}
	t.made++
	return n
}

func (t *Table) grow() {
	old := t.index
	t.index = make([]uint32, 2*len(old))
	mask := uint32(len(t.index) - 1)
	for _, e := range old {
		if e == 0 {
			continue
		}
		i := t.at(e-1).hash & mask
		for t.index[i] != 0 {
			i = (i + 1) & mask
		}
		t.index[i] = e
	}
}

// unindex empties the place of n in the index, and closes the gap: an entry further on moves into it unless its own
// first place lies behind the gap (Knuth, 6.4, algorithm R).
func (t *Table) unindex(n uint32) {
	mask := uint32(len(t.index) - 1)
	gap := t.at(n).hash & mask
	for t.index[gap] != n+1 {
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; t.index[i] != 0; i = (i + 1) & mask {
		home := t.at(t.index[i]-1).hash & mask
		if (i-home)&mask >= (i-gap)&mask {
			t.index[gap], gap = t.index[i], i
		}
	}
	t.index[gap] = 0
}

func newRef(q mtakit.QueueName, hash uint32) Ref {
	text := q.String()
	if len(text) == len(q.Domain) { // it is no copy
		text = strings.Clone(text)
	}
	r := Ref{Written: Written{text: text, domain: Hash(q.Domain)}, hash: hash, refs: 1}
	if q.Campaign != "" {
		r.ends[0] = uint32(len(q.Campaign))
		r.ends[1] = r.ends[0] + uint32(len(":")+len(q.Tenant))
	} else {
		r.ends[1] = uint32(len(q.Tenant))
	}
	r.ends[2] = r.ends[1] + uint32(len(q.Domain))
	if r.ends[1] > 0 {
		r.ends[2] += uint32(len("@"))
	}
	return r
}
