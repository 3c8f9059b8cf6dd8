package datafile

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
)

// Decode sets what dst points to from v and says whether all of it was good; what was not is in r. name is what messages begin
// with.
//
// Structs take tables, by the names of their json tags; a key without a field is an error. Slices take arrays, maps of string take
// tables; integers are not negative. Types that are an [encoding.TextUnmarshaler] take strings, and the types of the root
// package take what KumoMTA's files have for them: a Duration may be a number of seconds, a Limit a number.
func Decode(v *Value, dst any, name string, r *Report) bool {
	return decode(v, reflect.ValueOf(dst).Elem(), name, r)
}

// DecodeField sets the field of the struct dst points to that e names. known is false, and nothing is reported, if there is none.
func DecodeField(e Entry, dst any, r *Report) (known, good bool) {
	rv := reflect.ValueOf(dst).Elem()
	i, ok := fieldsOf(rv.Type()).index[e.Key]
	if !ok {
		return false, false
	}
	return true, decode(e.Value, rv.Field(i), e.Key, r)
}

// Fields lists the keys that the struct dst points to has fields for.
func Fields(dst any) []string { return fieldsOf(reflect.TypeOf(dst).Elem()).names }

// Unknown reports the key of e, with the one of known that was perhaps meant.
func Unknown(e Entry, known []string, r *Report) { unknown(e, "", known, r) }

func unknown(e Entry, prefix string, known []string, r *Report) {
	hint := ""
	if near := Nearest(e.Key, known); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	r.Errorf(e.Place, "unknown key %s%s%s", prefix, e.Key, hint)
}

type fields struct {
	names []string
	index map[string]int
}

var fieldCache sync.Map // reflect.Type to *fields

func fieldsOf(t reflect.Type) *fields {
	if f, ok := fieldCache.Load(t); ok {
		return f.(*fields)
	}
	f := &fields{index: make(map[string]int)}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			f.names = append(f.names, name)
			f.index[name] = i
		}
	}
	got, _ := fieldCache.LoadOrStore(t, f)
	return got.(*fields)
}

func decode(v *Value, dst reflect.Value, name string, r *Report) bool {
	if dst.Kind() == reflect.Pointer {
		p := reflect.New(dst.Type().Elem())
		good := decode(v, p.Elem(), name, r)
		dst.Set(p)
		return good
	}
	if known, good := decodeRoot(v, dst, name, r); known {
		return good
	}
	refuse := func(want string) bool {
		r.Errorf(v.Place, "%s: expected %s, got %s", name, want, v.What())
		return false
	}
	if u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if v.Kind != String {
			return refuse("a string")
		}
		if err := u.UnmarshalText([]byte(v.Str)); err != nil {
			r.Errorf(v.Place, "%s: %v", name, err)
			return false
		}
		return true
	}
	switch dst.Kind() {
	case reflect.Bool:
		if v.Kind != Bool {
			return refuse("true or false")
		}
		dst.SetBool(v.Bool)
	case reflect.String:
		if v.Kind != String {
			return refuse("a string")
		}
		dst.SetString(v.Str)
	case reflect.Int, reflect.Int64, reflect.Int32:
		if v.Kind != Int || v.Int < 0 || dst.OverflowInt(v.Int) {
			return refuse("an integer from 0")
		}
		dst.SetInt(v.Int)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v.Kind != Int || v.Int < 0 || dst.OverflowUint(uint64(v.Int)) {
			return refuse(fmt.Sprintf("an integer from 0 to %d", uint64(math.MaxUint64)>>(64-dst.Type().Bits())))
		}
		dst.SetUint(uint64(v.Int))
	case reflect.Float64:
		switch v.Kind {
		case Int:
			dst.SetFloat(float64(v.Int))
		case Float:
			dst.SetFloat(v.Float)
		default:
			return refuse("a number")
		}
	case reflect.Slice:
		return decodeSlice(v, dst, name, r)
	case reflect.Map:
		if v.Kind != Table {
			return refuse("a table")
		}
		return decodeMap(v, dst, name, r)
	case reflect.Struct:
		if v.Kind != Table {
			return refuse("a table")
		}
		return decodeStruct(v, dst, name, r)
	default:
		panic("datafile: no way to decode into " + dst.Type().String())
	}
	return true
}

func decodeSlice(v *Value, dst reflect.Value, name string, r *Report) bool {
	if v.Kind != Array {
		r.Errorf(v.Place, "%s: expected an array, got %s", name, v.What())
		return false
	}
	s, good := reflect.MakeSlice(dst.Type(), len(v.Items), len(v.Items)), true
	for i, item := range v.Items {
		good = decode(item, s.Index(i), name, r) && good
	}
	dst.Set(s)
	return good
}

func decodeMap(v *Value, dst reflect.Value, name string, r *Report) bool {
	m, good := reflect.MakeMap(dst.Type()), true
	for _, e := range v.Entries {
		item := reflect.New(dst.Type().Elem()).Elem()
		good = decode(e.Value, item, name+"."+e.Key, r) && good
		m.SetMapIndex(reflect.ValueOf(e.Key), item)
	}
	dst.Set(m)
	return good
}

func decodeStruct(v *Value, dst reflect.Value, name string, r *Report) bool {
	f, good := fieldsOf(dst.Type()), true
	prefix := ""
	if name != "" {
		prefix = name + "."
	}
	for _, e := range v.Entries {
		i, ok := f.index[e.Key]
		if !ok {
			unknown(e, prefix, f.names, r)
			good = false
			continue
		}
		good = decode(e.Value, dst.Field(i), prefix+e.Key, r) && good
	}
	return good
}

// Nearest is the one of names that is one or two slips of the finger away from key; "" if there is none.
func Nearest(key string, names []string) string {
	best, at := 3, ""
	if len(key) < 5 {
		best = 2
	}
	for _, n := range names {
		if d := slips(key, n); d < best {
			best, at = d, n
		}
	}
	return at
}

// slips is the edit distance of a and b, where two letters that changed places are one slip.
func slips(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
