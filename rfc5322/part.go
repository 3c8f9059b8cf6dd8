package rfc5322

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Part is a part of a MIME message (RFC 2045), encoded and ready to be sent. It is immutable and safe for concurrent use: a part that many messages have
// in common is made once and shares its bytes among them. Lines have at most 998 bytes and end with CRLF, and there is
// nothing but ASCII.
type Part struct {
	header []byte   // the MIME fields
	body   [][]byte // ends with CRLF
}

// Header is the MIME fields of the part.
func (p *Part) Header() Header { return Header(p.header) }

// Chunks appends slices to dst that in this order are the body of the part. They must not be changed.
func (p *Part) Chunks(dst [][]byte) [][]byte { return append(dst, p.body...) }

// Size is the length of the part: header, empty line and body.
func (p *Part) Size() int {
	n := len(p.header) + 2
	for _, c := range p.body {
		n += len(c)
	}
	return n
}

// NewText makes a part of text in UTF-8. The content type is "text/plain", "text/html" and so on; a charset of its own is replaced by us-ascii or
// utf-8. The transfer encoding is none if the text needs none, else quoted-printable, or base64 if that is shorter. Line ends
// become CRLF, and the last line gets one. The error wraps [ErrBadField] and is about the content type.
func NewText(contentType, text string) (*Part, error) {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\ufffd")
	}
	canonical := AppendLines(make([]byte, 0, len(text)+strings.Count(text, "\n")+2), text)
	if !bytes.HasSuffix(canonical, []byte("\r\n")) {
		canonical = append(canonical, "\r\n"...)
	}
	identity := isIdentity(canonical)
	charset := "us-ascii"
	if !identity && !isASCII(text) {
		charset = "utf-8"
	}
	h := append(make([]byte, 0, 128), "Content-Type: "...)
	switch contentType {
	case "text/plain", "text/html", "text/x-amp-html":
		h = append(h, contentType...)
	default:
		var err error
		if h, err = appendMediaType(h, contentType, "charset"); err != nil {
			return nil, err
		}
	}
	h = append(append(append(h, ";\r\n\tcharset=\""...), charset...), "\"\r\n"...)
	if identity {
		return &Part{header: h, body: [][]byte{canonical}}, nil
	}
	n := len(canonical)
	size := base64Len(n)
	b, ok := appendQP(make([]byte, 0, min(size, n+n/8+16)), canonical, size)
	if ok {
		h = append(h, "Content-Transfer-Encoding: quoted-printable\r\n"...)
	} else {
		h = append(h, "Content-Transfer-Encoding: base64\r\n"...)
		b = AppendBase64(make([]byte, 0, size), canonical)
	}
	return &Part{header: h, body: [][]byte{b}}, nil
}

// Disposition says how a part is shown (RFC 2183) and what it is called.
type Disposition struct {
	FileName  string // in UTF-8; "" is none
	Inline    bool   // within the text, else as an attachment
	ContentID string // what the text refers to it by, with or without <>; "" is none
}

// NewBinary makes a part of any bytes, in base64. d may be nil. The error wraps [ErrBadField] and is about the content type or the content id.
func NewBinary(contentType string, data []byte, d *Disposition) (*Part, error) {
	h := make([]byte, 0, 256)
	if d != nil {
		h = append(h, "Content-Disposition: attachment"...)
		if d.Inline {
			h = append(h[:len(h)-len("attachment")], "inline"...)
		}
		h = append(AppendParam(h, "filename", d.FileName), "\r\n"...)
		if d.ContentID != "" {
			id := strings.TrimSuffix(strings.TrimPrefix(d.ContentID, "<"), ">")
			if id == "" || len(id) > 900 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '<' || r == '>' }) {
				return nil, fmt.Errorf("rfc5322: content id %.80q is %w", d.ContentID, ErrBadField)
			}
			h = append(append(append(h, "Content-ID: <"...), id...), ">\r\n"...)
		}
	}
	h, err := appendMediaType(append(h, "Content-Type: "...), contentType, "name")
	if err != nil {
		return nil, err
	}
	switch {
	case d == nil || d.FileName == "":
	case isASCII(d.FileName):
		h = AppendParam(h, "name", d.FileName)
	default: // readers that know no RFC 2231 look here, and understand only this
		h = append(h, ";\r\n\tname=\""...)
		h = append(appendWords(h, strings.Join(strings.FieldsFunc(d.FileName, isSpace), " "), true), '"')
	}
	h = append(h, "\r\nContent-Transfer-Encoding: base64\r\n"...)
	b := AppendBase64(make([]byte, 0, base64Len(len(data))+2), data)
	if len(b) == 0 {
		b = append(b, "\r\n"...)
	}
	return &Part{header: h, body: [][]byte{b}}, nil
}

// NewMultipart makes a part of parts. The content type is "multipart/mixed" and so on, with its parameters except the boundary. The boundary, of 1 to 70
// characters (RFC 2046, 5.1.1), must not begin a line of the parts; that of [NewBoundary] does not. The error wraps [ErrBadField].
func NewMultipart(contentType, boundary string, parts ...*Part) (*Part, error) {
	if boundary == "" || len(boundary) > 70 || strings.HasSuffix(boundary, " ") || strings.ContainsFunc(boundary, notInBoundary) {
		return nil, fmt.Errorf("rfc5322: boundary %.80q is %w", boundary, ErrBadField)
	}
	if len(parts) == 0 {
		return nil, errors.New("rfc5322: a multipart needs a part")
	}
	h, err := appendMediaType(append(make([]byte, 0, 128), "Content-Type: "...), contentType, "boundary")
	if err != nil {
		return nil, err
	}
	h = append(append(append(h, ";\r\n\tboundary=\""...), boundary...), "\"\r\n"...)
	room := 16
	for _, p := range parts {
		room += len(boundary) + len("--\r\n\r\n") + len(p.header)
		for _, c := range p.body {
			if len(c) < shareFrom {
				room += len(c)
			}
		}
	}
	w := chunkWriter{cur: make([]byte, 0, room+len(boundary))}
	for _, p := range parts {
		w.cur = append(append(append(w.cur, "--"...), boundary...), "\r\n"...)
		w.cur = append(append(w.cur, p.header...), "\r\n"...)
		for _, c := range p.body {
			w.write(c)
		}
	}
	w.cur = append(append(append(w.cur, "--"...), boundary...), "--\r\n"...)
	return &Part{header: h, body: w.chunks()}, nil
}

func notInBoundary(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("'()+_,-./:=? ", r))
}

// NewBoundary makes a boundary of 128 random bits. A nil reader is crypto/rand; give a seeded one to have the same bytes again. The error is the
// reader's.
func NewBoundary(random io.Reader) (string, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", err
	}
	return base64.RawStdEncoding.EncodeToString(b[:]), nil
}

// shareFrom is from which size on bytes are shared between messages rather than copied.
const shareFrom = 4096

// chunkWriter collects what is small and keeps what is large as it is.
type chunkWriter struct {
	out [][]byte
	cur []byte
}

func (w *chunkWriter) write(b []byte) {
	if len(b) < shareFrom {
		w.cur = append(w.cur, b...)
		return
	}
	if len(w.cur) > 0 {
		w.out = append(w.out, w.cur[:len(w.cur):len(w.cur)])
		w.cur = w.cur[len(w.cur):]
	}
	w.out = append(w.out, b)
}

func (w *chunkWriter) chunks() [][]byte {
	if len(w.cur) > 0 {
		w.out = append(w.out, w.cur)
	}
	return w.out
}
