package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi/template"
	"github.com/mtakit/mtakit/rfc5322"
)

// rateKey is the bucket of Config.RecipientRate.
const rateKey = "kumomta.httpinject.ratelimit"

// reply is how a request is answered.
type reply struct {
	status int
	text   string
	json   []byte
}

func (p reply) write(w http.ResponseWriter) {
	if p.json != nil {
		writeJSON(w, p.status, p.json)
		return
	}
	text(w, p.status, p.text)
}

// interrupted is for a client that has gone, unless it is the server that stops.
var interrupted = reply{status: http.StatusServiceUnavailable, text: "Error: the request was interrupted"}

func failure(status int, err error) reply {
	return reply{status: status, text: "Error: " + err.Error()}
}

// inject is POST /api/inject/v1.
func (a *API) inject(w http.ResponseWriter, r *http.Request) {
	key, ok := a.repeatable(w, r)
	if !ok {
		return
	}
	var tap io.Writer
	if key != nil {
		tap = key.body
	}
	source, ok := a.readJSON(w, r, tap)
	if !ok {
		return
	}
	defer source.Close()
	a.injected(r, source, key).write(w)
}

// injected does what the request asks for when there is room for it. Whoever is slow to read the answer takes none, nor who waits for an answer that
// another request gets.
func (a *API) injected(r *http.Request, source body, key *repeatable) reply {
	work := func(ctx context.Context, p progress) reply {
		weight := min(max(source.Size(), 1), a.cfg.MaxInFlight)
		if a.inFlight.Acquire(r.Context(), weight) != nil {
			return interrupted
		}
		defer a.inFlight.Release(weight)
		q, err := parseRequest(source)
		if bad := (*badRequest)(nil); errors.As(err, &bad) {
			return reply{status: bad.status, text: bad.text}
		}
		return a.perform(ctx, q, originOf(callerOf(r), a.cfg.ListenerHostname), p)
	}
	if key != nil {
		return a.once(r.Context(), key, work)
	}
	return work(r.Context(), progress{})
}

// Inject does in this process what POST /api/inject/v1 does: it takes the body of a request and returns that of the answer. The rate of recipients does not
// apply, nor does BodyLimit. An error means that the request was refused as a whole, or cut off by the end of ctx.
func (a *API) Inject(ctx context.Context, body []byte) ([]byte, error) {
	if why := a.refusal(); why != "" {
		return nil, errors.New(why)
	}
	q, err := parseRequest(memory{bytes.NewReader(body)})
	if err != nil {
		return nil, err
	}
	here := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	auth := &AuthInfo{PeerAddress: here, Identities: []Identity{{"kumomta.internal", LocalSystem}}}
	in, _, err := a.prepare(q, &origin{auth: auth, summary: auth.Summary(), from: here.String(), hostname: a.cfg.ListenerHostname})
	if err != nil {
		return nil, err
	}
	if q.deferredGeneration {
		if p := a.deferGeneration(ctx, in); p.status != http.StatusOK {
			return nil, errors.New(strings.TrimPrefix(p.text, "Error: "))
		}
		return resultJSON(0, &failures{}), nil
	}
	if err := in.run(ctx, 0, nil); err != nil {
		return nil, err
	}
	return in.result(), nil
}

// origin is where a request came from.
type origin struct {
	auth                *AuthInfo
	summary             string // of auth
	from, via, hostname string
}

func originOf(c *caller, hostname string) *origin {
	o := &origin{auth: &c.auth, summary: c.auth.Summary(), hostname: hostname}
	if c.auth.PeerAddress.IsValid() {
		o.from = c.auth.PeerAddress.String()
	}
	if c.local.IsValid() {
		o.via = c.local.Addr().String()
	}
	return o
}

// How often progress is kept, and with how many failures it is too large for that.
const (
	keepEvery    = 16 * batchCount
	keepFailures = 64 << 10 // bytes
)

// perform does what the request asks for, or what is left of it.
func (a *API) perform(ctx context.Context, q *request, o *origin, p progress) reply {
	if why := a.refusal(); why != "" {
		return failure(http.StatusServiceUnavailable, errors.New(why))
	}
	first := 0
	if p.known != nil {
		first = min(p.known.Done, q.recipients)
	}
	if err := a.pace(ctx, q.recipients-first); err != nil {
		if ctx.Err() != nil {
			return interrupted
		}
		a.cfg.Log.Error("recipient rate can't be asked", "err", err)
		return reply{status: http.StatusInternalServerError, text: "Error: try again later"}
	}
	in, status, err := a.prepare(q, o)
	if err != nil {
		return failure(status, err)
	}
	if q.deferredGeneration {
		return a.deferGeneration(ctx, in)
	}
	if first > 0 {
		if err := in.restore(p.known.Body); err != nil {
			a.cfg.Log.Error("what was kept of an injection can't be read", "err", err)
			return reply{status: http.StatusInternalServerError, text: "Error: internal error"}
		}
	}
	kept := first
	err = in.run(ctx, first, func(done int) {
		if p.keep != nil && done-kept >= keepEvery && done < q.recipients && len(in.failures.errors) < keepFailures {
			kept = done
			p.keep(done, in.result())
		}
	})
	switch limit := (*firstLimit)(nil); {
	case err == nil:
		return reply{status: http.StatusOK, json: in.result()}
	case ctx.Err() != nil:
		return interrupted
	case errors.As(err, &limit):
		return failure(http.StatusUnprocessableEntity, err)
	case shortage(err) != nil:
		return failure(http.StatusServiceUnavailable, shortage(err))
	}
	a.cfg.Log.Error("injection failed", "err", err)
	return reply{status: http.StatusInternalServerError, text: "Error: internal error"}
}

// pace waits until n recipients are within the rate. More than the rate allows at once are asked for in parts.
func (a *API) pace(ctx context.Context, n int) error {
	rate := a.cfg.RecipientRate
	if rate.IsZero() {
		return nil
	}
	most := rate.N
	if rate.Burst > 0 {
		most = rate.Burst
	}
	for n > 0 {
		part := min(n, most)
		wait, err := a.cfg.Throttles.Take(ctx, rateKey, rate, part)
		if err != nil {
			return err
		}
		if wait <= 0 {
			n -= part
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return nil
}

// prepare makes a request ready to run; the error is the client's.
func (a *API) prepare(q *request, o *origin) (in *injection, status int, err error) {
	in = &injection{api: a, q: q, origin: o}
	if in.sender = q.sender; in.sender == "<>" {
		in.sender = ""
	}
	if in.sender != "" {
		if in.sender, err = rfc5322.ParseAddress(q.sender); err != nil {
			return nil, http.StatusInternalServerError, errors.New("envelope_sender: " + err.Error())
		}
	}
	if _, err = rfc5322.NewField(q.trace.name, ""); err != nil {
		return nil, http.StatusUnprocessableEntity, errors.New("trace_headers.header_name: " + err.Error())
	}
	if in.plan, err = a.compile(q); err != nil {
		return nil, http.StatusUnprocessableEntity, err
	}
	return in, 0, nil
}

// shortage is what to tell a client of a storage that takes nothing for the moment; nil for other errors.
func shortage(err error) error {
	switch {
	case errors.Is(err, mtakit.ErrClosed):
		return errors.New("shutting down")
	case errors.Is(err, mtakit.ErrSpoolFull):
		return errors.New("disk is too full")
	case errors.Is(err, mtakit.ErrUnhealthy):
		return errors.New("the spool is not accepting writes")
	}
	return nil
}

// Messages are submitted in batches, which share a commit of the spool.
const (
	batchCount = 256
	batchBytes = 1 << 20  // of what messages have to themselves
	batchTotal = 16 << 20 // with what they share
)

// injection is a request that is being carried out.
type injection struct {
	api    *API
	q      *request
	plan   *plan
	origin *origin
	sender string

	batch         []mtakit.Submission
	emails        []string // of the batch, as the client wrote them
	unique, total int64    // bytes of the batch

	accepted int
	failures failures
	resuming bool // a shortage ends the run rather than failing recipients
}

// firstLimit is a template that exceeds its limits for the first recipient, before anything was submitted: it would for the others, too.
type firstLimit struct{ error }

// run generates the messages for the recipients from number first on. progress, unless nil, is told how many are done after each batch. An error means
// that not all were dealt with; a shortage is one only if nothing was accepted, or if resuming.
func (in *injection) run(ctx context.Context, first int, progress func(done int)) error {
	done := first
	flush := func() error {
		if err := in.flush(ctx); err != nil {
			return err
		}
		if progress != nil {
			progress(done)
		}
		return nil
	}
	err := in.q.eachRecipient(first, func(i int, p *recipient) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := in.generate(ctx, p)
		done = i + 1
		switch {
		case errors.Is(err, template.ErrLimit) && i == 0:
			return &firstLimit{err}
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			in.failures.add(p.email, err)
		}
		if len(in.batch) >= batchCount || in.unique >= batchBytes || in.total >= batchTotal {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// generate adds the message for one recipient to the batch.
func (in *injection) generate(ctx context.Context, p *recipient) error {
	a, o := in.api, in.origin
	a.received.Inc()
	to, err := rfc5322.ParseAddress(p.email)
	if err != nil {
		return err
	}
	parts, err := in.plan.message(p, to, in.q.substitutions)
	if err != nil {
		return err
	}
	m := &mtakit.Message{ID: a.cfg.NewID(), Sender: in.sender, To: []string{to}, Meta: map[string]any{
		"http_auth": o.summary, mtakit.MetaReceptionProtocol: "HTTP",
	}}
	for key, v := range map[string]string{mtakit.MetaReceivedFrom: o.from, mtakit.MetaReceivedVia: o.via, mtakit.MetaHostname: o.hostname} {
		if v != "" {
			m.Meta[key] = v
		}
	}
	if len(p.metadata) > 0 {
		m.Meta["extra"] = p.metadata
	}
	if in.q.trace.received {
		parts = append([][]byte{a.appendReceived(nil, m, o.auth.PeerAddress)}, parts...)
	}
	s := mtakit.Submission{Message: m, Body: newChunks(parts...)}
	if a.cfg.Generated != nil {
		err := a.cfg.Generated(ctx, &s, o.auth)
		var delay *mtakit.Delay
		if errors.As(err, &delay) {
			m.Due = a.cfg.Now().Add(delay.For)
		} else if err != nil {
			return err
		}
	}
	if m.Queue == (mtakit.QueueName{}) {
		if m.Queue, err = m.DeriveQueue(); err != nil {
			return err
		}
	}
	if m.Queue.Domain == mtakit.NullQueue {
		in.accepted++
		return s.Body.Close()
	}
	if in.q.trace.supplemental {
		s.Body = prepend(m.AppendSupplemental(nil, in.q.trace.name, in.q.trace.include), s.Body)
	}
	size := s.Body.Size()
	in.batch = append(in.batch, s)
	in.emails = append(in.emails, p.email)
	in.total += size
	in.unique += max(size-in.plan.shared, 0)
	return nil
}

// flush submits the batch, and where that fails because of one of the messages, each alone.
func (in *injection) flush(ctx context.Context) error {
	batch, emails := in.batch, in.emails
	in.batch, in.emails, in.unique, in.total = nil, nil, 0, 0
	if len(batch) == 0 {
		return nil
	}
	d := mtakit.Durable
	if in.q.deferredSpool {
		d = mtakit.Volatile
	}
	submit := func(part []mtakit.Submission) error {
		err := in.api.cfg.Submit(ctx, part, d)
		if err == nil {
			in.accepted += len(part)
		}
		return err
	}
	err := submit(batch)
	if err == nil {
		return nil
	}
	for i := range batch {
		one := err
		if len(batch) > 1 && ctx.Err() == nil && shortage(err) == nil {
			one = submit(batch[i : i+1])
		}
		if one == nil {
			continue
		}
		batch[i].Body.Close()
		short := shortage(one)
		if ctx.Err() != nil || short != nil && (in.resuming || in.accepted == 0) {
			for _, rest := range batch[i+1:] {
				rest.Body.Close()
			}
			return one
		}
		if short != nil {
			one = short
		}
		in.failures.add(emails[i], one)
	}
	return nil
}
