package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// traced runs a trace command against a daemon that sends events, and returns its request, what it printed and the exit code.
func runTrace(t *testing.T, colors bool, events []string, args ...string) (request, out, stderr string, code int) {
	t.Helper()
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/admin/"+args[0]+"/v1" {
			http.NotFound(w, r)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		kind, b, err := c.Read(r.Context())
		if request = string(b); err != nil || kind != websocket.MessageText {
			t.Error(kind, err)
		}
		for _, e := range events {
			c.Write(r.Context(), websocket.MessageText, []byte(e))
		}
	}))
	defer daemon.Close()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"--endpoint", daemon.URL}, args...), &console{out: &o, err: &e, colors: colors, now: time.Now})
	return request, o.String(), e.String(), code
}

// event is a frame; after is since a fixed time.
func event(meta, payload string, after time.Duration) string {
	return fmt.Sprintf(`{"conn_meta":%s,"payload":%s,"when":%q}`, meta, payload, time.Date(2026, 1, 2, 3, 4, 5, 1000, time.UTC).Add(after).Format(time.RFC3339Nano))
}

func TestTraceClient(t *testing.T) {
	t.Parallel()
	a, a2 := `{"id":"A","mx_host":"mx.x.","tenant":"t"}`, `{"id":"A","mx_host":"mx.x.","sender":"a@x"}`
	events := []string{
		event(`{"id":"old"}`, `{"Write":"NOOP\r\n"}`, 0),
		event(a, `"BeginSession"`, 0),
		event(a, `{"Diagnostic":{"level":"INFO","message":"Attempting connection to 192.0.2.1:25"}}`, 2*time.Millisecond),
		event(a, `"Connected"`, 20*time.Millisecond),
		event(a, `{"Read":"250-mx\r\n250 \u001b[2J\r\n"}`, 182*time.Millisecond),
		event(`{"id":"B"}`, `"BeginSession"`, time.Second),
		event(a2, `"MessageObtained"`, time.Second+999*time.Millisecond),
		event(a2, `{"AbbreviatedWrite":{"snippet":"Subject: hi","len":2048}}`, 12*time.Second),
		event(`null`, `{"Diagnostic":{"level":"ERROR","message":"Tracer Lagged behind and missed 3 events"}}`, 12*time.Second),
		event(a2, `"Closed"`, 12*time.Second),
		event(`{"id":"B"}`, `{"Write":"QUIT\r\n"}`, 13*time.Second),
	}
	request, out, stderr, code := runTrace(t, false, events, "trace-smtp-client", "--domain", "x", "--source", "10.0.0.0/8", "--terse")
	want := `[old]       ->  NOOP
[old]       === conn_meta id="old"
[A]       === BeginSession 2026-01-02T03:04:05.000001Z
[A]       === conn_meta id="A"
[A]       === conn_meta mx_host="mx.x."
[A]       === conn_meta tenant="t"
[A]   2ms === INFO: Attempting connection to 192.0.2.1:25
[A]  20ms === Connected
[A] 182ms  <- 250-mx
[A] 182ms  <- 250 \x1b[2J
[B]       === BeginSession 2026-01-02T03:04:06.000001Z
[B]       === conn_meta id="B"
[A]    1s === MessageObtained
[A]    1s === conn_meta sender="a@x"
[A]    1s === conn_meta deleted tenant
[A]   12s ->  Subject: hi
[A]   12s === bytes written=2048
[]       === ERROR: Tracer Lagged behind and missed 3 events
[A]   12s === Closed
[B]   12s ->  QUIT
`
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if code != 1 || !strings.Contains(stderr, "the daemon ended the trace") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if want := `{"campaign":[],"tenant":[],"domain":["x"],"routing_domain":[],"egress_pool":[],"egress_source":[],"mx_host":[],"mail_from":[],"rcpt_to":[],` +
		`"ready_queue":[],"terse":true,"source_addr":["10.0.0.0/8"],"mx_addr":null}`; request != want {
		t.Errorf("request\n%s\nwant\n%s", request, want)
	}

	_, out, _, _ = runTrace(t, false, events, "trace-smtp-client", "--only-new")
	if strings.Contains(out, "[old]") || !strings.Contains(out, "[B]") {
		t.Errorf("--only-new shows\n%s", out)
	}
	_, out, stderr, code = runTrace(t, false, events[1:], "trace-smtp-client", "--only-one")
	if strings.Contains(out, "[B]") || !strings.HasSuffix(out, "=== Closed\n") || code != 0 || stderr != "" {
		t.Errorf("--only-one ends with %d and %s after\n%s", code, stderr, out)
	}
	// What it is filtered by is known late: the session that is the one is that which has it.
	late := slices.Concat(events[:6], []string{event(`{"id":"B","domain":"x"}`, `"MessageObtained"`, 2*time.Second), event(`{"id":"B","domain":"x"}`, `"Closed"`, 3*time.Second)})
	_, out, _, code = runTrace(t, false, late, "trace-smtp-client", "--only-one", "--only-new", "--domain", "x")
	if strings.Contains(out, "[A]") || !strings.HasPrefix(out, "[B]       === BeginSession") || code != 0 {
		t.Errorf("--only-one with a filter ends with %d after\n%s", code, out)
	}
	// Names of hosts are the same in any case, and with a dot at the end.
	b := `{"id":"B","domain":"d.example","mx_host":"mx.d.example."}`
	_, out, _, code = runTrace(t, false, []string{event(b, `"BeginSession"`, 0), event(b, `"Closed"`, time.Second)}, "trace-smtp-client", "--only-one", "--domain", "D.Example", "--mx-host", "mx.D.example")
	if !strings.Contains(out, "[B]") || code != 0 {
		t.Errorf("--only-one with a name in another case ends with %d after\n%s", code, out)
	}
	_, out, _, _ = runTrace(t, true, events[4:5], "trace-smtp-client")
	if !strings.Contains(out, "\x1b[36m <- 250-mx\x1b[0m") {
		t.Errorf("on a terminal: %q", out)
	}
	_, out, _, _ = runTrace(t, true, events[4:5], "trace-smtp-client", "--color", "no")
	if strings.Contains(out, "\x1b") {
		t.Errorf("--color no: %q", out)
	}
}

func TestTraceServer(t *testing.T) {
	t.Parallel()
	meta := `{"received_from":"192.0.2.1:4000","received_via":"10.0.0.1:25"}`
	request, out, _, _ := runTrace(t, false, []string{
		event(meta, `"Connected"`, 0),
		event(meta, `{"Write":"220 x\r\n"}`, time.Millisecond),
		event(meta, `{"AbbreviatedRead":{"snippet":"Subject: hi","len":20}}`, time.Millisecond),
		event(meta, `{"Callback":{"name":"smtp_server_ehlo","result":null,"error":null}}`, time.Millisecond),
		event(meta, `{"Callback":{"name":"get_listener_domain domain=x","result":{"relay_to":true},"error":null}}`, time.Millisecond),
		event(meta, `{"Callback":{"name":"e","result":null,"error":"no"}}`, time.Millisecond),
		event(meta, `{"MessageDisposition":{"relay":true,"log_arf":"Ignore","log_oob":"LogThenDrop","queue":"q","meta":{"b":1,"a":"x"},"sender":"s@x","recipient":["a@y","b@y"],"id":"ID",`+
			`"was_arf_or_oob":false,"will_enqueue":null}}`, time.Millisecond),
		event(meta, `{"SomethingNew":{"x":1}}`, time.Millisecond),
	}, "trace-smtp-server")
	key := "[192.0.2.1:4000->10.0.0.1:25]"
	want := strings.ReplaceAll(`K       === Connected 2026-01-02T03:04:05.000001Z
K       === conn_meta received_from="192.0.2.1:4000"
K       === conn_meta received_via="10.0.0.1:25"
K   1ms <-  220 x
K   1ms  -> Subject: hi
K   1ms === bytes read=20
K   1ms === smtp_server_ehlo: Ok
K   1ms === get_listener_domain domain=x: Ok: {"relay_to":true}
K   1ms === e: Error: no
K   1ms === Message from=<s@x> to=<a@y, b@y> id=ID
K   1ms === Message queue=q relay=true log_arf=Ignore log_oob=LogThenDrop was_arf_or_oob=Some(false) will_enqueue=None
K   1ms === Message meta: a="x"
K   1ms === Message meta: b=1
K   1ms === SomethingNew {"x":1}
`, "K", key)
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if request != `{"source_addr":null}` {
		t.Errorf("request %s", request)
	}
	if _, _, stderr, code := runTrace(t, false, []string{"x"}, "trace-smtp-server"); code != 1 || !strings.Contains(stderr, "not understood") {
		t.Errorf("%d %s", code, stderr)
	}
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not you", http.StatusUnauthorized) }))
	defer refusing.Close()
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"--endpoint", refusing.URL, "trace-smtp-server", "--reconnect"}, &console{out: io.Discard, err: &stderr, now: time.Now}); code != 1 ||
		!strings.Contains(stderr.String(), "request status 401: Unauthorized. Response body: not you") {
		t.Errorf("%d %s", code, &stderr)
	}
}

func FuzzTraceEvent(f *testing.F) {
	f.Add(`{"id":"A"}`, `{"Read":"x\r\ny"}`)
	f.Add(`null`, `"Closed"`)
	f.Add(`{"recipient":["a"],"id":1}`, `{"MessageDisposition":{"recipient":"x","meta":{"a":[]}}}`)
	f.Fuzz(func(t *testing.T, meta, payload string) {
		var e traceEvent
		if json.Unmarshal([]byte(event(meta, payload, 0)), &e) != nil {
			return
		}
		for _, side := range []traceSide{clientSide, serverSide} {
			var out strings.Builder
			p := newTracePrinter(&console{out: &out}, traceFlags{Color: "no"}, side)
			if err := p.print(&e); err != nil {
				t.Fatal(err)
			}
			for _, r := range out.String() {
				if r < ' ' && r != '\n' || r == 0x7f {
					t.Fatalf("a control character gets through: %q", out.String())
				}
			}
		}
	})
}

// With --reconnect a trace goes on with the daemon's next life, until what it was for has ended.
func TestTraceReconnects(t *testing.T) {
	t.Parallel()
	lives := [][]string{
		{event(`{"id":"A"}`, `"BeginSession"`, 0)},
		{event(`{"id":"A"}`, `{"Write":"QUIT\r\n"}`, time.Hour), event(`{"id":"B"}`, `"BeginSession"`, time.Hour)},
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"all", nil, 1, "[A]       === BeginSession 2026-01-02T03:04:05.000001Z\n[A]       === conn_meta id=\"A\"\n" +
			"[A]       ->  QUIT\n[A]       === conn_meta id=\"A\"\n[B]       === BeginSession 2026-01-02T04:04:05.000001Z\n[B]       === conn_meta id=\"B\"\n"},
		{"one", []string{"--only-one"}, 1, "[A]       === BeginSession 2026-01-02T03:04:05.000001Z\n[A]       === conn_meta id=\"A\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var next atomic.Int32
			daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				life := int(next.Add(1)) - 1
				if life >= len(lives) {
					http.Error(w, "not any more", http.StatusForbidden)
					return
				}
				conn, err := websocket.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.CloseNow()
				conn.Read(r.Context())
				for _, e := range lives[life] {
					conn.Write(r.Context(), websocket.MessageText, []byte(e))
				}
			}))
			defer daemon.Close()
			out, stderr, code := runCommand(t.Context(), append([]string{"--endpoint", daemon.URL, "trace-smtp-client", "--reconnect"}, c.args...)...)
			if out != c.want || code != c.code || !strings.Contains(stderr, "the daemon ended the trace") {
				t.Errorf("exit code %d, %s\n%s\nwant\n%s", code, stderr, out, c.want)
			}
		})
	}
}
