// Package datafile reads configuration data in TOML and JSON such that every key and value knows its place, and tells all that
// is wrong with a file at once, in the form FILE:LINE:COL: text. [Parse] makes a tree of values, [Decode] fills Go structs from
// it, [Watched] keeps the last good version of files that change.
//
// Order is kept, in tables too. Keys that are there twice, JSON null, files of more than [MaxSize] and values nested
// deeper than [MaxDepth] are errors.
//
// The only goroutine is that of fsnotify, while [Watched.Run] runs.
package datafile

import (
	"encoding/json"
	"strconv"

	"github.com/mtakit/mtakit"
)

// Limits of what is read.
const (
	MaxSize     = 16 << 20 // bytes of a file
	MaxDepth    = 64
	maxFindings = 1000
)

// Kind is the type of a Value.
type Kind uint8

// Kinds of values.
const (
	Table Kind = iota + 1
	Array
	String
	Int
	Float
	Bool
	Time // a date, a time or both, which only TOML has; Str is its text
)

// Value is a value in a file. It is not changed once it has been parsed.
type Value struct {
	Place mtakit.Place // of the value; of the key, for a table or array that is not written inline
	Kind  Kind

	Str     string  // of a String and a Time
	Int     int64   // of an Int
	Float   float64 // of a Float
	Bool    bool    // of a Bool
	Items   []*Value
	Entries []Entry // of a Table, in the order of the file

	index map[string]int // into Entries
	made  made           // how TOML made this table or array
}

// Entry is a key of a table with its value.
type Entry struct {
	Key   string
	Place mtakit.Place // of the key
	Value *Value
}

// NewTable is an empty table.
func NewTable(p mtakit.Place) *Value { return &Value{Place: p, Kind: Table} }

// Get is the value under key; nil if there is none, or v is nil.
func (v *Value) Get(key string) *Value {
	if v == nil {
		return nil
	}
	if i, ok := v.index[key]; ok {
		return v.Entries[i].Value
	}
	return nil
}

// Put sets the value under e.Key; a new key comes last. It is for tables that are being built.
func (v *Value) Put(e Entry) {
	if i, ok := v.index[e.Key]; ok {
		v.Entries[i] = e
		return
	}
	if v.index == nil {
		v.index = make(map[string]int)
	}
	v.index[e.Key] = len(v.Entries)
	v.Entries = append(v.Entries, e)
}

// Merge is a with b over it: tables are merged key by key, anything else of b replaces what a has. Either may be nil; neither is
// changed.
func Merge(a, b *Value) *Value {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.Kind != Table || b.Kind != Table:
		return b
	}
	m := NewTable(a.Place)
	for _, e := range a.Entries {
		m.Put(e)
	}
	for _, e := range b.Entries {
		m.Put(Entry{e.Key, e.Place, Merge(m.Get(e.Key), e.Value)})
	}
	return m
}

// What says what v is, for messages: an integer, the string "x".
func (v *Value) What() string {
	switch v.Kind {
	case Table:
		return "a table"
	case Array:
		return "an array"
	case String:
		if len(v.Str) > 40 {
			return "the string " + strconv.Quote(v.Str[:40]) + "…"
		}
		return "the string " + strconv.Quote(v.Str)
	case Int:
		return "the integer " + strconv.FormatInt(v.Int, 10)
	case Float:
		return "the number " + strconv.FormatFloat(v.Float, 'g', -1, 64)
	case Bool:
		return strconv.FormatBool(v.Bool)
	}
	return "the date or time " + v.Str
}

// Any is v as encoding/json would have it, but with int64 for an Int.
func (v *Value) Any() any {
	switch v.Kind {
	case Table:
		m := make(map[string]any, len(v.Entries))
		for _, e := range v.Entries {
			m[e.Key] = e.Value.Any()
		}
		return m
	case Array:
		a := make([]any, len(v.Items))
		for i, e := range v.Items {
			a[i] = e.Any()
		}
		return a
	case Int:
		return v.Int
	case Float:
		return v.Float
	case Bool:
		return v.Bool
	}
	return v.Str
}

// JSON is v in JSON, for people to read.
func (v *Value) JSON() string {
	b, err := json.Marshal(v.Any())
	if err != nil { // an infinity, which JSON does not have
		return v.What()
	}
	return string(b)
}
