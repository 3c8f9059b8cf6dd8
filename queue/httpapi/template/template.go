// Package template expands templates of mail in the dialects that KumoMTA's injection API has: Jinja as MiniJinja understands it, Handlebars as
// its Rust implementation does, and Static, which is text as it is.
//
//	t, err := template.Compile(template.Jinja, "text_body.txt", "Hello {{ name | title }}")
//	text, err := t.Render(template.Limits{}, map[string]any{"name": "jane"})
//
// A template is somebody else's program. It has no access to files, other templates, the network or the process, and each rendering has a
// budget of steps, memory and output that it can't get round, so that no template runs for long or takes a server's memory. Line ends of
// the template stay as they are. Templates whose name ends in .html escape what they insert.
//
// Values are those of JSON: nil, bool, int64, uint64 for what is more than that, float64, string, []any and map[string]any; they are not changed. Maps are
// iterated by key in order, so that the same input gives the same text. A Template is safe for concurrent use. The package has no state and no goroutine.
package template

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Dialect is a template language.
type Dialect uint8

// Dialects of templates.
const (
	Jinja Dialect = iota
	Static
	Handlebars
)

func (d Dialect) String() string {
	return [...]string{"Jinja", "Static", "Handlebars"}[min(d, Handlebars)]
}

// ParseDialect reads what String prints.
func ParseDialect(s string) (Dialect, bool) {
	for d := range Handlebars + 1 {
		if s == d.String() {
			return d, true
		}
	}
	return 0, false
}

// Limits bound one rendering. Zero fields have their defaults.
type Limits struct {
	Steps  int // operations; default 1,000,000, some tens of milliseconds
	Memory int // bytes of strings and lists that expressions make, all together; default 32 MiB
	Output int // bytes; default 16 MiB

	Now func() time.Time // the clock of the template; nil is time.Now
}

func (l Limits) withDefaults() Limits {
	if l.Steps == 0 {
		l.Steps = 1_000_000
	}
	if l.Memory == 0 {
		l.Memory = 32 << 20
	}
	if l.Output == 0 {
		l.Output = 16 << 20
	}
	if l.Now == nil {
		l.Now = time.Now
	}
	return l
}

// maxDepth bounds nesting: of expressions and blocks when compiling, of calls when rendering.
const maxDepth = 100

// ErrLimit is wrapped by the errors of renderings that exceed their Limits.
var ErrLimit = errors.New("template: limit exceeded")

// Error says what is wrong with a template, or went wrong while it was rendered, and where.
type Error struct {
	Kind   string // "syntax error", "invalid operation" …
	Detail string
	Name   string // of the template
	Line   int    // from 1
	Source string // that line
	limit  bool
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (in template '%s' line %d: '%s')", e.Kind, e.Detail, e.Name, e.Line, e.Source)
}

// Unwrap is [ErrLimit] where that is why.
func (e *Error) Unwrap() error {
	if e.limit {
		return ErrLimit
	}
	return nil
}

// Template is a compiled template.
type Template struct {
	name, source string
	escape       bool
	message      bool
	body         node
	static       bool
}

// node is a part of a program that writes output.
type node interface{ exec(r *run) }

// Compile reads a template. The error is an [*Error].
func Compile(d Dialect, name, source string) (t *Template, err error) {
	t = &Template{name: name, source: source, escape: strings.HasSuffix(name, ".html")}
	defer t.catch(&err)
	switch {
	case d == Static:
		t.static = true
	case d == Handlebars:
		t.static = !strings.Contains(source, "{{")
		if !t.static {
			t.body = parseHandlebars(t)
		}
	default:
		if rest := strings.TrimSuffix(source, "\n"); len(rest) < len(source) { // as Jinja does
			t.source = strings.TrimSuffix(rest, "\r")
		}
		t.static = !strings.Contains(source, "{{") && !strings.Contains(source, "{%") && !strings.Contains(source, "{#")
		if !t.static {
			t.body = parseJinja(t)
		}
	}
	return t, nil
}

// CompileMessage is Compile for a template of a whole message (RFC 5322): what is inserted into its header stays on its line, since a variable with a line
// break could otherwise bring in header fields, or end the header. Line breaks in it become spaces. The header ends at the first empty line of the text.
func CompileMessage(d Dialect, name, source string) (*Template, error) {
	t, err := Compile(d, name, source)
	if t != nil {
		t.message = true
	}
	return t, err
}

// IsStatic says whether the template is the same text whatever the variables are.
func (t *Template) IsStatic() bool { return t.static }

// Render expands the template. Variables are looked up in the maps, in their order. The error is an [*Error].
func (t *Template) Render(l Limits, vars ...map[string]any) (text string, err error) {
	if t.static {
		return t.source, nil
	}
	l = l.withDefaults()
	r := &run{t: t, lib: shared(), vars: vars, limits: l, steps: l.Steps, memory: l.Memory, escape: t.escape, line: 1, header: t.message, out: &strings.Builder{}}
	r.main = r.out
	r.out.Grow(min(len(t.source)+len(t.source)/8+32, l.Output))
	defer func() {
		if err != nil {
			text = ""
		}
	}()
	defer t.catch(&err)
	t.body.exec(r)
	return r.out.String(), nil
}

// failure is what the code of this package panics with when a template is at fault; catch turns it into an error.
type failure struct {
	kind, detail string
	line         int
	limit        bool
}

func (t *Template) catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case failure:
		e := &Error{Kind: p.kind, Detail: p.detail, Name: t.name, Line: p.line, limit: p.limit}
		rest := t.source
		for range p.line - 1 {
			_, rest, _ = strings.Cut(rest, "\n")
		}
		line, _, _ := strings.Cut(rest, "\n")
		e.Source = strings.TrimSuffix(cut(line, 120), "\r")
		*err = e
	default:
		panic(p)
	}
}

// cut shortens s to at most n bytes, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

// syntaxError ends compiling.
func syntaxError(line int, format string, args ...any) {
	panic(failure{kind: "syntax error", detail: fmt.Sprintf(format, args...), line: line})
}
