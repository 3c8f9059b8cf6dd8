package template_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit/queue/httpapi/template"
)

type vars = map[string]any

func list(v ...any) []any { return v }

var world = vars{
	"name": "Jane Doe", "html": "<b>&'/\"", "n": int64(3), "f": 1.5, "yes": true, "none": nil, "empty": "", "when": int64(1700000000),
	"items": list("b", "a", "c"), "nums": list(int64(3), int64(1), int64(2)),
	"user":  vars{"name": "Jo", "tags": list("x", "y"), "address": vars{"city": "Wien"}},
	"users": list(vars{"name": "Ann", "age": int64(30), "on": true}, vars{"name": "bob", "age": int64(25), "on": false}, vars{"name": "Cid", "age": int64(30), "on": true}),
	"map":   vars{"b": int64(1), "a": int64(2)},
	"hash":  uint64(1<<64 - 1), "hash2": uint64(1<<64 - 2),
	"tree": list(vars{"t": "1", "kids": list(vars{"t": "1.1", "kids": list()})}, vars{"t": "2", "kids": list()}),
}

var limits = template.Limits{Now: func() time.Time { return time.Unix(1700000000, 0) }}

func render(t *testing.T, d template.Dialect, name, source string) string {
	t.Helper()
	p, err := template.Compile(d, name, source)
	if err != nil {
		return err.Error()
	}
	s, err := p.Render(limits, world)
	if err != nil {
		return err.Error()
	}
	return s
}

func TestJinja(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		// Text and output.
		{"hello", "hello"},
		{"a\r\nb {{ n }}\r\n", "a\r\nb 3"},
		{"line\n", "line"},
		{"{{ name }} {{ n }} {{ f }} {{ 2.0 }} {{ yes }} {{ none }}[{{ missing }}]", "Jane Doe 3 1.5 2.0 true none[]"},
		{"{{ html }}", "<b>&'/\""},
		{"{{ items }} {{ map }} {{ [1, 'a\\n', none, missing] }}", `["b", "a", "c"] {"a": 2, "b": 1} [1, "a\n", none, undefined]`},
		{"a {# comment {{ x }} #} b", "a  b"},
		{"a  {#- c -#}  b", "ab"},
		{"a {{- ' b ' -}} c", "a b c"},
		{"{% raw %}{{ name }}{% endraw %}", "{{ name }}"},
		{"x {%- raw -%} {{ {% {%- endraw -%} y", "x{{ {%y"},
		{"{ {x} }", "{ {x} }"},
		// Expressions.
		{"{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -n }} {{ 1_000 }}", "7 9 3 -4 2 3.5 1024 -3 1000"},
		{"{{ 9223372036854775807 + 1 }} {{ 9223372036854775807 * 2 }}", "9223372036854776000.0 18446744073709552000.0"},
		{"{{ hash }} {{ [hash] }} {{ hash | int }} {{ hash | abs }} {{ hash | round }} {{ hash | tojson }} {{ hash is integer }} {{ hash is number }}", "18446744073709551615 [18446744073709551615] 18446744073709551615 18446744073709551615 18446744073709551615 18446744073709551615 true true"},
		{"{{ hash == hash2 }} {{ hash > hash2 }} {{ n < hash }} {{ hash == n }} {% if hash %}yes{% endif %} {{ hash + 0 }}", "false true true false yes 18446744073709552000.0"},
		{"{{ 'a' ~ 1 ~ none }} {{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ [1] + [2] }}", "a1none ab ababab [1, 2]"},
		{"{{ 1 < 2 }} {{ 'a' == 'a' }} {{ 1 == 1.0 }} {{ n != 3 }} {{ 2 >= 2 }} {{ 1 == true }}", "true true true false true true"},
		{"{{ 'a' in items }} {{ 'z' not in items }} {{ 'an' in name }} {{ 'b' in map }}", "true true true true"},
		{"{{ yes and 'x' }} {{ '' or 'y' }} {{ not yes }} {{ not missing is defined }}", "x y false true"},
		{"{{ 'a' if yes else 'b' }} {{ 'a' if missing }}|{{ 'a' if 0 else 'b' if 0 else 'c' }}", "a |c"},
		{"{{ items[0] }} {{ items[-1] }} {{ items[9] }} {{ user['name'] }} {{ user.address.city }} {{ user.tags.1 }} {{ name[0] }}", "b c  Jo Wien y J"},
		{"{{ items[1:] }} {{ name[:4] }} {{ name[::-1] }} {{ items[::2] }} {{ items[-2:] }}", `["a", "c"] Jane eoD enaJ ["b", "c"] ["a", "c"]`},
		{"{{ {'a': 1, 'b': [1, 2]}.b[1] }} {{ (1, 2) }} {{ () }}", "2 [1, 2] []"},
		{`{{ "a\"b\u00e9" }} {{ 'it\'s' }}`, `a"bé it's`},
		// Filters.
		{"{{ name | upper }} {{ name|lower|title }} {{ 'hello wOrld' | capitalize }} {{ '  x ' | trim }}", "JANE DOE Jane Doe Hello world x"},
		{"{{ missing | default('d') }} {{ '' | default('d', true) }} {{ none | d('x') }}", "d d none"},
		{"{{ items | join(', ') }} {{ users | join('-', attribute='name') }} {{ items | sort | first }} {{ items | last }} {{ items | length }}", "b, a, c Ann-bob-Cid a c 3"},
		{"{{ nums | sort(reverse=true) }} {{ nums | sum }} {{ nums|min }}{{ nums|max }} {{ users | sort(attribute='age') | map(attribute='name') | list }}", `[3, 2, 1] 6 13 ["bob", "Ann", "Cid"]`},
		{"{{ users | selectattr('on') | map(attribute='name') | join }} {{ users | rejectattr('age', 'eq', 30) | map(attribute='name') | join }} {{ nums | select('odd') }} {{ items | map('upper') }}", `AnnCid bob [3, 1] ["B", "A", "C"]`},
		{"{% for g in users | groupby('age') %}{{ g[0] }}:{{ g[1] | map(attribute='name') | join(',') }};{% endfor %}", "25:bob;30:Ann,Cid;"},
		{"{{ [1, 2, 3] | batch(2, 'x') }} {{ [1,2,3] | slice(2) }} {{ ['a', 'A', 'b'] | unique }} {{ 'abc' | reverse }}", `[[1, 2], [3, "x"]] [[1, 2], [3]] ["a", "b"] cba`},
		{"{{ map | items }} {{ map | dictsort(by='value') }} {{ map | tojson }} {{ '<x>' | tojson }}", `[["a", 2], ["b", 1]] [["b", 1], ["a", 2]] {"a":2,"b":1} "\u003cx\u003e"`},
		{"{{ 'a b&c/d' | urlencode }} {{ map | urlencode }} {{ 'a,b' | replace(',', ';') }} {{ 3.456 | round(1) }} {{ '12' | int + 1 }} {{ '1.5' | float }} {{ -3 | abs }}", "a%20b%26c/d a=2&b=1 a;b 3.5 13 1.5 3"},
		{"{{ 'a\nb' | indent(2) }} {{ 'a b c' | wordcount }} {{ 'hello big world' | truncate(9, leeway=0) }} {{ '<p>a</p> b' | striptags }}", "a\n  b 3 hello... a b"},
		{"{{ n }} item{{ n | pluralize }} {{ 1 }} cit{{ 1 | pluralize('y', 'ies') }} {{ 1500 | filesizeformat }}", "3 items 1 city 1.5 kB"},
		{"{{ when | datetimeformat }} {{ when | dateformat('full') }} {{ when | timeformat(tz='Europe/Vienna') }} {{ when | datetimeformat('[year]/[month padding:none]') }} {{ now() | datetimeformat('iso') }}",
			"Nov 14 2023 22:13 Tuesday, November 14 2023 23:13 2023/11 2023-11-14T22:13:20Z"},
		{"{{ html | e }} {{ 'a  b c' | split }} {{ 'a-b' | split('-') }} {{ 'a\r\nb' | lines }}", `&lt;b&gt;&amp;&#x27;&#x2f;&quot; ["a", "b", "c"] ["a", "b"] ["a", "b"]`},
		// Tests.
		{"{{ name is defined }} {{ missing is undefined }} {{ none is none }} {{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ name is string }} {{ n is eq 3 }} {{ n is in [3] }} {{ name is not number }} {{ 1 is lt(2) }} {{ user is mapping }}", "true true true true true true true true true true true"},
		// Methods.
		{"{{ name.upper() }} {{ name.split(' ')[0] }} {{ ', '.join(items) }} {{ name.startswith('Ja') }} {{ map.get('z', 'no') }} {{ map.items() | length }} {{ ' x '.strip() }} {{ 'aab'.replace('a', 'x', 1) }} {{ 'abc'.find('c') }} {{ 'a.b.c'.rsplit('.', 1) }}",
			`JANE DOE Jane b, a, c true no 2 x xab 2 ["a.b", "c"]`},
		// Statements.
		{"{% if n > 5 %}a{% elif n == 3 %}b{% else %}c{% endif %}", "b"},
		{"{% for i in items %}{{ loop.index }}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}", "1b,2a,3c"},
		{"{% for i in [] %}x{% else %}none{% endfor %}{% for i in missing %}{% endfor %}", "none"},
		{"{% for k, v in map|items %}{{ k }}={{ v }} {% endfor %}{% for k in map %}{{ k }}{% endfor %}", "a=2 b=1 ab"},
		{"{% for u in users if u.on %}{{ loop.index }}/{{ loop.length }} {{ u.name }} {{ loop.cycle('odd', 'even') }};{% endfor %}", "1/2 Ann odd;2/2 Cid even;"},
		{"{% for t in tree recursive %}{{ t.t }}{% if t.kids %}({{ loop(t.kids) }}){% endif %} {% endfor %}", "1(1.1 ) 2 "},
		{"{% for i in [1,1,2] %}{% if loop.changed(i) %}{{ i }}{% endif %}{{ loop.revindex }}{{ loop.previtem }}{% endfor %}", "1321211"},
		{"{% set x = 1 %}{% for i in [1,2] %}{% set x = i %}{% endfor %}{{ x }}{% set a, b = [1, 2] %}{{ a + b }}", "13"},
		{"{% set ns = namespace(c=0) %}{% for i in nums %}{% set ns.c = ns.c + i %}{% endfor %}{{ ns.c }}", "6"},
		{"{% set x %}<{{ name }}>{% endset %}{{ x }}{% set y | upper %}a{% endset %}{{ y }}", "<Jane Doe>A"},
		{"{% with a = 1, b = a + 1 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "12"},
		{"{% filter upper | trim %} x{{ n }} {% endfilter %}", "X3"},
		{"{% macro hi(who, mark='!') %}hi {{ who }}{{ mark }}{{ name }}{% endmacro %}{{ hi('x') }} {{ hi('y', mark='?') }} {{ hi(who='z') }}", "hi x!Jane Doe hi y?Jane Doe hi z!Jane Doe"},
		{"{% macro f(n) %}{% if n %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "321"},
		{"{% set v = 1 %}{% macro m() %}{{ v }}{{ w }}{% endmacro %}{% set w = 2 %}{{ m() }}", "1"},
		{"{% set j = joiner(';') %}{% for i in items %}{{ j() }}{{ i }}{% endfor %} {% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "b;a;c 121"},
		{"{% do map.get('a') %}{{ range(3) }} {{ range(1, 4) }} {{ range(5, 0, -2) }} {{ dict(a=1) }}", "[0, 1, 2] [1, 2, 3] [5, 3, 1] {\"a\": 1}"},
		{"{% autoescape true %}{{ html }}{{ html|safe }}{% endautoescape %}{{ html }}", "&lt;b&gt;&amp;&#x27;&#x2f;&quot;<b>&'/\"<b>&'/\""},
		// Errors.
		{"a\n{% if x %}", "syntax error: unexpected end of input, expected end of block (in template 'content' line 2: '{% if x %}')"},
		{"{{ }}", "syntax error: unexpected end of block, expected expression (in template 'content' line 1: '{{ }}')"},
		{"{{ a", "syntax error: unexpected end of input, expected end of variable block (in template 'content' line 1: '{{ a')"},
		{"{% include 'x' %}", "syntax error: unknown statement include (in template 'content' line 1: '{% include 'x' %}')"},
		{"x\n{{ missing.x }}", "undefined value: cannot get the attribute x of an undefined value (in template 'content' line 2: '{{ missing.x }}')"},
		{"{{ n | nope }}", "unknown filter: filter nope is unknown (in template 'content' line 1: '{{ n | nope }}')"},
		{"{{ nope() }}", "unknown function: nope is unknown (in template 'content' line 1: '{{ nope() }}')"},
		{"{{ 1 + 'a' }}", "invalid operation: tried to use + operator on unsupported types number and string (in template 'content' line 1: '{{ 1 + 'a' }}')"},
		{"{{ 1 // 0 }}", "invalid operation: unable to divide by zero (in template 'content' line 1: '{{ 1 // 0 }}')"},
		{"{% for a, b in items %}{% endfor %}", "cannot unpack: string to 2 variables (in template 'content' line 1: '{% for a, b in items %}{% endfor %}')"},
	} {
		if got := render(t, template.Jinja, "content", c.in); got != c.want {
			t.Errorf("%s\ngot  %q\nwant %q", c.in, got, c.want)
		}
	}
}

func TestEscaping(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect        template.Dialect
		name, in, want string
	}{
		{template.Jinja, "html_body.html", "<p>{{ html }} {{ n }} {{ html|safe }} {{ [html] }}", `<p>&lt;b&gt;&amp;&#x27;&#x2f;&quot; 3 <b>&'/" [&quot;&lt;b&gt;&amp;&#x27;&#x2f;\&quot;&quot;]`},
		{template.Jinja, "html_body.html", "{% macro m() %}<i>{{ html }}</i>{% endmacro %}{{ m() }}{% set x %}<u>{% endset %}{{ x }}", "<i>&lt;b&gt;&amp;&#x27;&#x2f;&quot;</i><u>"},
		{template.Jinja, "text_body.txt", "{{ html }}", `<b>&'/"`},
		{template.Handlebars, "html_body.html", "{{html}} {{{html}}} {{&html}}", `&lt;b&gt;&amp;&#x27;/&quot; <b>&'/" <b>&'/"`},
		{template.Handlebars, "text_body.txt", "{{html}}", `<b>&'/"`},
		{template.Static, "html_body.html", "{{ html }} {% if %}", "{{ html }} {% if %}"},
	} {
		if got := render(t, c.dialect, c.name, c.in); got != c.want {
			t.Errorf("%s %s %s\ngot  %q\nwant %q", c.dialect, c.name, c.in, got, c.want)
		}
	}
}

func TestHandlebars(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"hello", "hello"},
		{"Hi {{name}}, {{ user.name }} {{user/address/city}} {{user.tags.[1]}} {{missing}}{{missing.x}}|{{n}} {{f}} {{yes}} {{none}}", "Hi Jane Doe, Jo Wien y |3 1.5 true "},
		{"a\r\n{{name}}\r\n", "a\r\nJane Doe\r\n"},
		{"{{! c }}a{{!-- }} --}}b", "ab"},
		{"a {{~n~}} b", "a3b"},
		{"{{#if yes}}A{{else}}B{{/if}}{{#if empty}}A{{else}}B{{/if}}{{#unless none}}C{{/unless}}{{^if yes}}x{{else}}D{{/if}}", "ABCD"},
		{"{{#if empty}}a{{else if none}}b{{else if yes}}c{{else}}d{{/if}}", "c"},
		{"{{#each items}}{{@index}}{{this}}{{#unless @last}},{{/unless}}{{/each}}", "0b,1a,2c"},
		{"{{#each map}}{{@key}}={{this}};{{/each}}{{#each missing}}x{{else}}none{{/each}}", "a=2;b=1;none"},
		{"{{#each users}}{{name}} {{../n}} {{n}};{{/each}}", "Ann 3 3;bob 3 3;Cid 3 3;"},
		{"{{#each users as |u i|}}{{i}}{{u.name}}{{/each}}", "0Ann1bob2Cid"},
		{"{{#with user}}{{name}} {{#with address}}{{city}}{{../name}}{{/with}}{{/with}}{{#with missing}}x{{else}}y{{/with}}", "Jo WienJoy"},
		{"{{#user}}{{name}}{{/user}}{{#items}}{{.}}{{/items}}{{^missing}}none{{/missing}}{{#yes}}{{name}}{{/yes}}", "Jobacnone" + "Jane Doe"},
		{"{{lookup map 'a'}} {{lookup items 1}} {{#if (eq n 3)}}three{{/if}} {{#if (and yes (not none))}}ok{{/if}} {{len items}} {{gt 2 1}}", "2 a three ok 3 true"},
		{"{{#if 0}}a{{else}}b{{/if}}{{#if 0 includeZero=true}}a{{/if}}", "ba"},
		{"{{{{raw}}}}{{name}}{{{{/raw}}}}", "{{name}}"},
		{`\{{name}} {{name}}`, "{{name}} Jane Doe"},
		{"{{#*inline \"p\"}}[{{x}}{{name}}]{{/inline}}{{> p x=1}}{{#with user}}{{> p}}{{/with}}", "[1Jane Doe][Jo]"},
		{"{{#> lay}}body{{/lay}}{{#*inline \"l2\"}}<{{> @partial-block}}>{{/inline}}{{#> l2}}in{{/l2}}", "body<in>"},
		{"a\n{{#if yes}}\nb\n{{/if}}\nc\n", "a\nb\nc\n"},
		{"  {{#each items}}\n  - {{this}}\n  {{/each}}\nend", "  - b\n  - a\n  - c\nend"},
		{"{{items}} {{user}}", "[b, a, c] [object]"},
		{"{{#each users}}{{#if on}}{{name}}{{/if}}{{/each}}{{@root.name}}", "AnnCidJane Doe"},
		{"{{#if x}}", "syntax error: unexpected end of input, expected {{/if}} (in template 'content' line 1: '{{#if x}}')"},
		{"a\n{{#if x}}{{/each}}", "syntax error: unexpected {{each}}, expected {{/if}} (in template 'content' line 2: '{{#if x}}{{/each}}')"},
		{"{{name", "syntax error: unexpected end of input, expected }} (in template 'content' line 1: '{{name')"},
		{"{{nope 1}}", "helper not found: nope (in template 'content' line 1: '{{nope 1}}')"},
		{"{{> nope}}", "partial not found: nope (in template 'content' line 1: '{{> nope}}')"},
	} {
		if got := render(t, template.Handlebars, "content", c.in); got != c.want {
			t.Errorf("%s\ngot  %q\nwant %q", c.in, got, c.want)
		}
	}
}

// No template runs for long or takes much memory.
func TestBombs(t *testing.T) {
	t.Parallel()
	small := template.Limits{Steps: 200_000, Memory: 1 << 20, Output: 1 << 20}
	for _, c := range []struct {
		name    string
		dialect template.Dialect
		in      string
	}{
		{"nested loops", template.Jinja, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"},
		{"repeat", template.Jinja, "{{ 'x' * 1000000000000 }}"},
		{"repeat of nothing", template.Jinja, "{{ [] * 9223372036854775807 }}{{ '' * 9223372036854775807 }}"},
		{"doubling", template.Jinja, "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"},
		{"doubling by replace", template.Jinja, "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}"},
		{"doubling by join", template.Jinja, "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}"},
		{"doubling lists", template.Jinja, "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}"},
		{"comparing lists", template.Jinja, "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(90) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}"},
		{"cycle", template.Jinja, "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}{{ ns | tojson }}"},
		{"recursion", template.Jinja, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"},
		{"wide recursion", template.Jinja, "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}"},
		{"output", template.Jinja, "{% for i in range(99999) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}"},
		{"captured output", template.Jinja, "{% set x %}{% for i in range(99999) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endset %}"},
		{"indent", template.Jinja, "{{ ('a\n' * 1000) | indent(1000) | indent(1000) }}"},
		{"slow method", template.Jinja, "{% set s = 'a' * 900000 %}{% for i in range(99999) %}{% do s.count('b') %}{% endfor %}"},
		{"sorting", template.Jinja, "{% for i in range(999) %}{% do range(999) | sort %}{% endfor %}"},
		{"recursive loop", template.Jinja, "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}"},
		{"columns", template.Jinja, "{{ [] | slice(1000000000) }}{{ [1] | batch(1000000000, 'x') }}"},
		{"each", template.Handlebars, "{{#each big}}{{#each @root.big}}{{#each @root.big}}{{/each}}{{/each}}{{/each}}"},
		{"partial", template.Handlebars, "{{#*inline \"p\"}}{{> p}}{{/inline}}{{> p}}"},
	} {
		p, err := template.Compile(c.dialect, "content", c.in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		_, err = p.Render(small, vars{"big": make([]any, 500)})
		if !errors.Is(err, template.ErrLimit) && c.name != "repeat of nothing" {
			t.Errorf("%s: %v, want ErrLimit", c.name, err)
		}
	}
	for _, in := range []string{strings.Repeat("(", 1000), strings.Repeat("[", 1000), strings.Repeat("-", 1000) + "1", strings.Repeat("not ", 1000) + "1", "1" + strings.Repeat(" if 1 else 1", 1000), "1" + strings.Repeat("+1", 10_000)} {
		if _, err := template.Compile(template.Jinja, "content", "{{ "+in+" }}"); err == nil {
			t.Errorf("%.20s… was compiled", in)
		}
	}
	for _, in := range []string{strings.Repeat("{% if 1 %}", 1000) + strings.Repeat("{% endif %}", 1000)} {
		if _, err := template.Compile(template.Jinja, "content", in); err == nil {
			t.Errorf("%.20s… was compiled", in)
		}
	}
	if _, err := template.Compile(template.Handlebars, "content", strings.Repeat("{{#if 1}}", 1000)+strings.Repeat("{{/if}}", 1000)); err == nil {
		t.Error("a deep Handlebars template was compiled")
	}
	if _, err := template.Compile(template.Handlebars, "content", "{{a "+strings.Repeat("(b ", 1000)+strings.Repeat(")", 1000)+"}}"); err == nil {
		t.Error("a deep Handlebars expression was compiled")
	}
}

// What is inserted into the header of a message stays on its line.
func TestCompileMessage(t *testing.T) {
	t.Parallel()
	vars := map[string]any{"evil": "x\r\ny\nz\r", "blank": "", "l": []any{"a\nb"}}
	for _, c := range []struct {
		dialect            template.Dialect
		name, source, want string
	}{
		{template.Jinja, "header and body", "A: {{ evil }}\r\nB: {{ evil }}\r\n\r\n{{ evil }}", "A: x y z \r\nB: x y z \r\n\r\nx\r\ny\nz\r"},
		{template.Jinja, "bare line feeds", "A: {{ evil }}\n\n{{ evil }}", "A: x y z \n\nx\r\ny\nz\r"},
		{template.Jinja, "an empty line of two pieces", "A: b\n{{ blank }}\n{{ evil }}", "A: b\n\nx\r\ny\nz\r"},
		{template.Jinja, "no empty line", "A: b\r\n{{ evil }}\r\n", "A: b\r\nx y z "},
		{template.Jinja, "filters and macros", "{% macro m() %}1\n2{% endmacro %}A: {{ m() }}{{ evil | upper | safe }}\n{% for i in l %}{{ i }}{% endfor %}\n\n{{ m() }}", "A: 1 2X Y Z \na b\n\n1\n2"},
		{template.Handlebars, "header and body", "A: {{{evil}}}\r\nB: {{evil}}{{#each l}}{{this}}{{/each}}\r\n\r\n{{{evil}}}", "A: x y z \r\nB: x y z a b\r\n\r\nx\r\ny\nz\r"},
		{template.Static, "static", "A: {{ evil }}\n\nb\n", "A: {{ evil }}\n\nb\n"},
	} {
		m, err := template.CompileMessage(c.dialect, "content", c.source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.Render(template.Limits{}, vars); got != c.want || err != nil {
			t.Errorf("%v, %s: %q %v, want %q", c.dialect, c.name, got, err, c.want)
		}
	}
	if _, err := template.CompileMessage(template.Jinja, "content", "{{"); err == nil {
		t.Error("a template that is none was taken")
	}
}

func TestLookupOrder(t *testing.T) {
	t.Parallel()
	for _, d := range []template.Dialect{template.Jinja, template.Handlebars} {
		p, err := template.Compile(d, "content", "{{a}}{{b}}{{c}}")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Render(limits, vars{"a": "1"}, vars{"a": "x", "b": "2"}, vars{"b": "x", "c": "3"}); got != "123" || err != nil {
			t.Errorf("%s: %q, %v", d, got, err)
		}
	}
}

func TestDialectNames(t *testing.T) {
	t.Parallel()
	for _, d := range []template.Dialect{template.Jinja, template.Static, template.Handlebars} {
		if got, ok := template.ParseDialect(d.String()); got != d || !ok {
			t.Errorf("ParseDialect(%s) = %v, %v", d, got, ok)
		}
	}
	if _, ok := template.ParseDialect("jinja"); ok {
		t.Error("jinja is a dialect")
	}
}

func fuzz(f *testing.F, d template.Dialect) {
	f.Fuzz(func(t *testing.T, source string) {
		p, err := template.Compile(d, "x.html", source)
		if err != nil {
			if !errors.As(err, new(*template.Error)) {
				t.Fatalf("%T", err)
			}
			return
		}
		l := template.Limits{Steps: 20_000, Memory: 1 << 18, Output: 1 << 16, Now: limits.Now}
		got, err := p.Render(l, world)
		if err != nil {
			if got != "" || !errors.As(err, new(*template.Error)) {
				t.Fatalf("%q, %T", got, err)
			}
			return
		}
		if !strings.Contains(source, "random") {
			if again, err := p.Render(l, world); again != got || err != nil {
				t.Fatalf("%q, then %q, %v", got, again, err)
			}
		}
		if !strings.Contains(source, "{") && strings.TrimRight(got, "\r\n") != strings.TrimRight(source, "\r\n") {
			t.Fatalf("%q became %q", source, got)
		}
	})
}

func FuzzJinja(f *testing.F) {
	for _, s := range []string{
		"{% for i in items if i %}{{ loop.index ~ i|upper }}{% else %}x{% endfor %}", "{% macro m(a, b=1) %}{{ a }}{% endmacro %}{{ m(1, b=2)[1:] }}",
		"{%- set x = {'a': [1, 2.5e3, 'b']} -%}{{ x.a[0] is defined and not x or (1 if 2 else 3) }}{# c #}{% raw %}{{{% endraw %}", "{{ users | groupby('age') | map('first') | sort(reverse=true) | join(', ') }}",
		"{% set ns = namespace(a=1) %}{% set ns.a = ns.a ** 2 // 3 %}{% filter upper %}{% with q = 1 %}{{ q }}{% endwith %}{% endfilter %}", "{{ when|datetimeformat('[year]') }}{{ name.split()[0].lower() }}",
	} {
		f.Add(s)
	}
	fuzz(f, template.Jinja)
}

func FuzzHandlebars(f *testing.F) {
	for _, s := range []string{
		"{{#each users as |u i|}}{{i}} {{u.name}} {{../name}} {{@root.n}}{{else}}x{{/each}}", "{{#if (eq n 3)}}a{{else if b}}c{{~^~}}{{/if}}", "{{{{raw}}}} {{x}} {{{{/raw}}}} \\{{a}} {{!-- c --}}",
		"{{#*inline \"p\"}}{{x}}{{/inline}}{{> p user x=\"1\"}}{{#> q}}f{{/q}}", "{{user.[name]}} {{lookup map 'a'}} {{{html}}}",
	} {
		f.Add(s)
	}
	fuzz(f, template.Handlebars)
}

func ExampleCompile() {
	t, err := template.Compile(template.Jinja, "text_body.txt", "Hello {{ name }},{% for i in items %} {{ i | upper }}{% endfor %}")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(t.Render(template.Limits{}, map[string]any{"name": "Jane", "items": []any{"a", "b"}}))
	_, err = template.Compile(template.Jinja, "text_body.txt", "Hello {{ name")
	fmt.Println(err)
	// Output:
	// Hello Jane, A B <nil>
	// syntax error: unexpected end of input, expected end of variable block (in template 'text_body.txt' line 1: 'Hello {{ name')
}

func BenchmarkRender(b *testing.B) {
	for _, c := range []struct {
		name    string
		dialect template.Dialect
		in      string
	}{
		{"jinja", template.Jinja, strings.Repeat("Hello {{ name }}, {% if n > 2 %}you have {{ n }}{% endif %}\n", 10)},
		{"handlebars", template.Handlebars, strings.Repeat("Hello {{name}}, {{#if n}}you have {{n}}{{/if}}\n", 10)},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, err := template.Compile(c.dialect, "text_body.txt", c.in)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Render(template.Limits{}, world); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
