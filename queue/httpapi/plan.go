package httpapi

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mtakit/mtakit/queue/httpapi/template"
	"github.com/mtakit/mtakit/rfc5322"
)

// plan is content made ready: templates are compiled, and what is the same for all recipients is encoded. It is safe for concurrent use.
type plan struct {
	cfg *Config

	raw      *template.Template
	rawFixed [][]byte // what raw comes to, if it is the same for all

	text, amp, html  slot
	inline, attached []*rfc5322.Part
	fields           []fieldPlan // by name
	addressed        bool        // there is a To already
	shared           int64       // bytes that all messages have in common
}

// slot is one of the alternatives of a message.
type slot struct {
	contentType string
	tmpl        *template.Template // nil: there is none
	fixed       *rfc5322.Part      // what tmpl comes to, if it is the same for all
}

// fieldPlan is a header field: a text, or a mailbox.
type fieldPlan struct {
	name         string
	tmpl         *template.Template // of the text, or of the address
	mailbox      bool
	display      *template.Template // of the mailbox; nil is none
	fixed        rfc5322.Field
	templateName string
}

// compile reads the templates of a request. Its errors are the client's.
func (a *API) compile(q *request) (*plan, error) {
	p := &plan{cfg: &a.cfg}
	c := &q.content
	unusable := func(label string, err error) error {
		return fmt.Errorf("failed parsing field %s as template: %w", label, err)
	}
	tmpl := func(label, name, source string) (*template.Template, error) {
		t, err := template.Compile(q.dialect, name, source)
		if err != nil {
			return nil, unusable(label, err)
		}
		return t, nil
	}
	if c.raw != nil {
		var err error
		if p.raw, err = template.CompileMessage(q.dialect, "content", *c.raw); err != nil {
			return nil, unusable("'content'", err)
		}
		if !p.raw.IsStatic() {
			return p, nil
		}
		text, err := p.raw.Render(a.cfg.Template)
		if err != nil {
			return nil, err
		}
		if p.rawFixed, err = rebuild(text); err != nil {
			return nil, fmt.Errorf("failed parsing field 'content': %w", err)
		}
		p.shared = newChunks(p.rawFixed...).size
		return p, nil
	}
	if c.text == nil && c.html == nil {
		return nil, errors.New("at least one of text_body and/or html_body must be given")
	}
	for _, s := range [...]struct {
		slot        *slot
		source      *string
		contentType string
		label, name string
	}{
		{&p.text, c.text, "text/plain", "'content.text_body'", "text_body.txt"},
		{&p.html, c.html, "text/html", "'content.html_body'", "html_body.html"},
		{&p.amp, c.amp, "text/x-amp-html", "'content.amp_html_body'", "amp_html_body.html"},
	} {
		if s.source == nil {
			continue
		}
		s.slot.contentType = s.contentType
		var err error
		if s.slot.tmpl, err = tmpl(s.label, s.name, *s.source); err != nil {
			return nil, err
		}
		if s.slot.tmpl.IsStatic() {
			if s.slot.fixed, err = s.slot.part(p.cfg, nil); err != nil {
				return nil, err
			}
			p.shared += int64(s.slot.fixed.Size())
		}
	}
	for i := range c.attachments {
		if err := p.attach(i, &c.attachments[i]); err != nil {
			return nil, err
		}
	}
	return p, p.compileFields(c, tmpl)
}

func (p *plan) attach(i int, a *attachment) error {
	bytes := []byte(a.data)
	if a.base64 {
		var err error
		if bytes, err = base64.StdEncoding.Strict().DecodeString(a.data); err != nil || strings.ContainsAny(a.data, "\r\n") {
			return fmt.Errorf("failed decoding content.attachments[%d].data: not padded base64 without white space", i)
		}
	}
	d := &rfc5322.Disposition{Inline: a.contentID != nil}
	if a.fileName != nil {
		d.FileName = *a.fileName
	}
	if a.contentID != nil {
		d.ContentID = *a.contentID
	}
	part, err := rfc5322.NewBinary(a.contentType, bytes, d)
	if err != nil {
		return fmt.Errorf("content.attachments[%d]: %w", i, err)
	}
	p.shared += int64(part.Size())
	if d.Inline {
		p.inline = append(p.inline, part)
	} else {
		p.attached = append(p.attached, part)
	}
	return nil
}

// compileFields plans the header: the map, with from, reply_to and subject in the places of those spelled From, Reply-To and Subject.
func (p *plan) compileFields(c *content, tmpl func(label, name, source string) (*template.Template, error)) error {
	mailboxes := map[string]*mailbox{"From": c.from, "Reply-To": c.replyTo}
	texts := maps.Clone(c.headers)
	if texts == nil {
		texts = make(map[string]string)
	}
	if c.subject != nil {
		texts["Subject"] = *c.subject
	}
	for name, m := range mailboxes {
		if m != nil {
			texts[name] = m.email
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		f := fieldPlan{name: name, templateName: "headers[" + name + "]"}
		p.addressed = p.addressed || strings.EqualFold(name, "To")
		if _, err := rfc5322.NewField(name, ""); err != nil {
			return fmt.Errorf("headers['%s']: %w", oneLine(name), err)
		}
		label := "headers['" + name + "']"
		m := mailboxes[name]
		if m != nil {
			label = "content." + strings.ToLower(strings.ReplaceAll(name, "-", "_"))
		}
		var err error
		if f.tmpl, err = tmpl(label, f.templateName, texts[name]); err != nil {
			return err
		}
		static := f.tmpl.IsStatic()
		if f.mailbox = m != nil; f.mailbox && m.name != nil {
			if f.display, err = tmpl(label, f.templateName, *m.name); err != nil {
				return err
			}
			static = static && f.display.IsStatic()
		}
		if f.mailbox && f.tmpl.IsStatic() {
			if _, err := rfc5322.ParseAddress(texts[name]); err != nil {
				return fmt.Errorf("failed parsing %s: %w", label, err)
			}
		}
		if static {
			if f.fixed, err = f.field(p.cfg, nil); err != nil {
				return fmt.Errorf("failed parsing %s: %w", label, err)
			}
		}
		p.fields = append(p.fields, f)
	}
	return nil
}

// part renders the slot.
func (s *slot) part(cfg *Config, vars []map[string]any) (*rfc5322.Part, error) {
	if s.tmpl == nil || s.fixed != nil {
		return s.fixed, nil
	}
	text, err := s.tmpl.Render(cfg.Template, vars...)
	if err != nil {
		return nil, err
	}
	return rfc5322.NewText(s.contentType, text)
}

// field renders the field.
func (f *fieldPlan) field(cfg *Config, vars []map[string]any) (rfc5322.Field, error) {
	if f.fixed != nil {
		return f.fixed, nil
	}
	value, err := f.tmpl.Render(cfg.Template, vars...)
	if err != nil {
		return nil, err
	}
	if !f.mailbox {
		if rfc5322.IsAddressField(f.name) {
			return rfc5322.RawField(f.name, string(rfc5322.AppendAddresses(nil, value)))
		}
		return rfc5322.NewField(f.name, value)
	}
	name := ""
	if f.display != nil {
		if name, err = f.display.Render(cfg.Template, vars...); err != nil {
			return nil, err
		}
	}
	address, err := rfc5322.ParseAddress(value)
	if err != nil {
		return nil, err
	}
	return rfc5322.RawField(f.name, string(rfc5322.AppendMailbox(nil, name, address)))
}

// message renders the message for one recipient, whose parsed address is to. vars are the variables of the request.
func (p *plan) message(r *recipient, to string, vars map[string]any) ([][]byte, error) {
	if p.rawFixed != nil {
		return p.rawFixed, nil
	}
	name := ""
	if r.name != nil {
		name = *r.name
	}
	toHeader := string(rfc5322.AppendMailbox(nil, name, to))
	own := map[string]any{"email": r.email, "to_header": toHeader}
	if r.name != nil {
		own["name"] = name
	}
	all := []map[string]any{r.substitutions, own, vars}
	if p.raw != nil {
		text, err := p.raw.Render(p.cfg.Template, all...)
		if err != nil {
			return nil, err
		}
		return rebuild(text)
	}
	b := rfc5322.Builder{Inline: p.inline, Attached: p.attached, Date: p.cfg.Now(), Random: p.cfg.Random}
	var err error
	for _, s := range [...]struct {
		slot *slot
		dst  **rfc5322.Part
	}{{&p.text, &b.Text}, {&p.amp, &b.AMP}, {&p.html, &b.HTML}} {
		if *s.dst, err = s.slot.part(p.cfg, all); err != nil {
			return nil, err
		}
	}
	fields := make([]rfc5322.Field, 0, len(p.fields)+1)
	for i := range p.fields {
		f, err := p.fields[i].field(p.cfg, all)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	if !p.addressed {
		f, err := rfc5322.RawField("To", toHeader)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	b.Header = b.Header.Append(fields...)
	return b.Build(nil)
}

// rebuild makes a whole message fit to be sent.
func rebuild(text string) ([][]byte, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("the message is not UTF-8")
	}
	return rfc5322.Rebuild([]byte(text))
}
