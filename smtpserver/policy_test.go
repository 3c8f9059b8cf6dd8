package smtpserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

// Every callback, in the order of the reference.
func TestOrderOfCallbacks(t *testing.T) {
	t.Parallel()
	var order []string
	saw := func(format string, args ...any) { order = append(order, fmt.Sprintf(format, args...)) }
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{
		Options: func(context.Context, *smtpserver.Session) (*smtpserver.Options, error) {
			saw("options")
			return nil, nil
		},
		Connect: func(context.Context, *smtpserver.Session) error { saw("connect"); return nil },
		Ehlo: func(_ context.Context, s *smtpserver.Session, domain string, keywords []string) ([]string, error) {
			saw("ehlo %s", domain)
			return append(keywords, "X-OURS"), nil
		},
		Mail: func(_ context.Context, s *smtpserver.Session, sender string) error {
			saw("mail %s", sender)
			return nil
		},
		ListenerDomain: func(_ context.Context, _ *smtpserver.Session, domain string) (*smtpserver.ListenerDomain, error) {
			saw("domain %s", domain)
			return nil, nil
		},
		Rcpt: func(_ context.Context, s *smtpserver.Session, rcpt string) error {
			sender, _ := s.Sender()
			saw("rcpt %s from %s after %d", rcpt, sender, len(s.Recipients()))
			return nil
		},
		Data: func(_ context.Context, _ *smtpserver.Session, m *smtpserver.Mail) error {
			saw("data %v %q", m.To, m.Text())
			m.To = append(m.To, "bcc@third.test")
			m.Meta["x_data"] = true
			m.SetText([]byte("new\r\n"))
			return m.Prepend("X-Data: yes")
		},
		Split: func(_ context.Context, _ *smtpserver.Session, m *smtpserver.Mail) ([][]string, error) {
			saw("split %v", m.To)
			return [][]string{{m.To[2]}, nil, {m.To[0], m.To[1]}}, nil
		},
		Received: func(_ context.Context, _ *smtpserver.Session, m *smtpserver.Mail) error {
			saw("received %v %q", m.To, m.Text())
			m.Meta[mtakit.MetaTenant] = "acme"
			m.Queue = mtakit.QueueName{Domain: "elsewhere.test"}
			if m.To[0] == "bcc@third.test" {
				m.SetText([]byte("for the third\r\n"))
				return &mtakit.Delay{For: time.Hour}
			}
			return m.Prepend("X-Received:\r\n\tfolded")
		},
	}, Options: smtpserver.Options{TraceHeaders: &smtpserver.TraceHeaders{Supplemental: true, IncludeMeta: []string{"tenant"}}}})
	out := h.talk("EHLO c.test\r\n" + envelope + "RCPT TO:<c@DST.test>\r\nDATA\r\nold\r\n.\r\nQUIT\r\n")
	want := []string{
		"options", "connect", "ehlo c.test", "mail a@src.test", "domain src.test", "domain dst.test", "rcpt b@dst.test from a@src.test after 0",
		"rcpt c@DST.test from a@src.test after 1", `data [b@dst.test c@DST.test] "old\r\n"`, "split [b@dst.test c@DST.test bcc@third.test]",
		`received [bcc@third.test] "new\r\n"`, "domain third.test", `received [b@dst.test c@DST.test] "new\r\n"`,
	}
	if !slices.Equal(order, want) {
		t.Errorf("order\n%q\nwant\n%q", order, want)
	}
	if !strings.Contains(out, "\r\n250 X-OURS\r\n") {
		t.Errorf("keywords: %q", out)
	}
	got := h.got()
	if len(got) != 2 || got[0].text != "for the third\r\n" || got[1].text != "new\r\n" {
		t.Fatalf("got %+v", got)
	}
	if want := time.Until(got[0].Due); want < 50*time.Minute || !got[1].Due.IsZero() {
		t.Errorf("due %v and %v", got[0].Due, got[1].Due)
	}
	for i, head := range []string{"X-Data: yes\r\n", "X-Received:\r\n\tfolded\r\nX-Data: yes\r\n"} {
		m := got[i]
		if m.Queue.Domain != "elsewhere.test" || m.Meta["x_data"] != true || !strings.HasSuffix(m.head, "\r\n"+head) {
			t.Errorf("message %d: %+v", i, m)
		}
		if s := supplemental(t, m.head); s["tenant"] != "acme" {
			t.Errorf("supplemental %v", s)
		}
		if !strings.Contains(out, m.ID.String()) {
			t.Errorf("%s is not in %q", m.ID, out)
		}
	}
}

// supplemental decodes the field at the top of head.
func supplemental(t *testing.T, head string) (v map[string]any) {
	t.Helper()
	m := regexp.MustCompile(`^X-KumoRef: ((?:[^\r]+\r\n\t)*[^\r]+)\r\n`).FindStringSubmatch(head)
	if m == nil {
		t.Fatalf("no supplemental field in %q", head)
	}
	lines := strings.Split(m[1], "\r\n\t")
	for i, l := range lines {
		if len(l) > 75 || i < len(lines)-1 && len(l) != 75 {
			t.Errorf("line of %d characters in %q", len(l), head)
		}
	}
	j, err := base64.StdEncoding.DecodeString(strings.Join(lines, ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(j, []byte(`{"_@_":"\\_/","recipient":`)) {
		t.Errorf("supplemental %s", j)
	}
	if err := json.Unmarshal(j, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTraceHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{})
		h.talk(message + "EHLO [192.0.2.77]\r\n" + mail + "RCPT TO:<\"j\\\\\\\"<é>\"@dst.test>\r\nDATA\r\n.\r\nQUIT\r\n")
		for i, want := range []struct{ from, rcpt string }{{"unspecified", "b@dst.test"}, {"[192.0.2.77]", `"j\\\"<é>"@dst.test`}} {
			m := h.got()[i]
			received := "Received: from " + want.from + " (192.0.2.1)\r\n  by mx.test (KumoMTA 198.51.100.1) \r\n  with ESMTP id " + m.ID.String() +
				" for <" + want.rcpt + ">;\r\n  Sat, 1 Jan 2000 00:00:00 +0000\r\n"
			if !strings.HasSuffix(m.head, received) {
				t.Errorf("head %q\nwant at its end %q", m.head, received)
			}
			if s := supplemental(t, m.head); s["recipient"] != want.rcpt || len(s) != 2 {
				t.Errorf("supplemental %v", s)
			}
		}
	})
	h := start(t, &smtpserver.Server{Options: smtpserver.Options{
		BatchHandling: smtpserver.BatchByDomain,
		Meta:          map[string]any{"x_big": strings.Repeat("<&>", 100), "x_n": 7},
		TraceHeaders:  &smtpserver.TraceHeaders{Supplemental: true, IncludeMeta: []string{"x_big", "x_n", "x_unset"}},
	}})
	h.talk(envelope + "RCPT TO:<c@DST.test>\r\nDATA\r\n.\r\nQUIT\r\n")
	s := supplemental(t, h.got()[0].head)
	if fmt.Sprint(s["recipient"]) != "[b@dst.test c@DST.test]" || s["x_big"] != strings.Repeat("<&>", 100) || s["x_n"] != 7.0 {
		t.Errorf("supplemental %v", s)
	}
	if v, there := s["x_unset"]; !there || v != nil {
		t.Errorf("unset metadata is %v, want null", v)
	}
	h = start(t, &smtpserver.Server{Options: smtpserver.Options{TraceHeaders: &smtpserver.TraceHeaders{}}})
	h.talk(message + "QUIT\r\n")
	if head := h.got()[0].head; head != "" {
		t.Errorf("head %q though all are off", head)
	}
}

// What Received changes of one message of a transaction is not changed of the others; ids stay as they are.
func TestReceivedChangesOneMessage(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{Received: func(_ context.Context, _ *smtpserver.Session, m *smtpserver.Mail) error {
		m.ID, m.Meta["x_to"], m.To[0] = mtakit.ID{1}, m.To[0], "new-"+m.To[0]
		return nil
	}}})
	out := h.talk(mail + "RCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<c@x.test>\r\nDATA\r\n.\r\nQUIT\r\n")
	var got []string
	for _, m := range h.got() {
		got = append(got, fmt.Sprint(m.Meta["x_to"], m.To))
		if m.ID == (mtakit.ID{1}) || !strings.Contains(out, m.ID.String()) {
			t.Errorf("id %s; the client was told %q", m.ID, out)
		}
	}
	if want := []string{"a@x.test[new-a@x.test]", "b@x.test[new-b@x.test]", "c@x.test[new-c@x.test]"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A message that is refused as a whole does not end a session in which others were accepted.
func TestRefusedBetweenAccepted(t *testing.T) {
	t.Parallel()
	second := func() func() error {
		n := 0
		return func() error {
			if n++; n == 2 {
				return &mtakit.Reject{Response: mtakit.Response{Code: 550, Text: "no"}}
			}
			return nil
		}
	}
	data, split := second(), second()
	for name, policy := range map[string]smtpserver.Policy{
		"data":  {Data: func(context.Context, *smtpserver.Session, *smtpserver.Mail) error { return data() }},
		"split": {Split: func(context.Context, *smtpserver.Session, *smtpserver.Mail) ([][]string, error) { return nil, split() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{Policy: policy})
			out := h.talk(message + message + message + "NOOP\r\nQUIT\r\n")
			if !strings.Contains(out, "\r\n550 no\r\n") || !strings.Contains(out, "goggles") || len(h.got()) != 2 {
				t.Errorf("%d messages were delivered, and the client was told %q", len(h.got()), out)
			}
		})
	}
}

func TestPrependRefusesInjection(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{Data: func(_ context.Context, _ *smtpserver.Session, m *smtpserver.Mail) error {
		for _, field := range []string{"", "novalue", "A b: c", ": c", "A: b\r\nC: d", "A: b\nC", "A: b\r C", "A: b\r\n", "A: \x00"} {
			if err := m.Prepend(field); !errors.Is(err, smtpserver.ErrBadField) {
				t.Errorf("Prepend(%q): %v, want ErrBadField", field, err)
			}
		}
		return nil
	}}})
	h.talk(message + "QUIT\r\n")
	if head := h.got()[0].head; !strings.HasPrefix(head, "X-KumoRef") {
		t.Errorf("head %q", head)
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	input := mail + "RCPT TO:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<c@X.test>\r\nDATA\r\n.\r\nQUIT\r\n"
	for _, tt := range []struct {
		handling smtpserver.BatchHandling
		want     string
	}{
		{smtpserver.BatchInherit, "[a@x.test] [b@y.test] [c@X.test]"},
		{smtpserver.BifurcateAlways, "[a@x.test] [b@y.test] [c@X.test]"},
		{smtpserver.BatchByDomain, "[a@x.test c@X.test] [b@y.test]"},
	} {
		h := start(t, &smtpserver.Server{Options: smtpserver.Options{BatchHandling: tt.handling}})
		h.talk(input)
		var got []string
		for _, m := range h.got() {
			got = append(got, fmt.Sprint(m.To))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("handling %d: %v, want %s", tt.handling, got, tt.want)
		}
	}
}

// A thousand ids don't fit a reply line; they are told on several, none of them over the limit.
func TestManyIDs(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{})
	lines := replies(h.talk(mail + strings.Repeat(rcpt, 100) + "DATA\r\n.\r\nQUIT\r\n"))
	lines = lines[102:]
	var ids []string
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		rest, ok := strings.CutPrefix(l, "250"+sep)
		if !ok || len(l) > 510 {
			t.Errorf("line %d: %q", i, l)
		}
		ids = append(ids, strings.Fields(strings.TrimPrefix(rest, "OK ids="))...)
	}
	got := h.got()
	if len(ids) != 100 || len(got) != 100 {
		t.Fatalf("%d ids of %d messages", len(ids), len(got))
	}
	for i, m := range got {
		if m.ID.String() != ids[i] || i > 0 && got[i-1].ID.Compare(m.ID) >= 0 {
			t.Errorf("message %d is %s, was told as %s", i, m.ID, ids[i])
		}
	}
}

// Reports: modes × relaying, for a report and for what is none.
func TestReports(t *testing.T) {
	t.Parallel()
	const ok, relaying, notPermitted = "250 OK ids=", "550 5.7.1 relaying not permitted for ", "550 5.7.1 relaying not permitted"
	for _, tt := range []struct {
		mode   smtpserver.ReportMode
		relay  bool
		report smtpserver.Report
		reply  string
		queue  string // "" is derived later
	}{
		{smtpserver.Ignore, true, smtpserver.OOBReport, ok, ""}, {smtpserver.Ignore, false, smtpserver.OOBReport, relaying, ""},
		{smtpserver.LogThenDrop, true, smtpserver.OOBReport, ok, "null"}, {smtpserver.LogThenDrop, false, smtpserver.OOBReport, ok, "null"},
		{smtpserver.LogThenRelay, true, smtpserver.OOBReport, ok, ""}, {smtpserver.LogThenRelay, false, smtpserver.OOBReport, ok, ""},
		{smtpserver.LogThenDrop, true, smtpserver.NoReport, ok, ""}, {smtpserver.LogThenDrop, false, smtpserver.NoReport, notPermitted, ""},
		{smtpserver.LogThenRelay, false, smtpserver.NoReport, notPermitted, ""},
		// A feedback report, where only bounces are looked for.
		{smtpserver.LogThenDrop, true, smtpserver.ARFReport, ok, ""}, {smtpserver.LogThenDrop, false, smtpserver.ARFReport, notPermitted, ""},
	} {
		t.Run(fmt.Sprintf("%s/relay=%t/%d", tt.mode, tt.relay, tt.report), func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{
				ListenerDomain: func(_ context.Context, _ *smtpserver.Session, domain string) (*smtpserver.ListenerDomain, error) {
					if domain != "dst.test" {
						return nil, nil
					}
					return &smtpserver.ListenerDomain{RelayTo: tt.relay, LogOOB: tt.mode}, nil
				},
				Report: func(context.Context, *smtpserver.Session, *smtpserver.Mail, *smtpserver.ListenerDomain) (smtpserver.Report, error) {
					return tt.report, nil
				},
			}})
			out := h.talkFrom("203.0.113.1:1", message+"QUIT\r\n")
			if !strings.Contains(out, "\r\n"+tt.reply) {
				t.Fatalf("got %q, want %q", out, tt.reply)
			}
			got := h.got()
			if want := tt.reply == ok; want != (len(got) == 1) {
				t.Fatalf("%d messages", len(got))
			}
			if len(got) == 1 && got[0].Queue.String() != tt.queue {
				t.Errorf("queue %q, want %q", got[0].Queue, tt.queue)
			}
		})
	}
}

func TestRelayFrom(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{
		ListenerDomain: func(_ context.Context, _ *smtpserver.Session, domain string) (*smtpserver.ListenerDomain, error) {
			if domain == "" {
				return nil, &mtakit.Reject{Response: mtakit.Response{Code: 550, Text: "no place to refuse"}}
			}
			return &smtpserver.ListenerDomain{RelayFrom: map[string][]netip.Prefix{"src.test": prefixes("203.0.113.0/24")}[domain]}, nil
		},
	}})
	for _, tt := range []struct{ from, sender, want string }{
		{"203.0.113.9:1", "a@SRC.test", "250 OK <b@dst.test>"}, {"203.0.113.9:1", "a@x.test", "550 5.7.1 relaying not permitted for 203.0.113.9:1"},
		{"203.0.114.9:1", "a@src.test", "550 5.7.1 relaying not permitted for 203.0.114.9:1"}, {"203.0.113.9:1", "", "421 4.3.0 mx.test technical difficulties"},
	} {
		if got := last(h.talkFrom(tt.from, "MAIL FROM:<"+tt.sender+">\r\n"+rcpt+"QUIT\r\n")); got != tt.want {
			t.Errorf("%s from <%s>: %q, want %q", tt.from, tt.sender, got, tt.want)
		}
	}
}

// Blocks: the longest prefix counts, Via beats Peer, inner blocks beat outer ones, and what the policy returns beats all.
func TestOptionBlocks(t *testing.T) {
	t.Parallel()
	prefix := netip.MustParsePrefix
	block := func(banner string, m string) smtpserver.Options {
		return smtpserver.Options{Banner: banner, Meta: map[string]any{m: m}}
	}
	inner := block("peer/24", "p24")
	inner.Peer = map[netip.Prefix]smtpserver.Options{prefix("203.0.113.128/25"): block("peer/25", "p25")}
	inner.Via = map[netip.Prefix]smtpserver.Options{prefix("198.51.100.1/32"): {AllowXCLIENT: new(false)}}
	for _, tt := range []struct {
		name, from, banner, meta string
		xclient                  bool
		via, dynamic             smtpserver.Options
	}{
		{name: "none", from: "192.0.2.1:1", banner: "outer", meta: "outer", xclient: true},
		{name: "short", from: "203.0.1.1:1", banner: "peer/16", meta: "outer p16", xclient: true},
		{name: "long", from: "203.0.113.1:1", banner: "peer/24", meta: "outer p24"},
		{name: "inner", from: "203.0.113.129:1", banner: "peer/25", meta: "outer p24 p25"},
		{name: "via", from: "203.0.113.1:1", via: block("via", "v"), banner: "via", meta: "outer p24 v"},
		{name: "dynamic", from: "203.0.113.1:1", via: block("via", "v"), dynamic: block("dynamic", "d"), banner: "dynamic", meta: "d outer p24 v"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := block("outer", "outer")
			o.AllowXCLIENT = new(true)
			o.Peer = map[netip.Prefix]smtpserver.Options{prefix("203.0.0.0/16"): block("peer/16", "p16"), prefix("203.0.113.0/24"): inner}
			o.Via = map[netip.Prefix]smtpserver.Options{prefix("198.51.100.0/24"): tt.via}
			var meta []string
			h := start(t, &smtpserver.Server{Options: o, Policy: smtpserver.Policy{
				Options: func(context.Context, *smtpserver.Session) (*smtpserver.Options, error) { return &tt.dynamic, nil },
				Connect: func(_ context.Context, s *smtpserver.Session) error {
					for k, v := range s.Meta() {
						if k == v {
							meta = append(meta, k)
						}
					}
					slices.Sort(meta)
					return nil
				},
			}})
			out := h.talkFrom(tt.from, "EHLO x\r\nQUIT\r\n")
			if !strings.HasPrefix(out, "220 mx.test "+tt.banner+"\r\n") || strings.Contains(out, "XCLIENT") != tt.xclient {
				t.Errorf("got %q, want banner %q, XCLIENT: %t", out, tt.banner, tt.xclient)
			}
			if got := strings.Join(meta, " "); got != tt.meta {
				t.Errorf("metadata %q, want %q", got, tt.meta)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	deliver := func(context.Context, []mtakit.Submission, mtakit.Durability) error { return nil }
	for _, srv := range []*smtpserver.Server{
		{},
		{Deliver: deliver, Options: smtpserver.Options{MaxMessageSize: -1}},
		{Deliver: deliver, Options: smtpserver.Options{BatchHandling: 9}},
		{Deliver: deliver, Options: smtpserver.Options{InvalidLineEndings: 9}},
		{Deliver: deliver, Options: smtpserver.Options{Banner: "a\r\nb"}},
		{Deliver: deliver, Options: smtpserver.Options{TraceHeaders: &smtpserver.TraceHeaders{HeaderName: "a b"}}},
		{Deliver: deliver, Options: smtpserver.Options{Via: map[netip.Prefix]smtpserver.Options{prefixes("::/0")[0]: {ClientTimeout: -1}}}},
	} {
		if err := srv.Serve(newNetwork()); err == nil || !strings.HasPrefix(err.Error(), "smtpserver: ") {
			t.Errorf("Serve with %+v: %v", &srv.Options, err)
		}
	}
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{Options: func(context.Context, *smtpserver.Session) (*smtpserver.Options, error) {
		return &smtpserver.Options{ClientTimeout: -1}, nil
	}}})
	if got, want := h.talk(""), "421 4.3.0 mx.test technical difficulties\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRewriteReplies(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{Reply: func(_ *smtpserver.Session, r mtakit.Response) mtakit.Response {
		switch {
		case r.Command == "NOOP":
			return mtakit.Response{Code: 250, Enhanced: [3]uint16{2, 0, 0}, Text: "one\ntwo"}
		case r.Command == "RSET":
			return mtakit.Response{Code: 999}
		case r.Command == "VRFY x":
			panic("oops")
		case r.Code == 354:
			return mtakit.Response{Code: 451, Text: "not now"}
		}
		return mtakit.Response{}
	}}})
	want := []string{"250-2.0.0 one", "250 2.0.0 two", "250 Reset state", "502 5.5.1 Command unimplemented", "250 OK <a@src.test>", "250 OK <b@dst.test>", "451 not now",
		"503 5.5.0 MAIL FROM must be issued first"}
	if got := replies(h.talk("NOOP\r\nRSET\r\nVRFY x\r\n" + envelope + "DATA\r\n" + rcpt + "QUIT\r\n")); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var recorded []string
	for _, r := range h.records {
		recorded = append(recorded, r.Response.Command+" "+r.Response.Text)
	}
	if want := []string{"VRFY x Command unimplemented", "DATA not now", "RCPT TO:<b@dst.test> MAIL FROM must be issued first"}; !slices.Equal(recorded, want) {
		t.Errorf("recorded %q, want %q", recorded, want)
	}
}

// A banner that policy makes a goodbye is one that the client gets to read.
func TestRewriteBanner(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{Reply: func(_ *smtpserver.Session, r mtakit.Response) mtakit.Response {
		if r.Code == 220 {
			return mtakit.Response{Code: 421, Text: "not today"}
		}
		return mtakit.Response{}
	}}})
	if got, want := h.talk("EHLO x\r\n"), "421 not today\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDeferred(t *testing.T) {
	t.Parallel()
	var got mtakit.Durability
	var queue string
	h := start(t, &smtpserver.Server{
		Options: smtpserver.Options{DeferredSpool: new(true), DeferredQueue: new(true)},
		Policy: smtpserver.Policy{Received: func(context.Context, *smtpserver.Session, *smtpserver.Mail) error {
			t.Error("Received was asked")
			return nil
		}},
		Deliver: func(_ context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
			got, queue = d, batch[0].Message.MetaString(mtakit.MetaQueue)
			return nil
		},
	})
	h.talk(message + "QUIT\r\n")
	if got != mtakit.Volatile || queue != mtakit.DeferredInjectQueue {
		t.Errorf("durability %s, queue %q", got, queue)
	}
}

func TestRejectionRecords(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{NodeID: "node"})
	h.talk("EHLO c.test\r\n" + envelope + "RCPT TO:<@>\r\nDATA\r\na\nb\r\n.\r\nQUIT\r\n")
	want := []mtakit.Response{
		{Code: 501, Enhanced: [3]uint16{5, 1, 3}, Text: "Invalid recipient address syntax", Command: "RCPT TO:<@>"},
		{Code: 552, Enhanced: [3]uint16{5, 6, 0}, Text: "message data must use CRLF for line endings", Command: "DATA"},
	}
	if len(h.records) != len(want) {
		t.Fatalf("%d records", len(h.records))
	}
	for i, r := range h.records {
		if r.Kind != mtakit.Rejection || r.Response != want[i] || r.Sender != "a@src.test" || !slices.Equal(r.To, []string{"b@dst.test"}) ||
			r.PeerName != "c.test" || r.PeerAddr.String() != "192.0.2.1:4000" || len(r.SessionID) != 36 || r.NodeID != "node" || !r.ID.IsZero() ||
			!r.Created.Equal(r.Time) || r.Meta[mtakit.MetaHostname] != "mx.test" || r.ReceptionProtocol != "" {
			t.Errorf("record %d: %+v\nwant the response %+v", i, r, want[i])
		}
	}
	if total, here := sample(h.srv, "smtp_server_rejections", "total"), sample(h.srv, "smtp_server_rejections", "198.51.100.1:25"); total != 2 || here != 2 {
		t.Errorf("%v rejections were counted, %v at the listener; want 2", total, here)
	}
	// Load and shutdown are not the client's fault.
	h = start(t, &smtpserver.Server{Admit: func() error { return mtakit.ErrSpoolFull }})
	h.talk("")
	if len(h.records) != 0 {
		t.Errorf("recorded %+v", h.records)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{})
	c := h.dial("192.0.2.1:1")
	expect(t, c, "220 ")
	if n := sample(h.srv, "connection_count", "esmtp_listener"); n != 1 {
		t.Errorf("connection_count %v, want 1", n)
	}
	exchange(t, c, message+message+"QUIT\r\n")
	for family, labels := range map[string][]string{
		"total_messages_received":      {"esmtp_listener", "esmtp_listener:198.51.100.1:25"},
		"smtpsrv_transaction_duration": {""}, "smtpsrv_read_data_duration": {""}, "smtpsrv_process_data_duration": {""},
	} {
		for _, l := range labels {
			if n := sample(h.srv, family, l); n != 2 {
				t.Errorf("%s %s is %v, want 2", family, l, n)
			}
		}
	}
	for _, f := range h.srv.Families() {
		n := 0
		h.srv.Collect(f.Name, func(s mtakit.Sample) bool {
			n++
			if len(s.Labels) != len(f.Labels) || (s.Histogram != nil) != (f.Type == mtakit.HistogramType) {
				t.Errorf("%s: sample %+v", f.Name, s)
			}
			return true
		})
		if n == 0 {
			t.Errorf("%s has no samples", f.Name)
		}
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testTrace)
}

func testTrace(t *testing.T) {
	var events []string
	saw := func(format string, args ...any) { events = append(events, fmt.Sprintf(format, args...)) }
	var off atomic.Bool
	h := start(t, &smtpserver.Server{
		Trace: func(*smtpserver.Session) *smtpserver.Trace {
			if off.Load() {
				return nil
			}
			return &smtpserver.Trace{
				Connected:  func(s *smtpserver.Session) { saw("connected %s", s.Meta()[mtakit.MetaReceivedFrom]) },
				Closed:     func(*smtpserver.Session) { saw("closed") },
				Read:       func(_ *smtpserver.Session, b []byte) { saw("read %q", b) },
				Write:      func(_ *smtpserver.Session, line []byte) { saw("write %q", line) },
				Diagnostic: func(_ *smtpserver.Session, l slog.Level, m string) { saw("%s %s", l, m) },
				Callback: func(_ *smtpserver.Session, name string, result any, err error) {
					saw("callback %s %v %v", name, result, err)
				},
				Disposition: func(_ *smtpserver.Session, d *smtpserver.Disposition) {
					saw("disposition %v relay %t enqueue %t report %t", d.Message.To, d.Relay, d.Enqueue, d.IsReport)
				},
			}
		},
		Policy: smtpserver.Policy{Mail: func(context.Context, *smtpserver.Session, string) error { return nil }},
	})
	c := h.dial("192.0.2.1:4000")
	expect(t, c, "220 ")
	for _, line := range []string{mail, rcpt, "DATA\r\n", "x\r\n.\r\n"} {
		c.Write([]byte(line))
		expect(t, c, "")
	}
	off.Store(true)
	c.Write([]byte("NOOP\r\n"))
	expect(t, c, "250 ")
	off.Store(false)
	c.Write([]byte("RSET\r\n"))
	expect(t, c, "250 ")
	synctest.Wait()
	c.Close()
	synctest.Wait()
	id := h.got()[0].ID
	want := []string{
		"connected 192.0.2.1:4000", `write "220 mx.test KumoMTA\r\n"`, `read "MAIL FROM:<a@src.test>\r\n"`, "callback smtp_server_mail_from <nil> <nil>",
		`write "250 OK <a@src.test>\r\n"`, `read "RCPT TO:<b@dst.test>\r\n"`, `write "250 OK <b@dst.test>\r\n"`, `read "DATA\r\n"`,
		`write "354 Send body; end with CRLF.CRLF\r\n"`, `read "x\r\n.\r\n"`, "disposition [b@dst.test] relay true enqueue true report false",
		fmt.Sprintf(`write "250 OK ids=%s\r\n"`, id), `read "RSET\r\n"`, `write "250 Reset state\r\n"`, "INFO Peer Disconnected", "closed",
	}
	if !slices.Equal(events, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(events, "\n"), strings.Join(want, "\n"))
	}
}
