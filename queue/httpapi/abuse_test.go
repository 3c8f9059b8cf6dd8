package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mtakit/mtakit/queue/httpapi"
)

// malformed are bodies that are no request for any endpoint, with the statuses that say so.
var malformed = []struct {
	name, body string
	status     []int
}{
	{"nothing", "", []int{400}},
	{"white space", " \n\t", []int{400}},
	{"half an object", `{"reason":`, []int{400, 422}},
	{"half a string", `{"reason":"x`, []int{400, 422}},
	{"two values", `{}{}`, []int{400, 422}},
	{"a comment", `{/* */}`, []int{400}},
	{"a trailing comma", `{"reason":"x",}`, []int{400, 422}},
	{"a byte order mark", "\ufeff{}", []int{400}},
	{"NUL", "\x00", []int{400}},
	{"a bare NUL in a string", "{\"reason\":\"\x00\"}", []int{400, 422}},
	{"UTF-16", "{\x00}\x00", []int{400}},
	{"not UTF-8 in a string", "{\"reason\":\"\xff\xfe\"}", []int{400, 422}},
	{"not UTF-8 in a name", "{\"\xc3\x28\":1}", []int{400}},
	{"an overlong form", "{\"reason\":\"\xc0\xaf\"}", []int{400, 422}},
	{"a surrogate in UTF-8", "{\"reason\":\"\xed\xa0\x80\"}", []int{400, 422}},
	{"half a surrogate pair", `{"reason":"\ud800"}`, []int{400, 422}},
	{"a field twice", `{"reason":"x","reason":"y"}`, []int{422}},
	{"a large number", `{"reason":1e999999999}`, []int{422}},
	{"a long number", `{"reason":` + strings.Repeat("9", 100_000) + `}`, []int{422}},
	{"a list", `[]`, []int{422}},
	{"null", `null`, []int{422}},
	{"a deep list", strings.Repeat("[", 200_000), []int{400, 422}},
	{"deep lists as a value", `{"reason":` + strings.Repeat("[", 200_000), []int{400, 422}},
	{"deep objects", strings.Repeat(`{"a":`, 50_000), []int{400, 422}},
	{"a long name", `{"` + strings.Repeat("a", 200_000) + `":1}`, []int{422}},
	{"a form", `reason=x&domain=y`, []int{400}},
	{"too long", `{"reason":"` + strings.Repeat("x", 2<<20) + `"}`, []int{413}},
	{"a document type", `<!DOCTYPE x [<!ENTITY a "b">]>`, []int{400}},
}

// refused checks that a request was refused as it should be: plainly, on one short line.
func refused(t *testing.T, what string, r *http.Response, status ...int) {
	t.Helper()
	got := bodyOf(t, r)
	if !slices.Contains(status, r.StatusCode) || len(got) > 1000 || strings.ContainsAny(got, "\r\n\x00") || got == "" || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%s: %d %.200q (%d bytes), want %v", what, r.StatusCode, got, len(got), status)
	}
}

// Whatever an endpoint is sent in place of a request, it says so and does nothing, whatever the size of it.
func TestMalformed(t *testing.T) {
	var did []string
	api := fullAPI(t, func(c *httpapi.Config) {
		c.SetLogFilter = func(string) error { did = append(did, "log filter"); return nil }
	})
	var endpoints []string
	for _, route := range httpapi.Routes(api) {
		method, path, _ := strings.Cut(route, " ")
		if o, ok := document().operation(method, path); ok && o.RequestBody.Content["application/json"].Schema != nil {
			endpoints = append(endpoints, route)
		}
	}
	if len(endpoints) < 8 {
		t.Fatalf("endpoints are %v", endpoints)
	}
	grown := peakHeap(func() {
		for _, c := range malformed {
			for encoding, body := range map[string]string{"identity": c.body, "gzip": gzipped(c.body), "deflate": deflated(c.body)} {
				for _, route := range endpoints {
					method, path, _ := strings.Cut(route, " ")
					r := do(api, call{method: method, path: path, body: body, header: with(asJSON, "Content-Encoding", encoding)})
					refused(t, route+": "+c.name+" in "+encoding, r, c.status...)
				}
			}
		}
	})
	if len(did) > 0 {
		t.Errorf("it was done: %v", did)
	}
	t.Logf("%d requests: the heap grew by %d MiB", len(endpoints)*len(malformed)*3, grown>>20)
	if grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// A query string that can't be read is refused by all endpoints that have parameters.
func TestMalformedQuery(t *testing.T) {
	t.Parallel()
	api, asked := fullAPI(t, nil), 0
	for path, methods := range document().Paths {
		if o := methods["get"]; slices.ContainsFunc(o.Parameters, func(p parameter) bool { return p.In == "query" }) {
			asked++
			refused(t, path, do(api, call{path: path + "?x=%zz"}), 400)
		}
	}
	if asked < 10 {
		t.Errorf("%d endpoints were asked", asked)
	}
}

// What is small on the wire and large beyond is refused when it exceeds the limit, and takes no memory.
func TestCompressedBombs(t *testing.T) {
	api, o := newAPI(t, nil)
	zeros := strings.Repeat("\x00", 16<<20)
	quoted := `{"envelope_sender":"` + strings.Repeat("x", 16<<20) + `"}`
	for _, c := range []struct {
		name, encoding, body string
		status               int
	}{
		{"zeros in gzip", "gzip", gzipped(zeros), 413},
		{"a string in gzip", "gzip", gzipped(quoted), 413},
		{"zeros in zlib", "deflate", deflated(zeros), 413},
		{"gzip in gzip", "gzip", gzipped(gzipped(zeros)), 400}, // its content is no JSON
		{"many members", "gzip", strings.Repeat(gzipped(strings.Repeat(" ", 64<<10)), 200), 413},
		{"a header without an end", "gzip", "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff" + strings.Repeat("n", 1<<20), 400},
		{"half", "gzip", gzipped(minimal)[:50], 400},
		{"a wrong checksum", "gzip", gzipped(minimal)[:len(gzipped(minimal))-8] + "01234567", 400},
	} {
		grown := peakHeap(func() {
			for range 5 {
				refused(t, c.name, inject(api, c.body, "Content-Encoding", c.encoding), c.status)
			}
		})
		if grown > 24<<20 {
			t.Errorf("%s: the heap grew by %d MiB", c.name, grown>>20)
		}
	}
	if len(o.messages) > 0 {
		t.Errorf("%d messages", len(o.messages))
	}
}

// Templates that would take for ever, or all memory, are the client's fault, and cost no more than the limits.
func TestTemplateBombs(t *testing.T) {
	api, o := newAPI(t, nil)
	deep := func(open, close string, n int) string {
		return strings.Repeat(open, n) + "x" + strings.Repeat(close, n)
	}
	for _, c := range []struct{ name, dialect, template string }{
		{"loops in loops", "Jinja", deep("{% for i in range(100000) %}", "{% endfor %}", 6)},
		{"a long range", "Jinja", "{{ range(1000000000) | list }}"},
		{"doubled again and again", "Jinja", `{% set a = "x" %}` + strings.Repeat("{% set a = a ~ a %}", 60) + "{{ a }}"},
		{"a repeated string", "Jinja", `{{ "x" * 1000000000 }}`},
		{"a macro that calls itself", "Jinja", "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"},
		{"deep brackets", "Jinja", "{{ " + deep("(", ")", 100_000) + " }}"},
		{"deep blocks", "Jinja", deep("{% if true %}", "{% endif %}", 50_000)},
		{"deep lists", "Jinja", "{{ " + deep("[", "]", 100_000) + " }}"},
		{"a power", "Jinja", "{{ 9 ** 9 ** 9 ** 9 }}"},
		{"a long pad", "Jinja", `{{ "%2000000000d" | format(1) }}`},
		{"a filter in a loop", "Jinja", `{% for i in range(1000000) %}{{ "aaaaaaaaaaaaaaaa" | replace("a", "aaaaaaaaaaaaaaaa") }}{% endfor %}`},
		{"half an expression", "Jinja", "{{ name"},
		{"each in each", "Handlebars", deep("{{#each l}}", "{{/each}}", 12)},
		{"deep paths", "Handlebars", "{{" + strings.Repeat("../", 100_000) + "x}}"},
		{"deep helpers", "Handlebars", "{{" + deep("(lookup l ", ")", 50_000) + "}}"},
		{"a partial", "Handlebars", "{{> evil}}"},
		{"half a block", "Handlebars", "{{#each l}}"},
	} {
		for _, content := range []string{`{"subject":"s","text_body":%s}`, `{"subject":%s,"text_body":"x"}`, `%s`} {
			body := `{"envelope_sender":"","recipients":[{"email":"a@b.example"}],"substitutions":{"l":[` + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + `]},` +
				`"template_dialect":"` + c.dialect + `","content":` + fmt.Sprintf(content, quote("Subject: x\n\n"+c.template)) + `}`
			if strings.HasPrefix(content, "{") {
				body = strings.Replace(body, `Subject: x\n\n`, "", 1)
			}
			grown := peakHeap(func() {
				r := inject(api, body)
				got := bodyOf(t, r)
				fine := r.StatusCode == 422 && len(got) < 1000 && !strings.ContainsAny(got, "\r\n")
				if !fine && !(r.StatusCode == 200 && len(o.texts) > 0 && len(o.texts[len(o.texts)-1]) < 1000) { // it was harmless
					t.Errorf("%s in %s: %d %.300q", c.name, content, r.StatusCode, got)
				}
			})
			if grown > 160<<20 { // several times what templates may have
				t.Errorf("%s: the heap grew by %d MiB", c.name, grown>>20)
			}
		}
	}
}

// Every string of a request, and every name, in turn holds what would be a header field of its own. It is refused, or it stays within its field.
func TestHeaderInjectionEverywhere(t *testing.T) {
	t.Parallel()
	const builder = `{"envelope_sender":"s@example.com","recipients":[{"email":"b@example.net","name":"Bee","substitutions":{"v":"sub"},"metadata":{"k":"meta"}}],
		"substitutions":{"w":"sub"},"trace_headers":{"received_header":true,"header_name":"X-Ref","include_meta_names":["extra"]},
		"content":{"from":{"email":"a@example.com","name":"A"},"reply_to":{"email":"r@example.com","name":"R"},"subject":"Hi {{ v }} {{ w }} {{ name }}",
		"headers":{"X-A":"{{ v }}","Cc":"c@example.com","List-Unsubscribe":"<https://example.com/{{ w }}>"},"text_body":"t","html_body":"h","amp_html_body":"p",
		"attachments":[{"data":"d","content_type":"a/b","content_id":"i","file_name":"f"},{"data":"d","content_type":"text/plain; x=y","file_name":"g"}]}}`
	const raw = `{"envelope_sender":"s@example.com","recipients":[{"email":"b@example.net","name":"Bee","substitutions":{"v":"sub"}}],"substitutions":{"w":"sub"},
		"content":"From: {{ v }} <a@example.com>\r\nSubject: Hi {{ w }} {{ name }}\r\n\r\nHi {{ name }} {{ v }} {{ w }}\r\n"}`
	evils := []string{"x\r\nBcc: e@example.com", "x\nBcc: e@example.com", "x\rBcc: e@example.com", "x\r\n Bcc: e@example.com\r\nBcc: e@example.com", "\r\n\r\nBcc: e@example.com",
		"x\x00\r\nBcc: e@example.com", "x\u0085Bcc: e@example.com", "x\u2028Bcc: e@example.com", "Bcc: e@example.com", "=?utf-8?q?=0D=0ABcc:_e@example.com?=", "x\"\r\nBcc: e@example.com", "e@example.com>\r\nRCPT TO:<f@example.com"}
	api, o := newAPI(t, nil)
	tried, sent := 0, 0
	requests := []string{builder, raw}
	for _, r := range []struct{ old, new string }{ // where else a header could begin or end
		{`"From: `, `"\r\nFrom: `}, {`"From: `, `" \r\nFrom: `}, {`"From: `, `"\r\rFrom: `}, {`\r\n`, `\n`}, {`\r\n`, `\r`}, {`\r\n\r\n`, `\r\n \r\nx{{ v }}\r\n\r\n`}, {`\r\n\r\n`, `\r\nno field\r\nX{{ v }}: {{ w }}\r\n\r\n`},
	} {
		requests = append(requests, strings.ReplaceAll(raw, r.old, r.new))
	}
	for i, request := range requests {
		dialects := []string{"Jinja", "Handlebars", "Static"}
		if i >= 2 {
			dialects = dialects[:1]
		}
		for _, dialect := range dialects {
			for n := 0; ; n++ {
				var path string
				for _, evil := range evils {
					var tree map[string]any
					if err := json.Unmarshal([]byte(request), &tree); err != nil {
						t.Fatal(err)
					}
					tree["template_dialect"] = dialect
					if path = replaceNth(tree, n, evil); path == "" {
						break
					}
					if path == ".content" || strings.Contains(path, "_body") || path == ".template_dialect" {
						continue // the message itself
					}
					b, err := json.Marshal(tree)
					if err != nil {
						t.Fatal(err)
					}
					o.messages, o.texts = nil, nil
					r := inject(api, string(b))
					tried++
					what := fmt.Sprintf("%s: %s is %q", dialect, path, evil)
					if got := bodyOf(t, r); r.StatusCode != 200 && (len(o.texts) > 0 || strings.ContainsAny(got, "\r\n")) || r.StatusCode == 500 && path != ".envelope_sender" {
						t.Errorf("%s: %d %q, and %d messages", what, r.StatusCode, got, len(o.texts))
					}
					for i, text := range o.texts {
						sent++
						if m := o.messages[i]; len(m.To) != 1 || strings.ContainsAny(m.To[0]+m.Sender, "\r\n\x00 <>") {
							t.Errorf("%s: from %q to %q", what, m.Sender, m.To)
						}
						head, body, _ := strings.Cut(text, "\r\n\r\n")
						if strings.ContainsAny(strings.ReplaceAll(body, "\r\n", ""), "\r\n\x00") {
							t.Errorf("%s: body %q", what, body)
						}
						if !strings.Contains(head, "\r\nDate:") && !strings.Contains(head, "\r\nMime-Version:") {
							t.Errorf("%s: the header ends early:\n%s", what, text)
						}
						for line := range strings.SplitSeq(head, "\r\n") {
							if strings.ContainsAny(line, "\r\n\x00") || strings.HasPrefix(strings.ToLower(line), "bcc") {
								t.Errorf("%s: line %q", what, line)
							}
						}
					}
				}
				if path == "" {
					break
				}
			}
		}
	}
	t.Logf("%d requests, %d messages", tried, sent)
	if tried < 500 || sent < 100 {
		t.Errorf("%d requests and %d messages are less than it should be", tried, sent)
	}
}

// replaceNth puts s in the place of the nth string or name in a tree and returns where that was; "" if there are fewer.
func replaceNth(tree any, n int, s string) string {
	var walk func(path string, v any) (any, string)
	walk = func(path string, v any) (any, string) {
		switch v := v.(type) {
		case string:
			if n--; n < 0 {
				return s, path
			}
		case []any:
			for i := range v {
				if w, where := walk(fmt.Sprintf("%s[%d]", path, i), v[i]); where != "" {
					v[i] = w
					return v, where
				}
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if n--; n < 0 {
					v[s] = v[k]
					delete(v, k)
					return v, path + " name " + k
				}
				if w, where := walk(path+"."+k, v[k]); where != "" {
					v[k] = w
					return v, where
				}
			}
		}
		return v, ""
	}
	_, where := walk("", tree)
	return where
}

func quote(s string) string { return string(fmt.Appendf(nil, "%q", s)) }
