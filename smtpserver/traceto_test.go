package smtpserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

// What TraceTo publishes, to those who watch only.
func TestTraceTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var traces mtakit.Traces
		h := start(t, &smtpserver.Server{
			Trace:  smtpserver.TraceTo(&traces),
			Policy: smtpserver.Policy{Mail: func(context.Context, *smtpserver.Session, string) error { return nil }},
		})
		c := h.dial("192.0.2.1:4000")
		expect(t, c, "220 ")
		w := traces.Watch(nil)
		for _, line := range []string{"HELO me.test\r\n", mail, rcpt, "DATA\r\n", "x\r\n.\r\n", "AUTH PLAIN secret\r\n"} {
			c.Write([]byte(line))
			expect(t, c, "")
		}
		c.Close()
		synctest.Wait()
		w.Close()
		var got []string
		for {
			e, err := w.Next(t.Context())
			if err != nil {
				break
			}
			if from, via := e.Meta[mtakit.MetaReceivedFrom], e.Meta[mtakit.MetaReceivedVia]; from != "192.0.2.1:4000" || via == nil {
				t.Errorf("from %v via %v", from, via)
			}
			if e.Kind == mtakit.TraceRead && !strings.HasPrefix(e.Text, "HELO") && e.Meta["ehlo_domain"] != "me.test" {
				t.Errorf("%q: ehlo_domain is %v", e.Text, e.Meta["ehlo_domain"])
			}
			if e.Kind != mtakit.TraceWrite {
				got = append(got, fmt.Sprintf("%s %q", e.Kind, e.Text))
			}
			if d := e.Disposition; d != nil && (d.ID != h.got()[0].ID || d.Queue != "dst.test" || d.Sender != "a@src.test" || !d.Relay || !d.Enqueue || d.LogOOB != "Ignore") {
				t.Errorf("%+v", *d)
			}
		}
		want := []string{`Read "HELO me.test\r\n"`, `Read "MAIL FROM:<a@src.test>\r\n"`, `Callback "smtp_server_mail_from"`, `Read "RCPT TO:<b@dst.test>\r\n"`, `Read "DATA\r\n"`,
			`Read "x\r\n.\r\n"`, `MessageDisposition ""`, `Read "AUTH PLAIN [hidden]\r\n"`, `Diagnostic "Peer Disconnected"`, `Closed ""`}
		if !slices.Equal(got, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// What is known of a session grows, under KumoMTA's names; the password isn't part of it.
func TestTraceToMeta(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var traces mtakit.Traces
		w := traces.Watch(nil)
		h := start(t, &smtpserver.Server{Auth: users{"joe": "pw"}, Trace: smtpserver.TraceTo(&traces)})
		s := startTLS(t, h.dial("192.0.2.1:4000"), nil)
		for _, step := range [][2]string{{"EHLO me.test", "250 "}, {"AUTH LOGIN", "334 "}, {"am9l", "334 "}, {"cHc=", "235 "}, {"QUIT", "221 "}} {
			io.WriteString(s, step[0]+"\r\n")
			for !strings.HasPrefix(expect(t, s, ""), step[1]) {
			}
		}
		s.Close()
		synctest.Wait()
		w.Close()
		known, reads := map[string]string{}, []string(nil)
		for {
			e, err := w.Next(t.Context())
			if err != nil {
				break
			}
			for key, v := range e.Meta {
				b, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				known[key] = string(b)
			}
			if e.Kind == mtakit.TraceRead {
				reads = append(reads, e.Text)
			}
			if e.Kind == mtakit.TraceConnected && (len(e.Meta) != 4 || e.Meta["received_from"] != "192.0.2.1:4000") {
				t.Errorf("connected: %v", e.Meta)
			}
			if strings.Contains(fmt.Sprintf("%+v", *e), "cHc") {
				t.Errorf("the password is shown: %+v", *e)
			}
		}
		for key, want := range map[string]string{
			"received_from": `"192.0.2.1:4000"`, "received_via": `"198.51.100.1:25"`, "reception_protocol": `"ESMTP"`, "hostname": `"mx.test"`, "ehlo_domain": `"me.test"`,
			"tls_cipher": `"TLS_AES_128_GCM_SHA256"`, "tls_protocol_version": `"TLSv1.3"`, "authn_id": `"joe"`, "authz_id": `"joe"`,
		} {
			if known[key] != want {
				t.Errorf("%s is %s, want %s", key, known[key], want)
			}
		}
		if want := []string{"STARTTLS\r\n", "EHLO me.test\r\n", "AUTH LOGIN [hidden]\r\n", "[hidden]\r\n", "[hidden]\r\n", "QUIT\r\n"}; !slices.Equal(reads, want) {
			t.Errorf("read %q, want %q", reads, want)
		}
	})
}

// A session that could be watched, and isn't, costs what it costs anyway.
func TestTraceToUnwatched(t *testing.T) {
	perMessage := func(trace func(*smtpserver.Session) *smtpserver.Trace) float64 {
		addr := listen(t, &smtpserver.Server{
			Trace:   trace,
			Options: smtpserver.Options{MaxMessagesPerConnection: 1 << 40},
			Deliver: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
				for _, s := range batch {
					s.Body.Close()
				}
				return nil
			},
		})
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, 4096)
		exchange := func(text []byte, until string) {
			c.Write(text)
			for n := 0; !strings.Contains(string(buf[:n]), until); {
				k, err := c.Read(buf[n:])
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
		}
		exchange([]byte("EHLO x\r\n"), "\r\n250 ")
		head, data := []byte(envelope+"DATA\r\n"), []byte("Subject: x\r\n\r\nx\r\n.\r\n")
		return testing.AllocsPerRun(200, func() {
			exchange(head, "354 ")
			exchange(data, "250 ")
		})
	}
	var traces mtakit.Traces
	without, with := perMessage(nil), perMessage(smtpserver.TraceTo(&traces))
	if with > without {
		t.Errorf("a message costs %v allocations, and %v without a trace", with, without)
	}
}
