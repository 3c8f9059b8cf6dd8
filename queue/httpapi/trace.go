package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/rfc5322"
)

// appendReceived appends a Received field (RFC 5321, 4.4) in KumoMTA's shape.
func (a *API) appendReceived(b []byte, m *mtakit.Message, peer netip.Addr) []byte {
	from := mtakit.Domain(m.Sender)
	if from == "" {
		from = "unspecified"
	}
	b = append(append(b, "Received: from "...), from...)
	b = append(b, " ("...)
	if peer.IsValid() {
		b = peer.AppendTo(b)
	} else {
		b = append(b, "unspecified"...)
	}
	b = append(append(b, ")\r\n  by "...), a.cfg.Hostname...)
	b = m.ID.Append(append(b, " (KumoMTA)\r\n  with HTTP id "...))
	b = append(append(append(b, " for <"...), m.To[0]...), ">;\r\n  "...)
	return append(a.cfg.Now().UTC().AppendFormat(b, rfc5322.DateLayout), "\r\n"...)
}

// supplementalWidth is where the value of the supplemental field is folded.
const supplementalWidth = 75

// appendSupplemental appends the field that tells, when the message comes back in a report, whom it was for: base64 of a JSON object with a marker.
func (t *traceHeaders) appendSupplemental(b []byte, m *mtakit.Message) ([]byte, error) {
	v := map[string]any{}
	for _, name := range t.include {
		v[name] = m.Meta[name]
	}
	v["_@_"] = `\_/`
	v["recipient"] = m.To
	if len(m.To) == 1 {
		v["recipient"] = m.To[0]
	}
	var j strings.Builder
	e := json.NewEncoder(&j)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	b = append(append(b, t.name...), ": "...)
	start := len(b)
	b = base64.StdEncoding.AppendEncode(b, []byte(strings.TrimSuffix(j.String(), "\n")))
	for at := start + supplementalWidth; at < len(b); at += supplementalWidth + len("\r\n\t") {
		b = slices.Insert(b, at, '\r', '\n', '\t')
	}
	return append(b, "\r\n"...), nil
}
