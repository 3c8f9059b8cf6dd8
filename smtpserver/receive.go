package smtpserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// Deliver takes messages that were received, all or none. A nil error means that they are as safe as d asks for, and that they and their
// bodies belong to the callee, which closes the bodies; batch itself is the caller's again. After an error everything is still the
// caller's. mtakit.ErrSpoolFull, ErrUnhealthy, ErrOverloaded and ErrClosed are told to the client without details, a *mtakit.Reject as it
// is, the end of ctx as a time-out, all else as technical difficulties. The Submit method of a queue.Queue is one.
type Deliver func(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error

// Mail is a message on its way in, as callbacks see and change it; it is valid until they return. The fields of Message may be
// changed, except ID, Size and Tries.
type Mail struct {
	*mtakit.Message
	head []byte
	text *text
}

// Head is the fields that were put in front of the message. It must not be changed.
func (m *Mail) Head() []byte { return m.head }

// Text is the message as the client sent it, or as SetText made it. It must not be changed or kept.
func (m *Mail) Text() []byte { return m.text.b }

// SetText replaces the message, without the fields in front of it. Lines end with CRLF. b belongs to the Mail from now on.
func (m *Mail) SetText(b []byte) {
	m.text.release()
	m.text = &text{b: b}
	m.text.refs.Store(1)
}

// ErrBadField: it is not "Name: value", or has a line end that is not followed by white space.
var ErrBadField = errors.New("smtpserver: not a header field")

// Prepend puts a header field in front of the message: "Name: value", without the last CRLF. A folded value has CRLF and white space inside.
func (m *Mail) Prepend(field string) error {
	name, value, ok := strings.Cut(field, ":")
	if !ok || !isFieldName(name) {
		return fmt.Errorf("%w: %.80q", ErrBadField, field)
	}
	unfolded := strings.NewReplacer("\r\n ", " ", "\r\n\t", "\t").Replace(value)
	if strings.ContainsAny(unfolded, "\r\n\x00") {
		return fmt.Errorf("%w: %.80q", ErrBadField, field)
	}
	head := make([]byte, 0, len(field)+2+len(m.head))
	m.head = append(append(append(head, field...), '\r', '\n'), m.head...)
	return nil
}

// receive does what follows the end of the data, which came just now, up to the reply.
func (s *Session) receive(t *text, now time.Time) {
	ctx, cancel := context.WithDeadline(s.ctx, now.Add(s.opt.DataProcessingTimeout))
	defer cancel()
	s.batch = s.batch[:0]
	s.base = mtakit.Message{Sender: s.sender, To: s.rcpts, Meta: maps.Clone(s.meta)}
	base := &Mail{Message: &s.base, text: t}
	t.refs.Add(1)
	defer func() { base.text.release() }()

	batches, err := s.split(ctx, base)
	if err == nil {
		err = s.build(ctx, base, batches, now)
	}
	if err == nil {
		err = ctx.Err() // a callback did not care
	}
	if err != nil {
		s.dropBatch()
		s.refuseData(ctx, "rx", err)
		return
	}
	ids := append(s.ids[:0], "OK ids="...)
	for i := range s.batch {
		if i > 0 {
			ids = append(ids, ' ')
		}
		ids = s.batch[i].Message.ID.Append(ids)
	}
	s.ids = ids
	if err := s.deliver(ctx); err != nil {
		s.refuseData(ctx, "spool", err)
		return
	}
	s.errors, s.junk = 0, 0
	s.send(250, enhanced{}, ids)
}

// deliver gives the batch away.
func (s *Session) deliver(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{"Deliver", p}
			clear(s.batch) // nobody knows whose they are
		}
	}()
	d := s.srv.Durability
	if on(s.opt.DeferredSpool) {
		d = mtakit.Volatile
	}
	if err = s.srv.Deliver(ctx, s.batch, d); err != nil {
		s.dropBatch()
		return err
	}
	clear(s.batch)
	return nil
}

func (s *Session) dropBatch() {
	for i := range s.batch {
		s.batch[i].Body.Close()
	}
	clear(s.batch)
	s.batch = s.batch[:0]
}

// refuseData answers a transaction that failed in a phase, "rx" before and "spool" while messages were given away.
func (s *Session) refuseData(ctx context.Context, phase string, err error) {
	switch _, _, told := verdict(err); {
	case !told && errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		s.reply(451, enhanced{4, 4, 5}, "data_processing_timeout exceeded (", phase, ")")
	case !told && phase == "spool":
		s.log(slog.LevelError, "message was not accepted", "err", err)
		s.refuseFor(err)
	default:
		s.refuse(err)
	}
}

// split asks what the policy thinks of the data, and returns the recipients of each message.
func (s *Session) split(ctx context.Context, base *Mail) ([][]string, error) {
	p := &s.srv.Policy
	if p.Data != nil {
		base.To = slices.Clone(base.To)
		if err := ask(s, ctx, "smtp_server_data", func(ctx context.Context) error { return p.Data(ctx, s, base) }); err != nil {
			return nil, err
		}
	}
	if p.Split != nil {
		batches, err := call(s, ctx, "smtp_server_split_transaction", func(ctx context.Context) ([][]string, error) {
			return p.Split(ctx, s, base)
		})
		if err != nil || batches != nil {
			return batches, err
		}
	}
	if s.opt.BatchHandling == BatchByDomain {
		return byDomain(base.To), nil
	}
	batches := make([][]string, len(base.To))
	for i := range batches {
		batches[i] = base.To[i : i+1]
	}
	return batches, nil
}

// byDomain groups recipients by their domains, in order of first appearance.
func byDomain(to []string) (batches [][]string) {
	index := make(map[string]int)
	for _, rcpt := range to {
		d := lowerDomain(rcpt)
		i, ok := index[d]
		if !ok {
			i = len(batches)
			index[d] = i
			batches = append(batches, nil)
		}
		batches[i] = append(batches[i], rcpt)
	}
	return batches
}

// build makes the batch.
func (s *Session) build(ctx context.Context, base *Mail, batches [][]string, now time.Time) error {
	passed := false
	for i, to := range batches {
		if len(to) == 0 {
			continue
		}
		in := &inbound{Message: *base.Message}
		in.ID = s.srv.ids.New(now)
		in.To = append(in.to[:0], to...)
		if i < len(batches)-1 {
			in.Meta = maps.Clone(base.Meta)
		}
		keep, err := s.finish(ctx, in, base, now)
		if err != nil {
			return err
		}
		passed = passed || keep
		s.batch = append(s.batch, mtakit.Submission{Message: &in.Message, Body: &in.body})
	}
	switch {
	case len(s.batch) == 0:
		return errors.New("smtpserver: policy left no recipients")
	case !passed:
		return &mtakit.Reject{Response: mtakit.Response{Code: 550, Enhanced: enhanced{5, 7, 1}, Text: "relaying not permitted"}}
	}
	return nil
}

// finish makes in complete: trace headers, what the policy says, where it goes. keep is false if it came by mistake: its recipient
// was accepted for reports only, and it is none.
func (s *Session) finish(ctx context.Context, in *inbound, base *Mail, now time.Time) (keep bool, err error) {
	p, h, id := &s.srv.Policy, s.opt.TraceHeaders, in.ID
	m := &s.view
	*m = Mail{Message: &in.Message, head: base.head, text: base.text}
	m.text.refs.Add(1)
	defer func() {
		if err != nil {
			m.text.release()
		}
		*m = Mail{}
	}()
	if h.Received {
		s.head = append(s.appendReceived(s.head[:0], &in.Message, now), m.head...)
		m.head = s.head
	}
	if on(s.opt.DeferredQueue) {
		in.Meta[mtakit.MetaQueue] = mtakit.DeferredInjectQueue
	} else if p.Received != nil {
		err := ask(s, ctx, "smtp_server_message_received", func(ctx context.Context) error { return p.Received(ctx, s, m) })
		if d, ok := errors.AsType[*mtakit.Delay](err); ok {
			in.Due = now.Add(d.For)
		} else if err != nil {
			return false, err
		}
		if in.ID = id; len(in.To) == 0 {
			return false, errors.New("smtpserver: policy left no recipients")
		}
	}
	relay, to, err := s.mayRelay(ctx, in.Sender, in.To[0])
	if err != nil {
		return false, err
	}
	mode := Ignore
	if to.logsReports() {
		if mode, err = s.reportMode(ctx, m, to); err != nil {
			return false, err
		}
	}
	enqueue := relay && mode != LogThenDrop || mode == LogThenRelay
	if !enqueue { // the queue records the reception, and drops it
		in.Queue = mtakit.QueueName{Domain: mtakit.NullQueue}
	}
	if h.Supplemental {
		s.supplemental = in.Message.AppendSupplemental(s.supplemental[:0], cmp.Or(h.HeaderName, mtakit.SupplementalField), h.IncludeMeta)
	} else {
		s.supplemental = s.supplemental[:0]
	}
	in.body.head = append(append(make([]byte, 0, len(s.supplemental)+len(m.head)), s.supplemental...), m.head...)
	in.body.text = m.text
	in.Size = in.body.Size()
	if s.trace != nil && s.trace.Disposition != nil {
		d := Disposition{Message: &in.Message, Relay: relay, IsReport: mode != Ignore, Enqueue: enqueue}
		if to != nil {
			d.LogOOB, d.LogARF = to.LogOOB, to.LogARF
		}
		s.trace.Disposition(s, &d)
	}
	return enqueue || mode != Ignore || in.MetaString(mtakit.MetaQueue) == mtakit.NullQueue, nil
}

// reportMode says what is to happen with m as a report; Ignore if it is none that its recipient's domain logs.
func (s *Session) reportMode(ctx context.Context, m *Mail, d *ListenerDomain) (ReportMode, error) {
	if s.srv.Policy.Report == nil {
		return Ignore, nil
	}
	r, err := call(s, ctx, "report", func(ctx context.Context) (Report, error) { return s.srv.Policy.Report(ctx, s, m, d) })
	switch {
	case err != nil:
		return Ignore, err
	case r == ARFReport:
		return d.LogARF, nil
	case r == OOBReport:
		return d.LogOOB, nil
	}
	return Ignore, nil
}
