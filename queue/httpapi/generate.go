package httpapi

import (
	"context"
	"errors"
	"io"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/internal/uuid"
	"github.com/mtakit/mtakit/queue"
)

// GeneratorQueue is the scheduled queue of requests whose messages are generated later.
const GeneratorQueue = queue.GeneratorQueue

// GeneratorProtocol is the delivery protocol of its records.
const GeneratorProtocol = "HttpInjectionGenerator"

// metaGenerated is how many recipients of a request are done.
const metaGenerated = "generated_recipients"

// deferGeneration submits the request itself as a message.
func (a *API) deferGeneration(ctx context.Context, in *injection) reply {
	b, err := in.q.normalised()
	if err != nil {
		a.cfg.Log.Error("injection failed", "err", err)
		return reply{status: 500, text: "Error: internal error"}
	}
	o := in.origin
	m := &mtakit.Message{ID: a.cfg.NewID(), Sender: in.sender, To: []string{""}, Meta: map[string]any{
		mtakit.MetaQueue: GeneratorQueue, "auth_info": o.auth.meta(), "http_auth": o.summary, mtakit.MetaReceptionProtocol: "HTTP",
	}}
	if o.from != "" {
		m.Meta[mtakit.MetaReceivedFrom] = o.from
	}
	d := mtakit.Durable
	if in.q.deferredSpool {
		d = mtakit.Volatile
	}
	err = a.cfg.Submit(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes(b)}}, d)
	switch {
	case err == nil:
		return reply{status: 200, json: resultJSON(0, &failures{})}
	case ctx.Err() != nil:
		return interrupted
	case shortage(err) != nil:
		return failure(503, shortage(err))
	}
	return failure(500, err)
}

// Generator returns the Egress of [GeneratorQueue]: to deliver a message of that queue is to generate the messages that the request in it asks for. If
// that is interrupted, or the spool takes no more, the request is tried again and goes on after the last batch that is known to have been accepted, see
// Config.Update; so that a crash may repeat messages, and none is lost. Recipients that fail are not reported, except to the log.
func (a *API) Generator() mtakit.Egress {
	return mtakit.EgressFunc(func(context.Context, *mtakit.Path) (mtakit.Session, error) {
		return &generator{api: a, info: mtakit.SessionInfo{
			ID: uuid.String(a.cfg.NewID()), PeerName: GeneratorQueue, Protocol: GeneratorProtocol,
		}}, nil
	})
}

// generator is a session of Generator.
type generator struct {
	api  *API
	info mtakit.SessionInfo
}

func (g *generator) Info() *mtakit.SessionInfo { return &g.info }

func (g *generator) Close() error { return nil }

// lent is the body of a message, which its owner closes.
type lent struct{ mtakit.Body }

func (lent) Close() error { return nil }

// Send implements [mtakit.Session].
func (g *generator) Send(ctx context.Context, d *mtakit.Delivery, _ func() *mtakit.Delivery) error {
	r, err := g.generate(ctx, d.Message, d.Body)
	if err != nil {
		return err
	}
	for _, i := range d.Rcpts {
		d.Results = append(d.Results, mtakit.Result{Rcpt: i, Response: r})
	}
	return nil
}

// generate carries a request out. An error means that ctx ended.
func (g *generator) generate(ctx context.Context, m *mtakit.Message, b mtakit.Body) (mtakit.Response, error) {
	a := g.api
	permanent := func(err error) (mtakit.Response, error) {
		return mtakit.Response{Code: 500, Text: oneLine(err.Error())}, nil
	}
	temporary := func(why string) (mtakit.Response, error) {
		return mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 3, 0}, Text: mtakit.Internal + why}, nil
	}
	if why := a.refusal(); why != "" {
		return temporary(why)
	}
	weight := min(max(b.Size(), 1), a.cfg.MaxInFlight)
	if err := a.inFlight.Acquire(ctx, weight); err != nil {
		return mtakit.Response{}, err
	}
	defer a.inFlight.Release(weight)
	q, err := parseRequest(lent{b})
	if err != nil {
		return permanent(err)
	}
	o := &origin{auth: authInfoOf(m.Meta["auth_info"]), summary: m.MetaString("http_auth"), from: m.MetaString(mtakit.MetaReceivedFrom)}
	in, _, err := a.prepare(q, o)
	if err != nil {
		return permanent(err)
	}
	in.resuming = true
	done := generated(m)
	start := done
	save := func() {
		if done == start {
			return
		}
		start = done
		if m.Meta == nil {
			m.Meta = make(map[string]any)
		}
		m.Meta[metaGenerated] = done
		if a.cfg.Update == nil {
			return
		}
		err := a.cfg.Update(context.WithoutCancel(ctx), m)
		if err != nil && !errors.Is(err, mtakit.ErrNotFound) { // not found is what was never stored
			a.cfg.Log.Error("progress of deferred generation is not kept; an interruption would repeat messages", "id", m.ID.String(), "err", err)
		}
	}
	err = in.run(ctx, done, func(n int) {
		if done = n; done-start >= 100*batchCount {
			save()
		}
	})
	if in.failures.count > 0 {
		first := in.failures.errors[:min(len(in.failures.errors), 1000)]
		a.cfg.Log.Warn("deferred generation: recipients failed", "id", m.ID.String(), "count", in.failures.count, "errors", string(first))
	}
	switch {
	case err == nil:
		return mtakit.Response{Code: 250, Text: "ok"}, nil
	case ctx.Err() != nil:
		save()
		return mtakit.Response{}, ctx.Err()
	case shortage(err) != nil:
		save()
		return temporary(shortage(err).Error())
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return permanent(err)
}

// generated is how many recipients are done.
func generated(m *mtakit.Message) int {
	switch n := m.Meta[metaGenerated].(type) {
	case int:
		return n
	case int64:
		return int(n)
	case float64:
		return int(n)
	}
	return 0
}
