package template

import (
	"strconv"
	"strings"
)

// htmlEscaper is MiniJinja's.
var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;", "/", "&#x2f;")

// output is {{ value }}.
type output struct {
	value expr
	line  int
}

func (o *output) exec(r *run) {
	r.line = o.line
	r.step(1)
	r.print(o.value.eval(r))
}

// print writes v, escaped where that is on.
func (r *run) print(v any) {
	switch v := v.(type) {
	case undefined:
		return
	case safe:
		r.insert(string(v))
		return
	case int64:
		r.write(strconv.FormatInt(v, 10))
		return
	}
	s := r.display(v)
	if r.escape {
		r.writeEscaped(s, htmlEscaper)
		return
	}
	r.insert(s)
}

// Scopes.

func (r *run) push() { r.frames = append(r.frames, len(r.bindings)) }

func (r *run) pop() {
	n := len(r.frames) - 1
	clear(r.bindings[r.frames[n]:])
	r.bindings, r.frames = r.bindings[:r.frames[n]], r.frames[:n]
}

// set binds a name in the innermost frame.
func (r *run) set(name string, v any) {
	start := 0
	if n := len(r.frames); n > 0 {
		start = r.frames[n-1]
	}
	for i := len(r.bindings) - 1; i >= start; i-- {
		if r.bindings[i].name == name {
			r.bindings[i].value = v
			return
		}
	}
	r.grow(itemSize * 2)
	r.bindings = append(r.bindings, binding{name, v})
}

func (r *run) lookup(name string) any {
	r.step(1 + len(r.bindings)/16)
	for i := len(r.bindings) - 1; i >= r.base; i-- {
		if r.bindings[i].name == name {
			return r.bindings[i].value
		}
	}
	for i := min(r.below, len(r.bindings)) - 1; i >= 0; i-- {
		if r.bindings[i].name == name {
			return r.bindings[i].value
		}
	}
	if v, ok := r.variable(name); ok {
		return v
	}
	if f, ok := functions[name]; ok {
		return f
	}
	return undefined{}
}

// unpack binds targets to v, which is a list of as many where there are several.
func (r *run) unpack(targets []string, v any) {
	if len(targets) == 1 {
		r.set(targets[0], v)
		return
	}
	l, ok := v.([]any)
	if !ok || len(l) != len(targets) {
		r.fail("cannot unpack", "%s to %d variables", kindName(v), len(targets))
	}
	for i, t := range targets {
		r.set(t, l[i])
	}
}

type ifNode struct {
	conds     []expr
	bodies    []sequence
	otherwise sequence
	line      int
}

func (n *ifNode) exec(r *run) {
	for i, c := range n.conds {
		r.line = n.line
		if truthy(c.eval(r)) {
			n.bodies[i].exec(r)
			return
		}
	}
	n.otherwise.exec(r)
}

type forNode struct {
	targets         []string
	list, cond      expr
	recursive       bool
	body, otherwise sequence
	line            int
}

func (n *forNode) exec(r *run) {
	r.line = n.line
	n.loop(r, n.list.eval(r), 0)
}

func (n *forNode) loop(r *run, over any, depth int) {
	r.enter()
	defer func() { r.depth-- }()
	items := r.items(over)
	if n.cond != nil {
		var kept []any
		for _, v := range items {
			r.step(1)
			r.push()
			r.unpack(n.targets, v)
			if truthy(n.cond.eval(r)) {
				kept = append(kept, v)
			}
			r.pop()
		}
		items = r.list(kept)
	}
	if len(items) == 0 {
		n.otherwise.exec(r)
		return
	}
	l := &loop{node: n, items: items, depth: depth}
	for i, v := range items {
		r.line = n.line
		r.step(1)
		l.index = i
		r.push()
		r.set("loop", l)
		r.unpack(n.targets, v)
		n.body.exec(r)
		r.pop()
	}
}

// loop is the variable of that name within a loop.
type loop struct {
	node  *forNode
	items []any
	index int
	depth int
	last  []any // arguments of changed
	seen  bool
}

func (l *loop) display() string { return "<loop>" }

func (l *loop) attr(name string) (any, bool) {
	at := func(i int) any {
		if i < 0 || i >= len(l.items) {
			return undefined{}
		}
		return l.items[i]
	}
	switch name {
	case "index":
		return int64(l.index + 1), true
	case "index0":
		return int64(l.index), true
	case "revindex":
		return int64(len(l.items) - l.index), true
	case "revindex0":
		return int64(len(l.items) - l.index - 1), true
	case "first":
		return l.index == 0, true
	case "last":
		return l.index == len(l.items)-1, true
	case "length":
		return int64(len(l.items)), true
	case "depth":
		return int64(l.depth + 1), true
	case "depth0":
		return int64(l.depth), true
	case "previtem":
		return at(l.index - 1), true
	case "nextitem":
		return at(l.index + 1), true
	case "cycle":
		return callable(func(r *run, a *args) any {
			if len(a.pos) == 0 {
				return undefined{}
			}
			return a.pos[l.index%len(a.pos)]
		}), true
	case "changed":
		return callable(func(r *run, a *args) any {
			changed := !l.seen || !r.equal(l.last, a.pos)
			l.last, l.seen = a.pos, true
			return changed
		}), true
	}
	return nil, false
}

// recurse runs the loop over further items and returns what it writes.
func (l *loop) recurse(r *run, a *args) any {
	if !l.node.recursive {
		r.invalid("cannot recurse outside of recursive loop")
	}
	v := a.get(r, 0, "items")
	return r.markup(r.capture(func() { l.node.loop(r, v, l.depth+1) }))
}

// markup is captured output as a value.
func (r *run) markup(s string) any {
	if r.escape {
		return safe(s)
	}
	return s
}

type setNode struct {
	targets []string
	attr    string // of a namespace
	value   expr
	body    sequence // captured, if not nil
	line    int
}

func (n *setNode) exec(r *run) {
	r.line = n.line
	r.step(1)
	if n.body != nil {
		r.set(n.targets[0], evalCaptured(r, n.body, n.value))
		return
	}
	v := n.value.eval(r)
	if n.attr == "" {
		r.unpack(n.targets, v)
		return
	}
	ns, ok := r.lookup(n.targets[0]).(*namespace)
	if !ok {
		r.invalid("can only assign to attributes of namespaces")
	}
	r.grow(len(n.attr) + itemSize)
	ns.attrs[n.attr] = v
}

// captured stands in an expression for the output of the block it belongs to.
type captured struct{}

const capturedName = " captured" // no template can say that name

func (captured) eval(r *run) any { return r.lookup(capturedName) }

// evalCaptured gives the output of body to e.
func evalCaptured(r *run, body sequence, e expr) any {
	r.push()
	s := r.capture(func() { body.exec(r) })
	r.pop()
	r.push()
	defer r.pop()
	r.set(capturedName, r.markup(s))
	return e.eval(r)
}

type with struct {
	names  []string
	values []expr
	body   sequence
	line   int
}

func (n *with) exec(r *run) {
	r.line = n.line
	r.push()
	for i, name := range n.names {
		r.set(name, n.values[i].eval(r))
	}
	n.body.exec(r)
	r.pop()
}

type filterBlock struct {
	filter expr
	body   sequence
	line   int
}

func (n *filterBlock) exec(r *run) {
	r.line = n.line
	r.print(evalCaptured(r, n.body, n.filter))
}

type autoescape struct {
	on   expr
	body sequence
	line int
}

func (n *autoescape) exec(r *run) {
	r.line = n.line
	saved := r.escape
	switch v := n.on.eval(r).(type) {
	case bool:
		r.escape = v
	case string:
		if r.escape = v == "html"; !r.escape && v != "none" {
			r.invalid("invalid value to autoescape tag")
		}
	default:
		r.invalid("invalid value to autoescape tag")
	}
	n.body.exec(r)
	r.escape = saved
}

type do struct {
	e    expr
	line int
}

func (n *do) exec(r *run) {
	r.line = n.line
	n.e.eval(r)
}

type macro struct {
	name     string
	params   []string
	defaults []expr
	body     sequence
	line     int
}

func (m *macro) exec(r *run) {
	r.step(1)
	r.set(m.name, undefined{}) // so that it can call itself
	below := len(r.bindings)
	r.set(m.name, callable(func(r *run, a *args) any { return m.call(r, a, below) }))
}

func (m *macro) call(r *run, a *args, below int) any {
	r.enter()
	base, outer, line := r.base, r.below, r.line
	r.push()
	r.base, r.below = len(r.bindings), below
	if len(a.pos) > len(m.params) {
		r.fail("too many arguments", "%s takes %d", m.name, len(m.params))
	}
	for i, p := range m.params {
		v := a.at(i, p)
		if isUndefined(v) && m.defaults[i] != nil {
			v = m.defaults[i].eval(r)
		}
		r.set(p, v)
	}
	s := r.capture(func() { m.body.exec(r) })
	r.pop()
	r.base, r.below, r.line = base, outer, line
	r.depth--
	return r.markup(s)
}
