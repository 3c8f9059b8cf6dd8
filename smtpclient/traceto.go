package smtpclient

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"github.com/mtakit/mtakit"
)

// TraceTo makes an [Egress.Trace] that publishes what happens, for those who watch t. A session that began unwatched is seen from its next message on.
// Events are in the order in which the bytes went over the wire; each has what is known of the session and of the message that it is about.
func TraceTo(t *mtakit.Traces) func(*mtakit.Path, *mtakit.SessionInfo) *Trace {
	return func(p *mtakit.Path, info *mtakit.SessionInfo) *Trace {
		if !t.Watched() {
			return nil
		}
		s := &traced{t: t}
		s.learn(map[string]any{"id": info.ID, "ready_queue_name": p.Name, "egress_source": sourceName(p.Source)})
		if info.PeerAddr.IsValid() {
			s.peer(info)
		}
		return s.functions()
	}
}

func sourceName(s *mtakit.Source) string {
	if s == nil {
		return "unspecified"
	}
	return cmp.Or(s.Name, "unspecified")
}

// traced is a session that is, or was, watched. It belongs to the goroutine of the session. Its maps are published: they are replaced, never changed.
type traced struct {
	t       *mtakit.Traces
	session map[string]any   // what is known of the session
	meta    map[string]any   // that and the message in hand
	next    *mtakit.Delivery // whose envelope is on its way already
	ahead   map[string]any   // meta of next
}

func (s *traced) functions() *Trace {
	return &Trace{
		Plan: func(hosts []Candidate) {
			s.learn(map[string]any{"mx_plan": mxPlan(hosts)})
			s.publish(mtakit.TraceBegin, s.meta, nil)
		},
		Connecting: func(_ string, addr netip.AddrPort) { s.note(slog.LevelInfo, "Attempting connection to "+addr.String()) },
		Connected: func(info *mtakit.SessionInfo, _ time.Duration) {
			s.peer(info)
			s.publish(mtakit.TraceConnected, s.meta, nil)
		},
		Handshake: s.handshake,
		Delivery:  s.delivery,
		Command:   func(line []byte) { s.publish(mtakit.TraceWrite, s.meta, line) },
		Ahead: func(d *mtakit.Delivery, line []byte) {
			if !s.t.Watched() {
				return
			}
			if s.next != d {
				s.next, s.ahead = d, s.about(d)
				s.publish(mtakit.TraceMessage, s.ahead, nil)
			}
			s.publish(mtakit.TraceWrite, s.ahead, line)
		},
		Data:  func(block []byte) { s.publish(mtakit.TraceWrite, s.meta, block) },
		Reply: func(_ mtakit.Response, raw []byte, _ time.Duration) { s.publish(mtakit.TraceRead, s.meta, raw) },
		Note:  s.note,
		Closed: func(err error) {
			if err != nil {
				s.note(slog.LevelError, err.Error())
			}
			s.publish(mtakit.TraceClosed, s.meta, nil)
			s.meta, s.next, s.ahead = s.session, nil, nil
		},
	}
}

func (s *traced) publish(kind mtakit.TraceKind, meta map[string]any, text []byte) {
	if !s.t.Watched() {
		return
	}
	if e := (&mtakit.TraceEvent{Kind: kind, Meta: meta}); s.t.Wanted(e) {
		e.Text = string(text)
		s.t.Publish(e)
	}
}

func (s *traced) note(level slog.Level, text string) {
	if s.t.Watched() {
		s.t.Publish(&mtakit.TraceEvent{Kind: mtakit.TraceDiagnostic, Meta: s.meta, Level: level, Text: text})
	}
}

func (s *traced) handshake(c tls.ConnectionState, _ time.Duration, err error) {
	if err != nil {
		s.note(slog.LevelError, "STARTTLS handshake -> "+err.Error())
		return
	}
	s.note(slog.LevelInfo, "STARTTLS handshake -> OK")
	s.note(slog.LevelInfo, fmt.Sprintf("TLS: %s %s", tlsVersions[c.Version], tls.CipherSuiteName(c.CipherSuite)))
}

// delivery is the beginning of one. Where nobody watches, all that is done is to forget the message before it.
func (s *traced) delivery(d *mtakit.Delivery) {
	meta, obtained := s.ahead, s.next == d
	s.meta, s.next, s.ahead = s.session, nil, nil
	switch {
	case !s.t.Watched():
	case obtained:
		s.meta = meta
	default:
		s.meta = s.about(d)
		s.publish(mtakit.TraceMessage, s.meta, nil)
	}
}

// learn adds to what is known of the session.
func (s *traced) learn(more map[string]any) {
	m := maps.Clone(s.session)
	if m == nil {
		m = make(map[string]any, len(more))
	}
	maps.Copy(m, more)
	s.session, s.meta = m, m
}

func (s *traced) peer(info *mtakit.SessionInfo) {
	m := map[string]any{"mx_host": info.PeerName, "mx_address": info.PeerAddr.String()}
	if info.LocalAddr.IsValid() {
		m["source_address"] = info.LocalAddr.String()
	}
	s.learn(m)
}

// about is what is known of the session and a delivery.
func (s *traced) about(d *mtakit.Delivery) map[string]any {
	m := maps.Clone(s.session)
	to := make([]string, 0, len(d.Rcpts))
	for _, i := range d.Rcpts {
		to = append(to, d.Message.To[i])
	}
	q := d.Message.Queue
	m["message_id"], m["sender"], m["recipient"], m["domain"], m["queue_name"] = d.Message.ID.String(), d.Message.Sender, to, q.Domain, q.String()
	m["routing_domain"] = nil
	if q.Routing != "" {
		m["routing_domain"] = q.Routing
	}
	for _, has := range [...]struct{ key, value string }{{"egress_pool", d.Pool}, {"campaign", q.Campaign}, {"tenant", q.Tenant}} {
		if has.value != "" {
			m[has.key] = has.value
		}
	}
	return m
}

// mxPlan is the candidates in KumoMTA's form, in which the last one is tried first.
func mxPlan(hosts []Candidate) any {
	if len(hosts) == 0 {
		return "NullMx"
	}
	plan := make([]map[string]any, len(hosts))
	for i, h := range hosts {
		plan[len(hosts)-1-i] = map[string]any{"name": h.Host, "addr": h.Addr.Addr().String(), "is_secure": h.Secure}
	}
	return map[string]any{"Addresses": plan}
}
