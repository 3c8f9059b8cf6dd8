package smtpserver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/mtakit/mtakit"
)

// appendReceived appends a Received field (RFC 5321, 4.4) in KumoMTA's shape.
func (s *Session) appendReceived(b []byte, m *mtakit.Message, now time.Time) []byte {
	b = append(b, "Received: from "...)
	if s.helo != "" {
		b = append(b, s.helo...)
	} else {
		b = append(b, "unspecified"...)
	}
	b = appendAddr(append(b, " ("...), s.peer.Addr.Addr())
	b = append(append(b, ")\r\n  by "...), s.opt.Hostname...)
	b = appendAddr(append(b, " (KumoMTA "...), s.peer.Local.Addr())
	b = append(b, ") \r\n  with ESMTP"...)
	if s.tls != nil {
		b = append(b, 'S')
		if s.identity != nil {
			b = append(b, 'A')
		}
		b = append(append(append(b, " ("...), s.tls.version...), ':')
		b = append(append(b, s.tls.cipher...), ") "...)
	}
	b = m.ID.Append(append(b, " id "...))
	b = append(append(append(b, " for <"...), m.To[0]...), ">;\r\n  "...)
	return append(now.UTC().AppendFormat(b, "Mon, 2 Jan 2006 15:04:05 -0700"), '\r', '\n')
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, "unspecified"...)
	}
	return a.AppendTo(b)
}

// supplementalWidth is where the value of the supplemental field is folded.
const supplementalWidth = 75

// appendSupplemental appends the field that tells, when the message comes back in a report, whom it was for: base64 of a JSON object, keys in order,
// with a marker to know it by.
func appendSupplemental(b []byte, h *TraceHeaders, m *mtakit.Message) []byte {
	name := h.HeaderName
	if name == "" {
		name = "X-KumoRef"
	}
	b = append(append(b, name...), ": "...)
	var keyBuf [8]string
	var jsonBuf [256]byte
	j := append(jsonBuf[:0], '{')
	const marker, recipient = "_@_", "recipient"
	keys := append(append(keyBuf[:0], marker, recipient), h.IncludeMeta...)
	slices.Sort(keys)
	for i, k := range slices.Compact(keys) {
		if i > 0 {
			j = append(j, ',')
		}
		j = append(appendString(j, k), ':')
		switch {
		case k == marker:
			j = append(j, `"\\_/"`...)
		case k == recipient && len(m.To) == 1:
			j = appendString(j, m.To[0])
		case k == recipient:
			j = appendJSON(j, m.To)
		default:
			j = appendJSON(j, m.Meta[k])
		}
	}
	j = append(j, '}')
	// The fold comes after 75 characters of base64, which is no whole number of its groups.
	start := len(b)
	b = base64.StdEncoding.AppendEncode(b, j)
	for at := start + supplementalWidth; at < len(b); at += supplementalWidth + len("\r\n\t") {
		b = slices.Insert(b, at, '\r', '\n', '\t')
	}
	return append(b, '\r', '\n')
}

// appendJSON appends v without the escapes that are for HTML.
func appendJSON(b []byte, v any) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return append(b, "null"...) // what policy put there and JSON cannot express
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

func appendString(b []byte, s string) []byte {
	if isPlain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	return appendJSON(b, s)
}

// isPlain says whether s means itself inside a JSON string.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}
