package datafile

import (
	"bytes"
	"errors"
	"slices"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/mtakit/mtakit"
)

// made says how a table or array came about, since that decides what TOML lets be added to it.
type made uint8

const (
	byValue  made = iota // inline: closed
	bySuper              // [a.b] made a: [a] may follow
	byHeader             // [a]
	byDots               // a.b = 1 made a: more of these may follow, and [a.c], but not [a]
	byList               // [[a]]
)

type tomlReader struct {
	*source
	p    unstable.Parser
	data []byte
	r    *Report
}

// parseTOML builds the tree from the expressions that go-toml's parser finds, by the rules of TOML for what may be defined again.
func parseTOML(src *source, data []byte, r *Report) *Value {
	t := &tomlReader{source: src, data: slices.Clip(data), r: r}
	t.p.Reset(t.data)
	root := &Value{Place: mtakit.Place{File: src.name, Line: 1, Column: 1}, Kind: Table, made: byHeader}
	current := root
	for t.p.NextExpression() {
		switch n := t.p.Expression(); n.Kind {
		case unstable.KeyValue:
			t.keyValue(current, n, 1)
		case unstable.Table, unstable.ArrayTable:
			current = t.header(root, n)
		}
	}
	if err := t.p.Error(); err != nil {
		at := mtakit.Place{File: src.name}
		var pe *unstable.ParserError
		if errors.As(err, &pe) {
			if off, ok := t.offset(pe.Highlight); ok {
				at = t.place(off)
			}
		}
		r.Errorf(at, "%v", err)
	}
	return root
}

// offset is where b, a part of the document, stands in it.
func (t *tomlReader) offset(b []byte) (int, bool) {
	off := cap(t.data) - cap(b)
	if b == nil || off < 0 || off+len(b) > len(t.data) || len(b) > 0 && &b[0] != &t.data[off] {
		return 0, false
	}
	return off, true
}

// key collects the parts of a dotted key, and where the text after it begins.
func (t *tomlReader) key(n *unstable.Node) (parts []Entry, end int) {
	for it := n.Key(); it.Next(); {
		k := it.Node()
		parts = append(parts, Entry{Key: string(k.Data), Place: t.place(int(k.Raw.Offset))})
		end = int(k.Raw.Offset + k.Raw.Length)
	}
	return parts, end
}

// header finds or makes the table of [a.b] or [[a.b]]. If that is not allowed what follows it goes to a table nobody sees.
func (t *tomlReader) header(root *Value, n *unstable.Node) *Value {
	parts, _ := t.key(n)
	last := parts[len(parts)-1]
	refuse := func(e Entry, why string) *Value {
		t.r.Errorf(e.Place, "%s %s", e.Key, why)
		return &Value{Place: last.Place, Kind: Table, made: byHeader}
	}
	if len(parts) > MaxDepth {
		return refuse(parts[MaxDepth], "is nested too deep")
	}
	v := root
	for _, e := range parts[:len(parts)-1] {
		switch next := v.Get(e.Key); {
		case next == nil:
			e.Value = &Value{Place: e.Place, Kind: Table, made: bySuper}
			v.Put(e)
			v = e.Value
		case next.made == byList:
			v = next.Items[len(next.Items)-1]
		case next.made == byValue:
			return refuse(e, "is already defined as a value at "+next.Place.String())
		default:
			v = next
		}
	}
	old := v.Get(last.Key)
	table := &Value{Place: last.Place, Kind: Table, made: byHeader}
	if n.Kind == unstable.ArrayTable {
		switch {
		case old == nil:
			last.Value = &Value{Place: last.Place, Kind: Array, made: byList, Items: []*Value{table}}
			v.Put(last)
		case old.made != byList:
			return refuse(last, "is already defined, not as an array of tables, at "+old.Place.String())
		default:
			old.Items = append(old.Items, table)
		}
		return table
	}
	switch {
	case old == nil:
		last.Value = table
		v.Put(last)
		return table
	case old.made == bySuper:
		old.made, old.Place = byHeader, last.Place
		return old
	}
	return refuse(last, "is already defined at "+old.Place.String())
}

// keyValue puts a.b = value into table.
func (t *tomlReader) keyValue(table *Value, n *unstable.Node, depth int) {
	parts, end := t.key(n)
	if depth+len(parts) > MaxDepth {
		t.r.Errorf(parts[0].Place, "%s is nested too deep", parts[0].Key)
		return
	}
	for i, e := range parts {
		old := table.Get(e.Key)
		switch {
		case i == len(parts)-1 && old == nil:
			for end < len(t.data) && bytes.IndexByte([]byte(" \t="), t.data[end]) >= 0 {
				end++
			}
			e.Value = t.value(n.Value(), end, depth+len(parts))
			table.Put(e)
		case old == nil:
			e.Value = &Value{Place: e.Place, Kind: Table, made: byDots}
			table.Put(e)
			table = e.Value
		case i < len(parts)-1 && old.made == byDots:
			table = old
		default:
			t.r.Errorf(e.Place, "%s is already defined at %s", e.Key, old.Place)
			return
		}
	}
}

// value converts n. Nodes of arrays do not know where they stand: then it is at.
func (t *tomlReader) value(n *unstable.Node, at, depth int) *Value {
	if n.Raw.Length > 0 {
		at = int(n.Raw.Offset)
	} else if off, ok := t.offset(n.Data); ok {
		at = off
	}
	v := &Value{Place: t.place(at)}
	if depth > MaxDepth {
		t.r.Errorf(v.Place, "values are nested too deep")
		v.Kind = Array
		return v
	}
	var err error
	switch n.Kind {
	case unstable.InlineTable:
		v.Kind = Table
		for it := n.Children(); it.Next(); {
			t.keyValue(v, it.Node(), depth)
		}
		v.close()
	case unstable.Array:
		v.Kind = Array
		for it := n.Children(); it.Next(); {
			v.Items = append(v.Items, t.value(it.Node(), at, depth+1))
		}
	case unstable.String:
		v.Kind, v.Str = String, string(n.Data)
	case unstable.Integer:
		v.Kind = Int
		v.Int, err = strconv.ParseInt(plainNumber(n.Data), 0, 64)
	case unstable.Float:
		v.Kind = Float
		v.Float, err = strconv.ParseFloat(plainNumber(n.Data), 64)
	case unstable.Bool:
		v.Kind, v.Bool = Bool, n.Data[0] == 't'
	default:
		v.Kind, v.Str = Time, string(n.Data)
	}
	if err != nil {
		t.r.Errorf(v.Place, "the number %s is out of range", n.Data)
	}
	return v
}

// close marks tables that dotted keys made within an inline table: nothing is added to them from outside.
func (v *Value) close() {
	for _, e := range v.Entries {
		if e.Value.made != byValue {
			e.Value.made = byValue
			e.Value.close()
		}
	}
}

func plainNumber(b []byte) string { return string(bytes.ReplaceAll(b, []byte("_"), nil)) }
