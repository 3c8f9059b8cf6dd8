package template

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// undefined is a variable that is not there.
type undefined struct{}

// safe is a string that is HTML already.
type safe string

// namespace is an object whose attributes can be set.
type namespace struct{ attrs map[string]any }

// callable is a function or macro.
type callable func(r *run, a *args) any

// object is a value with attributes of its own.
type object interface {
	attr(name string) (any, bool)
	display() string
}

func isUndefined(v any) bool { _, ok := v.(undefined); return ok }

// asString returns v if it is a string, marked as HTML or not.
func asString(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case safe:
		return string(v), true
	}
	return "", false
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case uint64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case safe:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

func kindName(v any) string {
	switch v.(type) {
	case nil:
		return "none"
	case undefined:
		return "undefined"
	case bool:
		return "bool"
	case int64, uint64, float64:
		return "number"
	case string, safe:
		return "string"
	case []any:
		return "sequence"
	case map[string]any, *namespace:
		return "map"
	}
	return "object"
}

// display is how v is printed.
func (r *run) display(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case safe:
		return string(v)
	case nil:
		return "none"
	case undefined:
		return ""
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return formatFloat(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case object:
		return v.display()
	case callable:
		return "<function>"
	}
	return string(r.debug(nil, v))
}

func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strconv.FormatFloat(f, 'f', -1, 64), "+")
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// debug appends v as it stands within a list or a map.
func (r *run) debug(b []byte, v any) []byte {
	r.step(1)
	r.enter()
	defer func() { r.depth-- }()
	n := len(b)
	switch v := v.(type) {
	case string:
		b = strconv.AppendQuote(b, v)
	case safe:
		b = strconv.AppendQuote(b, string(v))
	case undefined:
		b = append(b, "undefined"...)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = r.debug(b, e)
		}
		b = append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for i, k := range sortedKeys(v) {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(strconv.AppendQuote(b, k), ": "...)
			b = r.debug(b, v[k])
		}
		b = append(b, '}')
	case *namespace:
		b = r.debug(b, v.attrs)
	default:
		b = append(b, r.display(v)...)
	}
	r.grow(max(len(b)-n, 0))
	return b
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// items lists what a loop goes over: elements, keys, or characters.
func (r *run) items(v any) []any {
	switch v := v.(type) {
	case nil, undefined:
		return nil
	case []any:
		return v
	case map[string]any:
		l := make([]any, 0, len(v))
		for _, k := range sortedKeys(v) {
			l = append(l, k)
		}
		r.step(len(l))
		return r.list(l)
	case *namespace:
		return r.items(v.attrs)
	}
	if s, ok := asString(v); ok {
		r.grow(len(s) * itemSize)
		l := make([]any, 0, utf8.RuneCountInString(s))
		for _, c := range s {
			l = append(l, string(c))
		}
		return l
	}
	r.invalid("%s is not iterable", kindName(v))
	return nil
}

func length(v any) (int, bool) {
	switch v := v.(type) {
	case []any:
		return len(v), true
	case map[string]any:
		return len(v), true
	case *namespace:
		return len(v.attrs), true
	case undefined:
		return 0, true
	}
	if s, ok := asString(v); ok {
		return utf8.RuneCountInString(s), true
	}
	return 0, false
}

// number is v as a float64, if it is a number or a bool.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// integer is v as an int64, if it is one or a float without a fraction.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<63 {
			return int64(v), true
		}
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// compareInts compares whole numbers, which a float64 might not tell apart; ok is false if one of both is none. A uint64 is more than any int64.
func compareInts(a, b any) (c int, ok bool) {
	switch x := a.(type) {
	case int64:
		switch y := b.(type) {
		case int64:
			return cmp.Compare(x, y), true
		case uint64:
			return -1, true
		}
	case uint64:
		switch y := b.(type) {
		case int64:
			return 1, true
		case uint64:
			return cmp.Compare(x, y), true
		}
	}
	return 0, false
}

func (r *run) equal(a, b any) bool {
	r.step(1)
	switch a := a.(type) {
	case nil:
		return b == nil
	case undefined:
		return isUndefined(b)
	case []any:
		l, ok := b.([]any)
		if !ok || len(a) != len(l) {
			return false
		}
		r.enter()
		defer func() { r.depth-- }()
		for i := range a {
			if !r.equal(a[i], l[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(a) != len(m) {
			return false
		}
		r.enter()
		defer func() { r.depth-- }()
		for k, v := range a {
			if w, ok := m[k]; !ok || !r.equal(v, w) {
				return false
			}
		}
		return true
	case time.Time:
		t, ok := b.(time.Time)
		return ok && a.Equal(t)
	}
	if s, ok := asString(a); ok {
		t, ok := asString(b)
		r.step(min(len(s), len(t)) / 64)
		return ok && s == t
	}
	if c, ok := compareInts(a, b); ok {
		return c == 0
	}
	x, ok1 := number(a)
	y, ok2 := number(b)
	return ok1 && ok2 && x == y
}

// compare orders values; those of different kinds by kind.
func (r *run) compare(a, b any) int {
	r.step(1)
	if c, ok := compareInts(a, b); ok {
		return c
	}
	x, ok1 := number(a)
	y, ok2 := number(b)
	if ok1 && ok2 {
		return cmp.Compare(x, y)
	}
	s, ok1 := asString(a)
	t, ok2 := asString(b)
	if ok1 && ok2 {
		r.step(min(len(s), len(t)) / 64)
		return strings.Compare(s, t)
	}
	if l, ok := a.([]any); ok {
		if m, ok := b.([]any); ok {
			r.enter()
			defer func() { r.depth-- }()
			for i := range min(len(l), len(m)) {
				if c := r.compare(l[i], m[i]); c != 0 {
					return c
				}
			}
			return cmp.Compare(len(l), len(m))
		}
	}
	if t, ok := a.(time.Time); ok {
		if u, ok := b.(time.Time); ok {
			return t.Compare(u)
		}
	}
	return strings.Compare(kindName(a), kindName(b))
}

// contains says whether item is in container.
func (r *run) contains(container, item any) bool {
	switch c := container.(type) {
	case undefined:
		return false
	case []any:
		for _, e := range c {
			if r.equal(e, item) {
				return true
			}
		}
		return false
	case map[string]any:
		k, ok := asString(item)
		_, there := c[k]
		return ok && there
	}
	if s, ok := asString(container); ok {
		r.step(len(s) / 16)
		return strings.Contains(s, r.display(item))
	}
	r.invalid("cannot perform a containment check on %s", kindName(container))
	return false
}
