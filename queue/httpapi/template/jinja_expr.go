package template

import (
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

type literal struct{ value any }

func (l literal) eval(*run) any { return l.value }

type variable struct{ name string }

func (v *variable) eval(r *run) any { return r.lookup(v.name) }

type list []expr

func (l list) eval(r *run) any {
	r.grow(len(l) * itemSize)
	v := make([]any, len(l))
	for i, e := range l {
		v[i] = e.eval(r)
	}
	return v
}

type dict struct{ keys, values []expr }

func (d *dict) eval(r *run) any {
	r.grow(len(d.keys) * 4 * itemSize)
	m := make(map[string]any, len(d.keys))
	for i, k := range d.keys {
		m[r.display(k.eval(r))] = d.values[i].eval(r)
	}
	return m
}

type ternary struct{ cond, yes, no expr }

func (t *ternary) eval(r *run) any {
	switch {
	case truthy(t.cond.eval(r)):
		return t.yes.eval(r)
	case t.no == nil:
		return undefined{}
	}
	return t.no.eval(r)
}

type logic struct {
	op          string
	left, right expr
}

func (l *logic) eval(r *run) any {
	if v := l.left.eval(r); truthy(v) == (l.op == "or") {
		return v
	}
	return l.right.eval(r)
}

type unary struct {
	op    string
	value expr
}

func (u *unary) eval(r *run) any {
	v := u.value.eval(r)
	if u.op == "not" {
		return !truthy(v)
	}
	switch v := v.(type) {
	case int64:
		if u.op == "-" {
			return -v
		}
		return v
	case float64:
		if u.op == "-" {
			return -v
		}
		return v
	}
	r.invalid("cannot apply %s to %s", u.op, kindName(v))
	return nil
}

type binary struct {
	op          string
	left, right expr
}

func (b *binary) eval(r *run) any {
	r.step(1)
	x, y := b.left.eval(r), b.right.eval(r)
	switch b.op {
	case "==":
		return r.equal(x, y)
	case "!=":
		return !r.equal(x, y)
	case "<":
		return r.compare(x, y) < 0
	case "<=":
		return r.compare(x, y) <= 0
	case ">":
		return r.compare(x, y) > 0
	case ">=":
		return r.compare(x, y) >= 0
	case "in":
		return r.contains(y, x)
	case "~":
		return r.str(r.display(x) + r.display(y))
	}
	return r.arithmetic(b.op, x, y)
}

func (r *run) arithmetic(op string, x, y any) any {
	bad := func() any {
		r.invalid("tried to use %s operator on unsupported types %s and %s", op, kindName(x), kindName(y))
		return nil
	}
	switch op {
	case "+":
		if s, ok := asString(x); ok {
			if t, ok := asString(y); ok {
				r.grow(len(s) + len(t))
				return s + t
			}
			return bad()
		}
		if l, ok := x.([]any); ok {
			if m, ok := y.([]any); ok {
				r.grow((len(l) + len(m)) * itemSize)
				return slices.Concat(l, m)
			}
			return bad()
		}
	case "*":
		if _, ok := integer(x); ok {
			if _, number := integer(y); !number {
				x, y = y, x
			}
		}
		s, isString := asString(x)
		l, isList := x.([]any)
		if isString || isList {
			n, ok := integer(y)
			if !ok {
				return bad()
			}
			n = max(n, 0)
			if hi, lo := bits.Mul64(uint64(len(s)+len(l)*itemSize), uint64(n)); hi != 0 || lo > uint64(r.memory) || n > int64(r.memory) {
				r.exceed("bytes of memory", r.limits.Memory)
			} else {
				r.grow(int(lo))
			}
			if isString {
				return strings.Repeat(s, int(n))
			}
			return slices.Repeat(l, int(n))
		}
	}
	i, ok1 := x.(int64)
	j, ok2 := y.(int64)
	if ok1 && ok2 {
		switch op {
		case "+":
			if s := i + j; s > i == (j > 0) {
				return s
			}
		case "-":
			if d := i - j; d < i == (j > 0) {
				return d
			}
		case "*":
			if p := i * j; i == 0 || p/i == j && !(i == -1 && j == math.MinInt64) {
				return p
			}
		case "//", "%":
			if j == 0 {
				r.invalid("unable to divide by zero")
			}
			q, m := i/j, i%j
			if m < 0 { // Euclid's
				if m += max(j, -j); j > 0 {
					q--
				} else {
					q++
				}
			}
			if op == "//" {
				return q
			}
			return m
		case "**":
			if j >= 0 {
				if p := math.Pow(float64(i), float64(j)); math.Abs(p) < 1<<53 {
					return int64(p)
				}
			}
		}
	}
	a, ok1 := number(x)
	b, ok2 := number(y)
	if !ok1 || !ok2 {
		return bad()
	}
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/":
		return a / b
	case "//":
		return math.Floor(a / b)
	case "%":
		m := math.Mod(a, b)
		if m < 0 {
			m += math.Abs(b)
		}
		return m
	}
	return math.Pow(a, b)
}

type getAttr struct {
	value expr
	name  string
}

func (g *getAttr) eval(r *run) any {
	r.step(1)
	v := g.value.eval(r)
	if isUndefined(v) {
		r.fail("undefined value", "cannot get the attribute %s of an undefined value", g.name)
	}
	return attribute(v, g.name)
}

// attribute is undefined if there is none of that name.
func attribute(v any, name string) any {
	var a any
	ok := false
	switch v := v.(type) {
	case map[string]any:
		a, ok = v[name]
	case *namespace:
		a, ok = v.attrs[name]
	case object:
		a, ok = v.attr(name)
	}
	if !ok {
		return undefined{}
	}
	return a
}

// path is attribute for names with dots and numbers in them, as filters take them.
func (r *run) path(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		r.step(1)
		if i, ok := parseIndex(name); ok {
			v = r.index(v, i)
			continue
		}
		if v = attribute(v, name); isUndefined(v) {
			return v
		}
	}
	return v
}

func parseIndex(s string) (int64, bool) {
	if s == "" || len(s) > 9 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

type getItem struct{ value, key expr }

func (g *getItem) eval(r *run) any {
	r.step(1)
	v, k := g.value.eval(r), g.key.eval(r)
	if isUndefined(v) {
		r.fail("undefined value", "cannot get an item of an undefined value")
	}
	if s, ok := asString(k); ok {
		return attribute(v, s)
	}
	if i, ok := integer(k); ok {
		return r.index(v, i)
	}
	return undefined{}
}

// index is the element of a list or the character of a string; negative numbers count from the end.
func (r *run) index(v any, i int64) any {
	switch v := v.(type) {
	case []any:
		if i < 0 {
			i += int64(len(v))
		}
		if i >= 0 && i < int64(len(v)) {
			return v[i]
		}
		return undefined{}
	case map[string]any:
		return attribute(v, r.display(i))
	}
	if s, ok := asString(v); ok {
		r.step(len(s) / 16)
		if i < 0 {
			i += int64(utf8.RuneCountInString(s))
		}
		for _, c := range s {
			if i == 0 {
				return string(c)
			}
			i--
		}
	}
	return undefined{}
}

type slice struct{ value, start, stop, step expr }

func (s *slice) eval(r *run) any {
	v := s.value.eval(r)
	bound := func(e expr, otherwise int) int {
		if e == nil {
			return otherwise
		}
		b := e.eval(r)
		if b == nil {
			return otherwise
		}
		n, ok := integer(b)
		if !ok {
			r.invalid("slice bounds are numbers")
		}
		return int(max(min(n, math.MaxInt32), math.MinInt32))
	}
	if _, ok := v.(map[string]any); ok || v == nil {
		r.invalid("cannot slice %s", kindName(v))
	}
	items := r.items(v)
	n := len(items)
	step := bound(s.step, 1)
	if step == 0 {
		r.invalid("cannot slice by step size of 0")
	}
	first, last := 0, n
	if step < 0 {
		first, last = n-1, -n-1
	}
	clamp := func(i, low, high int) int {
		if i < 0 {
			i += n
		}
		return max(min(i, high), low)
	}
	var start, stop int
	if step > 0 {
		start, stop = clamp(bound(s.start, first), 0, n), clamp(bound(s.stop, last), 0, n)
	} else {
		start, stop = clamp(bound(s.start, first), -1, n-1), clamp(bound(s.stop, last), -1, n-1)
	}
	out := []any{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, items[i])
	}
	r.list(out)
	if _, ok := asString(v); !ok {
		return out
	}
	var b strings.Builder
	for _, c := range out {
		b.WriteString(c.(string))
	}
	return b.String()
}

// argExprs are arguments as they are written.
type argExprs struct {
	pos   []expr
	names []string
	kw    []expr
}

func (a *argExprs) eval(r *run) *args {
	r.step(1 + len(a.pos) + len(a.kw))
	v := &args{}
	if len(a.pos) > 0 {
		v.pos = make([]any, len(a.pos))
		for i, e := range a.pos {
			v.pos[i] = e.eval(r)
		}
	}
	if len(a.kw) > 0 {
		v.kw = make(map[string]any, len(a.kw))
		for i, e := range a.kw {
			v.kw[a.names[i]] = e.eval(r)
		}
	}
	return v
}

type call struct {
	fn   expr
	args argExprs
}

func (c *call) eval(r *run) any {
	if g, ok := c.fn.(*getAttr); ok {
		return r.callMethod(g.value.eval(r), g.name, c.args.eval(r))
	}
	switch f := c.fn.eval(r).(type) {
	case callable:
		return f(r, c.args.eval(r))
	case *loop:
		return f.recurse(r, c.args.eval(r))
	case undefined:
		if v, ok := c.fn.(*variable); ok {
			r.fail("unknown function", "%s is unknown", v.name)
		}
	}
	r.invalid("value is not callable")
	return nil
}

func (r *run) callMethod(v any, name string, a *args) any {
	r.step(weight(v))
	if f, ok := attribute(v, name).(callable); ok {
		return f(r, a)
	}
	if s, ok := asString(v); ok {
		if m, ok := stringMethods[name]; ok {
			return m(r, s, a)
		}
	}
	switch v := v.(type) {
	case undefined:
		r.fail("undefined value", "cannot call the method %s of an undefined value", name)
	case map[string]any:
		if m, ok := mapMethods[name]; ok {
			return m(r, v, a)
		}
	case []any:
		if name == "count" {
			n := int64(0)
			for _, e := range v {
				if r.equal(e, a.get(r, 0, "value")) {
					n++
				}
			}
			return n
		}
	}
	r.fail("unknown method", "%s has no method named %s", kindName(v), name)
	return nil
}

// weight is how many steps it takes to look at all of v once.
func weight(v any) int {
	switch v := v.(type) {
	case string:
		return 1 + len(v)/64
	case safe:
		return 1 + len(v)/64
	case []any:
		return 1 + len(v)/8
	case map[string]any:
		return 1 + len(v)/8
	}
	return 1
}

type filterCall struct {
	name  string
	value expr
	args  argExprs
}

func (f *filterCall) eval(r *run) any {
	v := f.value.eval(r)
	return r.filter(f.name, v, f.args.eval(r))
}

func (r *run) filter(name string, v any, a *args) any {
	r.step(weight(v))
	f, ok := r.lib.filters[name]
	if !ok {
		r.fail("unknown filter", "filter %s is unknown", name)
	}
	return f(r, v, a)
}

type test struct {
	value expr
	name  string
	args  argExprs
	not   bool
}

func (t *test) eval(r *run) any {
	v := t.value.eval(r)
	return r.test(t.name, v, t.args.eval(r)) != t.not
}

func (r *run) test(name string, v any, a *args) bool {
	f, ok := r.lib.tests[name]
	if !ok {
		r.fail("unknown test", "test %s is unknown", name)
	}
	return f(r, v, a)
}
