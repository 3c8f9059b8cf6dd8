package smtpclient_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// events are what a watch has, which ends.
func events(t *testing.T, w *mtakit.TraceWatch) (all []*mtakit.TraceEvent) {
	t.Helper()
	w.Close()
	for {
		e, err := w.Next(t.Context())
		if err != nil {
			return all
		}
		all = append(all, e)
	}
}

// lines renders events, with the sender of the message that they are about.
func lines(all []*mtakit.TraceEvent) (lines []string) {
	for _, e := range all {
		of := "-"
		if s, ok := e.Meta["sender"].(string); ok {
			of = s
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", of, e.Kind, strings.ReplaceAll(e.Text, "\r\n", "|"))))
	}
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is known of a session grows, under KumoMTA's names.
func TestTraceToMeta(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	peer := newPeer(t, &n, "192.0.2.1:25")
	var traces mtakit.Traces
	w := traces.Watch(nil)
	e := egress(&n)
	e.Trace = smtpclient.TraceTo(&traces)
	p := pathTo(nil, peer)
	p.Source = &mtakit.Source{Name: "s"}
	s := connect(t, e, p)
	first := delivery("a@x.test", "", "b@y.test", "c@y.test")
	first.Rcpts = first.Rcpts[1:]
	first.Message.Queue, first.Pool = mtakit.QueueName{Campaign: "c", Tenant: "t", Domain: "y.test", Routing: "r.test"}, "p"
	second := delivery("", "", "b@y.test")
	second.Message.Queue = mtakit.QueueName{Domain: "y.test"}
	for _, d := range []*mtakit.Delivery{first, second} {
		if err := s.Send(t.Context(), d, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	begin := map[string]any{
		"id": s.Info().ID, "egress_source": "s", "ready_queue_name": "unspecified->mx.test@smtp_client",
		"mx_plan": map[string]any{"Addresses": []any{map[string]any{"name": "mx1.test", "addr": "192.0.2.1", "is_secure": false}}},
	}
	with := func(m map[string]any, more map[string]any) map[string]any {
		m = maps.Clone(m)
		maps.Copy(m, more)
		return m
	}
	connected := with(begin, map[string]any{"mx_host": "mx1.test", "mx_address": "192.0.2.1:25", "source_address": s.Info().LocalAddr.String()})
	id := first.Message.ID.String()
	messages := []map[string]any{
		with(connected, map[string]any{"message_id": id, "sender": "a@x.test", "recipient": []any{"c@y.test"}, "domain": "y.test", "queue_name": "c:t@y.test!r.test",
			"routing_domain": "r.test", "campaign": "c", "tenant": "t", "egress_pool": "p"}),
		with(connected, map[string]any{"message_id": id, "sender": "", "recipient": []any{"b@y.test"}, "domain": "y.test", "queue_name": "y.test", "routing_domain": nil}),
	}
	for _, e := range events(t, w) {
		var want map[string]any
		switch e.Kind {
		case mtakit.TraceBegin:
			want = begin
		case mtakit.TraceConnected:
			want = connected
		case mtakit.TraceMessage:
			want, messages = messages[0], messages[1:]
		default:
			continue
		}
		b, err := json.Marshal(e.Meta)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		json.Unmarshal(b, &got)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: conn_meta is\n%v\nwant\n%v", e.Kind, got, want)
		}
	}
	if len(messages) > 0 {
		t.Errorf("%d messages were not seen", len(messages))
	}
}

// A session is seen from the beginning, or from the message on that follows when somebody begins to watch, and is never said to be about a message that it
// is done with.
func TestTraceToLate(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	peer := newPeer(t, &n, "192.0.2.1:25", smtptest.Extensions())
	var traces mtakit.Traces
	e := egress(&n)
	e.Trace = smtpclient.TraceTo(&traces)
	s := connect(t, e, pathTo(nil, peer)) // nobody watches
	send := func(from string) {
		t.Helper()
		if err := s.Send(t.Context(), delivery(from, ".x\r\n", "b@y.test"), nil); err != nil {
			t.Fatal(err)
		}
	}
	send("1@x.test")
	w := traces.Watch(nil)
	send("2@x.test")
	wantLines(t, lines(events(t, w)), "2@x.test MessageObtained", "2@x.test Write RSET|", "2@x.test Read 250 2.0.0 ok|", "2@x.test Write MAIL FROM:<2@x.test>|", "2@x.test Read 250 2.1.0 ok|",
		"2@x.test Write RCPT TO:<b@y.test>|", "2@x.test Read 250 2.1.5 ok|", "2@x.test Write DATA|", "2@x.test Read 354 go ahead|",
		"2@x.test Write ..x|", "2@x.test Write .|", "2@x.test Read 250 2.0.0 taken|")
	send("3@x.test") // again nobody watches
	w = traces.Watch(nil)
	s.Close()
	wantLines(t, lines(events(t, w)), "- Write QUIT|", "- Read 221 2.0.0 bye|", "- Closed")
}

// An envelope that goes out with the end of the message before it is seen where it is on the wire, and is about its own message.
func TestTraceToOverlap(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	peer := newPeer(t, &n, "192.0.2.1:25")
	var traces mtakit.Traces
	e := egress(&n)
	e.Trace = smtpclient.TraceTo(&traces)
	s := connect(t, e, pathTo(nil, peer))
	w := traces.Watch(nil)
	a, b := delivery("a@x.test", "1\r\n", "b@y.test"), delivery("b@x.test", "2\r\n", "b@y.test")
	if err := s.Send(t.Context(), a, func() *mtakit.Delivery { return b }); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	wantLines(t, lines(events(t, w)),
		"a@x.test MessageObtained", "a@x.test Write MAIL FROM:<a@x.test> SIZE=3|", "a@x.test Write RCPT TO:<b@y.test>|", "a@x.test Write DATA|",
		"a@x.test Read 250 2.1.0 ok|", "a@x.test Read 250 2.1.5 ok|", "a@x.test Read 354 go ahead|", "a@x.test Write 1|", "a@x.test Write .|",
		"b@x.test MessageObtained", "b@x.test Write RSET|", "b@x.test Write MAIL FROM:<b@x.test> SIZE=3|", "b@x.test Write RCPT TO:<b@y.test>|",
		"b@x.test Write DATA|", "a@x.test Read 250 2.0.0 taken|", "b@x.test Read 250 2.0.0 ok|", "b@x.test Read 250 2.1.0 ok|", "b@x.test Read 250 2.1.5 ok|", "b@x.test Read 354 go ahead|",
		"b@x.test Write 2|", "b@x.test Write .|", "b@x.test Read 250 2.0.0 taken|")
}

// Each failure is told once.
func TestTraceToFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script func(*smtptest.Peer)
		change func(*mtakit.PathConfig)
		site   *mtakit.Site
		want   []string
	}{
		"null MX": {site: &mtakit.Site{Name: ".", Hosts: []mtakit.Host{{Name: "."}}}, want: []string{
			"- BeginSession", "- Diagnostic 556 5.1.10 Recipient address has a null MX"}},
		"banner": {script: func(p *smtptest.Peer) { p.Reply("CONNECT", "554 no") }, want: []string{
			"- BeginSession", "- Diagnostic Attempting connection to 192.0.2.1:25", "- Connected", "- Read 554 no|",
			"- Diagnostic connect to 192.0.2.1:25 and read initial banner: the peer answered 554 no", "- Closed"}},
		"no TLS": {change: func(c *mtakit.PathConfig) { c.EnableTLS = mtakit.TLSRequired }, script: func(p *smtptest.Peer) { p.SetExtensions() }, want: []string{
			"- BeginSession", "- Diagnostic Attempting connection to 192.0.2.1:25", "- Connected", "- Read 220 peer.test ESMTP smtptest|", "- Write EHLO client.test|",
			"- Read 250 peer.test|", "- Diagnostic tls policy is Required but STARTTLS is not advertised by 192.0.2.1:25", "- Write QUIT|", "- Read 221 2.0.0 bye|", "- Closed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			peer := newPeer(t, &n, "192.0.2.1:25")
			if tt.script != nil {
				tt.script(peer)
			}
			var traces mtakit.Traces
			w := traces.Watch(nil)
			e := egress(&n)
			e.Trace = smtpclient.TraceTo(&traces)
			p := pathTo(tt.change, peer)
			if tt.site != nil {
				p.Site = tt.site
			}
			if _, err := e.Connect(t.Context(), p); err == nil {
				t.Fatal("no error")
			}
			all := events(t, w)
			wantLines(t, lines(all), tt.want...)
			if plan := all[0].Meta["mx_plan"]; (plan == "NullMx") != (tt.site != nil) {
				t.Errorf("mx_plan is %v", plan)
			}
		})
	}
}
