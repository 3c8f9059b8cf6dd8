package mtakit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
)

// SupplementalField is the name that the field of [Message.AppendSupplemental] usually has.
const SupplementalField = "X-KumoRef"

// supplementalWidth is where the value of the supplemental field is folded. It is no whole number of groups of base64.
const supplementalWidth = 75

// AppendSupplemental appends the header field that tells, when the message comes back in a report, whom it was for: base64 of a JSON object, keys in order,
// with a marker, the recipient or recipients, and the metadata of the given names, null where there is none.
func (m *Message) AppendSupplemental(b []byte, name string, include []string) []byte {
	const marker, recipient = "_@_", "recipient"
	var keyBuf [8]string
	var jsonBuf [256]byte
	keys := append(append(keyBuf[:0], marker, recipient), include...)
	slices.Sort(keys)
	j := append(jsonBuf[:0], '{')
	for i, k := range slices.Compact(keys) {
		if i > 0 {
			j = append(j, ',')
		}
		j = append(appendStr(j, k), ':')
		switch {
		case k == marker:
			j = append(j, `"\\_/"`...)
		case k == recipient && len(m.To) == 1:
			j = appendStr(j, m.To[0])
		case k == recipient:
			j = appendStrs(j, m.To)
		default:
			j = appendPlain(j, m.Meta[k])
		}
	}
	j = append(j, '}')
	b = append(append(b, name...), ": "...)
	start := len(b)
	b = base64.StdEncoding.AppendEncode(b, j)
	for at := start + supplementalWidth; at < len(b); at += supplementalWidth + len("\r\n\t") {
		b = slices.Insert(b, at, '\r', '\n', '\t')
	}
	return append(b, '\r', '\n')
}

// appendPlain is appendAny without the escapes that are for HTML.
func appendPlain(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case string:
		return appendStr(b, v)
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return append(b, "null"...) // a value that policy put there and JSON cannot express
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}
