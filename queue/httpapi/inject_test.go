package httpapi_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/gcra"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/httpapi/template"
	"github.com/mtakit/mtakit/rfc5322"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const minimal = `{"envelope_sender":"noreply@example.com","content":{"from":{"email":"a@example.com","name":"A"},"subject":"Hi {{ name }}","text_body":"Hello {{ name }}"},` +
	`"recipients":[{"email":"b@example.net","name":"Bee","substitutions":{"k":1},"metadata":{"job":"42"}}]}`

const ok1 = `{"success_count":1,"fail_count":0,"failed_recipients":[],"errors":[]}`

func inject(h http.Handler, body string, header ...string) *http.Response {
	return do(h, call{method: "POST", path: "/api/inject/v1", body: body, header: with(asJSON, header...), remote: "127.0.0.1:1234"})
}

func TestInjectMinimal(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, nil)
	r := inject(api, minimal)
	if got := bodyOf(t, r); r.StatusCode != 200 || got != ok1 || r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", r.StatusCode, got)
	}
	want := mtakit.Message{
		ID: o.messages[0].ID, Sender: "noreply@example.com", To: []string{"b@example.net"}, Queue: mtakit.QueueName{Domain: "example.net"},
		Meta: map[string]any{
			"http_auth": "127.0.0.1", "reception_protocol": "HTTP", "received_from": "127.0.0.1", "received_via": "127.0.0.1", "hostname": "http.example",
			"extra": map[string]any{"job": "42"},
		},
	}
	if !reflect.DeepEqual(*o.messages[0], want) || o.modes[0] != mtakit.Durable {
		t.Errorf("got  %+v\nwant %+v", *o.messages[0], want)
	}
	const text = "X-KumoRef: eyJfQF8iOiJcXF8vIiwicmVjaXBpZW50IjoiYkBleGFtcGxlLm5ldCJ9\r\n" +
		"Content-Type: text/plain;\r\n\tcharset=\"us-ascii\"\r\nFrom: A <a@example.com>\r\nSubject: Hi Bee\r\nTo: Bee <b@example.net>\r\nMime-Version: 1.0\r\nDate: Fri, 2 Jan 2026 03:04:05 +0000\r\n" +
		"\r\nHello Bee\r\n"
	if o.texts[0] != text {
		t.Errorf("got\n%s\nwant\n%s", o.texts[0], text)
	}
}

// shapes are requests with what they are answered, from the tables of the reference.
func TestInjectShapes(t *testing.T) {
	t.Parallel()
	content := func(c string) string {
		return `{"envelope_sender":"s@example.com","recipients":[{"email":"b@example.net"}],"content":` + c + `}`
	}
	extra := func(e string) string {
		return `{"envelope_sender":"s@example.com","recipients":[{"email":"b@example.net"}],"content":{"text_body":"x"},` + e + `}`
	}
	const parse, shape = "Failed to parse the request body as JSON: ", "Failed to deserialize the JSON body into the target type: "
	for _, c := range []struct {
		name, body string
		status     int
		want       string // the body, or how it begins
	}{
		{"empty", "", 400, parse},
		{"truncated", `{"envelope_sender":`, 400, parse},
		{"trailing", minimal + "x", 400, parse},
		{"two values", minimal + minimal, 400, parse},
		{"broken string", `{"envelope_sender":"\x"}`, 400, parse},
		{"broken UTF-8", "{\"envelope_sender\":\"\xff\"}", 400, parse},
		{"lone surrogate", `{"envelope_sender":"\ud800"}`, 400, parse},
		{"too deep", `{"substitutions":` + strings.Repeat(`{"a":`, 200), 422, shape},
		{"null", "null", 422, shape + "invalid type: null, expected struct InjectV1Request"},
		{"nonsense", "nonsense", 400, parse},
		{"array", "[]", 422, shape + "invalid type: sequence, expected struct InjectV1Request"},
		{"nothing in it", "{}", 422, shape + "missing field `envelope_sender`"},
		{"no content", `{"envelope_sender":"","recipients":[]}`, 422, shape + "missing field `content`"},
		{"no email", `{"envelope_sender":"","recipients":[{}]}`, 422, shape + "recipients[0]: missing field `email`"},
		{"unknown field", `{"x":1}`, 422, shape + "x: unknown field `x`, expected one of `envelope_sender`"},
		{"unknown in recipient", `{"recipients":[{"email":"a@b","x":1}]}`, 422, shape + "recipients[0].x: unknown field"},
		{"email is a number", `{"recipients":[{"email":1}]}`, 422, shape + "recipients[0].email: invalid type: number, expected a string"},
		{"substitutions are null", extra(`"substitutions":null`), 422, shape + "substitutions: invalid type: null, expected a map"},
		{"content is a number", content("1"), 422, shape + "content: data did not match any variant of untagged enum Content"},
		{"twice", `{"envelope_sender":"a@b","envelope_sender":"c@d"}`, 422, shape + "duplicate field"},
		{"a dialect", extra(`"template_dialect":"Perl"`), 422, shape + "template_dialect: unknown variant `Perl`, expected one of `Jinja`, `Static`, `Handlebars`"},
		{"a flag", extra(`"deferred_spool":1`), 422, shape + "deferred_spool: invalid type: number, expected a boolean"},
		{"trace", extra(`"trace_headers":{"x":1}`), 422, shape + "trace_headers.x: unknown field"},
		{"number out of range", extra(`"substitutions":{"a":1e999}`), 422, shape + "substitutions: number out of range"},

		{"no text", content("{}"), 422, "Error: at least one of text_body and/or html_body must be given"},
		{"only AMP", content(`{"amp_html_body":"x"}`), 422, "Error: at least one of text_body and/or html_body must be given"},
		{"nulls", content(`{"text_body":"x","html_body":null,"from":null,"subject":null,"reply_to":null,"amp_html_body":null}`), 200, ok1},
		{"template of text", content(`{"text_body":"a {{ b"}`), 422, "Error: failed parsing field 'content.text_body' as template: syntax error: unexpected end of input, expected end of variable block (in template 'text_body.txt' line 1: 'a {{ b')"},
		{"template of html", content(`{"html_body":"{% if %}"}`), 422, "Error: failed parsing field 'content.html_body' as template: syntax error: "},
		{"template of amp", content(`{"text_body":"x","amp_html_body":"{% if %}"}`), 422, "Error: failed parsing field 'content.amp_html_body' as template: syntax error: "},
		{"template of raw", content(`"{{"`), 422, "Error: failed parsing field 'content' as template: syntax error: "},
		{"template of header", content(`{"text_body":"x","headers":{"X-A":"{{"}}`), 422, "Error: failed parsing field headers['X-A'] as template: syntax error: "},
		{"template of subject", content(`{"text_body":"x","subject":"{{"}`), 422, "Error: failed parsing field headers['Subject'] as template: syntax error: "},
		{"template when deferred", extra(`"deferred_generation":true,"template_dialect":"Handlebars"`), 200, `{"success_count":0,"fail_count":0,"failed_recipients":[],"errors":[]}`},
		{"bad template when deferred", `{"envelope_sender":"","recipients":[],"content":"{{","deferred_generation":true}`, 422, "Error: failed parsing field 'content' as template: "},
		{"from", content(`{"text_body":"x","from":{"email":"nobody"}}`), 422, "Error: failed parsing content.from: "},
		{"reply_to", content(`{"text_body":"x","reply_to":{"email":"a@b\r\nBcc: c@d"}}`), 422, "Error: failed parsing content.reply_to: "},
		{"header name", content(`{"text_body":"x","headers":{"X\r\nBcc":"a@b"}}`), 422, "Error: headers['X Bcc']: "},
		{"header name with a colon", content(`{"text_body":"x","headers":{"X:":"a@b"}}`), 422, "Error: headers['X:']: "},
		{"trace header name", extra(`"trace_headers":{"header_name":"X\r\nBcc: a@b"}`), 422, "Error: trace_headers.header_name: "},
		{"attachment", content(`{"text_body":"x","attachments":[{"data":"!","content_type":"a/b","base64":true}]}`), 422, "Error: failed decoding content.attachments[0].data: "},
		{"attachment without padding", content(`{"text_body":"x","attachments":[{"data":"YQ","content_type":"a/b","base64":true}]}`), 422, "Error: failed decoding content.attachments[0].data: "},
		{"attachment type", content(`{"text_body":"x","attachments":[{"data":"x","content_type":"a/b\r\nX: y"}]}`), 422, "Error: content.attachments[0]: "},
		{"attachment id", content(`{"text_body":"x","attachments":[{"data":"x","content_type":"a/b","content_id":"a>\r\nX: y"}]}`), 422, "Error: content.attachments[0]: "},
		{"sender", `{"envelope_sender":"nobody","recipients":[],"content":{"text_body":"x"}}`, 500, "Error: envelope_sender: "},
		{"sender with a command", `{"envelope_sender":"a@b>\r\nDATA","recipients":[],"content":{"text_body":"x"}}`, 500, "Error: envelope_sender: "},
		{"null sender", `{"envelope_sender":"<>","recipients":[],"content":{"text_body":"x"}}`, 200, `{"success_count":0,"fail_count":0,"failed_recipients":[],"errors":[]}`},
		{"sender in brackets", `{"envelope_sender":"<a@b.example>","recipients":[{"email":"<c@d.example>"}],"content":{"text_body":"x"}}`, 200, ok1},
		{
			"all fail", `{"envelope_sender":"","recipients":[{"email":"nobody"},{"email":"a b@c"}],"content":{"text_body":"x"}}`, 200,
			`{"success_count":0,"fail_count":2,"failed_recipients":["nobody","a b@c"],"errors":["nobody: rfc5322: \"nobody\" is not an address: there is no @ after the local part",` +
				`"a b@c: rfc5322: \"a b@c\" is not an address: there is no @ after the local part"]}`,
		},
		{
			"one fails when it is rendered", `{"envelope_sender":"","recipients":[{"email":"a@b.c"},{"email":"d@e.f","substitutions":{"n":{"x":1}}}],"content":{"text_body":"{{ n.x }}"}}`, 200,
			`{"success_count":1,"fail_count":1,"failed_recipients":["a@b.c"],"errors":["a@b.c: undefined value: cannot get the attribute x of an undefined value (in template 'text_body.txt' line 1: '{{ n.x }}')"]}`,
		},
		{"a bomb", content(`{"text_body":"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}`), 422, "Error: limit exceeded: more than "},
	} {
		api, _ := newAPI(t, nil)
		r := inject(api, c.body)
		got := bodyOf(t, r)
		if r.StatusCode != c.status || !strings.HasPrefix(got, c.want) || c.status == 200 && got != c.want {
			t.Errorf("%s: %d %s\nwant %d %s", c.name, r.StatusCode, got, c.status, c.want)
		}
		if c.status != 200 && (r.Header.Get("Content-Type") != "text/plain; charset=utf-8" || strings.ContainsAny(got, "\r\n")) {
			t.Errorf("%s: %v %q", c.name, r.Header, got)
		}
	}
}

func TestInjectContentType(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, func(c *httpapi.Config) { c.BodyLimit = 1000 })
	for contentType, want := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "Application/JSON": 200, "application/vnd.x+json": 200, "application/json; bad": 200, "": 415, "text/plain": 415, "text/x+json": 415,
	} {
		r := inject(api, minimal, "Content-Type", contentType)
		got := bodyOf(t, r)
		if r.StatusCode != want || want == 415 && got != "Expected request with `Content-Type: application/json`" {
			t.Errorf("%q: %d %s", contentType, r.StatusCode, got)
		}
	}
	r := inject(api, strings.Repeat(" ", 1001))
	if got := bodyOf(t, r); r.StatusCode != 413 || got != "Failed to buffer the request body: length limit exceeded" {
		t.Errorf("%d %s", r.StatusCode, got)
	}
	if r := inject(api, minimal+strings.Repeat(" ", 1000-len(minimal))); r.StatusCode != 200 {
		t.Errorf("a body of the limit: %d", r.StatusCode)
	}
}

func TestInjectTrouble(t *testing.T) {
	t.Parallel()
	var trouble httpapi.Trouble
	api, o := newAPI(t, func(c *httpapi.Config) { c.Trouble = func() httpapi.Trouble { return trouble } })
	for _, c := range []struct {
		trouble httpapi.Trouble
		want    string
	}{
		{httpapi.Stopping | httpapi.Overloaded, "shutting down"}, {httpapi.Overloaded | httpapi.Full, "load shedding"}, {httpapi.Full | httpapi.Starting, "disk is too full"},
		{httpapi.Starting | httpapi.Unhealthy, "waiting for spool startup"}, {httpapi.Unhealthy, "the spool is not accepting writes"},
	} {
		trouble = c.trouble
		r := inject(api, `{"envelope_sender":"bad","recipients":[],"content":"{{"}`)
		if got := bodyOf(t, r); r.StatusCode != 503 || got != "Error: "+c.want {
			t.Errorf("%b: %d %s", c.trouble, r.StatusCode, got)
		}
		if r := inject(api, "{}"); r.StatusCode != 422 {
			t.Errorf("%b: a bad shape is %d", c.trouble, r.StatusCode)
		}
	}
	if len(o.messages) != 0 {
		t.Error("messages were submitted")
	}
}

// What Submit says reaches the client in the right form, without the storage's own words.
func TestInjectSubmitFails(t *testing.T) {
	t.Parallel()
	body := `{"envelope_sender":"","recipients":[{"email":"a@a.example"},{"email":"b@b.example"},{"email":"c@c.example"}],"content":{"text_body":"x"}}`
	for _, c := range []struct {
		name   string
		fail   func(batch []mtakit.Submission) error
		status int
		want   string
	}{
		{"full", func([]mtakit.Submission) error { return fmt.Errorf("write /var/spool/x: %w", mtakit.ErrSpoolFull) }, 503, "Error: disk is too full"},
		{"unhealthy", func([]mtakit.Submission) error { return mtakit.ErrUnhealthy }, 503, "Error: the spool is not accepting writes"},
		{"stopping", func([]mtakit.Submission) error { return mtakit.ErrClosed }, 503, "Error: shutting down"},
		{"policy for one", func(b []mtakit.Submission) error {
			for _, s := range b {
				if s.Message.Queue.Domain == "b.example" {
					return errors.New("no settings\nfor b.example")
				}
			}
			return nil
		}, 200, `{"success_count":2,"fail_count":1,"failed_recipients":["b@b.example"],"errors":["b@b.example: no settings for b.example"]}`},
		{"full after one", func(b []mtakit.Submission) error {
			if len(b) > 1 {
				return errors.New("no settings")
			}
			if b[0].Message.Queue.Domain != "a.example" {
				return mtakit.ErrSpoolFull
			}
			return nil
		}, 200, `{"success_count":1,"fail_count":2,"failed_recipients":["b@b.example","c@c.example"],"errors":["b@b.example: disk is too full","c@c.example: disk is too full"]}`},
	} {
		api, o := newAPI(t, nil)
		o.fail = c.fail
		r := inject(api, body)
		if got := bodyOf(t, r); r.StatusCode != c.status || got != c.want {
			t.Errorf("%s: %d %s, want %d %s", c.name, r.StatusCode, got, c.status, c.want)
		}
	}
}

// No value of a request can bring in a header field, a part, or a recipient.
func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	const evil = "x\r\nBcc: evil@example.com\r\n\r\n<script>\x00"
	request := map[string]any{
		"envelope_sender": "s@example.com",
		"substitutions":   map[string]any{"evil": evil},
		"trace_headers":   map[string]any{"include_meta_names": []string{"extra"}},
		"content": map[string]any{
			"from": map[string]any{"email": "a@example.com", "name": "{{ evil }}"}, "reply_to": map[string]any{"email": "a@example.com", "name": evil}, "subject": "{{ evil }}",
			"headers": map[string]string{"X-A": evil, "X-B": "{{ evil }}", "Cc": "{{ evil }}", "References": "{{ evil }}", "Content-Type": evil}, "text_body": "t", "html_body": "h",
			"attachments": []any{map[string]any{"data": "d", "content_type": "a/b; x=\"y\"", "file_name": evil, "content_id": "i"}, map[string]any{"data": "d", "content_type": "a/b", "file_name": evil}},
		},
		"recipients": []any{map[string]any{"email": "b@example.net", "name": evil, "metadata": map[string]any{"x": evil}}},
	}
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	for _, dialect := range []string{"Jinja", "Handlebars"} {
		api, o := newAPI(t, nil)
		r := inject(api, strings.Replace(string(body), "{", `{"template_dialect":"`+dialect+`",`, 1))
		if got := bodyOf(t, r); got != ok1 {
			t.Fatalf("%d %s", r.StatusCode, got)
		}
		h, rest := rfc5322.Split([]byte(o.texts[0]))
		names := ""
		for f := range h.Fields() {
			names += string(f.Name()) + " "
		}
		if want := "X-KumoRef Received Content-Type Cc From References Reply-To Subject X-A X-B To Mime-Version Date "; names != want {
			t.Errorf("fields are %s, want %s", names, want)
		}
		if strings.Contains(string(rest), "\r\nBcc") || strings.Count(string(rest), "Content-Disposition:") != 2 {
			t.Errorf("body is\n%s", rest)
		}
		for line := range strings.SplitSeq(o.texts[0], "\r\n") {
			if strings.ContainsAny(line, "\r\n\x00") || strings.HasPrefix(strings.ToLower(line), "bcc") || len(line) > 998 {
				t.Errorf("line %q", line)
			}
		}
	}
}

func TestDialectsAndVariables(t *testing.T) {
	t.Parallel()
	const recipients = `"recipients":[{"email":"b@example.net","name":"B <b>","substitutions":{"x":"own","email":"shown@example.net"}}],"substitutions":{"x":"all","y":"both","name":"no","big":12345678901234567,"hash":18446744073709551615}`
	for _, c := range []struct{ dialect, text, html, want string }{
		{"Jinja", "{{x}} {{y}} {{email}} {{name}} {{to_header}} {{big}}", "<p>{{name}}", "own both shown@example.net B <b> \"B <b>\" <b@example.net> 12345678901234567\n<p>B &lt;b&gt;"},
		{"Handlebars", "{{x}} {{y}} {{email}} {{name}} {{big}} {{hash}}", "<p>{{name}}", "own both shown@example.net B <b> 12345678901234567 18446744073709551615\n<p>B &lt;b&gt;"},
		{"Static", "{{x}} {%", "{{name}}", "{{x}} {%\n{{name}}"},
	} {
		api, o := newAPI(t, nil)
		text, _ := json.Marshal(c.text)
		html, _ := json.Marshal(c.html)
		r := inject(api, `{"envelope_sender":"",`+recipients+`,"content":{"text_body":`+string(text)+`,"html_body":`+string(html)+`},"template_dialect":"`+c.dialect+`"}`)
		if got := bodyOf(t, r); got != ok1 {
			t.Errorf("%s: %s", c.dialect, got)
			continue
		}
		for want := range strings.SplitSeq(c.want, "\n") {
			if !strings.Contains(o.texts[0], "\r\n\r\n"+want+"\r\n") {
				t.Errorf("%s: %q is not in\n%s", c.dialect, want, o.texts[0])
			}
		}
	}
}

func TestRawContent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ content, want string }{
		{"From: a@example.com\nSubject: {{ name }} ü\n\nHi {{ name }}\nünd\n", "Content-Type: text/plain;\r\n\tcharset=\"utf-8\"\r\nContent-Transfer-Encoding: quoted-printable\r\n" +
			"From: a@example.com\r\nSubject: =?UTF-8?q?Bee_=C3=BC?=\r\nMime-Version: 1.0\r\n\r\nHi Bee\r\n=C3=BCnd\r\n"},
		{"Subject: static\r\n\r\nHi\r\n", "Content-Type: text/plain;\r\n\tcharset=\"us-ascii\"\r\nSubject: static\r\nMime-Version: 1.0\r\n\r\nHi\r\n"},
	} {
		api, o := newAPI(t, nil)
		content, _ := json.Marshal(c.content)
		r := inject(api, `{"envelope_sender":"","recipients":[{"email":"b@example.net","name":"Bee"}],"content":`+string(content)+`,"trace_headers":{"received_header":false,"supplemental_header":false}}`)
		if got := bodyOf(t, r); got != ok1 || o.texts[0] != c.want {
			t.Errorf("%s\n%q\nwant\n%q", got, o.texts, c.want)
		}
	}
}

func TestTraceHeaders(t *testing.T) {
	t.Parallel()
	received := "Received: from example.com (127.0.0.1)\r\n  by mta.example (KumoMTA)\r\n  with HTTP id ID for <b@example.net>;\r\n  Fri, 2 Jan 2026 03:04:05 +0000\r\n"
	ref := func(name, j string) string {
		return name + ": " + base64.StdEncoding.EncodeToString([]byte(j)) + "\r\n"
	}
	const plain = `{"_@_":"\\_/","recipient":"b@example.net"}`
	for _, c := range []struct{ trace, want string }{
		{"", ref("X-KumoRef", plain)},
		{`,"trace_headers":{}`, ref("X-KumoRef", plain) + received},
		{`,"trace_headers":{"received_header":false}`, ref("X-KumoRef", plain)},
		{`,"trace_headers":{"supplemental_header":false}`, received},
		{`,"trace_headers":{"received_header":false,"supplemental_header":false}`, ""},
		{`,"trace_headers":{"header_name":"X-Ref","received_header":false}`, ref("X-Ref", plain)},
		{`,"trace_headers":{"include_meta_names":["hostname","nope"],"received_header":false}`, "X-KumoRef: eyJfQF8iOiJcXF8vIiwiaG9zdG5hbWUiOiJodHRwLmV4YW1wbGUiLCJub3BlIjpudWxsLCJyZWN\r\n\tpcGllbnQiOiJiQGV4YW1wbGUubmV0In0=\r\n"},
		{`,"trace_headers":{"include_meta_names":["nope"],"received_header":false}`, "X-KumoRef: eyJfQF8iOiJcXF8vIiwibm9wZSI6bnVsbCwicmVjaXBpZW50IjoiYkBleGFtcGxlLm5ldCJ9\r\n"},
	} {
		api, o := newAPI(t, nil)
		inject(api, `{"envelope_sender":"s@example.com","recipients":[{"email":"b@example.net"}],"content":{"text_body":"x"}`+c.trace+`}`)
		want := strings.ReplaceAll(c.want, " ID ", " "+o.messages[0].ID.String()+" ") + "Content-Type:"
		if !strings.HasPrefix(o.texts[0], want) {
			t.Errorf("%s:\n%s\nwant\n%s", c.trace, o.texts[0], want)
		}
	}
}

func TestGenerated(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, func(c *httpapi.Config) {
		c.Generated = func(_ context.Context, s *mtakit.Submission, a *httpapi.AuthInfo) error {
			if !a.Trusted() {
				t.Error("not trusted")
			}
			switch to := s.Message.To[0]; to {
			case "reject@x.example":
				return &mtakit.Reject{Response: mtakit.Response{Code: 550, Text: "not you"}}
			case "later@x.example":
				return &mtakit.Delay{For: time.Hour}
			case "null@x.example":
				s.Message.Meta["queue"] = "null"
			case "bad@x.example":
				s.Message.Meta["tenant"] = 5
			case "signed@x.example":
				s.Message.Meta["tenant"] = "acme"
				s.Body = mtakit.Bytes("Signed: yes\r\n\r\nother\r\n")
			}
			return nil
		}
	})
	var list []string
	for _, n := range []string{"reject", "later", "null", "bad", "signed"} {
		list = append(list, `{"email":"`+n+`@x.example"}`)
	}
	r := inject(api, `{"envelope_sender":"","recipients":[`+strings.Join(list, ",")+`],"content":{"text_body":"x"},"trace_headers":{"received_header":true,"include_meta_names":["tenant"]}}`)
	want := `{"success_count":3,"fail_count":2,"failed_recipients":["reject@x.example","bad@x.example"],"errors":["reject@x.example: 550 not you","bad@x.example: mtakit: metadata tenant is not a string"]}`
	if got := bodyOf(t, r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(o.messages) != 2 || !o.messages[0].Due.Equal(epoch.Add(time.Hour)) || o.messages[1].Queue.Tenant != "acme" {
		t.Fatalf("%+v", o.messages)
	}
	if !strings.HasPrefix(o.texts[1], "X-KumoRef: ") || !strings.HasSuffix(o.texts[1], "\r\nSigned: yes\r\n\r\nother\r\n") {
		t.Errorf("%s", o.texts[1])
	}
}

func TestDeferredSpool(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, nil)
	inject(api, strings.Replace(minimal, "{", `{"deferred_spool":true,`, 1))
	if len(o.modes) != 1 || o.modes[0] != mtakit.Volatile {
		t.Errorf("%v", o.modes)
	}
}

func TestRecipientRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, o := newAPI(t, func(c *httpapi.Config) {
			c.Throttles, c.RecipientRate = gcra.NewStore(), mtakit.Rate{N: 2, Per: time.Second}
		})
		var list []string
		for i := range 7 {
			list = append(list, fmt.Sprintf(`{"email":"r%d@x.example"}`, i))
		}
		body := `{"envelope_sender":"","recipients":[` + strings.Join(list, ",") + `],"content":{"text_body":"x"}}`
		start := time.Now()
		if r := inject(api, body); r.StatusCode != 200 || len(o.messages) != 7 {
			t.Errorf("%d, %d messages", r.StatusCode, len(o.messages))
		}
		if d := time.Since(start); d < 2*time.Second || d > 4*time.Second {
			t.Errorf("7 recipients at 2/s took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "POST", "http://127.0.0.1:8000/api/inject/v1", strings.NewReader(body))
		r.RemoteAddr, r.Header = "127.0.0.1:1", asJSON
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != 503 || len(o.messages) != 7 {
			t.Errorf("a client that went away: %d, %d messages", w.Code, len(o.messages))
		}
	})
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	now := epoch
	api, o := newAPI(t, func(c *httpapi.Config) {
		c.Answers = &httpapi.MemoryAnswers{Now: func() time.Time { return now }}
		c.Auth = users{"ann": "a", "bob": "b"}
	})
	for _, c := range []struct {
		name, key, body string
		header          []string
		status, count   int
	}{
		{"first", "k", minimal, nil, 200, 1},
		{"repeat", "k", minimal, nil, 200, 1},
		{"another key", "l", minimal, nil, 200, 2},
		{"another request", "k", minimal + " ", nil, 422, 2},
		{"another client", "k", minimal, []string{"Authorization", basic("ann", "a").Get("Authorization")}, 200, 3},
		{"and another", "k", minimal, []string{"Authorization", basic("bob", "b").Get("Authorization")}, 200, 4},
		{"empty key", "", minimal, nil, 400, 4},
		{"long key", strings.Repeat("x", 256), minimal, nil, 400, 4},
		{"failed", "m", `{"envelope_sender":"","recipients":[],"content":{}}`, nil, 422, 4},
		{"mended", "m", minimal, nil, 200, 5},
	} {
		r := inject(api, c.body, append(c.header, "Idempotency-Key", c.key)...)
		if got := bodyOf(t, r); r.StatusCode != c.status || len(o.messages) != c.count || c.status == 200 && got != ok1 {
			t.Errorf("%s: %d %s, %d messages, want %d", c.name, r.StatusCode, got, len(o.messages), c.count)
		}
	}
	now = now.Add(25 * time.Hour)
	if inject(api, minimal, "Idempotency-Key", "k"); len(o.messages) != 6 {
		t.Errorf("after a day there are %d messages", len(o.messages))
	}
}

// Requests with one key that come at the same time make one message.
func TestIdempotencyConcurrent(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if r := inject(api, minimal, "Idempotency-Key", "k"); r.StatusCode != 200 {
				t.Errorf("%d", r.StatusCode)
			}
		})
	}
	wg.Wait()
	if len(o.messages) != 1 {
		t.Errorf("%d messages", len(o.messages))
	}
}

// Repeats that wait for the first request with their key take no room from others, and those that are answered already need none.
func TestIdempotencyRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		api, _ := newAPI(t, func(c *httpapi.Config) {
			c.MaxInFlight = 2 * int64(len(minimal))
			c.Generated = func(_ context.Context, s *mtakit.Submission, _ *httpapi.AuthInfo) error {
				if s.Message.To[0] == "b@example.net" {
					<-slow
				}
				return nil
			}
		})
		answered := make(map[string]int) // by key
		var mu sync.Mutex
		ask := func(key, body string) {
			go func() {
				r := inject(api, body, "Idempotency-Key", key)
				mu.Lock()
				defer mu.Unlock()
				if r.StatusCode == 200 {
					answered[key]++
				}
			}()
			synctest.Wait()
		}
		other := strings.Replace(minimal, "b@example.net", "c@example.net", 1)
		ask("k", minimal)
		ask("k", minimal)
		ask("k", minimal)
		ask("other", other)
		if answered["other"] != 1 {
			t.Error("a request waits for repeats of another one")
		}
		ask("full", minimal) // now there is no room left
		ask("other", other)
		if answered["other"] != 2 {
			t.Error("a repeat waits for room, though its answer is known")
		}
		close(slow)
		synctest.Wait()
		if answered["k"] != 3 || answered["full"] != 1 {
			t.Errorf("in the end answered are %v", answered)
		}
	})
}

// A client with a key that goes away finds its answer later; one without stops its request.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k"} {
		ctx, cancel := context.WithCancel(t.Context())
		var api *httpapi.API
		api, o := newAPI(t, func(c *httpapi.Config) {
			c.Generated = func(ctx context.Context, s *mtakit.Submission, _ *httpapi.AuthInfo) error { cancel(); return ctx.Err() }
		})
		r := httptest.NewRequestWithContext(ctx, "POST", "http://127.0.0.1:8000/api/inject/v1", strings.NewReader(minimal))
		r.RemoteAddr, r.Header = "127.0.0.1:1", asJSON.Clone()
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		want, status := 0, 503
		if key != "" {
			want, status = 1, 200
		}
		if len(o.messages) != want || w.Code != status {
			t.Errorf("key %q: %d messages, %d", key, len(o.messages), w.Code)
		}
	}
}

func TestMemoryAnswersAreBounded(t *testing.T) {
	t.Parallel()
	m := &httpapi.MemoryAnswers{}
	var key [32]byte
	for i := range 20_000 {
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		if i == 15_000 { // kept twice, of which the first is forgotten before the second
			m.Keep(t.Context(), [32]byte{9: 1}, &httpapi.Answer{Body: []byte("1"), Done: 1})
		}
		if i == 19_000 {
			m.Keep(t.Context(), [32]byte{9: 1}, &httpapi.Answer{Body: []byte("2")})
		}
		if err := m.Keep(t.Context(), key, &httpapi.Answer{Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if a, _ := m.Answer(t.Context(), key); a == nil {
		t.Error("the last answer is lost")
	}
	for i := range 6000 {
		m.Keep(t.Context(), [32]byte{8: 1, 0: byte(i), 1: byte(i >> 8)}, &httpapi.Answer{Body: []byte("{}")})
	}
	if a, _ := m.Answer(t.Context(), [32]byte{9: 1}); a == nil || string(a.Body) != "2" {
		t.Errorf("of an answer that was kept twice there is %+v", a)
	}
	key[0], key[1], key[2] = byte(9_000&0xff), byte(9_000>>8), 0
	if a, _ := m.Answer(t.Context(), key); a != nil {
		t.Error("an old answer is kept")
	}
	for i := range 4 {
		key[0], key[1], key[2] = byte(i), 0xff, 0xff
		m.Keep(t.Context(), key, &httpapi.Answer{Body: make([]byte, 20<<20)})
	}
	key[0] = 2
	if a, _ := m.Answer(t.Context(), key); a != nil {
		t.Error("more than 32 MiB are kept")
	}
}

// Large bodies wait in a file that leaves nothing behind; recipients come in batches.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	api, o := newAPI(t, func(c *httpapi.Config) { c.BodyLimit, c.TempDir = 64<<20, dir })
	const n = 20_000
	var b strings.Builder
	b.WriteString(`{"recipients": [`)
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `{"email":"r%d@d%d.example","substitutions":{"n":%d}}`, i, i%10, i)
	}
	b.WriteString(`],"envelope_sender":"s@example.com","content":{"text_body":"number {{ n }}"}}`)
	r := inject(api, b.String())
	if got := bodyOf(t, r); got != fmt.Sprintf(`{"success_count":%d,"fail_count":0,"failed_recipients":[],"errors":[]}`, n) {
		t.Fatalf("%d %s", r.StatusCode, got)
	}
	for i, m := range o.messages {
		if want := fmt.Sprintf("r%d@d%d.example", i, i%10); m.To[0] != want || !strings.HasSuffix(o.texts[i], fmt.Sprintf("\r\n\r\nnumber %d\r\n", i)) {
			t.Fatalf("message %d is to %s:\n%s", i, m.To, o.texts[i])
		}
	}
	if o.batches != (n+255)/256 {
		t.Errorf("%d batches", o.batches)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
}

func TestTempDirFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "gone")
	api, _ := newAPI(t, func(c *httpapi.Config) { c.TempDir = dir })
	r := inject(api, strings.Repeat(" ", 300<<10))
	if got := bodyOf(t, r); r.StatusCode != 503 || strings.Contains(got, dir) {
		t.Errorf("%d %s", r.StatusCode, got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if r := inject(api, strings.Repeat(" ", 300<<10)+minimal); r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
}

func TestTemplateLimits(t *testing.T) {
	t.Parallel()
	api, o := newAPI(t, func(c *httpapi.Config) { c.Template = template.Limits{Steps: 1000} })
	body := func(first, second int) string {
		return fmt.Sprintf(`{"envelope_sender":"","recipients":[{"email":"a@b.c","substitutions":{"n":%d}},{"email":"d@e.f","substitutions":{"n":%d}}],"content":{"text_body":"{%% for i in range(n) %%}{%% endfor %%}"}}`, first, second)
	}
	if r := inject(api, body(99999, 1)); r.StatusCode != 422 || len(o.messages) != 0 {
		t.Errorf("the first is a bomb: %d, %d messages", r.StatusCode, len(o.messages))
	}
	r := inject(api, body(1, 99999))
	if got := bodyOf(t, r); r.StatusCode != 200 || !strings.HasPrefix(got, `{"success_count":1,"fail_count":1,"failed_recipients":["d@e.f"],"errors":["d@e.f: limit exceeded:`) {
		t.Errorf("the second is a bomb: %d %s", r.StatusCode, got)
	}
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	var trouble httpapi.Trouble
	api, o := newAPI(t, func(c *httpapi.Config) { c.Trouble = func() httpapi.Trouble { return trouble } })
	if got, err := api.Inject(t.Context(), []byte(minimal)); err != nil || string(got) != ok1 {
		t.Fatalf("%s, %v", got, err)
	}
	if m := o.messages[0]; m.MetaString("http_auth") != "kumomta.internal" || m.MetaString("received_from") != "127.0.0.1" {
		t.Errorf("%+v", m)
	}
	if got, err := api.Inject(t.Context(), []byte(strings.Replace(minimal, "{", `{"deferred_generation":true,`, 1))); err != nil || !strings.HasPrefix(string(got), `{"success_count":0`) {
		t.Errorf("%s, %v", got, err)
	}
	for _, body := range []string{"", "{}", `{"envelope_sender":"x","recipients":[],"content":""}`} {
		if got, err := api.Inject(t.Context(), []byte(body)); err == nil {
			t.Errorf("%s: %s", body, got)
		}
	}
	trouble = httpapi.Stopping
	if _, err := api.Inject(t.Context(), []byte(minimal)); err == nil || err.Error() != "shutting down" {
		t.Errorf("%v", err)
	}
}

// A client that does not send its body does not stay.
func TestBodyTimeout(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, func(c *httpapi.Config) { c.BodyTimeout = 20 * time.Millisecond })
	srv := httptest.NewServer(api)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /api/inject/v1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if got := bodyOf(t, r); r.StatusCode != 400 || !strings.HasPrefix(got, "Failed to buffer the request body: ") {
		t.Errorf("%d %s", r.StatusCode, got)
	}
}
