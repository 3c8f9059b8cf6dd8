package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// routesInspect adds what looks at messages and queues.
func (a *API) routesInspect() {
	a.Handle("GET", "/api/admin/inspect-message/v1", http.HandlerFunc(a.inspectMessage))
	a.Handle("GET", "/api/admin/inspect-sched-q/v1", http.HandlerFunc(a.inspectScheduled))
	a.Handle("GET", "/api/admin/inspect-ready-q/v1", http.HandlerFunc(a.inspectReady))
	a.Handle("GET", "/api/admin/ready-q-states/v1", http.HandlerFunc(a.readyStates))
	a.Handle("GET", "/api/admin/resolve-egress-path/v1", http.HandlerFunc(a.resolvePath))
	a.Handle("POST", "/api/admin/abort-ready-q-conn/v1", http.HandlerFunc(a.abortSession))
}

// inspectMessage is GET /api/admin/inspect-message/v1.
func (a *API) inspectMessage(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	id, err := mtakit.ParseID(q.required("id"))
	if err != nil {
		q.fail("id", "%v", err)
	}
	wantBody := q.boolean("want_body")
	if q.bad(w) {
		return
	}
	m, body, err := a.fetch(r.Context(), id, wantBody)
	if err != nil {
		problem(w, http.StatusInternalServerError, "message %s: %v", id, err)
		return
	}
	out := begin(w)
	defer out.Flush()
	writeMessage(out, m.ID, messageOf(m), body)
}

// fetch loads a message, and opens its body if it is wanted.
func (a *API) fetch(ctx context.Context, id mtakit.ID, wantBody bool) (*mtakit.Message, mtakit.Body, error) {
	m, err := a.cfg.Queue.Message(ctx, id)
	if err != nil || !wantBody {
		return m, nil, err
	}
	body, err := a.cfg.Queue.Body(ctx, id)
	return m, body, err
}

// inspectScheduled is GET /api/admin/inspect-sched-q/v1. One message is in memory at a time.
func (a *API) inspectScheduled(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	name := q.required("queue_name")
	wantBody, limit := q.boolean("want_body"), q.count("limit")
	if q.bad(w) {
		return
	}
	ctx, queues, now := r.Context(), a.cfg.Queue, a.cfg.Now()
	parsed := mtakit.ParseQueueName(name)
	st, err := queues.Scheduled(parsed)
	if err != nil {
		problem(w, http.StatusNotFound, "no such queue %s", name)
		return
	}
	set, err := queues.Settings(ctx, parsed)
	if err != nil {
		problem(w, http.StatusInternalServerError, "settings of %s: %v", name, err)
		return
	}
	head, err := marshal(scheduledReply{name, st.Waiting, queueConfigOf(set), st.Waiting, timestamp(now), timestamp(st.Changed)})
	if err != nil {
		problem(w, http.StatusInternalServerError, "%v", err)
		return
	}
	out := begin(w)
	defer out.Flush()
	out.Write(head[:len(head)-1])
	out.WriteString(`,"messages":[`)
	n := 0
	for e := range queues.Waiting(parsed) {
		if n == limit {
			break
		}
		m, body, err := a.fetch(ctx, e.ID, wantBody)
		switch {
		case ctx.Err() != nil:
			panic(http.ErrAbortHandler)
		case errors.Is(err, mtakit.ErrNotFound): // it has gone since, or is only in memory
			continue
		case err != nil:
			a.cfg.Log.Warn("message not shown", "id", e.ID.String(), "err", err)
			continue
		}
		if n++; n > 1 {
			out.WriteByte(',')
		}
		shape := messageOf(m)
		if shape.Tries = &e.Tries; e.Due.After(now) {
			shape.Due = moment(e.Due)
		}
		writeMessage(out, m.ID, shape, body)
	}
	out.WriteString("]}")
}

// begin starts an answer in JSON that is written piece by piece. Errors of writing mean that the client has gone.
func begin(w http.ResponseWriter) *bufio.Writer {
	w.Header().Set("Content-Type", "application/json")
	return bufio.NewWriterSize(w, 16<<10)
}

// writeMessage writes a message, and closes body, of which only a piece is in memory; nil is that it is not wanted.
func writeMessage(w *bufio.Writer, id mtakit.ID, shape messageShape, body mtakit.Body) {
	b, err := marshal(shape)
	if err != nil {
		panic(http.ErrAbortHandler) // the client sees that the answer is not whole
	}
	fmt.Fprintf(w, `{"id":"%s","message":`, id)
	w.Write(b[:len(b)-1])
	w.WriteString(`,"data":`)
	if body == nil {
		w.WriteString("null")
	} else {
		defer body.Close()
		if err := writeString(w, io.NewSectionReader(body, 0, body.Size())); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	w.WriteString("}}")
}

// writeString writes what r has as a JSON string; what is not UTF-8 is replaced.
func writeString(w *bufio.Writer, r io.Reader) error {
	w.WriteByte('"')
	buf, quoted := make([]byte, 16<<10), make([]byte, 0, 20<<10)
	kept := 0 // bytes of a character that goes on in the next piece
	for {
		n, err := r.Read(buf[kept:])
		n += kept
		kept = 0
		if err == nil {
			kept = n - whole(buf[:n])
		}
		if n > kept {
			quoted = appendString(quoted[:0], string(buf[:n-kept]))
			w.Write(quoted[1 : len(quoted)-1])
		}
		if err == io.EOF {
			return w.WriteByte('"')
		}
		if err != nil {
			return err
		}
		copy(buf, buf[n-kept:n])
	}
}

// whole is how many bytes of b there are before a character whose end is missing.
func whole(b []byte) int {
	for i := max(0, len(b)-utf8.UTFMax+1); i < len(b); i++ {
		if utf8.RuneStart(b[i]) && !utf8.FullRune(b[i:]) {
			return i
		}
	}
	return len(b)
}

// inspectReady is GET /api/admin/inspect-ready-q/v1.
func (a *API) inspectReady(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	name, feeding := q.required("queue_name"), q.boolean("include_scheduled_queues")
	if q.bad(w) {
		return
	}
	st, err := a.cfg.Queue.Ready(name)
	if err != nil {
		problem(w, http.StatusNotFound, "no such ready queue %s", name)
		return
	}
	now := a.cfg.Now()
	reply := readyReply{
		Name: name, MX: mxOf(st.Path.Site, st.Path.Protocol, st.Domain), Source: st.Source, Pool: st.Pool, Protocol: st.Protocol, State: readyStateOf(&st, now),
		Path: pathConfigOf(st.Path.PathConfig), Constraints: constraintsOf(queue.CeilingsOf(st.Path.PathConfig, nil)), Now: timestamp(now),
		Dispatchers: entries(st.Sessions, func(s *queue.SessionStatus) dispatcher { return dispatcherOf(s, now) }),
	}
	if feeding {
		names, err := a.cfg.Queue.Feeding(name)
		if err != nil {
			names = []string{} // it has been forgotten just now, being empty
		}
		reply.Scheduled = &names
	}
	answer(w, reply)
}

// readyStates is GET /api/admin/ready-q-states/v1.
func (a *API) readyStates(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	if q.bad(w) {
		return
	}
	only := "," + strings.Join(q.values["queues"], ",") + ","
	out := begin(w)
	defer out.Flush()
	out.WriteString(`{"states_by_ready_queue":{`)
	first := true
	for name, held := range a.cfg.Queue.HeldQueues() {
		if q.values.Has("queues") && !strings.Contains(only, ","+name+",") { // names may have commas in them
			continue
		}
		b, err := marshal(map[string]heldState{held.State: {held.Context, timestamp(held.Since)}})
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		out.Write(append(appendString(nil, name), ':'))
		if _, err := out.Write(b); err != nil {
			return
		}
	}
	out.WriteString("}}")
}

// resolvePath is GET /api/admin/resolve-egress-path/v1. The domain may be the name of any scheduled queue.
func (a *API) resolvePath(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	domain, source := q.required("domain"), mtakit.Unspecified
	if q.values.Has("source") {
		source = q.values.Get("source")
	}
	if q.bad(w) {
		return
	}
	name := mtakit.ParseQueueName(domain)
	name.Domain = strings.ToLower(name.Domain)
	res, err := a.cfg.Queue.Resolve(r.Context(), name, source)
	if err != nil {
		problem(w, http.StatusInternalServerError, "%v", err)
		return
	}
	reply := resolveReply{
		Domain: domain, Source: source, QueueName: res.Path.Name, Queue: queueConfigOf(res.Settings), Path: pathConfigOf(res.Path.PathConfig),
		Constraints: constraintsOf(queue.CeilingsOf(res.Path.PathConfig, res.Settings)),
	}
	if res.RouteErr == nil {
		reply.MX = mxOf(res.Path.Site, res.Path.Protocol, name.RoutingDomain())
	}
	answer(w, reply)
}

// abortSession is POST /api/admin/abort-ready-q-conn/v1.
func (a *API) abortSession(w http.ResponseWriter, r *http.Request) {
	var name, id string
	if !a.read(w, r, func(r *reader) {
		r.lenient("struct AbortReadyQConnV1Request", 2, field{"queue_name", func() { name = r.str() }}, field{"session_id", func() { id = r.uuid() }})
	}) {
		return
	}
	if err := a.cfg.Queue.Abort(name, id); err != nil {
		text(w, http.StatusNotFound, "no matching dispatcher for queue="+name+" session="+id)
		return
	}
	text(w, http.StatusOK, "aborted "+id)
}
