// Package envelope is the stored form of what a message is apart from its body: queue name, sender, recipients, metadata and
// schedule. Id, due time, tries and size are kept beside it.
//
// The form is a sequence of strings and counts, each string a uvarint of its length and its bytes:
//
//	campaign tenant domain routing sender
//	n recipient*n
//	n (key value)*n        keys ascending; a value is a kind byte and what belongs to it
//	schedule               JSON, empty if there is none
package envelope

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/metajson"
)

// ErrBad is wrapped by every error of Parse, ParseQueue and CutQueue.
var ErrBad = errors.New("bad envelope")

// Kinds of values.
const (
	kindNull    = 'z'
	kindFalse   = 'f'
	kindTrue    = 't'
	kindString  = 's'
	kindNumber  = 'n' // float64, 8 bytes, little endian
	kindStrings = 'l' // count, strings
	kindJSON    = 'j' // anything else, as JSON text
)

// Append appends the stored form of m. It fails if a value in m.Meta has no JSON form.
func Append(b []byte, m *mtakit.Message) ([]byte, error) {
	b = AppendQueue(b, m.Queue)
	b = appendString(b, m.Sender)
	b = appendStrings(b, m.To)
	var err error
	if b, err = appendMeta(b, m.Meta); err != nil {
		return b, err
	}
	if m.Schedule == nil {
		return append(b, 0), nil
	}
	j, err := json.Marshal(m.Schedule)
	if err != nil {
		return b, fmt.Errorf("schedule: %w", err)
	}
	return appendString(b, j), nil
}

// AppendQueue appends the stored form of q, with which every envelope begins.
func AppendQueue(b []byte, q mtakit.QueueName) []byte {
	b = appendString(b, q.Campaign)
	b = appendString(b, q.Tenant)
	b = appendString(b, q.Domain)
	return appendString(b, q.Routing)
}

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func appendMeta(b []byte, meta map[string]any) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(meta)))
	var room [24]string // most messages have no more metadata
	keys := room[:0]
	for k := range meta {
		keys = append(keys, k)
	}
	slices.Sort(keys) // the same message is always the same bytes
	for _, k := range keys {
		b = appendString(b, k)
		switch v := meta[k].(type) {
		case nil:
			b = append(b, kindNull)
		case bool:
			if v {
				b = append(b, kindTrue)
			} else {
				b = append(b, kindFalse)
			}
		case string:
			b = appendString(append(b, kindString), v)
		case []string:
			b = appendStrings(append(b, kindStrings), v)
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return b, fmt.Errorf("metadata %s: %v has no JSON form", k, v)
			}
			b = binary.LittleEndian.AppendUint64(append(b, kindNumber), math.Float64bits(v))
		default:
			j, err := json.Marshal(v)
			if err != nil {
				return b, fmt.Errorf("metadata %s: %w", k, err)
			}
			b = appendString(append(b, kindJSON), j)
		}
	}
	return b, nil
}

// Parse fills queue, sender, recipients, metadata and schedule of m from b, all of which must be one envelope. It keeps
// nothing of b. Metadata comes back with the types that encoding/json gives to any, []string where that was stored, and int64 or uint64 for whole numbers
// that a float64 can't hold.
func Parse(b []byte, m *mtakit.Message) error {
	r := reader{s: string(b)} // one allocation for all strings
	m.Queue = r.queue()
	m.Sender = r.string()
	m.To = r.strings()
	m.Meta = r.meta()
	m.Schedule = nil
	if j := r.string(); j != "" && !r.bad {
		m.Schedule = new(mtakit.Schedule)
		if err := json.Unmarshal([]byte(j), m.Schedule); err != nil {
			return fmt.Errorf("%w: schedule: %w", ErrBad, err)
		}
	}
	if r.bad || r.s != "" {
		return fmt.Errorf("%w: %d bytes are not what they should be", ErrBad, len(b))
	}
	return nil
}

// CutQueue returns the part of b that is the stored queue name, for use as a key or with ParseQueue.
func CutQueue(b []byte) ([]byte, error) {
	rest := b
	for range 4 {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			return nil, fmt.Errorf("%w: queue name", ErrBad)
		}
		rest = rest[uint64(w)+n:]
	}
	return b[:len(b)-len(rest)], nil
}

// ParseQueue reads what AppendQueue wrote.
func ParseQueue(b []byte) (mtakit.QueueName, error) {
	r := reader{s: string(b)}
	q := r.queue()
	if r.bad || r.s != "" {
		return q, fmt.Errorf("%w: queue name", ErrBad)
	}
	return q, nil
}

// reader takes parts from the front of s. After the first that is not there, bad is set and all parts are empty.
type reader struct {
	s   string
	bad bool
}

func (r *reader) fail() {
	r.bad, r.s = true, ""
}

// count reads a number that is at most what is left, since each counted thing takes at least a byte.
func (r *reader) count() int {
	var n uint64
	for i := 0; i < len(r.s) && i < binary.MaxVarintLen64; i++ {
		c := r.s[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.s = r.s[i+1:]
			if n > uint64(len(r.s)) {
				break
			}
			return int(n)
		}
	}
	r.fail()
	return 0
}

func (r *reader) take(n int) string {
	if n > len(r.s) {
		r.fail()
		return ""
	}
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

func (r *reader) string() string { return r.take(r.count()) }

func (r *reader) queue() mtakit.QueueName {
	return mtakit.QueueName{Campaign: r.string(), Tenant: r.string(), Domain: r.string(), Routing: r.string()}
}

func (r *reader) strings() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, min(n, 1024)) // a false count must not cost memory
	for range n {
		list = append(list, r.string())
		if r.bad {
			return nil
		}
	}
	return list
}

func (r *reader) meta() map[string]any {
	n := r.count()
	if n == 0 {
		return nil
	}
	meta := make(map[string]any, min(n, 64))
	for range n {
		k := r.string()
		var v any
		switch r.take(1) {
		case string(kindNull):
		case string(kindFalse):
			v = false
		case string(kindTrue):
			v = true
		case string(kindString):
			v = r.string()
		case string(kindStrings):
			v = r.strings()
		case string(kindNumber):
			if s := r.take(8); len(s) == 8 {
				v = math.Float64frombits(binary.LittleEndian.Uint64([]byte(s)))
			}
		case string(kindJSON):
			var err error
			if v, err = metajson.Parse([]byte(r.string())); err != nil {
				r.fail()
			}
		default:
			r.fail()
		}
		if r.bad {
			return nil
		}
		meta[k] = v
	}
	return meta
}
