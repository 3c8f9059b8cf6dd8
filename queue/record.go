package queue

import (
	"context"
	"net/netip"

	"github.com/mtakit/mtakit"
)

// recordOpts says what a record tells beyond the message and the response.
type recordOpts struct {
	site string
	r    *ready         // for the source, provider and protocol
	conn mtakit.Session // for the peer
	to   []string       // nil: every recipient
}

// record writes a record about a message that is in memory.
func (q *Queue) record(it *item, kind mtakit.Kind, resp mtakit.Response, o recordOpts) {
	if q.cfg.Record == nil {
		return
	}
	m := it.m
	rec := q.records.Get().(*mtakit.Record)
	*rec = mtakit.Record{
		Kind: kind, ID: it.id, Sender: m.Sender, To: o.to, Queue: it.sched.name(), Site: o.site, Size: m.Size, Response: resp,
		Time: q.now(), Created: it.id.Time(), Tries: it.tries, NodeID: q.cfg.NodeID,
		ReceptionProtocol: m.MetaString(mtakit.MetaReceptionProtocol), Message: m, Body: it.body,
	}
	if o.to == nil {
		rec.To = m.To
	}
	switch kind {
	case mtakit.Bounce, mtakit.TransientFailure, mtakit.Expiration, mtakit.AdminBounce:
		rec.Class = q.classify(resp)
	}
	if c := it.sched.conf.Load(); c != nil && c.err == nil && kind != mtakit.Reception {
		rec.Pool, rec.Provider = c.pool, c.ProviderName
	}
	if o.r != nil {
		p := o.r.path.Load()
		rec.Source, rec.DeliveryProtocol = p.Source.Name, deliveryProtocol(p.Protocol)
		if rec.Provider == "" {
			rec.Provider = p.ProviderName
		}
	}
	if o.conn != nil {
		i := o.conn.Info()
		rec.SessionID, rec.PeerName, rec.PeerAddr, rec.PeerSecure = i.ID, i.PeerName, i.PeerAddr, i.Secure
		rec.SourceAddr, rec.ProxyServer, rec.ProxyProtocol = i.LocalAddr, i.ProxyServer, i.ProxyProtocol
		rec.TLSVersion, rec.TLSCipher, rec.TLSSubject = i.TLSVersion, i.TLSCipher, i.TLSSubject
		if i.Protocol != "" {
			rec.DeliveryProtocol = i.Protocol
		}
	}
	if kind == mtakit.XferOut {
		rec.DeliveryProtocol = xferProtocol
	}
	if rec.Body == nil && q.wantsBody {
		if b, err := q.cfg.Spool.Open(context.WithoutCancel(q.workCtx), it.id); err == nil {
			rec.Body = b
			defer b.Close()
		}
	}
	q.cfg.Record.Record(rec)
	*rec = mtakit.Record{}
	q.records.Put(rec)
}

func deliveryProtocol(p mtakit.Protocol) string {
	switch {
	case p.Maildir != nil:
		return "Maildir"
	case p.Custom != nil:
		return "Lua"
	case p.Xfer != nil:
		return "Xfer"
	case p.MetricsName() == "httpinject":
		return "HttpInjectionGenerator"
	}
	return "ESMTP"
}

// recordReception writes the record of a message that has been accepted.
func (q *Queue) recordReception(it *item, body mtakit.Body, kind mtakit.Kind) {
	if q.cfg.Record == nil {
		return
	}
	m := it.m
	rec := q.records.Get().(*mtakit.Record)
	*rec = mtakit.Record{
		Kind: kind, ID: it.id, Sender: m.Sender, To: m.To, Queue: it.sched.name(), Size: m.Size, Response: mtakit.Response{Code: 250},
		Time: q.now(), Created: it.id.Time(), Tries: it.tries, NodeID: q.cfg.NodeID,
		ReceptionProtocol: m.MetaString(mtakit.MetaReceptionProtocol), PeerName: m.MetaString(mtakit.MetaEHLODomain),
		TLSVersion: m.MetaString(mtakit.MetaTLSProtocol), TLSCipher: m.MetaString(mtakit.MetaTLSCipher),
		Message: m, Body: body,
	}
	rec.TLSSubject, _ = m.Meta[mtakit.MetaTLSPeerSubject].([]string)
	rec.SessionID = m.MetaString("session_id")
	from := m.MetaString(mtakit.MetaReceivedFrom)
	if kind == mtakit.XferIn {
		rec.DeliveryProtocol, from = xferProtocol, m.MetaString(MetaXferFrom)
		rec.PeerName, rec.SessionID, rec.TLSVersion, rec.TLSCipher, rec.TLSSubject = "", "", "", "", nil // they are about whom the other node had it from
	}
	if from != "" {
		if ap, err := netip.ParseAddrPort(from); err == nil {
			rec.PeerAddr = netip.AddrPortFrom(ap.Addr(), 0)
		} else if a, err := netip.ParseAddr(from); err == nil {
			rec.PeerAddr = netip.AddrPortFrom(a, 0)
		}
	}
	q.cfg.Record.Record(rec)
	*rec = mtakit.Record{}
	q.records.Put(rec)
}

// recordDelayed says why a message waits that has no failure to show for it.
func (q *Queue) recordDelayed(it *item, why Reasons) {
	if q.cfg.Record == nil {
		return
	}
	if it.m == nil {
		m, err := q.cfg.Spool.Load(context.WithoutCancel(q.workCtx), it.id)
		if err != nil {
			return // it is reported when its time comes
		}
		q.bring(it, m, nil)
	}
	if len(why) == 1 && why[0] == Received && it.m.Schedule != nil {
		why = why.with(ScheduledForLater)
	}
	text := append([]byte("Context: "), why.String()...)
	text = append(append(text, ". Next due in "...), mtakit.Duration(it.due.Sub(q.now())).String()...)
	text = mtakit.AppendTimestamp(append(text, " at "...), it.due)
	q.record(it, mtakit.Delayed, mtakit.Response{Code: 400, Text: string(text)}, recordOpts{})
}

func (q *Queue) classify(r mtakit.Response) mtakit.Class {
	if q.cfg.Classify == nil {
		return ""
	}
	start := q.uptime()
	class := q.cfg.Classify.Classify(r)
	q.timings.classify.Observe(q.uptime() - start)
	return class
}
