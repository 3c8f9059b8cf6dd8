package smtpclient

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"github.com/mtakit/mtakit"
)

// TraceTo makes an [Egress.Trace] that publishes what happens, for those who watch t. A session that began unwatched is seen from its next message on.
func TraceTo(t *mtakit.Traces) func(*mtakit.Path, *mtakit.SessionInfo) *Trace {
	return func(p *mtakit.Path, info *mtakit.SessionInfo) *Trace {
		if !t.Watched() {
			return nil
		}
		s := &traced{t: t, meta: map[string]any{"id": info.ID, "ready_queue_name": p.Name}}
		if p.Source != nil {
			s.meta["egress_source"] = p.Source.Name
		}
		if info.PeerAddr.IsValid() {
			s.peer(info)
		}
		return s.functions()
	}
}

// traced is a session that is, or was, watched. It belongs to the goroutine of the session.
type traced struct {
	t    *mtakit.Traces
	meta map[string]any // published: replaced, never changed
}

func (s *traced) functions() *Trace {
	return &Trace{
		Plan: func(hosts []Candidate) {
			plan := make([]map[string]any, len(hosts))
			for i, h := range hosts {
				plan[len(hosts)-1-i] = map[string]any{"name": h.Host, "addr": h.Addr.Addr().String(), "is_secure": h.Secure}
			}
			s.set("mx_plan", map[string]any{"Addresses": plan})
			s.publish(mtakit.TraceBegin, "")
		},
		Connecting: func(_ string, addr netip.AddrPort) { s.note(slog.LevelInfo, "Attempting connection to "+addr.String()) },
		Connected: func(info *mtakit.SessionInfo, _ time.Duration) {
			s.peer(info)
			s.publish(mtakit.TraceConnected, "")
		},
		Handshake: func(c tls.ConnectionState, _ time.Duration, err error) {
			if err != nil {
				s.note(slog.LevelError, "STARTTLS handshake -> "+err.Error())
				return
			}
			s.note(slog.LevelInfo, "STARTTLS handshake -> OK")
			s.note(slog.LevelInfo, fmt.Sprintf("TLS: %s %s", tlsVersions[c.Version], tls.CipherSuiteName(c.CipherSuite)))
		},
		Delivery: func(d *mtakit.Delivery) {
			if s.t.Watched() {
				s.message(d)
				s.publish(mtakit.TraceMessage, "")
			}
		},
		Command: func(line []byte) { s.bytes(mtakit.TraceWrite, line) },
		Data:    func(block []byte) { s.bytes(mtakit.TraceWrite, block) },
		Reply:   func(_ mtakit.Response, raw []byte, _ time.Duration) { s.bytes(mtakit.TraceRead, raw) },
		Note:    s.note,
		Closed: func(err error) {
			if err != nil {
				s.note(slog.LevelError, err.Error())
			}
			s.publish(mtakit.TraceClosed, "")
		},
	}
}

func (s *traced) publish(kind mtakit.TraceKind, text string) {
	if s.t.Watched() {
		s.t.Publish(&mtakit.TraceEvent{Kind: kind, Meta: s.meta, Text: text})
	}
}

func (s *traced) bytes(kind mtakit.TraceKind, b []byte) {
	if s.t.Watched() {
		s.publish(kind, string(b))
	}
}

func (s *traced) note(level slog.Level, text string) {
	if s.t.Watched() {
		s.t.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceDiagnostic, Meta: s.meta, Level: level, Text: text})
	}
}

func (s *traced) set(key string, value any) {
	m := maps.Clone(s.meta)
	m[key] = value
	s.meta = m
}

func (s *traced) peer(info *mtakit.SessionInfo) {
	m := maps.Clone(s.meta)
	m["mx_host"], m["mx_address"] = info.PeerName, info.PeerAddr.String()
	if info.LocalAddr.IsValid() {
		m["source_address"] = info.LocalAddr.String()
	}
	s.meta = m
}

func (s *traced) message(d *mtakit.Delivery) {
	m := maps.Clone(s.meta)
	to := make([]string, 0, len(d.Rcpts))
	for _, i := range d.Rcpts {
		to = append(to, d.Message.To[i])
	}
	q := d.Message.Queue
	m["message_id"], m["sender"], m["recipient"], m["domain"], m["queue_name"] = d.Message.ID.String(), d.Message.Sender, to, q.Domain, q.String()
	if d.Pool != "" {
		m["egress_pool"] = d.Pool
	}
	m["routing_domain"] = nil
	if q.Routing != "" {
		m["routing_domain"] = q.Routing
	}
	for key, value := range map[string]string{"campaign": q.Campaign, "tenant": q.Tenant} {
		if delete(m, key); value != "" {
			m[key] = value
		}
	}
	s.meta = m
}
