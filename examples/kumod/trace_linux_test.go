package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// trace opens a websocket for what happens in one direction, "server" or "client".
func (d *daemon) trace(which string) *websocket.Conn {
	d.t.Helper()
	c, _, err := websocket.Dial(d.t.Context(), "http://"+d.http+"/api/admin/trace-smtp-"+which+"/v1", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(16 << 20)
	if err := c.Write(d.t.Context(), websocket.MessageText, []byte(`{"source_addr":null}`)); err != nil {
		d.t.Fatal(err)
	}
	return c
}

// times calls f so many times: it is more of pipeline.
func times(n int) func() bool { return func() bool { n--; return n >= 0 } }

// Websockets show a message on its way in and out, and end with the daemon.
func TestTraceWebsockets(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String())
	watch := func(which string) <-chan string {
		c, all := d.trace(which), make(chan string, 1)
		go func() {
			var events []string
			for {
				_, b, err := c.Read(t.Context())
				if err != nil {
					all <- strings.Join(events, "\n")
					return
				}
				events = append(events, string(b))
			}
		}()
		return all
	}
	in, out := watch("server"), watch("client")
	if err := pipeline(d.smtp, "Subject: traced\r\n\r\nx\r\n", times(1)); err != nil {
		t.Fatal(err)
	}
	d.drained(20 * time.Second)
	d.stop()
	for name, tt := range map[string]struct {
		events string
		want   []string
	}{
		"server": {<-in, []string{`"payload":"Connected"`, `{"Read":"MAIL FROM:<a@x.test>`, `"MessageDisposition"`, `"payload":"Closed"`}},
		"client": {<-out, []string{`"payload":"BeginSession"`, `"payload":"Connected"`, `"sender":"a@x.test"`, `\r\nSubject: traced`, `"payload":"Closed"`}},
	} {
		for _, want := range tt.want {
			if !strings.Contains(tt.events, want) {
				t.Errorf("%s: %s is missing", name, want)
			}
		}
		if t.Failed() {
			t.Log(tt.events)
		}
	}
}

// Clients that take nothing hold up no mail; they are told of what they missed, and leave nothing behind.
func TestTraceSlowClients(t *testing.T) {
	peer := smtptest.NewPeer(t, nil)
	dir, shaping := t.TempDir(), filepath.Join(t.TempDir(), "shaping.toml")
	write(t, shaping, "[default]\nidle_timeout = '500ms'\n")
	d := start(t, nil, "--data", dir, "--relay-to", peer.Addr().String(), "--shaping", shaping)
	if err := pipeline(d.smtp, "x\r\n", times(1)); err != nil { // what is made once is there
		t.Fatal(err)
	}
	d.drained(10 * time.Second)
	<-time.After(time.Second) // the connection to the peer is closed
	before := d.usage(filepath.Join(dir, "spool"))
	in, out := d.trace("server"), d.trace("client")
	const n = 100 // more than a client's share of the memory, and what fits into sockets
	if err := pipeline(d.smtp, strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1<<20/78), times(n)); err != nil {
		t.Fatal(err)
	}
	d.drained(60 * time.Second)
	for name, c := range map[string]*websocket.Conn{"server": in, "client": out} {
		seen, missed := 0, 0
		for missed == 0 {
			_, b, err := c.Read(t.Context())
			if err != nil {
				t.Fatalf("%s: after %d events: %v", name, seen, err)
			}
			if seen++; strings.Contains(string(b), `"conn_meta":null`) {
				_, text, _ := strings.Cut(string(b), "behind and missed ")
				fmt.Sscan(text, &missed)
			}
		}
		t.Logf("%s: %d events missed", name, missed)
		c.CloseNow()
	}
	d.settled(filepath.Join(dir, "spool"), before, 20*time.Second)
	d.stop()
}
