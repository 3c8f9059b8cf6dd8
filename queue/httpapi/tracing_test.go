package httpapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
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
	odd := *disposition
	odd.Meta, odd.To = map[string]any{"a": 1, "b": math.NaN()}, []string{"b@y.test", "c@y.test"} // what has no JSON form is left out
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
		{Kind: mtakit.TraceDisposition, Disposition: &odd},
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
			`{"MessageDisposition":{"id":"01020304050677088` + `90a0b0c0d0e0f10","log_arf":"Ignore","log_oob":"LogThenDrop","meta":{"a":1,"b":null},"queue":"t@y.test",` +
				`"recipient":["b@y.test","c@y.test"],"relay":true,"sender":"a@x.test","was_arf_or_oob":false,"will_enqueue":true}}`,
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
		{"client", client, `{"mx_host":["MX.y.test."],"domain":["y.test."]}`, true},                             // as KumoMTA shows them
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

// What goes wrong ends the connection.
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
	long := trace(t, url+"/api/admin/trace-smtp-client/v1", `{"campaign":["`+strings.Repeat("x", 50000)+`"]}`)
	traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceConnected, Meta: map[string]any{"id": "x"}})
	if got := long.next(); got == "" {
		t.Error("a request of 50,000 bytes is not understood")
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
}

// The description of the API has the fields of the requests.
func TestTraceSchemas(t *testing.T) {
	t.Parallel()
	resp, err := http.Get(traceServer(t, httpapi.Config{}) + "/api-docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var doc struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	for name, request := range map[string]any{"TraceSmtpClientV1Request": httpapi.ClientTraceRequest{}, "TraceSmtpServerV1Request": httpapi.ServerTraceRequest{}} {
		fields := make(map[string]bool)
		for f := range reflect.TypeOf(request).Fields() {
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields[tag] = true
			if doc.Components.Schemas[name].Properties[tag] == nil {
				t.Errorf("%s lacks %s", name, tag)
			}
		}
		for p := range doc.Components.Schemas[name].Properties {
			if !fields[p] {
				t.Errorf("%s has %s, which nobody reads", name, p)
			}
		}
	}
}

// bubble serves traces on a network in memory, and gives what dials it. It is for synctest.
func bubble(t *testing.T, traces *mtakit.Traces) (dial func() (*websocket.Conn, error), stop func()) {
	t.Helper()
	var n smtptest.Network
	l, err := n.Listen("127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	api, err := httpapi.New(httpapi.Config{Submit: new(outbox).submit, NewID: func() mtakit.ID { return mtakit.ID{} }, Outbound: traces})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: api}
	go srv.Serve(l)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return n.Dial(ctx, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort("127.0.0.1:80"))
	}}
	dial = func() (*websocket.Conn, error) {
		c, resp, err := websocket.Dial(t.Context(), "http://127.0.0.1/api/admin/trace-smtp-client/v1", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
		if err != nil {
			if resp != nil {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
			return nil, err
		}
		c.SetReadLimit(16 << 20)
		return c, nil
	}
	return dial, func() {
		srv.Close()
		tr.CloseIdleConnections()
	}
}

func mustTrace(t *testing.T, dial func() (*websocket.Conn, error)) *tracer {
	t.Helper()
	c, err := dial()
	if err == nil {
		err = c.Write(t.Context(), websocket.MessageText, []byte("{}"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return &tracer{t, c}
}

// A client that takes nothing holds nobody up, loses events, and is told how many as soon as it reads on, which may be minutes later.
func TestTraceSlowClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var traces mtakit.Traces
		dial, stop := bubble(t, &traces)
		tr := mustTrace(t, dial)
		synctest.Wait()
		block := strings.Repeat("x", 1<<20)
		start := time.Now()
		const n = 200
		for range n {
			traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceWrite, Meta: map[string]any{}, Text: block})
			synctest.Wait() // the handler takes what it can
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("publishing took %v", took)
		}
		time.Sleep(5 * time.Minute)
		seen, missed := 0, 0
		for seen+missed < n {
			switch e := tr.next(); {
			case strings.Contains(e, `{"Write":"x`):
				seen++
			default:
				const lag = `{"conn_meta":null,"payload":{"Diagnostic":{"level":"ERROR","message":"Tracer Lagged behind and missed %d events"}}}`
				k := 0
				if _, err := fmt.Sscanf(e, lag, &k); err != nil || k == 0 || missed > 0 {
					t.Fatalf("after %d events: %.200s", seen, e)
				}
				missed = k
			}
		}
		if seen < 60 || missed < 100 {
			t.Errorf("%d events seen, %d missed", seen, missed)
		}
		traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceClosed, Meta: map[string]any{}}) // it goes on
		if e := tr.next(); !strings.Contains(e, `"Closed"`) {
			t.Errorf("after the loss: %.200s", e)
		}
		traces.Close()
		if e := tr.next(); e != "" {
			t.Errorf("after the end: %.200s", e)
		}
		stop()
	})
}

// The end of the traces ends clients that take nothing too, and so does patience. Neither sends a closing frame.
func TestTraceStuckClient(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		close bool
		after time.Duration
	}{"closed": {true, 5 * time.Second}, "patience": {false, 10 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var traces mtakit.Traces
				dial, stop := bubble(t, &traces)
				tr := mustTrace(t, dial)
				synctest.Wait()
				traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceWrite, Meta: map[string]any{}, Text: strings.Repeat("x", 1<<20)})
				synctest.Wait()
				if tt.close {
					traces.Close()
				}
				time.Sleep(tt.after - time.Second)
				synctest.Wait()
				if !tt.close && !traces.Watched() {
					t.Error("ended too early")
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if traces.Watched() {
					t.Error("still watches")
				}
				if _, _, err := tr.conn.Read(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
					t.Errorf("the end is %v", err)
				}
				tr.conn.CloseNow()
				stop()
			})
		})
	}
}

// One who never says what it wants is let go, and there is room for so many clients only.
func TestTraceManyClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var traces mtakit.Traces
		dial, stop := bubble(t, &traces)
		var clients []*websocket.Conn
		for {
			c, err := dial()
			if err != nil {
				if len(clients) != 64 || err.Error() != "status 503" {
					t.Errorf("after %d clients: %v", len(clients), err)
				}
				break
			}
			clients = append(clients, c)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if traces.Watched() {
			t.Error("somebody who said nothing still watches")
		}
		c, err := dial()
		if err != nil {
			t.Errorf("when the others had gone: %v", err)
		} else {
			clients = append(clients, c)
		}
		for _, c := range clients {
			c.CloseNow()
		}
		synctest.Wait()
		if traces.Watched() {
			t.Error("somebody who has gone still watches")
		}
		stop()
	})
}

// A ping is answered; a closing frame, and whatever else a client says after its request, is the end.
func TestTraceClientFrames(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   func(context.Context, *websocket.Conn) error
		ends bool
	}{
		"ping": {func(ctx context.Context, c *websocket.Conn) error { return c.Ping(ctx) }, false},
		"text": {func(ctx context.Context, c *websocket.Conn) error {
			return c.Write(ctx, websocket.MessageText, []byte("{}"))
		}, true},
		"binary": {func(ctx context.Context, c *websocket.Conn) error {
			return c.Write(ctx, websocket.MessageBinary, []byte("{}"))
		}, true},
		"close": {func(_ context.Context, c *websocket.Conn) error { return c.Close(websocket.StatusNormalClosure, "") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var traces mtakit.Traces
				dial, stop := bubble(t, &traces)
				c := mustTrace(t, dial).conn
				read := make(chan struct{})
				go func() {
					defer close(read)
					c.Read(t.Context())
				}()
				if err := tt.do(t.Context(), c); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if traces.Watched() == tt.ends {
					t.Errorf("watched: %v", traces.Watched())
				}
				c.CloseNow()
				<-read
				stop()
			})
		})
	}
}

// A page of our own may watch: a browser says where it comes from, offers compression, and has the password that its user gave for the page.
func TestTraceFromBrowser(t *testing.T) {
	t.Parallel()
	var traces mtakit.Traces
	url := traceServer(t, httpapi.Config{Outbound: &traces, Trusted: mtakit.Prefixes{},
		Auth: users{"u": "p"},
		Permit: func(_ context.Context, a *httpapi.Access) (httpapi.Permission, error) {
			if len(a.Auth.Identities) > 0 {
				return httpapi.Allowed, nil
			}
			return httpapi.NotPermitted, nil
		}})
	header := http.Header{"Origin": {url}, "Accept-Encoding": {"gzip, deflate, br"}, "Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("u:p"))}}
	c, _, err := websocket.Dial(t.Context(), url+"/api/admin/trace-smtp-client/v1", &websocket.DialOptions{HTTPHeader: header, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"ready_queue":["s->a.test@smtp_client"]}`)); err != nil {
		t.Fatal(err)
	}
	for _, site := range []string{"a", "b"} {
		traces.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceConnected, Meta: map[string]any{"ready_queue_name": "s->" + site + ".test@smtp_client"}})
	}
	traces.Close()
	tr := &tracer{t, c}
	if got, want := tr.next(), `{"conn_meta":{"ready_queue_name":"s->a.test@smtp_client"},"payload":"Connected"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := tr.next(); got != "" {
		t.Errorf("got %s, want the end", got)
	}
}

// FuzzTraceRequest: what is read as a request is the same when it is written and read again, and a value that it names is let through.
func FuzzTraceRequest(f *testing.F) {
	for _, s := range []string{`{}`, `null`, `{"campaign":["a"],"tenant":null,"source_addr":["10.0.0.0/8","::1"],"mx_addr":null,"terse":true}`,
		`{"mx_host":["mx.y.test."],"rcpt_to":["a@y.test"],"mail_from":[""]}`, `{"domain":"x"}`, `[]`, `{"terse":1}`, `{"mx_addr":["1.2.3.4/33"]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := httpapi.ParseClientTrace([]byte(s))
		if err != nil {
			return
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := httpapi.ParseClientTrace(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if b2, _ := json.Marshal(again); string(b2) != string(b) {
			t.Fatalf("%s becomes %s", b, b2)
		}
		meta := map[string]any{"recipient": []string{"nobody@z.test"}}
		for key, names := range map[string][]string{"campaign": r.Campaign, "tenant": r.Tenant, "domain": r.Domain, "routing_domain": r.RoutingDomain,
			"egress_pool": r.EgressPool, "egress_source": r.EgressSource, "mx_host": r.MXHost, "sender": r.MailFrom, "ready_queue_name": r.ReadyQueue} {
			if len(names) > 0 {
				meta[key] = names[len(names)-1]
			}
		}
		if n := len(r.RcptTo); n > 0 {
			meta["recipient"] = []string{"nobody@z.test", r.RcptTo[n-1]}
		}
		for key, networks := range map[string]mtakit.Prefixes{"source_address": r.SourceAddr, "mx_address": r.MXAddr} {
			if n := networks.Strings(); len(n) > 0 {
				addr, _, _ := strings.Cut(n[0], "/")
				meta[key] = net.JoinHostPort(addr, "25")
			}
		}
		e := &mtakit.TraceEvent{Kind: mtakit.TraceConnected, Meta: meta}
		if !httpapi.Wants(&r, e) {
			t.Fatalf("%s does not want %v", b, meta)
		}
		for key, wanted := range map[string]bool{"sender": len(r.MailFrom) == 0, "ready_queue_name": len(r.ReadyQueue) == 0, "mx_host": len(r.MXHost) == 0} {
			old, had := meta[key]
			if meta[key] = s + "\x00none of them"; httpapi.Wants(&r, e) != wanted {
				t.Fatalf("%s: %s is filtered: %v", b, key, wanted)
			}
			if delete(meta, key); had {
				meta[key] = old
			}
		}
	})
}
