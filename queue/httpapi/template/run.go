package template

import (
	"fmt"
	"strings"
	"sync"
)

// library is what templates can call by name.
type library struct {
	filters map[string]filterFunc
	tests   map[string]testFunc
	helpers map[string]callable
}

var shared = sync.OnceValue(func() *library { return &library{newFilters(), newTests(), newHelpers()} })

// run is one rendering.
type run struct {
	t             *Template
	lib           *library
	limits        Limits
	vars          []map[string]any
	steps, memory int // what is left
	depth         int
	line          int // of the source
	escape        bool
	header        bool // what is written now is in the header of a message
	out, main     *strings.Builder

	// Jinja's scopes: bindings from the outermost to the innermost, and where each frame begins. Lookups go down to base, then on from below: a
	// macro sees what was there when it was defined, not its caller's variables.
	bindings    []binding
	frames      []int
	base, below int

	// Handlebars' scopes.
	blocks []block
}

type binding struct {
	name  string
	value any
}

// fail ends the rendering.
func (r *run) fail(kind, format string, args ...any) {
	panic(failure{kind: kind, detail: fmt.Sprintf(format, args...), line: r.line})
}

func (r *run) invalid(format string, args ...any) { r.fail("invalid operation", format, args...) }

func (r *run) exceed(what string, limit int) {
	panic(failure{kind: "limit exceeded", detail: fmt.Sprintf("more than %d %s", limit, what), line: r.line, limit: true})
}

// step takes n from the budget of operations.
func (r *run) step(n int) {
	if r.steps -= n; r.steps < 0 {
		r.exceed("operations", r.limits.Steps)
	}
}

// grow takes n bytes from the budget of memory, before they are allocated.
func (r *run) grow(n int) {
	if n < 0 || n > r.memory {
		r.exceed("bytes of memory", r.limits.Memory)
	}
	r.memory -= n
	r.step(n / 64)
}

// str accounts for a string that was just made.
func (r *run) str(s string) string {
	r.grow(len(s))
	return s
}

const itemSize = 16 // of an element of a list

// list accounts for a list that was just made.
func (r *run) list(l []any) []any {
	r.grow(len(l) * itemSize)
	return l
}

// enter goes a level deeper; the caller leaves it with r.depth--.
func (r *run) enter() {
	if r.depth++; r.depth > maxDepth {
		panic(failure{kind: "limit exceeded", detail: "recursion is too deep", line: r.line, limit: true})
	}
}

func (r *run) write(s string) {
	if r.out.Len()+len(s) > r.limits.Output {
		r.exceed("bytes of output", r.limits.Output)
	}
	r.out.WriteString(s)
}

// insert writes what is not text of the template.
func (r *run) insert(s string) {
	if r.header && r.out == r.main && strings.ContainsAny(s, "\r\n") {
		s = oneLine.Replace(s)
	}
	r.write(s)
}

var oneLine = strings.NewReplacer("\r\n", " ", "\r", " ", "\n", " ")

// writeEscaped inserts s for HTML; what is escaped besides & < > " and ' is the dialect's.
func (r *run) writeEscaped(s string, extra *strings.Replacer) {
	if strings.ContainsAny(s, "&<>\"'/`=") {
		s = extra.Replace(s)
	}
	r.insert(s)
}

// capture runs f and returns what it writes.
func (r *run) capture(f func()) string {
	saved := r.out
	r.out = &strings.Builder{}
	f()
	s := r.out.String()
	r.out = saved
	r.grow(len(s))
	return s
}

// data is text of the template.
type data string

func (d data) exec(r *run) {
	r.step(1)
	if !r.header || r.out != r.main {
		r.write(string(d))
		return
	}
	from := max(r.main.Len()-len("\n\r"), 0)
	r.write(string(d))
	tail := r.main.String()[from:]
	r.header = !strings.Contains(tail, "\n\n") && !strings.Contains(tail, "\n\r\n")
}

type sequence []node

func (s sequence) exec(r *run) {
	for _, n := range s {
		n.exec(r)
	}
}

// variable looks in what the caller of Render gave.
func (r *run) variable(name string) (any, bool) {
	for _, m := range r.vars {
		if v, ok := m[name]; ok {
			return v, true
		}
	}
	return nil, false
}
