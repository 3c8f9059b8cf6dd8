package smtpclient_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// seen is the events that a watch has, one a line, with what is known of the session where it has changed.
func seen(t *testing.T, w *mtakit.TraceWatch) string {
	t.Helper()
	w.Close()
	var lines []string
	last := map[string]string{}
	for {
		e, err := w.Next(t.Context())
		if err != nil {
			return strings.Join(lines, "\n")
		}
		for key, value := range e.Meta {
			b, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if last[key] != string(b) {
				last[key] = string(b)
				e.Text += fmt.Sprintf(" %s=%s", key, b)
			}
		}
		lines = append(lines, fmt.Sprintf("%s %q", e.Kind, e.Text))
	}
}

func TestTraceTo(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	peer := newPeer(t, &n, "192.0.2.1:25")
	var traces mtakit.Traces
	e := egress(&n)
	e.Trace = smtpclient.TraceTo(&traces)
	s := connect(t, e, pathTo(nil, peer)) // nobody watches
	send := func(from string) {
		t.Helper()
		d := delivery(from, "Subject: x\r\n\r\n.x\r\n", "b@y.test")
		d.Message.Queue, d.Pool = mtakit.QueueName{Campaign: "c", Tenant: "t", Domain: "y.test"}, "p"
		if err := s.Send(t.Context(), d, nil); err != nil {
			t.Fatal(err)
		}
	}
	send("unseen@x.test")
	w := traces.Watch(nil)
	send("seen@x.test")
	got := seen(t, w)
	for _, want := range []string{`MessageObtained "`, ` mx_host=\"`, ` mx_address=\"192.0.2.1:25\"`, ` sender=\"seen@x.test\"`, ` recipient=[\"b@y.test\"]`, ` campaign=\"c\"`, ` tenant=\"t\"`,
		` queue_name=\"c:t@y.test\"`, ` routing_domain=null`, ` egress_pool=\"p\"`, `Write "MAIL FROM:<seen@x.test>`, `Write "Subject: x\r\n\r\n..x\r\n"`, `Write ".\r\n"`, `Read "250`} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %s", want)
		}
	}
	if strings.Contains(got, "unseen") || t.Failed() {
		t.Errorf("events:\n%s", got)
	}
	send("unseen@x.test") // again nobody watches

	w = traces.Watch(nil)
	s = connect(t, e, pathTo(nil, peer))
	s.Close()
	got = seen(t, w)
	at := -1
	for _, want := range []string{`BeginSession "`, `Diagnostic "Attempting connection to 192.0.2.1:25"`, `Connected "`, `Read "220 `, `Write "EHLO client.test\r\n"`, `Read "250-`, `Write "QUIT\r\n"`, `Closed "`} {
		i := strings.Index(got, want)
		if i < at || i < 0 {
			t.Errorf("%s is not where it should be", want)
		}
		at = i
	}
	if t.Failed() {
		t.Log(got)
	}
}
