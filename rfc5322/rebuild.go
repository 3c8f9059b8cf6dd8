package rfc5322

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"
	"unicode/utf8"
)

// ErrTooComplex: a message has too many parts, or they are nested too deeply.
var ErrTooComplex = errors.New("rfc5322: message is too complex")

const (
	maxParts = 1000
	maxNest  = 20
)

// Rebuild makes a message that somebody wrote fit to be sent: lines end with CRLF and have at most 998 bytes, and there is nothing but
// ASCII, except in addresses (RFC 6532). Text parts are decoded and encoded again, as [NewText] does; other parts stay as they are if
// they can be sent like that, and else become base64. Fields with other characters are encoded (RFC 2047), lines that are no fields are
// left out, and so is what stands before and after the parts of a multipart. Content-Type and Content-Transfer-Encoding come first, then
// the other fields in their order, then Mime-Version if it was missing.
//
// Text in 7bit, 8bit or binary encoding is taken to be UTF-8, whatever its charset. The slices that are returned are the message, in that
// order. The only error is [ErrTooComplex].
func Rebuild(msg []byte) ([][]byte, error) {
	var r rebuilder
	p, err := r.part(AppendLines(nil, string(msg)), 0)
	if err != nil {
		return nil, err
	}
	if Header(p.header).Get("Mime-Version") == nil {
		p.header = append(p.header, "Mime-Version: 1.0\r\n"...)
	}
	return append([][]byte{append(p.header, "\r\n"...)}, p.body...), nil
}

type rebuilder struct{ parts int }

// part rebuilds a part, or the message.
func (r *rebuilder) part(b []byte, depth int) (*Part, error) {
	if r.parts++; r.parts > maxParts || depth > maxNest {
		return nil, ErrTooComplex
	}
	h, body := Split(b)
	value := string(bytes.ReplaceAll(h.Get("Content-Type").Value(), []byte("\r\n"), nil))
	kind, params, err := mime.ParseMediaType(value)
	isMultipart := strings.HasPrefix(kind, "multipart/")
	if err != nil || !strings.Contains(kind, "/") || isMultipart && params["boundary"] == "" {
		kind, value, isMultipart = "text/plain", "text/plain", false
	}
	var p *Part
	switch {
	case isMultipart:
		p, err = r.multipart(value, params["boundary"], body, depth)
	case strings.HasPrefix(kind, "message/rfc822") && !sendable(body):
		p, err = r.message(body, depth)
	case strings.HasPrefix(kind, "text/"):
		p, err = r.text(h, value, params["charset"], body)
	default:
		p, err = r.binary(h, value, body)
	}
	if err != nil {
		return nil, err
	}
	for f := range h.Fields() {
		if name := string(f.Name()); !f.Is("Content-Type") && !f.Is("Content-Transfer-Encoding") && checkName(name) == nil {
			p.header = append(p.header, rebuildField(name, f)...)
		}
	}
	return p, nil
}

// rebuildField encodes a field again.
func rebuildField(name string, f Field) []byte {
	b := append([]byte(name), ": "...)
	if IsAddressField(name) {
		return append(AppendAddresses(b, string(f.Value())), "\r\n"...)
	}
	return append(AppendText(b, f.Text()), "\r\n"...)
}

func (r *rebuilder) multipart(value, boundary string, body []byte, depth int) (*Part, error) {
	var parts []*Part
	for _, child := range splitParts(body, boundary) {
		p, err := r.part(child, depth+1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return r.text(nil, "text/plain", "", body)
	}
	for _, p := range parts {
		for _, c := range p.body {
			if bytes.Contains(c, []byte("--"+boundary)) { // it was hidden by the encoding
				boundary = ""
			}
		}
	}
	if boundary != "" {
		if p, err := NewMultipart(value, boundary, parts...); err == nil {
			return p, nil
		}
	}
	boundary, err := NewBoundary(nil)
	if err != nil {
		return nil, err
	}
	if p, err := NewMultipart(value, boundary, parts...); err == nil {
		return p, nil
	}
	return NewMultipart("multipart/mixed", boundary, parts...)
}

// splitParts cuts a body at its boundary lines (RFC 2046, 5.1.1).
func splitParts(body []byte, boundary string) (parts [][]byte) {
	delimiter := []byte("--" + boundary)
	start := -1 // of the part, in body
	for at := 0; at < len(body); {
		line, _, more := bytes.Cut(body[at:], []byte("\n"))
		if rest, ok := bytes.CutPrefix(line, delimiter); ok {
			rest = bytes.TrimRight(rest, " \t\r")
			if last := string(rest) == "--"; last || len(rest) == 0 {
				if start >= 0 {
					parts = append(parts, bytes.TrimSuffix(body[start:at], []byte("\r\n")))
				}
				if start = at + len(line) + 1; last {
					return parts
				}
			}
		}
		if at += len(line); more {
			at++
		}
	}
	if start >= 0 && start <= len(body) {
		parts = append(parts, body[start:])
	}
	return parts
}

func (r *rebuilder) message(body []byte, depth int) (*Part, error) {
	inner, err := r.part(body, depth+1)
	if err != nil {
		return nil, err
	}
	return &Part{
		header: []byte("Content-Type: message/rfc822\r\n"),
		body:   append([][]byte{append(inner.header, "\r\n"...)}, inner.body...),
	}, nil
}

func (r *rebuilder) text(h Header, value, charset string, body []byte) (*Part, error) {
	decoded, encoded, ok := decodeTransfer(h, body)
	if !ok {
		return r.binary(h, value, body)
	}
	text := string(decoded)
	if u, ok := toUTF8(charset, decoded); encoded && ok && charset != "" && !strings.EqualFold(charset, "us-ascii") {
		text = string(u)
	} else if encoded && !utf8.Valid(decoded) {
		return r.binary(h, value, body)
	}
	p, err := NewText(value, text)
	if err != nil { // a content type that only we do not like
		return NewText("text/plain", text)
	}
	return p, nil
}

// decodeTransfer undoes the transfer encoding; encoded says that there was one.
func decodeTransfer(h Header, body []byte) (decoded []byte, encoded, ok bool) {
	switch strings.ToLower(string(bytes.TrimSpace(h.Get("Content-Transfer-Encoding").Value()))) {
	case "base64":
		clean := bytes.Map(func(c rune) rune {
			if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
				return -1
			}
			return c
		}, body)
		b, err := base64.RawStdEncoding.AppendDecode(nil, bytes.TrimRight(clean, "="))
		return b, true, err == nil
	case "quoted-printable":
		b, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(body)))
		return b, true, err == nil
	}
	return body, false, true
}

// binary keeps a part as it is, or encodes it.
func (r *rebuilder) binary(h Header, value string, body []byte) (*Part, error) {
	header := []byte("Content-Type: ")
	var err error
	if header, err = appendMediaType(header, value); err != nil {
		header = append(header[:len("Content-Type: ")], "application/octet-stream"...)
	}
	header = append(header, "\r\n"...)
	encoding := strings.ToLower(string(bytes.TrimSpace(h.Get("Content-Transfer-Encoding").Value())))
	known := encoding == "base64" || encoding == "quoted-printable" || encoding == "7bit"
	if sendable(body) && (known || encoding == "") {
		if known {
			header = append(header, "Content-Transfer-Encoding: "+encoding+"\r\n"...)
		}
		if !bytes.HasSuffix(body, []byte("\r\n")) {
			body = append(body[:len(body):len(body)], "\r\n"...)
		}
		return &Part{header: header, body: [][]byte{body}}, nil
	}
	if decoded, _, ok := decodeTransfer(h, body); ok {
		body = decoded
	}
	header = append(header, "Content-Transfer-Encoding: base64\r\n"...)
	return &Part{header: header, body: [][]byte{append(AppendBase64(nil, body), "\r\n"...)}}, nil
}

// sendable says whether every server takes these lines.
func sendable(body []byte) bool {
	line := 0
	for _, c := range body {
		switch {
		case c >= utf8.RuneSelf || c == 0:
			return false
		case c == '\n':
			line = 0
			continue
		}
		if line++; line > 999 { // with the CR
			return false
		}
	}
	return true
}
