package httpapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
)

// tracer is a client of a websocket for traces.
type tracer struct {
	t    *testing.T
	conn *websocket.Conn
}

func traceServer(t *testing.T, cfg httpapi.Config) string {
	t.Helper()
	cfg.Submit, cfg.NewID = new(outbox).submit, func() mtakit.ID { return mtakit.ID{} }
	api, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	return srv.URL
}

func trace(t *testing.T, url, request string) *tracer {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	if err := c.Write(t.Context(), websocket.MessageText, []byte(request)); err != nil {
		t.Fatal(err)
	}
	return &tracer{t, c}
}

// next is the next event without its time, "" at the end.
func (tr *tracer) next() string {
	tr.t.Helper()
	kind, b, err := tr.conn.Read(tr.t.Context())
	if err != nil {
		return ""
	}
	s, when, ok := strings.Cut(string(b), `,"when":"`)
	if _, err := time.Parse(time.RFC3339Nano, strings.TrimSuffix(when, `"}`)); kind != websocket.MessageText || !ok || err != nil {
		tr.t.Errorf("%v %s: %v", kind, b, err)
	}
	return s + "}"
}

func TestTraceEvents(t *testing.T) {
	t.Parallel()
	id, err := mtakit.ParseID("01020304-0506-7708-890a-0b0c0d0e0f10")
	if err != nil {
		t.Fatal(err)
	}
	disposition := &mtakit.TraceMessageDisposition{ID: id, Queue: "t@y.test", Sender: "a@x.test", To: []string{"b@y.test"}, Relay: true, LogARF: "Ignore",
		LogOOB: "LogThenDrop", Enqueue: true}
	events := []mtakit.TraceEvent{
		{Kind: mtakit.TraceBegin},
		{Kind: mtakit.TraceConnected},
		{Kind: mtakit.TraceRead, Text: "250-a\r\n250 b\xff\r\n"},
		{Kind: mtakit.TraceWrite, Text: "Subject: hi\r\n\r\nx\r\n"},
		{Kind: mtakit.TraceWrite, Text: "QUIT\r\n"},
		{Kind: mtakit.TraceMessage},
		{Kind: mtakit.TraceDiagnostic, Level: slog.LevelWarn, Text: "w"},
		{Kind: mtakit.TraceCallback, Text: "smtp_server_ehlo", Result: map[string]any{"a": 1}},
		{Kind: mtakit.TraceCallback, Text: "smtp_server_ehlo", Result: func() {}, Err: errors.New("no")},
		{Kind: mtakit.TraceDisposition, Disposition: disposition},
		{Kind: mtakit.TraceClosed},
	}
	for _, tt := range []struct {
		path, request string
		want          []string
	}{
		{"/api/admin/trace-smtp-client/v1", `{"campaign":[],"source_addr":null,"mx_addr":null}`, []string{
			`"BeginSession"`, `"Connected"`, `{"Read":"250-a\r\n250 b\ufffd\r\n"}`, `{"Write":"Subject: hi\r\n\r\nx\r\n"}`, `{"Write":"QUIT\r\n"}`, `"MessageObtained"`,
			`{"Diagnostic":{"level":"WARN","message":"w"}}`, `{"Callback":{"error":null,"name":"smtp_server_ehlo","result":{"a":1}}}`,
			`{"Callback":{"error":"no","name":"smtp_server_ehlo","result":null}}`,
			`{"MessageDisposition":{"id":"01020304050677088` + `90a0b0c0d0e0f10","log_arf":"Ignore","log_oob":"LogThenDrop","meta":{},"queue":"t@y.test","recipient":"b@y.test",` +
				`"relay":true,"sender":"a@x.test","was_arf_or_oob":false,"will_enqueue":true}}`,
			`"Closed"`,
		}},
		{"/api/admin/trace-smtp-client/v1", `{"terse":true}`, []string{
			`"BeginSession"`, `"Connected"`, `{"Read":"250-a\r\n250 b\ufffd\r\n"}`, `{"AbbreviatedWrite":{"len":18,"snippet":"Subject: hi"}}`, `{"Write":"QUIT\r\n"}`,
		}},
		{"/api/admin/trace-smtp-server/v1", `{"source_addr":null,"terse":true}`, []string{
			`"BeginSession"`, `"Connected"`, `{"AbbreviatedRead":{"len":15,"snippet":"250-a"}}`, `{"Write":"Subject: hi\r\n\r\nx\r\n"}`,
		}},
	} {
		var traces mtakit.Traces
		tr := trace(t, traceServer(t, httpapi.Config{Outbound: &traces, Inbound: &traces})+tt.path, tt.request)
		for i := range events {
			e := events[i]
			e.Meta = map[string]any{"id": "x"}
			traces.Publish(&e)
		}
		for _, want := range tt.want {
			if got := tr.next(); got != `{"conn_meta":{"id":"x"},"payload":`+want+`}` {
				t.Errorf("%s: got %s, want %s", tt.request, got, want)
			}
		}
		traces.Close()
		for tr.next() != "" {
		}
	}
}

func TestTraceFilters(t *testing.T) {
	t.Parallel()
	client := map[string]any{
		"campaign": "c", "tenant": "t", "domain": "y.test", "routing_domain": nil, "egress_pool": "p", "egress_source": "s", "mx_host": "mx.y.test",
		"mx_address": "192.0.2.1:25", "source_address": "10.0.0.1:4000", "sender": "a@x.test", "recipient": []string{"b@y.test", "c@y.test"},
		"ready_queue_name": "s->mx.y.test@smtp_client",
	}
	server := map[string]any{"received_from": "192.0.2.1:4000", "received_via": "10.0.0.1:25"}
	for _, tt := range []struct {
		path    string
		meta    map[string]any
		request string
		sees    bool
	}{
		{"client", client, `{}`, true},
		{"client", client, `{"campaign":["x","c"]}`, true},
		{"client", client, `{"campaign":["x"]}`, false},
		{"client", client, `{"tenant":["x"]}`, false},
		{"client", client, `{"domain":["x"]}`, false},
		{"client", client, `{"routing_domain":["x"]}`, true}, // it has none
		{"client", client, `{"egress_pool":["x"]}`, false},
		{"client", client, `{"egress_source":["x"]}`, false},
		{"client", client, `{"mx_host":["x"]}`, false},
		{"client", client, `{"mail_from":["x"]}`, false},
		{"client", client, `{"mail_from":["a@x.test"]}`, true},
		{"client", client, `{"rcpt_to":["x"]}`, false},
		{"client", client, `{"rcpt_to":["c@y.test"]}`, true},
		{"client", client, `{"ready_queue":["x"]}`, false},
		{"client", client, `{"ready_queue":["s->mx.y.test@smtp_client"]}`, true},
		{"client", client, `{"source_addr":["10.0.0.0/8"]}`, true},
		{"client", client, `{"source_addr":["10.1.0.0/16"]}`, false},
		{"client", client, `{"mx_addr":["192.0.2.1"]}`, true},
		{"client", client, `{"mx_addr":["192.0.2.2"]}`, false},
		{"client", map[string]any{"id": "x"}, `{"domain":["x"],"mx_addr":["192.0.2.2"],"rcpt_to":["x"]}`, true}, // not known yet
		{"server", server, `{"source_addr":["192.0.2.0/24"]}`, true},
		{"server", server, `{"source_addr":["198.51.100.0/24"]}`, false},
		{"server", server, `{"source_addr":null}`, true},
	} {
		var traces mtakit.Traces
		tr := trace(t, traceServer(t, httpapi.Config{Outbound: &traces, Inbound: &traces})+"/api/admin/trace-smtp-"+tt.path+"/v1", tt.request)
		traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceConnected, Meta: tt.meta})
		traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceClosed, Meta: map[string]any{}})
		if got := strings.Contains(tr.next(), `"Connected"`); got != tt.sees {
			t.Errorf("%s %s: seen is %v", tt.path, tt.request, got)
		}
	}
}

// What goes wrong ends the connection, and leaves nobody who watches.
func TestTraceBadClients(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var traces mtakit.Traces
	url := traceServer(t, httpapi.Config{Outbound: &traces})
	for which, status := range map[string]int{"server": 404, "client": http.StatusUpgradeRequired} { // there is none; no websocket
		resp, err := http.Get(url + "/api/admin/trace-smtp-" + which + "/v1")
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != status {
			t.Errorf("%s: status %d, want %d", which, resp.StatusCode, status)
		}
	}
	for _, request := range []string{"", "x", `{"domain":1}`, `{"mx_addr":["x"]}`, strings.Repeat("x", 70000)} {
		if got := trace(t, url+"/api/admin/trace-smtp-client/v1", request).next(); got != "" {
			t.Errorf("%.20q: %s", request, got)
		}
	}
	c, _, err := websocket.Dial(t.Context(), url+"/api/admin/trace-smtp-client/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Write(t.Context(), websocket.MessageBinary, []byte(`{}`))
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("a binary frame is answered")
	}
	untrusted := traceServer(t, httpapi.Config{Outbound: &traces, Trusted: mtakit.Prefixes{}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, resp, err := websocket.Dial(ctx, untrusted+"/api/admin/trace-smtp-client/v1", nil); err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("without a password: %v %v", resp, err)
	}
	_, resp, err := websocket.Dial(ctx, url+"/api/admin/trace-smtp-client/v1", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	if err == nil || resp == nil || resp.StatusCode != 403 {
		t.Errorf("from a page of another origin: %v %v", resp, err)
	}
	for traces.Watched() { // the handlers end when they notice
		select {
		case <-ctx.Done():
			t.Fatal("somebody still watches")
		default:
		}
	}
}
