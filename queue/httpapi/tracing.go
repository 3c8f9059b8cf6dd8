package httpapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/mtakit/mtakit"
)

const (
	traceClients = 64               // at once, for each direction
	traceFirst   = 10 * time.Second // for the client to say what it wants
	traceWrite   = 10 * time.Minute // for the client to take an event: somebody may be reading
	traceLast    = 5 * time.Second  // for the client to take what is left at the end
	traceLimit   = 64 << 10         // of what it says
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

// traceView is what one client wants to see.
type traceView struct {
	wants   func(*mtakit.TraceEvent) bool
	terse   bool
	inbound bool
}

// tracing serves a websocket: the client says what it wants in one text frame, and gets one for each event. KumoMTA's kcli takes any other frame for an
// error, so there are no pings, and the end is that of the connection.
func (a *API) tracing(t *mtakit.Traces, parse func([]byte) (traceView, error)) http.Handler {
	var clients atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := clients.Add(1); n > traceClients {
			clients.Add(-1)
			problem(w, http.StatusServiceUnavailable, "%d clients watch already", traceClients)
			return
		}
		defer clients.Add(-1)
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
		var others sync.WaitGroup
		defer others.Wait()
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
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		others.Go(func() {
			defer cancel()
			c.Reader(ctx) // answers pings; whatever else the client says is the end
		})
		others.Go(func() {
			select {
			case <-watch.Done():
				time.AfterFunc(traceLast, cancel)
			case <-ctx.Done():
			}
		})
		for {
			e, err := watch.Next(ctx)
			if err != nil {
				return
			}
			if e.Meta == nil || wants(e) { // it may be from before the client had its say
				if err := v.send(ctx, c, e); err != nil {
					a.cfg.Log.Debug("a trace ended", "err", err)
					return
				}
			}
		}
	})
}

func (v *traceView) send(ctx context.Context, c *websocket.Conn, e *mtakit.TraceEvent) error {
	b, err := v.frame(e)
	if err != nil { // a policy has put something into it that is no JSON
		if b, err = v.frame(presentable(e)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, traceWrite)
	defer cancel()
	return c.Write(ctx, websocket.MessageText, b)
}

// frame is the JSON of an event.
func (v *traceView) frame(e *mtakit.TraceEvent) ([]byte, error) {
	return marshal(struct {
		Meta    map[string]any `json:"conn_meta"`
		Payload any            `json:"payload"`
		When    timestamp      `json:"when"`
	}{e.Meta, v.payload(e), timestamp(e.Time)})
}

// presentable is e with null for what has no JSON form.
func presentable(e *mtakit.TraceEvent) *mtakit.TraceEvent {
	p := *e
	p.Meta, p.Result = jsonableMap(e.Meta), jsonable(e.Result)
	if e.Disposition != nil {
		d := *e.Disposition
		d.Meta, p.Disposition = jsonableMap(d.Meta), &d
	}
	return &p
}

func jsonableMap(m map[string]any) map[string]any {
	m = maps.Clone(m)
	for key, v := range m {
		m[key] = jsonable(v)
	}
	return m
}

// jsonable is v, or nil if v has no JSON form.
func jsonable(v any) any {
	if _, err := json.Marshal(v); err != nil {
		return nil
	}
	return v
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
		return map[string]any{kind: map[string]any{"name": e.Text, "result": e.Result, "error": text}}
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

// oneOrMany is how records have recipients.
func oneOrMany(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}
