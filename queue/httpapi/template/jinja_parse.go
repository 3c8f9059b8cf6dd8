package template

import (
	"slices"
	"strings"
)

// expr is an expression of Jinja.
type expr interface{ eval(r *run) any }

// parser reads statements and expressions.
type parser struct {
	tokens []token
	pos    int
	depth  int
}

func parseJinja(t *Template) node {
	p := &parser{tokens: lexJinja(t.source)}
	body, end := p.body("")
	if end != "" {
		syntaxError(p.peek().line, "unexpected %s", end)
	}
	return body
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

// accept takes the token if it is that operator or name.
func (p *parser) accept(text string) bool {
	if t := p.peek(); (t.kind == tokOp || t.kind == tokName) && t.text == text {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if !p.accept(text) {
		p.unexpected("expected `" + text + "`")
	}
}

func (p *parser) unexpected(want string) {
	t := p.peek()
	got := "`" + t.text + "`"
	switch t.kind {
	case tokEOF:
		got = "end of input"
	case tokShut:
		got = "end of block"
	case tokName:
		got = "identifier " + got
	case tokString:
		got = "string"
	case tokNumber:
		got = "number"
	case tokData:
		got = "template data"
	}
	syntaxError(t.line, "unexpected %s, %s", got, want)
}

func (p *parser) name() string {
	t := p.peek()
	if t.kind != tokName {
		p.unexpected("expected identifier")
	}
	p.pos++
	return t.text
}

func (p *parser) shut() {
	if p.peek().kind != tokShut {
		p.unexpected("expected end of block")
	}
	p.pos++
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		syntaxError(p.peek().line, "template exceeds maximum recursion limits")
	}
}

// body reads up to a statement that is one of ends (space-separated), and leaves the parser after its name.
func (p *parser) body(ends string) (sequence, string) {
	p.enter()
	defer func() { p.depth-- }()
	var s sequence
	for {
		t := p.next()
		switch {
		case t.kind == tokEOF:
			if ends != "" {
				syntaxError(t.line, "unexpected end of input, expected end of block")
			}
			return s, ""
		case t.kind == tokData:
			s = append(s, data(t.text))
		case t.text == "{{":
			e := p.expr()
			p.shut()
			s = append(s, &output{e, t.line})
		default:
			name := p.name()
			if slices.Contains(strings.Fields(ends), name) {
				return s, name
			}
			s = append(s, p.statement(name, t.line))
		}
	}
}

// block reads the rest of a tag, a body, and its end tag.
func (p *parser) block(end string) sequence {
	p.shut()
	s, _ := p.body(end)
	p.shut()
	return s
}

func (p *parser) statement(name string, line int) node {
	switch name {
	case "if":
		return p.ifStatement(line)
	case "for":
		return p.forStatement(line)
	case "set":
		return p.setStatement(line)
	case "with":
		w := &with{line: line}
		for p.peek().kind != tokShut {
			if len(w.names) > 0 {
				p.expect(",")
			}
			w.names = append(w.names, p.name())
			p.expect("=")
			w.values = append(w.values, p.expr())
		}
		w.body = p.block("endwith")
		return w
	case "filter":
		f := &filterBlock{line: line}
		f.filter = p.filters(captured{})
		f.body = p.block("endfilter")
		return f
	case "autoescape":
		a := &autoescape{on: p.expr(), line: line}
		a.body = p.block("endautoescape")
		return a
	case "macro":
		m := &macro{name: p.name(), line: line}
		p.expect("(")
		m.params, m.defaults = p.params()
		m.body = p.block("endmacro")
		return m
	case "do":
		d := &do{p.expr(), line}
		p.shut()
		return d
	}
	syntaxError(line, "unknown statement %s", name)
	return nil
}

// params reads the parameters of a macro, up to the closing parenthesis.
func (p *parser) params() (names []string, defaults []expr) {
	for !p.accept(")") {
		if len(names) > 0 {
			p.expect(",")
		}
		names = append(names, p.name())
		var d expr
		if p.accept("=") {
			d = p.expr()
		}
		defaults = append(defaults, d)
	}
	return names, defaults
}

func (p *parser) ifStatement(line int) node {
	n := &ifNode{line: line}
	for {
		n.conds = append(n.conds, p.expr())
		p.shut()
		body, end := p.body("elif else endif")
		n.bodies = append(n.bodies, body)
		if end == "elif" {
			continue
		}
		if end == "else" {
			n.otherwise = p.block("endif")
		} else {
			p.shut()
		}
		return n
	}
}

func (p *parser) forStatement(line int) node {
	n := &forNode{line: line, targets: p.targets()}
	p.expect("in")
	n.list = p.or()
	if p.accept("if") {
		n.cond = p.expr()
	}
	n.recursive = p.accept("recursive")
	p.shut()
	var end string
	if n.body, end = p.body("else endfor"); end == "else" {
		n.otherwise = p.block("endfor")
	} else {
		p.shut()
	}
	return n
}

// targets reads one name, or several that a value is unpacked to.
func (p *parser) targets() []string {
	paren := p.accept("(")
	names := []string{p.name()}
	for p.accept(",") {
		names = append(names, p.name())
	}
	if paren {
		p.expect(")")
	}
	return names
}

func (p *parser) setStatement(line int) node {
	n := &setNode{line: line, targets: p.targets()}
	if len(n.targets) == 1 && p.accept(".") {
		n.attr = p.name()
	}
	if p.accept("=") {
		n.value = p.expr()
		if p.peek().text == "," && p.peek().kind == tokOp {
			l := list{n.value}
			for p.accept(",") {
				l = append(l, p.expr())
			}
			n.value = l
		}
		p.shut()
		return n
	}
	if len(n.targets) > 1 || n.attr != "" {
		p.unexpected("expected assignment operator")
	}
	n.value = captured{}
	if p.accept("|") {
		n.value = p.filters(captured{})
	}
	n.body = p.block("endset")
	if n.body == nil {
		n.body = sequence{}
	}
	return n
}

// filters reads a chain of filters without the first bar.
func (p *parser) filters(e expr) expr {
	for {
		e = p.filter(e)
		if !p.accept("|") {
			return e
		}
	}
}

func (p *parser) filter(e expr) expr {
	f := &filterCall{name: p.name(), value: e}
	if p.accept("(") {
		f.args = p.args()
	}
	return f
}

// expr reads an expression with its inline condition.
func (p *parser) expr() expr {
	p.enter()
	defer func() { p.depth-- }()
	e := p.or()
	for p.accept("if") {
		t := &ternary{yes: e, cond: p.or()}
		if p.accept("else") {
			t.no = p.expr()
		}
		e = t
	}
	return e
}

func (p *parser) or() expr {
	e := p.and()
	for p.accept("or") {
		e = &logic{"or", e, p.and()}
	}
	return e
}

func (p *parser) and() expr {
	e := p.not()
	for p.accept("and") {
		e = &logic{"and", e, p.not()}
	}
	return e
}

func (p *parser) not() expr {
	if p.accept("not") {
		p.enter()
		defer func() { p.depth-- }()
		return &unary{"not", p.not()}
	}
	return p.comparison()
}

func (p *parser) comparison() expr {
	e := p.binary(0)
	for {
		op, negate := "", false
		switch t := p.peek(); {
		case t.kind == tokOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text), t.kind == tokName && t.text == "in":
			op = p.next().text
		case t.kind == tokName && t.text == "not" && p.tokens[p.pos+1].text == "in":
			p.pos += 2
			op, negate = "in", true
		default:
			return e
		}
		e = &binary{op, e, p.binary(0)}
		if negate {
			e = &unary{"not", e}
		}
	}
}

// precedence of the arithmetic operators, loosest first.
var precedence = [...][]string{{"+", "-"}, {"~"}, {"*", "/", "//", "%"}}

func (p *parser) binary(level int) expr {
	if level == len(precedence) {
		return p.power()
	}
	e := p.binary(level + 1)
	for {
		t := p.peek()
		if t.kind != tokOp || !slices.Contains(precedence[level], t.text) {
			return e
		}
		p.pos++
		e = &binary{t.text, e, p.binary(level + 1)}
	}
}

// power binds tighter than the others, and looser than a sign.
func (p *parser) power() expr {
	e := p.filtered()
	for p.accept("**") {
		e = &binary{"**", e, p.filtered()}
	}
	return e
}

// filtered reads a value with its filters and tests.
func (p *parser) filtered() expr {
	e := p.unary()
	for {
		switch {
		case p.accept("|"):
			e = p.filter(e)
		case p.accept("is"):
			e = p.test(e)
		default:
			return e
		}
	}
}

func (p *parser) test(e expr) expr {
	t := &test{value: e, not: p.accept("not")}
	t.name = p.testName()
	if p.accept("(") {
		t.args = p.args()
	} else if k := p.peek(); k.kind == tokString || k.kind == tokNumber || k.kind == tokName && !slices.Contains(notOperand, k.text) || k.kind == tokOp && k.text == "[" {
		t.args.pos = []expr{p.postfix(p.primary())}
	}
	return t
}

func (p *parser) unary() expr {
	if t := p.peek(); t.kind == tokOp && (t.text == "-" || t.text == "+") {
		p.pos++
		p.enter()
		defer func() { p.depth-- }()
		return &unary{t.text, p.unary()}
	}
	return p.postfix(p.primary())
}

func (p *parser) postfix(e expr) expr {
	for {
		switch {
		case p.accept("."):
			if t := p.peek(); t.kind == tokNumber {
				p.pos++
				e = &getItem{e, literal{t.value}}
				continue
			}
			e = &getAttr{e, p.name()}
		case p.accept("["):
			e = p.subscript(e)
		case p.accept("("):
			e = &call{fn: e, args: p.args()}
		default:
			return e
		}
	}
}

// notOperand are the names that can follow a test without being its argument.
var notOperand = []string{"and", "or", "if", "else", "is", "not", "in", "recursive"}

func (p *parser) testName() string {
	if p.accept("in") {
		return "in"
	}
	if t := p.peek(); t.kind == tokOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text) {
		return p.next().text
	}
	return p.name()
}

func (p *parser) subscript(e expr) expr {
	var part [3]expr
	n, colon := 0, false
	for !p.accept("]") {
		switch {
		case p.accept(":"):
			if n++; n > 2 {
				p.unexpected("expected `]`")
			}
			colon = true
		case part[n] == nil:
			part[n] = p.expr()
		default:
			p.unexpected("expected `]`")
		}
	}
	if colon {
		return &slice{e, part[0], part[1], part[2]}
	}
	if part[0] == nil {
		p.unexpected("expected an index")
	}
	return &getItem{e, part[0]}
}

// args reads arguments up to the closing parenthesis.
func (p *parser) args() (a argExprs) {
	for first := true; !p.accept(")"); first = false {
		if !first {
			if p.expect(","); p.accept(")") {
				break
			}
		}
		if t := p.peek(); t.kind == tokName && p.tokens[p.pos+1].kind == tokOp && p.tokens[p.pos+1].text == "=" {
			p.pos += 2
			a.names = append(a.names, t.text)
			a.kw = append(a.kw, p.expr())
			continue
		}
		if len(a.kw) > 0 {
			p.unexpected("expected keyword argument")
		}
		a.pos = append(a.pos, p.expr())
	}
	return a
}

func (p *parser) primary() expr {
	t := p.next()
	switch t.kind {
	case tokString, tokNumber:
		return literal{t.value}
	case tokName:
		switch t.text {
		case "true", "True":
			return literal{true}
		case "false", "False":
			return literal{false}
		case "none", "None":
			return literal{nil}
		}
		if slices.Contains(notOperand, t.text) {
			p.pos--
			p.unexpected("expected expression")
		}
		return &variable{t.text}
	case tokOp:
		switch t.text {
		case "(":
			if p.accept(")") {
				return list{}
			}
			e := p.expr()
			if p.accept(")") {
				return e
			}
			l := list{e}
			for !p.accept(")") {
				if p.expect(","); p.accept(")") {
					break
				}
				l = append(l, p.expr())
			}
			return l
		case "[":
			l := list{}
			for !p.accept("]") {
				if len(l) > 0 {
					if p.expect(","); p.accept("]") {
						break
					}
				}
				l = append(l, p.expr())
			}
			return l
		case "{":
			var d dict
			for !p.accept("}") {
				if len(d.keys) > 0 {
					if p.expect(","); p.accept("}") {
						break
					}
				}
				d.keys = append(d.keys, p.expr())
				p.expect(":")
				d.values = append(d.values, p.expr())
			}
			return &d
		}
	}
	if t.kind != tokEOF {
		p.pos--
	}
	p.unexpected("expected expression")
	return nil
}
