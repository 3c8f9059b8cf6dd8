package template

import "strings"

// hbEscaper is that of the Rust implementation.
var hbEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;", "`", "&#x60;", "=", "&#x3D;")

// block is a scope of Handlebars: a context, what the block calls it, and its private data.
type block struct {
	context any
	root    bool // the variables of Render, rather than context
	params  []binding
	data    map[string]any // @index …
	inlines map[string]sequence
}

func (o *hbOutput) exec(r *run) {
	r.line = o.expr.line
	v := o.expr.value(r)
	s := r.hbDisplay(v)
	if _, ok := v.(safe); r.escape && !o.raw && !ok {
		r.writeEscaped(s, hbEscaper)
		return
	}
	r.insert(s)
}

// hbDisplay is how v is printed.
func (r *run) hbDisplay(v any) string {
	r.step(1)
	switch v := v.(type) {
	case nil, undefined:
		return ""
	case []any:
		r.enter()
		defer func() { r.depth-- }()
		var b strings.Builder
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			s := r.hbDisplay(e)
			r.grow(len(s) + 2)
			b.WriteString(s)
		}
		b.WriteByte(']')
		return b.String()
	case map[string]any:
		return "[object]"
	}
	return r.display(v)
}

func (e *hbExpr) value(r *run) any {
	r.step(1)
	if e.path == nil {
		return e.literal
	}
	if len(e.path.parts) == 1 && !e.path.this && !e.path.data && e.path.up == 0 {
		name := e.path.parts[0]
		if h, ok := r.lib.helpers[name]; ok && (e.call || len(e.params) > 0) {
			return h(r, e.args(r))
		}
		if e.call {
			r.fail("helper not found", "%s", name)
		}
	} else if e.call {
		r.fail("helper not found", "%s", e.path.text)
	}
	return e.path.find(r)
}

func (e *hbExpr) args(r *run) *args {
	r.enter()
	defer func() { r.depth-- }()
	a := &args{}
	for i := range e.params {
		a.pos = append(a.pos, e.params[i].value(r))
	}
	for i := range e.hash {
		if a.kw == nil {
			a.kw = make(map[string]any, len(e.hash))
		}
		a.kw[e.hash[i].name] = e.hash[i].value.value(r)
	}
	return a
}

// find looks the path up: block parameters first, then the context, then those around it, unless the path says which one.
func (p *hbPath) find(r *run) any {
	if p.data {
		if p.parts[0] == "root" {
			return r.hbRoot(p.parts[1:])
		}
		for i := len(r.blocks) - 1 - p.up; i >= 0; i-- {
			r.step(1)
			if v, ok := r.blocks[i].data[p.parts[0]]; ok {
				return r.hbWalk(v, p.parts[1:])
			}
		}
		return undefined{}
	}
	at := len(r.blocks) - 1
	if p.this || len(p.parts) == 0 {
		for up := p.up; up > 0 && at >= 0; at-- { // blocks that change nothing, as if, are no level
			up--
		}
		if at < 0 || r.blocks[at].root {
			return r.hbRoot(p.parts)
		}
		return r.hbWalk(r.blocks[at].context, p.parts)
	}
	for ; at >= 0; at-- {
		r.step(1)
		b := &r.blocks[at]
		for _, param := range b.params {
			if param.name == p.parts[0] {
				return r.hbWalk(param.value, p.parts[1:])
			}
		}
		if b.root {
			break
		}
		if v := hbChild(r, b.context, p.parts[0]); !isUndefined(v) {
			return r.hbWalk(v, p.parts[1:])
		}
	}
	return r.hbRoot(p.parts)
}

func (r *run) hbRoot(parts []string) any {
	if len(parts) == 0 {
		return r.hbAll()
	}
	v, ok := r.variable(parts[0])
	if !ok {
		return undefined{}
	}
	return r.hbWalk(v, parts[1:])
}

// hbAll is all variables in one map.
func (r *run) hbAll() map[string]any {
	all := make(map[string]any)
	for i := len(r.vars) - 1; i >= 0; i-- {
		r.grow(len(r.vars[i]) * 4 * itemSize)
		for k, v := range r.vars[i] {
			all[k] = v
		}
	}
	return all
}

func (r *run) hbWalk(v any, parts []string) any {
	for _, name := range parts {
		r.step(1)
		if v = hbChild(r, v, name); isUndefined(v) {
			return v
		}
	}
	return v
}

func hbChild(r *run, v any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		if e, ok := v[name]; ok {
			return e
		}
	case []any:
		if name == "length" {
			return int64(len(v))
		}
		if i, ok := parseIndex(name); ok {
			return r.index(v, i)
		}
	}
	return undefined{}
}

// within runs body in a further scope.
func (r *run) within(b block, body sequence) {
	r.enter()
	r.blocks = append(r.blocks, b)
	body.exec(r)
	r.blocks = r.blocks[:len(r.blocks)-1]
	r.depth--
}

func (b *hbBlock) exec(r *run) {
	r.line = b.expr.line
	r.step(1)
	body, otherwise := b.body, b.otherwise
	if b.inverse {
		body, otherwise = otherwise, body
	}
	name := ""
	if p := b.expr.path; p != nil && !p.this && !p.data {
		name = p.text
	}
	arg := func() any {
		if len(b.expr.params) != 1 {
			r.fail("missing argument", "%s takes one", name)
		}
		return b.expr.params[0].value(r)
	}
	switch {
	case b.rawText:
		if name != "raw" {
			r.fail("helper not found", "%s", name)
		}
		body.exec(r)
	case name == "if" || name == "unless":
		v := arg()
		if yes := hbTruthy(v, b.zero(r)); yes != (name == "unless") {
			body.exec(r)
		} else {
			otherwise.exec(r)
		}
	case name == "with":
		b.with(r, arg(), body, otherwise)
	case name == "each":
		b.each(r, arg(), body, otherwise)
	default: // a section, as in Mustache
		v := b.expr.value(r)
		switch v := v.(type) {
		case []any:
			b.each(r, v, body, otherwise)
		case bool, int64, uint64, float64, string, safe:
			if hbTruthy(v, false) {
				body.exec(r)
			} else {
				otherwise.exec(r)
			}
		default:
			b.with(r, v, body, otherwise)
		}
	}
}

// zero says whether 0 counts as something.
func (b *hbBlock) zero(r *run) bool {
	for i := range b.expr.hash {
		if h := &b.expr.hash[i]; h.name == "includeZero" {
			return truthy(h.value.value(r))
		}
	}
	return false
}

func hbTruthy(v any, includeZero bool) bool {
	if n, ok := number(v); ok && includeZero {
		return n == n
	}
	return truthy(v)
}

func (b *hbBlock) with(r *run, v any, body, otherwise sequence) {
	if !truthy(v) {
		otherwise.exec(r)
		return
	}
	scope := block{context: v}
	if len(b.params) > 0 {
		scope.params = []binding{{b.params[0], v}}
	}
	r.within(scope, body)
}

func (b *hbBlock) each(r *run, v any, body, otherwise sequence) {
	iterate := func(i, n int, key any, e any) {
		r.line = b.expr.line
		r.step(1)
		scope := block{context: e, data: map[string]any{"index": int64(i), "key": key, "first": i == 0, "last": i == n-1}}
		for j, name := range b.params[:min(len(b.params), 2)] {
			scope.params = append(scope.params, binding{name, [...]any{e, key}[j]})
		}
		r.within(scope, body)
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			iterate(i, len(v), int64(i), e)
		}
		if len(v) > 0 {
			return
		}
	case map[string]any:
		for i, k := range sortedKeys(v) {
			iterate(i, len(v), k, v[k])
		}
		if len(v) > 0 {
			return
		}
	}
	otherwise.exec(r)
}

func (n *hbInline) exec(r *run) {
	if len(r.blocks) == 0 {
		r.blocks = append(r.blocks, block{root: true})
	}
	b := &r.blocks[len(r.blocks)-1]
	if b.inlines == nil {
		b.inlines = make(map[string]sequence)
	}
	b.inlines[n.name] = n.body
}

func (n *hbPartial) exec(r *run) {
	r.line = n.line
	var body sequence
	found := false
	for i := len(r.blocks) - 1; i >= 0 && !found; i-- {
		body, found = r.blocks[i].inlines[n.name]
	}
	if !found {
		if n.fallback == nil {
			r.fail("partial not found", "%s", n.name)
		}
		body = n.fallback
	}
	scope := block{root: len(r.blocks) == 0, context: r.hbContext()}
	if len(r.blocks) > 0 {
		scope.root = r.blocks[len(r.blocks)-1].root
	}
	if n.context != nil {
		scope.context, scope.root = n.context.value(r), false
	}
	for i := range n.hash {
		h := &n.hash[i]
		scope.params = append(scope.params, binding{h.name, h.value.value(r)})
	}
	if n.fallback != nil && found { // what {{> @partial-block}} stands for
		scope.inlines = map[string]sequence{"@partial-block": n.fallback}
	}
	r.within(scope, body)
}

func (r *run) hbContext() any {
	if len(r.blocks) == 0 {
		return nil
	}
	return r.blocks[len(r.blocks)-1].context
}

// newHelpers are those that give a value.
func newHelpers() map[string]callable {
	compare := func(ok func(c int) bool) callable {
		return func(r *run, a *args) any { return ok(r.compare(a.get(r, 0, "first"), a.get(r, 1, "second"))) }
	}
	two := func(a *args) (x, y any) { return a.at(0, ""), a.at(1, "") }
	return map[string]callable{
		"lookup": func(r *run, a *args) any {
			v, k := two(a)
			return hbChild(r, v, r.hbDisplay(k))
		},
		"log": func(*run, *args) any { return "" },
		"eq": func(r *run, a *args) any {
			x, y := two(a)
			return r.equal(x, y)
		},
		"ne": func(r *run, a *args) any {
			x, y := two(a)
			return !r.equal(x, y)
		},
		"gt": compare(func(c int) bool { return c > 0 }), "gte": compare(func(c int) bool { return c >= 0 }),
		"lt": compare(func(c int) bool { return c < 0 }), "lte": compare(func(c int) bool { return c <= 0 }),
		"and": func(_ *run, a *args) any {
			for _, v := range a.pos {
				if !truthy(v) {
					return false
				}
			}
			return true
		},
		"or": func(_ *run, a *args) any {
			for _, v := range a.pos {
				if truthy(v) {
					return true
				}
			}
			return false
		},
		"not": func(_ *run, a *args) any { return !truthy(a.at(0, "")) },
		"len": func(r *run, a *args) any {
			v := a.at(0, "")
			r.step(weight(v))
			n, _ := length(v)
			return int64(n)
		},
	}
}
