package smtpserver

import (
	"net/netip"
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
