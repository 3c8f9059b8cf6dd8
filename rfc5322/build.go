package rfc5322

import (
	"errors"
	"io"
	"time"
)

// Builder puts a message together: the alternatives Text, AMP and HTML, of which at least one other than AMP must be there, in that order as
// multipart/alternative; with what they show inline as multipart/related; with attachments as multipart/mixed. What has only one part is not wrapped.
//
//	text, err := rfc5322.NewText("text/plain", "hello")
//	subject, err := rfc5322.NewField("Subject", "Grüße")
//	b := rfc5322.Builder{Text: text, Header: rfc5322.Header(subject)}
//	chunks, err := b.Build(nil)
//
// A Builder is not safe for concurrent use; its parts are.
type Builder struct {
	Text, AMP, HTML *Part
	Inline          []*Part // shown within the text, which refers to them by their content id
	Attached        []*Part

	// Header has the other fields. They follow those of MIME, in their order; Content-Type and Content-Transfer-Encoding among them are
	// left out, since they would contradict. Mime-Version and Date are added at the end where they are missing.
	Header Header
	// Date is for the Date field; zero is now.
	Date time.Time
	// Random makes the boundaries; nil is crypto/rand.
	Random io.Reader
}

var (
	// ErrNoText: there is neither text nor HTML.
	ErrNoText = errors.New("no text or html part was specified")
	// ErrOnlyAMP: AMP must not be the only alternative.
	ErrOnlyAMP = errors.New("the AMP email spec requires at least one non-amp part to be present in the message")
)

// DateLayout is how we write dates (RFC 5322, 3.3).
const DateLayout = "Mon, 2 Jan 2006 15:04:05 -0700"

// Build appends slices to dst that in this order are the message. Large parts are in them as they are, shared with other messages made of the
// same Part, so that the slices must not be changed. The Builder can be used again.
func (b *Builder) Build(dst [][]byte) ([][]byte, error) {
	switch {
	case b.Text != nil || b.HTML != nil:
	case b.AMP != nil:
		return nil, ErrOnlyAMP
	default:
		return nil, ErrNoText
	}
	var space [3]*Part
	alternatives := space[:0]
	for _, p := range [...]*Part{b.Text, b.AMP, b.HTML} {
		if p != nil {
			alternatives = append(alternatives, p)
		}
	}
	root := alternatives[0]
	var err error
	if len(alternatives) > 1 {
		root, err = b.wrap("multipart/alternative", alternatives)
	}
	if err == nil && len(b.Inline) > 0 {
		root, err = b.wrap("multipart/related", append([]*Part{root}, b.Inline...))
	}
	if err == nil && len(b.Attached) > 0 {
		root, err = b.wrap("multipart/mixed", append([]*Part{root}, b.Attached...))
	}
	if err != nil {
		return nil, err
	}
	room := len(root.header) + len(b.Header) + 96
	for _, c := range root.body {
		if len(c) < shareFrom {
			room += len(c)
		}
	}
	w := chunkWriter{out: dst, cur: make([]byte, 0, room)}
	w.cur = append(w.cur, root.header...)
	var version, date bool
	for f := range b.Header.Fields() {
		if f.Is("Content-Type") || f.Is("Content-Transfer-Encoding") {
			continue
		}
		version, date = version || f.Is("Mime-Version"), date || f.Is("Date")
		w.cur = f.appendTo(w.cur)
	}
	if !version {
		w.cur = append(w.cur, "Mime-Version: 1.0\r\n"...)
	}
	if !date {
		t := b.Date
		if t.IsZero() {
			t = time.Now()
		}
		w.cur = append(t.AppendFormat(append(w.cur, "Date: "...), DateLayout), "\r\n"...)
	}
	w.cur = append(w.cur, "\r\n"...)
	for _, c := range root.body {
		w.write(c)
	}
	return w.chunks(), nil
}

func (b *Builder) wrap(contentType string, parts []*Part) (*Part, error) {
	boundary, err := NewBoundary(b.Random)
	if err != nil {
		return nil, err
	}
	return NewMultipart(contentType, boundary, parts...)
}
