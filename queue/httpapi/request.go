package httpapi

import (
	"io"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi/template"
)

// request is the body of POST /api/inject/v1 without its recipients, of which there may be a million: they are checked when the request is read,
// counted, and read again one by one when it is their turn.
type request struct {
	source body

	sender             string
	content            content
	substitutions      map[string]any
	deferredSpool      bool
	deferredGeneration bool
	trace              traceHeaders
	dialect            template.Dialect

	recipients   int   // how many
	recipientsAt int64 // where their array is in source
	generationAt int64 // where the value of deferred_generation ends; 0 if that is false
}

// content is a whole message, or what one is built of.
type content struct {
	raw             *string
	text, html, amp *string
	attachments     []attachment
	headers         map[string]string
	from, replyTo   *mailbox
	subject         *string
}

type attachment struct {
	data, contentType   string
	base64              bool
	contentID, fileName *string
}

type mailbox struct {
	email string
	name  *string
}

type traceHeaders struct {
	received, supplemental bool
	name                   string
	include                []string
}

// defaultTraceHeaders holds where a request says nothing. One that has the object but not the field received_header gets the Received field, as from
// KumoMTA.
var defaultTraceHeaders = traceHeaders{supplemental: true, name: mtakit.SupplementalField}

type recipient struct {
	email         string
	name          *string
	substitutions map[string]any
	metadata      map[string]any
}

// parseRequest reads a request. The error is a *badRequest, or one of source.
func parseRequest(source body) (q *request, err error) {
	defer catch(&err)
	q = &request{source: source, trace: defaultTraceHeaders}
	r := newReader(io.NewSectionReader(source, 0, source.Size()))
	r.object("struct InjectV1Request", 3,
		field{"envelope_sender", func() { q.sender = r.str() }},
		field{"recipients", func() { q.checkRecipients(r) }},
		field{"content", func() { q.content.read(r) }},
		field{"substitutions", func() { q.substitutions = r.mapOf() }},
		field{"deferred_spool", func() { q.deferredSpool = r.boolean() }},
		field{"deferred_generation", func() {
			if q.deferredGeneration = r.boolean(); q.deferredGeneration {
				q.generationAt = r.dec.InputOffset()
			}
		}},
		field{"trace_headers", func() { q.trace.read(r) }},
		field{"template_dialect", func() {
			name := r.str()
			d, ok := template.ParseDialect(name)
			if !ok {
				r.shape("unknown variant `%s`, expected one of `Jinja`, `Static`, `Handlebars`", name)
			}
			q.dialect = d
		}},
	)
	r.end()
	return q, nil
}

// checkRecipients checks the shape of all and keeps none.
func (q *request) checkRecipients(r *reader) {
	if k := r.kind(); k == '[' {
		q.recipientsAt = r.dec.InputOffset()
	}
	r.array(func(int) {
		r.object("struct Recipient", 1,
			field{"email", func() { r.str() }},
			field{"name", func() { var s *string; r.optional(&s) }},
			field{"substitutions", func() { r.mapOf() }},
			field{"metadata", func() { r.mapOf() }},
		)
		q.recipients++
	})
}

// eachRecipient reads the recipients from number first on. The error is yield's, or one of the source.
func (q *request) eachRecipient(first int, yield func(i int, p *recipient) error) (err error) {
	defer catch(&err)
	at := q.recipientsAt
	r := newReader(&arrayReader{in: io.NewSectionReader(q.source, at, q.source.Size()-at)})
	r.want('[', "a sequence")
	for i := 0; r.kind() != ']'; i++ {
		if i < first {
			r.skip()
			continue
		}
		p := &recipient{}
		r.object("struct Recipient", 1,
			field{"email", func() { p.email = r.str() }},
			field{"name", func() { r.optional(&p.name) }},
			field{"substitutions", func() { p.substitutions = r.mapOf() }},
			field{"metadata", func() { p.metadata = r.mapOf() }},
		)
		if err := yield(i, p); err != nil {
			return err
		}
	}
	return nil
}

// arrayReader reads from where an array is the value of a field: what stands before the bracket is the colon and white space.
type arrayReader struct {
	in      io.Reader
	started bool
}

func (a *arrayReader) Read(p []byte) (int, error) {
	n, err := a.in.Read(p)
	if a.started {
		return n, err
	}
	for i, c := range p[:n] {
		if c == '[' {
			a.started = true
			break
		}
		p[i] = ' '
	}
	return n, err
}

func (c *content) read(r *reader) {
	switch r.kind() {
	case '"':
		s := r.str()
		c.raw = &s
		return
	case '{', 0:
	default:
		r.shape("data did not match any variant of untagged enum Content")
	}
	r.object("struct Content", 0,
		field{"text_body", func() { r.optional(&c.text) }},
		field{"html_body", func() { r.optional(&c.html) }},
		field{"amp_html_body", func() { r.optional(&c.amp) }},
		field{"attachments", func() {
			r.array(func(int) {
				var a attachment
				r.object("struct Attachment", 2,
					field{"data", func() { a.data = r.str() }},
					field{"content_type", func() { a.contentType = r.str() }},
					field{"content_id", func() { r.optional(&a.contentID) }},
					field{"file_name", func() { r.optional(&a.fileName) }},
					field{"base64", func() { a.base64 = r.boolean() }},
				)
				c.attachments = append(c.attachments, a)
			})
		}},
		field{"headers", func() {
			c.headers = make(map[string]string)
			r.each(func(name string) { c.headers[name] = r.str() })
		}},
		field{"from", func() { readMailbox(r, &c.from) }},
		field{"subject", func() { r.optional(&c.subject) }},
		field{"reply_to", func() { readMailbox(r, &c.replyTo) }},
	)
}

func readMailbox(r *reader, dst **mailbox) {
	if r.kind() == 'n' {
		r.token()
		return
	}
	m := &mailbox{}
	r.object("struct FromHeader", 1, field{"email", func() { m.email = r.str() }}, field{"name", func() { r.optional(&m.name) }})
	*dst = m
}

func (t *traceHeaders) read(r *reader) {
	t.received = true
	r.object("struct TraceHeaders", 0,
		field{"received_header", func() { t.received = r.boolean() }},
		field{"supplemental_header", func() { t.supplemental = r.boolean() }},
		field{"header_name", func() { t.name = r.str() }},
		field{"include_meta_names", func() { r.array(func(int) { t.include = append(t.include, r.str()) }) }},
	)
}

// normalised is the request as JSON, with deferred_generation cleared.
func (q *request) normalised() ([]byte, error) {
	b := make([]byte, q.source.Size(), q.source.Size()+1)
	if _, err := q.source.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if at := q.generationAt; at > 0 {
		b = append(b[:at-int64(len("true"))], "false"+string(b[at:])...)
	}
	return b, nil
}
