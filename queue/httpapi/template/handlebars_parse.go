package template

import (
	"strconv"
	"strings"
)

// The grammar is Handlebars', as far as its Rust implementation has it: expressions, blocks with else chains, block parameters, subexpressions, inline and named
// partials, raw blocks, comments, white space control.

// hbPath is a way to a value: ../a.b.[c d], @index, this.
type hbPath struct {
	up    int
	data  bool // begins with @
	parts []string
	this  bool // begins with this or ., so that only the context is looked at
	text  string
}

// hbExpr is a literal, a path, or a call of a helper.
type hbExpr struct {
	literal any // if path and name are unset
	path    *hbPath
	params  []hbExpr
	hash    []hbHash
	call    bool // in parentheses, or with parameters
	line    int
}

type hbHash struct {
	name  string
	value hbExpr
}

// hbOutput is {{expr}}, raw if in three braces or with &.
type hbOutput struct {
	expr hbExpr
	raw  bool
}

// hbBlock is {{#expr as |a b|}} body {{else}} otherwise {{/name}}.
type hbBlock struct {
	expr      hbExpr
	params    []string
	body      sequence
	otherwise sequence
	inverse   bool // {{^expr}}
	rawText   bool // {{{{expr}}}}
}

// hbPartial is {{> name context a=b}}, or with a block for when it is missing.
type hbPartial struct {
	name     string
	context  *hbExpr
	hash     []hbHash
	fallback sequence
	line     int
}

// hbInline is {{#*inline "name"}}.
type hbInline struct {
	name string
	body sequence
}

// hbTag is a tag or the text before one.
type hbTag struct {
	text       string
	kind       byte // 0 is text; else # ^ / > & { ! * (inline) + (partial block) r (raw block) = (expression)
	line       int
	trimLeft   bool // ~
	trimRight  bool
	standalone bool // may take its line with it
}

func parseHandlebars(t *Template) node {
	tags := hbStrip(hbLex(t.source))
	p := &hbParser{tags: tags}
	body, end := p.body()
	if end != nil {
		syntaxError(end.line, "unexpected {{%s}}", end.text)
	}
	return body
}

// hbLex cuts the source at its tags.
func hbLex(src string) []hbTag {
	var tags []hbTag
	line, start := 1, 0
	text := func(s string) {
		if s != "" {
			tags = append(tags, hbTag{text: s, line: line})
			line += strings.Count(s, "\n")
		}
	}
	for pos := 0; ; {
		i := strings.Index(src[pos:], "{{")
		if i < 0 {
			text(src[start:])
			return tags
		}
		i += pos
		if i > 0 && src[i-1] == '\\' { // escaped, unless the backslash is
			if i > 1 && src[i-2] == '\\' {
				text(src[start : i-1])
				start = i
			} else {
				text(src[start : i-1])
				end := strings.Index(src[i:], "}}")
				if end < 0 {
					text(src[i:])
					return tags
				}
				text(src[i : i+end+2])
				start, pos = i+end+2, i+end+2
				continue
			}
		}
		text(src[start:i])
		rest := src[i:]
		tag := hbTag{kind: '=', line: line}
		shut := "}}"
		body := ""
		switch {
		case strings.HasPrefix(rest, "{{{{"):
			end := strings.Index(rest, "}}}}")
			if end < 0 {
				syntaxError(line, "unexpected end of input in raw block")
			}
			name, _, _ := strings.Cut(strings.TrimSpace(rest[4:end]), " ")
			stop := "{{{{/" + name + "}}}}"
			close := strings.Index(rest[end:], stop)
			if close < 0 {
				syntaxError(line, "unexpected end of input, expected %s", stop)
			}
			tag.kind, tag.text = 'r', rest[4:end]
			tags = append(tags, tag, hbTag{text: rest[end+4 : end+close], kind: 'R', line: line})
			n := end + close + len(stop)
			line += strings.Count(rest[:n], "\n")
			pos, start = i+n, i+n
			continue
		case strings.HasPrefix(rest, "{{!--"), strings.HasPrefix(rest, "{{~!--"):
			shut = "--}}"
			if end := strings.Index(rest, shut); end < 0 || strings.Contains(rest[:end], "--~}}") {
				shut = "--~}}"
			}
		case strings.HasPrefix(rest, "{{{"), strings.HasPrefix(rest, "{{~{"):
			shut = "}}}"
			if end := strings.Index(rest, "}}}"); end < 0 || strings.Contains(rest[:end+3], "}~}}") {
				shut = "}~}}"
			}
		}
		end := hbEnd(rest, shut)
		if end < 0 {
			syntaxError(line, "unexpected end of input, expected %s", shut)
		}
		body = rest[2:end]
		n := end + len(shut)
		body, tag.trimLeft = strings.CutPrefix(body, "~")
		tag.trimRight = strings.Contains(shut, "~")
		if shut == "}}" {
			body, tag.trimRight = strings.CutSuffix(body, "~")
		}
		body = strings.TrimLeft(body, " \t\r\n")
		switch {
		case strings.HasPrefix(body, "!"):
			tag.kind, tag.standalone = '!', true
		case strings.HasPrefix(body, "#*inline"):
			tag.kind, tag.standalone, body = '*', true, body[8:]
		case strings.HasPrefix(body, "#>"):
			tag.kind, tag.standalone, body = '+', true, body[2:]
		case strings.HasPrefix(body, "#"), strings.HasPrefix(body, "^"), strings.HasPrefix(body, "/"), strings.HasPrefix(body, ">"):
			tag.kind, tag.standalone, body = body[0], true, body[1:]
		case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "&"):
			tag.kind, body = '&', body[1:]
		case body == "else" || strings.HasPrefix(body, "else ") || strings.HasPrefix(body, "else\n"):
			tag.standalone = true
		}
		tag.text = strings.TrimSpace(body)
		tags = append(tags, tag)
		line += strings.Count(rest[:n], "\n")
		pos, start = i+n, i+n
	}
}

// hbEnd finds where the tag ends, not within a string.
func hbEnd(s, shut string) int {
	if strings.HasPrefix(shut, "--") {
		return strings.Index(s, shut)
	}
	quote := byte(0)
	for i := 2; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case strings.HasPrefix(s[i:], shut):
			return i
		case c == '"' || c == '\'':
			quote = c
		}
	}
	return strings.Index(s, shut) // an apostrophe, in a comment for example
}

// hbStrip takes white space away where ~ asks for it, and lines that hold nothing but a block tag.
func hbStrip(tags []hbTag) []hbTag {
	for i, t := range tags {
		if t.kind == 0 || !t.standalone {
			continue
		}
		before, after := "\n", "\n"
		if i > 0 {
			if before = tags[i-1].text; tags[i-1].kind != 0 {
				continue
			}
		}
		if i+1 < len(tags) {
			if after = tags[i+1].text; tags[i+1].kind != 0 {
				continue
			}
		}
		head := before[strings.LastIndexByte(before, '\n')+1:]
		tail, _, lineEnds := strings.Cut(after, "\n")
		if strings.TrimSpace(head) != "" || strings.TrimSpace(tail) != "" || head == before && i > 1 || !lineEnds && i+2 < len(tags) {
			continue
		}
		if i > 0 {
			tags[i-1].text = before[:len(before)-len(head)]
		}
		if i+1 < len(tags) && lineEnds {
			tags[i+1].text = after[len(tail)+1:]
		}
	}
	for i, t := range tags {
		if t.kind == 0 {
			continue
		}
		if t.trimLeft && i > 0 && tags[i-1].kind == 0 {
			tags[i-1].text = strings.TrimRight(tags[i-1].text, " \t\r\n")
		}
		if t.trimRight && i+1 < len(tags) && tags[i+1].kind == 0 {
			tags[i+1].text = strings.TrimLeft(tags[i+1].text, " \t\r\n")
		}
	}
	return tags
}

type hbParser struct {
	tags  []hbTag
	pos   int
	depth int
}

// body reads up to an else or a closing tag, which it returns.
func (p *hbParser) body() (sequence, *hbTag) {
	if p.depth++; p.depth > maxDepth {
		syntaxError(p.tags[p.pos-1].line, "template exceeds maximum recursion limits")
	}
	defer func() { p.depth-- }()
	var s sequence
	for p.pos < len(p.tags) {
		t := &p.tags[p.pos]
		p.pos++
		switch t.kind {
		case 0:
			if t.text != "" {
				s = append(s, data(t.text))
			}
		case '!':
		case '/':
			return s, t
		case '=', '&':
			if t.text == "else" || strings.HasPrefix(t.text, "else ") {
				return s, t
			}
			x := &hbScanner{src: t.text, line: t.line}
			s = append(s, &hbOutput{x.all(), t.kind == '&'})
		case '#', '^':
			if t.kind == '^' && t.text == "" {
				return s, t
			}
			s = append(s, p.block(t, t.text))
		case 'r':
			x := &hbScanner{src: t.text, line: t.line}
			s = append(s, &hbBlock{expr: x.all(), body: sequence{data(p.tags[p.pos].text)}, rawText: true})
			p.pos++
		case '*':
			x := &hbScanner{src: t.text, line: t.line}
			name, _ := x.expr().literal.(string)
			body, end := p.body()
			p.closed(t, end, "inline")
			s = append(s, &hbInline{name, body})
		case '>', '+':
			s = append(s, p.partial(t))
		}
	}
	return s, nil
}

func (p *hbParser) closed(open, end *hbTag, name string) {
	switch {
	case end == nil:
		syntaxError(open.line, "unexpected end of input, expected {{/%s}}", name)
	case end.kind != '/' || end.text != name:
		syntaxError(end.line, "unexpected {{%s}}, expected {{/%s}}", end.text, name)
	}
}

// block reads the block that begins with t; text is its expression, which in an else chain is not all of the tag.
func (p *hbParser) block(t *hbTag, text string) *hbBlock {
	b := &hbBlock{inverse: t.kind == '^'}
	if head, names, ok := strings.Cut(text, " as |"); ok {
		if names, ok = strings.CutSuffix(names, "|"); !ok {
			syntaxError(t.line, "unexpected end of block parameters")
		}
		b.params, text = strings.Fields(names), head
	}
	x := &hbScanner{src: text, line: t.line}
	b.expr = x.all()
	name := ""
	if b.expr.path != nil {
		name = b.expr.path.text
	}
	var end *hbTag
	if b.body, end = p.body(); end != nil && end.kind != '/' {
		if chain, ok := strings.CutPrefix(end.text, "else "); ok {
			inner := p.block(end, strings.TrimSpace(chain))
			b.otherwise = sequence{inner}
			// The chain has one closing tag, of the first block, which the innermost has found.
			end = &p.tags[p.pos-1]
		} else {
			b.otherwise, end = p.body()
		}
	}
	if t.kind == '=' { // a link of a chain
		if end == nil || end.kind != '/' {
			syntaxError(t.line, "unexpected end of {{%s}}", t.text)
		}
		return b
	}
	p.closed(t, end, name)
	return b
}

func (p *hbParser) partial(t *hbTag) node {
	x := &hbScanner{src: t.text, line: t.line}
	e := x.all()
	n := &hbPartial{line: t.line, hash: e.hash}
	switch {
	case e.path != nil:
		n.name = e.path.text
	default:
		n.name, _ = e.literal.(string)
	}
	if len(e.params) > 0 {
		n.context = &e.params[0]
	}
	if t.kind == '+' {
		var end *hbTag
		n.fallback, end = p.body()
		p.closed(t, end, n.name)
	}
	return n
}

// hbScanner reads expressions.
type hbScanner struct {
	src   string
	line  int
	depth int
}

func (x *hbScanner) space() { x.src = strings.TrimLeft(x.src, " \t\r\n") }

func (x *hbScanner) fail() { syntaxError(x.line, "unexpected `%s` in expression", cut(x.src, 40)) }

// all reads a helper with its parameters, or a value, up to the end.
func (x *hbScanner) all() hbExpr {
	e := x.invocation()
	if x.space(); x.src != "" {
		x.fail()
	}
	return e
}

// invocation reads an expression and what follows it, up to the end or a closing parenthesis.
func (x *hbScanner) invocation() hbExpr {
	e := x.expr()
	for {
		x.space()
		if x.src == "" || x.src[0] == ')' {
			return e
		}
		if n := hashName(x.src); n > 0 {
			name := x.src[:n]
			x.src = x.src[n+1:]
			e.hash = append(e.hash, hbHash{name, x.expr()})
			e.call = true
			continue
		}
		if len(e.hash) > 0 {
			x.fail()
		}
		e.params = append(e.params, x.expr())
		e.call = true
	}
}

// hashName is the length of the name before an =.
func hashName(s string) int {
	n := 0
	for n < len(s) && strings.IndexByte(" \t\r\n=()\"'|", s[n]) < 0 {
		n++
	}
	if n == 0 || n >= len(s) || s[n] != '=' {
		return 0
	}
	return n
}

func (x *hbScanner) expr() hbExpr {
	x.space()
	if x.src == "" {
		syntaxError(x.line, "unexpected end of expression")
	}
	switch c := x.src[0]; c {
	case '(':
		if x.depth++; x.depth > maxDepth {
			syntaxError(x.line, "template exceeds maximum recursion limits")
		}
		x.src = x.src[1:]
		e := x.invocation()
		e.call = true
		if x.space(); !strings.HasPrefix(x.src, ")") || e.path == nil {
			x.fail()
		}
		x.src = x.src[1:]
		x.depth--
		return e
	case '"', '\'':
		var b strings.Builder
		for i := 1; i < len(x.src); i++ {
			switch d := x.src[i]; {
			case d == c:
				x.src = x.src[i+1:]
				return hbExpr{literal: b.String(), line: x.line}
			case d == '\\' && i+1 < len(x.src) && (x.src[i+1] == c || x.src[i+1] == '\\'):
				i++
				b.WriteByte(x.src[i])
			default:
				b.WriteByte(d)
			}
		}
		syntaxError(x.line, "unexpected end of string")
	}
	n := 0
	for n < len(x.src) && strings.IndexByte(" \t\r\n()=|\"'", x.src[n]) < 0 {
		if x.src[n] == '[' {
			end := strings.IndexByte(x.src[n:], ']')
			if end < 0 {
				x.fail()
			}
			n += end
		}
		n++
	}
	if n == 0 {
		x.fail()
	}
	word := x.src[:n]
	x.src = x.src[n:]
	switch word {
	case "true":
		return hbExpr{literal: true, line: x.line}
	case "false":
		return hbExpr{literal: false, line: x.line}
	case "null":
		return hbExpr{literal: nil, line: x.line}
	}
	if i, err := strconv.ParseInt(word, 10, 64); err == nil {
		return hbExpr{literal: i, line: x.line}
	}
	if c := word[0]; c == '-' || '0' <= c && c <= '9' {
		if f, err := strconv.ParseFloat(word, 64); err == nil {
			return hbExpr{literal: f, line: x.line}
		}
	}
	return hbExpr{path: x.path(word), line: x.line}
}

func (x *hbScanner) path(word string) *hbPath {
	p := &hbPath{text: word}
	rest := word
	for {
		after, ok := strings.CutPrefix(rest, "../")
		if !ok {
			break
		}
		p.up++
		rest = after
	}
	if rest == ".." {
		p.up++
		p.this = true
		return p
	}
	rest, p.data = strings.CutPrefix(rest, "@")
	if p.up > 0 && !p.data {
		p.this = true
	}
	if !p.data {
		if rest == "this" || rest == "." {
			p.this = true
			return p
		}
		for _, prefix := range []string{"this.", "this/", "./"} {
			if after, ok := strings.CutPrefix(rest, prefix); ok {
				rest, p.this = after, true
			}
		}
	}
	for rest != "" {
		var part string
		if rest[0] == '[' {
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				syntaxError(x.line, "unexpected end of segment in %s", word)
			}
			part, rest = rest[1:end], rest[end+1:]
			if rest != "" && rest[0] != '.' && rest[0] != '/' && rest[0] != '[' {
				syntaxError(x.line, "invalid path %s", word)
			}
			rest = strings.TrimPrefix(strings.TrimPrefix(rest, "."), "/")
		} else {
			end := strings.IndexAny(rest, "./[")
			if end < 0 {
				end = len(rest)
			}
			part = rest[:end]
			if rest = rest[end:]; rest != "" && rest[0] != '[' {
				if rest = rest[1:]; rest == "" {
					syntaxError(x.line, "invalid path %s", word)
				}
			}
			if part == "" || strings.ContainsAny(part, "{}&#^|!;,<>~`") {
				syntaxError(x.line, "invalid path %s", word)
			}
		}
		p.parts = append(p.parts, part)
	}
	if len(p.parts) == 0 {
		syntaxError(x.line, "invalid path %s", word)
	}
	return p
}
