package httpapi

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/mtakit/mtakit"
)

const (
	traceFirst = 10 * time.Second // for the client to say what it wants
	traceWrite = 30 * time.Second // for the client to take an event
	traceLimit = 64 << 10         // of what it says
)

func (a *API) routesTracing() {
	if t := a.cfg.Outbound; t != nil {
		a.Handle("GET", "/api/admin/trace-smtp-client/v1", a.tracing(t, func(b []byte) (traceView, error) {
			var r ClientTraceRequest
			err := json.Unmarshal(b, &r)
			return traceView{r.wants, r.Terse, false}, err
		}))
	}
	if t := a.cfg.Inbound; t != nil {
		a.Handle("GET", "/api/admin/trace-smtp-server/v1", a.tracing(t, func(b []byte) (traceView, error) {
			var r ServerTraceRequest
			err := json.Unmarshal(b, &r)
			return traceView{r.wants, r.Terse, true}, err
		}))
	}
}

// ClientTraceRequest is the first frame of a client of trace-smtp-client. An empty list matches everything, and so does a list of a property that a
// session has not got, or not yet.
type ClientTraceRequest struct {
	Campaign      []string        `json:"campaign"`
	Tenant        []string        `json:"tenant"`
	Domain        []string        `json:"domain"`
	RoutingDomain []string        `json:"routing_domain"`
	EgressPool    []string        `json:"egress_pool"`
	EgressSource  []string        `json:"egress_source"`
	MXHost        []string        `json:"mx_host"`
	MailFrom      []string        `json:"mail_from"`
	RcptTo        []string        `json:"rcpt_to"`
	ReadyQueue    []string        `json:"ready_queue"`
	SourceAddr    mtakit.Prefixes `json:"source_addr"`
	MXAddr        mtakit.Prefixes `json:"mx_addr"`
	Terse         bool            `json:"terse,omitempty"` // of what has several lines, only the first one and the size
}

func (r *ClientTraceRequest) wants(e *mtakit.TraceEvent) bool {
	for _, f := range [...]struct {
		key  string
		want []string
	}{
		{"campaign", r.Campaign}, {"tenant", r.Tenant}, {"domain", r.Domain}, {"routing_domain", r.RoutingDomain}, {"egress_pool", r.EgressPool},
		{"egress_source", r.EgressSource}, {"mx_host", r.MXHost}, {"sender", r.MailFrom}, {"ready_queue_name", r.ReadyQueue},
	} {
		if has, ok := e.Meta[f.key].(string); ok && len(f.want) > 0 && !slices.Contains(f.want, has) {
			return false
		}
	}
	if to, ok := e.Meta["recipient"].([]string); ok && len(r.RcptTo) > 0 && !slices.ContainsFunc(to, func(s string) bool { return slices.Contains(r.RcptTo, s) }) {
		return false
	}
	return within(r.SourceAddr, e.Meta["source_address"]) && within(r.MXAddr, e.Meta["mx_address"])
}

// ServerTraceRequest is the first frame of a client of trace-smtp-server.
type ServerTraceRequest struct {
	SourceAddr mtakit.Prefixes `json:"source_addr"` // of the peer; empty is all
	Terse      bool            `json:"terse,omitempty"`
}

func (r *ServerTraceRequest) wants(e *mtakit.TraceEvent) bool {
	return within(r.SourceAddr, e.Meta["received_from"])
}

// within says whether an address, with its port or without, is in one of the networks. What is no address is.
func within(networks mtakit.Prefixes, address any) bool {
	s, ok := address.(string)
	if !ok || len(networks) == 0 {
		return true
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return true
	}
	return networks.Contains(addr.Unmap())
}

// traceView is what one client wants to see.
type traceView struct {
	wants   func(*mtakit.TraceEvent) bool
	terse   bool
	inbound bool
}

// tracing serves a websocket: the client says what it wants in one text frame, and gets one for each event. KumoMTA's kcli takes any other frame for an
// error, so there are no pings, and the end is that of the connection.
func (a *API) tracing(t *mtakit.Traces, parse func([]byte) (traceView, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Watched before the client can do anything that it wants to see; what it wants is known later.
		var view atomic.Pointer[traceView]
		wants := func(e *mtakit.TraceEvent) bool {
			v := view.Load()
			return v == nil || v.wants(e)
		}
		watch := t.Watch(wants)
		defer watch.Close()
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // answered
		}
		defer c.CloseNow()
		c.SetReadLimit(traceLimit)
		first, cancel := context.WithTimeout(r.Context(), traceFirst)
		defer cancel()
		kind, b, err := c.Read(first)
		if err != nil || kind != websocket.MessageText {
			return
		}
		v, err := parse(b)
		if err != nil {
			a.cfg.Log.Warn("request for a trace not understood", "err", err)
			return
		}
		view.Store(&v)
		ctx := c.CloseRead(r.Context())
		for {
			e, err := watch.Next(ctx)
			if err != nil {
				return
			}
			if e.Meta == nil || wants(e) { // it may be from before the client had its say
				if v.send(ctx, c, e) != nil {
					return
				}
			}
		}
	})
}

func (v *traceView) send(ctx context.Context, c *websocket.Conn, e *mtakit.TraceEvent) error {
	b, err := json.Marshal(struct {
		Meta    map[string]any `json:"conn_meta"`
		Payload any            `json:"payload"`
		When    time.Time      `json:"when"`
	}{e.Meta, v.payload(e), e.Time.UTC()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, traceWrite)
	defer cancel()
	return c.Write(ctx, websocket.MessageText, b)
}

// payload is an event as KumoMTA's enum has it.
func (v *traceView) payload(e *mtakit.TraceEvent) any {
	kind := string(e.Kind)
	switch e.Kind {
	case mtakit.TraceRead, mtakit.TraceWrite:
		if v.terse && (e.Kind == mtakit.TraceRead) == v.inbound {
			if first, _, more := strings.Cut(strings.TrimRight(e.Text, "\r\n"), "\n"); more {
				return map[string]any{"Abbreviated" + kind: map[string]any{"snippet": strings.TrimSuffix(first, "\r"), "len": len(e.Text)}}
			}
		}
		return map[string]any{kind: e.Text}
	case mtakit.TraceDiagnostic:
		return map[string]any{kind: map[string]any{"level": e.Level.String(), "message": e.Text}}
	case mtakit.TraceCallback:
		var text any
		if e.Err != nil {
			text = e.Err.Error()
		}
		return map[string]any{kind: map[string]any{"name": e.Text, "result": jsonable(e.Result), "error": text}}
	case mtakit.TraceDisposition:
		d := e.Disposition
		meta := d.Meta
		if meta == nil {
			meta = map[string]any{}
		}
		return map[string]any{kind: map[string]any{
			"relay": d.Relay, "log_arf": d.LogARF, "log_oob": d.LogOOB, "queue": d.Queue, "meta": meta, "sender": d.Sender, "recipient": oneOrMany(d.To),
			"id": d.ID.String(), "was_arf_or_oob": d.IsReport, "will_enqueue": d.Enqueue,
		}}
	}
	return kind
}

// jsonable is v, or null if v is a type that has no JSON form.
func jsonable(v any) any {
	if _, err := json.Marshal(v); err != nil {
		return nil
	}
	return v
}

// oneOrMany is how records have recipients.
func oneOrMany(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}
