package httpapi

import (
	"net/netip"

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
