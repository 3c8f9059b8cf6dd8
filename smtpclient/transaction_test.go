package smtpclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

const okDot = "250 2.0.0 taken [.]"

func TestSendDelivers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef\r\n", 8<<10)
	bodies := map[string]string{
		"plain":            "Subject: x\r\n\r\nhello\r\n",
		"dots":             ".\r\n..\r\n...\r\nx.\r\n.x\r\n",
		"one line of dots": ".....\r\n",
		"long":             long,
		"long with dots":   strings.Repeat(".\r\n..x\r\n", 32<<10),
		"long line":        strings.Repeat("x", 300<<10) + "\r\n",
		"nul":              "a\x00b\r\n",
	}
	for name, body := range bodies {
		for _, where := range []string{"memory", "disk", "chunks"} {
			for _, how := range []string{"pipelining", "lock-step", "tls"} {
				t.Run(name+" "+where+" "+how, func(t *testing.T) {
					t.Parallel()
					peer := smtptest.NewPeer(t, nil)
					e := egress(nil)
					p := pathTo(func(c *mtakit.PathConfig) { c.EnablePipelining = how != "lock-step" }, peer)
					if how == "tls" {
						ca := smtptest.NewCA(t)
						peer.SetTLS(ca.Config("mx1.test"))
						e.RootCAs, p.EnableTLS = ca.Pool(), mtakit.TLSRequired
					}
					s := connect(t, e, p)
					for range 2 {
						d := delivery("a@x.test", body, "b@y.test", "c@y.test")
						switch where {
						case "disk":
							d.Body = disk(body)
						case "chunks":
							d.Body = chunked(body)
						}
						if err := s.Send(t.Context(), d, nil); err != nil {
							t.Fatal(err)
						}
						wantResults(t, d, "0: "+okDot+"; 1: "+okDot)
					}
					for _, m := range peer.Messages() {
						if string(m.Data) != body {
							t.Errorf("%d bytes came of %d: %.100q", len(m.Data), len(body), m.Data)
						}
					}
					if n := len(peer.Messages()); n != 2 {
						t.Errorf("%d messages came", n)
					}
				})
			}
		}
	}
}

// chunks is a body in memory in odd pieces.
type chunks struct {
	mtakit.Bytes
	parts [][]byte
}

func (c *chunks) Chunks(dst [][]byte) [][]byte { return append(dst, c.parts...) }

func chunked(s string) mtakit.Body {
	c := &chunks{Bytes: mtakit.Bytes(s)}
	for i, n := 0, 0; i < len(s); i += n {
		n = min(len(s)-i, 1+i%7+i/3)
		c.parts = append(c.parts, []byte(s[i:i+n]), nil)
	}
	return c
}

func TestBodyEndsWithCRLF(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, want string }{
		{"empty", "", "\r\n"},
		{"no line end", "x", "x\r\n"},
		{"bare LF", "x\n", "x\n\r\n"},
		{"bare CR", "x\r", "x\r\r\n"},
		{"dot", ".", ".\r\n"},
		{"bare LF and dot", "x\n.", "x\n.\r\n"},
		{"long without", strings.Repeat("y", 100<<10), strings.Repeat("y", 100<<10) + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.NewPeer(t, nil)
			d := delivery("", tt.body, "b@y.test")
			if err := send(t.Context(), t, egress(nil), pathTo(nil, peer), d); err != nil {
				t.Fatal(err)
			}
			if m := peer.Messages(); len(m) != 1 || string(m[0].Data) != tt.want {
				t.Errorf("got %.80q, want %.80q", m[0].Data, tt.want)
			}
		})
	}
}

// TestOverlap shows that with announcements a message costs one round trip on a kept connection.
func TestOverlap(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 20 << 10, 200 << 10} {
		for _, rset := range []bool{true, false} {
			t.Run(fmt.Sprint(size, " rset ", rset), func(t *testing.T) {
				t.Parallel()
				peer := smtptest.NewPeer(t, nil)
				s := connect(t, egress(nil), pathTo(func(c *mtakit.PathConfig) { c.EnableRset = rset }, peer))
				body := strings.Repeat("x\r\n", size/3)
				const n = 20
				list := make([]*mtakit.Delivery, n)
				for i := range list {
					list[i] = delivery("a@x.test", body, "b@y.test")
				}
				start := peer.Stats()
				for i, d := range list {
					next := func() *mtakit.Delivery {
						if i+1 < n {
							return list[i+1]
						}
						return nil
					}
					if err := s.Send(t.Context(), d, next); err != nil {
						t.Fatal(err)
					}
					wantResults(t, d, "0: "+okDot)
				}
				end := peer.Stats()
				// The first envelope has a round trip of its own.
				if got := end.RoundTrips - start.RoundTrips; got != n+1 {
					t.Errorf("%d messages took %d round trips, want %d", n, got, n+1)
				}
				if size <= 20<<10 && end.Reads-start.Reads > n+1 {
					t.Errorf("%d reads for %d messages", end.Reads-start.Reads, n)
				}
				if got := len(peer.Messages()); got != n {
					t.Errorf("%d messages came", got)
				}
				resets := 0
				for _, c := range peer.Commands() {
					if c == "RSET" {
						resets++
					}
				}
				if want := map[bool]int{true: n - 1}[rset]; resets != want {
					t.Errorf("%d RSET, want %d", resets, want)
				}
			})
		}
	}
}

// TestAnnouncedIsNotLost ends the connection in all ways after a delivery was announced.
func TestAnnouncedIsNotLost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		script func(*smtptest.Peer)
		first  string // results
		err    string // of the first Send; "" is none
		next   string // error of the second
	}{
		{"421 to the end", func(p *smtptest.Peer) { p.Reply(".", "421 4.3.2 bye") }, "0: 421 4.3.2 bye [.]", "421 4.3.2 bye", ""},
		{"lost at the end", func(p *smtptest.Peer) { p.On(".").Mute().Hangup() }, "", "whether the peer has taken it is unknown", ""},
		{"lost after the end", func(p *smtptest.Peer) { p.On(".").Hangup() }, "0: " + okDot, "", "not attempted"},
		{"refused at the end", func(p *smtptest.Peer) { p.Reply(".", "554 5.6.0 spam").Times(1) }, "0: 554 5.6.0 spam [.]", "", "<nil>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n smtptest.Network
				peer := newPeer(t, &n, "192.0.2.1:25", tt.script)
				s := connect(t, egress(&n), pathTo(nil, peer))
				a, b := delivery("a@x.test", "1\r\n", "b@y.test"), delivery("b@x.test", "2\r\n", "b@y.test")
				err := s.Send(t.Context(), a, func() *mtakit.Delivery { return b })
				wantResults(t, a, tt.first)
				if got := fmt.Sprint(err); (err == nil) != (tt.err == "") || !strings.Contains(got, tt.err) {
					t.Errorf("first Send: %v, want %q", err, tt.err)
				}
				if err != nil {
					if e := asError(t, err); e.Unknown != (tt.first == "") {
						t.Errorf("Unknown is %v", e.Unknown)
					}
					s = connect(t, egress(&n), pathTo(nil, newPeer(t, &n, "192.0.2.1:26")))
					if err := s.Send(t.Context(), b, nil); err != nil {
						t.Error(err)
					}
				} else if err := s.Send(t.Context(), b, nil); !strings.Contains(fmt.Sprint(err), tt.next) {
					t.Errorf("second Send: %v, want %s", err, tt.next)
				} else if err != nil {
					if !errors.Is(err, mtakit.ErrNotAttempted) {
						t.Error("the announced delivery was charged")
					}
					return
				}
				wantResults(t, b, "0: "+okDot)
			})
		})
	}
}

func newPeer(t *testing.T, n *smtptest.Network, addr string, presets ...smtptest.Preset) *smtptest.Peer {
	t.Helper()
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return smtptest.NewPeer(t, l, presets...)
}

func TestResults(t *testing.T) {
	t.Parallel()
	const b, c = "RCPT TO:<b@y.test>", "RCPT TO:<c@y.test>"
	mail := "MAIL FROM:<a@x.test> SIZE=3"
	for _, tt := range []struct {
		name   string
		script func(*smtptest.Peer)
		want   string
		err    string
		data   string // what came
	}{
		{"both", smtptest.Accept, "0: " + okDot + "; 1: " + okDot, "", "x\r\n"},
		{"one refused", func(p *smtptest.Peer) { p.Reply("RCPT", "550 5.1.1 who?").If("<b@") }, "0: 550 5.1.1 who? [" + b + "]; 1: " + okDot, "", "x\r\n"},
		{"all refused", func(p *smtptest.Peer) {
			p.Reply("RCPT", "550 5.1.1 who?").If("<b@")
			p.Reply("RCPT", "452 too many")
		}, "0: 550 5.1.1 who? [" + b + "]; 1: 452 too many [" + c + "]", "", ""},
		{"all refused and 354", func(p *smtptest.Peer) {
			p.Reply("RCPT", "550 5.1.1 who?")
			p.Reply("DATA", "354 well")
		}, "0: 550 5.1.1 who? [" + b + "]; 1: 550 5.1.1 who? [" + c + "]", "", ""},
		{"mail refused", func(p *smtptest.Peer) { p.Reply("MAIL", "451 4.7.1 later") }, "0: 451 4.7.1 later [" + mail + "]; 1: 451 4.7.1 later [" + mail + "]", "", ""},
		{"mail refused and 354", func(p *smtptest.Peer) {
			p.Reply("MAIL", "451 4.7.1 later")
			p.Reply("DATA", "354 well")
		}, "0: 451 4.7.1 later [" + mail + "]; 1: 451 4.7.1 later [" + mail + "]", "", ""},
		{"data refused", func(p *smtptest.Peer) {
			p.Reply("RCPT", "550 5.1.1 who?").If("<b@")
			p.Reply("DATA", "451 4.3.0 disk")
		}, "0: 451 4.3.0 disk [DATA]; 1: 451 4.3.0 disk [DATA]", "", ""},
		{"end refused", func(p *smtptest.Peer) {
			p.Reply("RCPT", "550 5.1.1 who?").If("<b@")
			p.Reply(".", "554-5.7.1 spam\n554 5.7.1 go away")
		}, "0: 554 5.7.1 spam go away [.]; 1: 554 5.7.1 spam go away [.]", "", ""},
		{"251 is consent", func(p *smtptest.Peer) { p.Reply("RCPT", "251 2.1.5 will forward") }, "0: " + okDot + "; 1: " + okDot, "", "x\r\n"},
		{"421 to mail", func(p *smtptest.Peer) { p.Reply("MAIL", "421 4.7.0 slow") }, "0: 421 4.7.0 slow [" + mail + "]; 1: 421 4.7.0 slow [" + mail + "]", "421 4.7.0 slow", ""},
		{"421 to rcpt", func(p *smtptest.Peer) {
			p.Reply("RCPT", "550 5.1.1 who?").If("<b@")
			p.Reply("RCPT", "421 4.7.0 slow")
		}, "0: 550 5.1.1 who? [" + b + "]; 1: 421 4.7.0 slow [" + c + "]", "421 4.7.0 slow", ""},
		{"421 to the second", func(p *smtptest.Peer) { p.Reply("RCPT", "421 4.7.0 slow").If("<c@") },
			"0: 421 4.7.0 slow [" + c + "]; 1: 421 4.7.0 slow [" + c + "]", "421 4.7.0 slow", ""},
		{"421 to data", func(p *smtptest.Peer) { p.Reply("DATA", "421 4.3.2 bye") }, "0: 421 4.3.2 bye [DATA]; 1: 421 4.3.2 bye [DATA]", "421 4.3.2 bye", ""},
		{"421 to the end", func(p *smtptest.Peer) { p.Reply(".", "421 4.3.2 bye") }, "0: 421 4.3.2 bye [.]; 1: 421 4.3.2 bye [.]", "421 4.3.2 bye", ""},
		{"lost at mail", func(p *smtptest.Peer) { p.On("MAIL").Mute().Hangup() }, "", "MAIL FROM:<a@x.test> SIZE=3: the peer closed", ""},
		{"lost at rcpt", func(p *smtptest.Peer) {
			p.Reply("RCPT", "550 5.1.1 who?").If("<b@")
			p.On("RCPT").Mute().Hangup()
		}, "0: 550 5.1.1 who? [" + b + "]", c + ": the peer closed", ""},
		{"lost at data", func(p *smtptest.Peer) { p.On("DATA").Mute().Hangup() }, "", "DATA: the peer closed", ""},
		{"lost after 354", func(p *smtptest.Peer) { p.On("DATA").Hangup() }, "", "", ""},
		{"lost at the end", func(p *smtptest.Peer) { p.On(".").Mute().Hangup() }, "", "no reply after the end of the message, whether the peer has taken it is unknown", ""},
		{"data answered with 250", func(p *smtptest.Peer) { p.Reply("DATA", "250 2.0.0 sure") }, "", "the peer breaks the protocol", ""},
	} {
		for _, how := range []string{"pipelining", "lock-step"} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var n smtptest.Network
					peer := newPeer(t, &n, "192.0.2.1:25", tt.script)
					s := connect(t, egress(&n), pathTo(func(c *mtakit.PathConfig) { c.EnablePipelining = how == "pipelining" }, peer))
					d := delivery("a@x.test", "x\r\n", "b@y.test", "c@y.test")
					err := s.Send(t.Context(), d, nil)
					wantResults(t, d, tt.want)
					if tt.name == "lost after 354" {
						if err == nil {
							t.Error("no error")
						}
						return
					}
					if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
						t.Errorf("error is %v, want %q", err, tt.err)
					}
					if errors.Is(err, mtakit.ErrNotAttempted) { // or a peer that always hangs up would have the message for ever
						t.Errorf("the first transaction of a connection counts: %v", err)
					}
					data := ""
					for _, m := range peer.Messages() {
						data += string(m.Data)
					}
					if data != tt.data {
						t.Errorf("%q came, want %q", data, tt.data)
					}
					if err != nil {
						return
					}
					// The session goes on, and after a failure it begins with RSET.
					if err := s.Send(t.Context(), delivery("z@x.test", "y\r\n", "z@y.test"), nil); err != nil {
						t.Errorf("the next message: %v", err)
					}
					cmds := peer.Commands()
					i := slices.Index(cmds, "MAIL FROM:<z@x.test> SIZE=3")
					if i < 1 || cmds[i-1] != "RSET" {
						t.Errorf("commands are %q", cmds)
					}
				})
			})
		}
	}
}

// TestNoEmptyMessage: a peer that refuses MAIL and takes the rest must not be given the end of a message.
func TestNoEmptyMessage(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil, func(p *smtptest.Peer) {
		p.Reply("MAIL", "550 5.7.1 no")
		p.Reply("RCPT", "250 ok")
		p.Reply("DATA", "354 go")
	})
	d := delivery("a@x.test", "x\r\n", "b@y.test")
	err := send(t.Context(), t, egress(nil), pathTo(nil, peer), d)
	wantResults(t, d, "0: 550 5.7.1 no [MAIL FROM:<a@x.test> SIZE=3]")
	if err == nil || !strings.Contains(err.Error(), "it refused MAIL and took RCPT and DATA") || len(peer.Messages()) > 0 {
		t.Errorf("%v, %d messages", err, len(peer.Messages()))
	}
}

func TestRset(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		enable bool
		script func(*smtptest.Peer)
		want   []int // which messages RSET comes before
	}{
		{"enabled", true, smtptest.Accept, []int{1, 2}},
		{"disabled", false, smtptest.Accept, nil},
		{"disabled and sender refused", false, func(p *smtptest.Peer) { p.Reply("MAIL", "550 no").Times(1) }, []int{1}},
		{"disabled and refused", false, func(p *smtptest.Peer) { p.Reply("RCPT", "550 no").Times(1) }, []int{1}},
		{"disabled and refused at the end", false, func(p *smtptest.Peer) { p.Reply(".", "550 no").After(1).Times(1) }, []int{2}},
	} {
		for _, how := range []string{"pipelining", "lock-step"} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				t.Parallel()
				peer := smtptest.NewPeer(t, nil, tt.script)
				s := connect(t, egress(nil), pathTo(func(c *mtakit.PathConfig) {
					c.EnableRset, c.EnablePipelining = tt.enable, how == "pipelining"
				}, peer))
				for range 3 {
					if err := s.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil); err != nil {
						t.Fatal(err)
					}
				}
				var got []int
				n := 0
				for _, c := range peer.Commands() {
					if c == "RSET" {
						got = append(got, n)
					}
					if strings.HasPrefix(c, "MAIL") {
						n++
					}
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("RSET before %v, want %v", got, tt.want)
				}
			})
		}
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		peer := smtptest.NewPeer(t, nil, func(p *smtptest.Peer) { p.Reply("RSET", "500 what?") })
		s := connect(t, egress(nil), pathTo(nil, peer))
		if err := s.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil); err != nil {
			t.Fatal(err)
		}
		d := delivery("b@x.test", "x\r\n", "b@y.test")
		if err := s.Send(t.Context(), d, nil); !errors.Is(err, mtakit.ErrNotAttempted) || len(d.Results) != 0 {
			t.Errorf("got %v and %s", err, results(d))
		}
	})
}

// TestEveryCode answers each command with each kind of code: never is a message lost or taken for delivered.
func TestEveryCode(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"MAIL", "RCPT", "DATA", "."} {
		for _, code := range []int{200, 211, 250, 251, 252, 299, 334, 354, 399, 400, 421, 450, 451, 452, 499, 500, 503, 550, 552, 554, 599} {
			t.Run(fmt.Sprint(verb, " ", code), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var n smtptest.Network
					reply := fmt.Sprintf("%d answer", code)
					peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) { p.Reply(verb, reply) })
					d := delivery("a@x.test", "x\r\n", "b@y.test")
					err := send(t.Context(), t, egress(&n), pathTo(func(c *mtakit.PathConfig) { c.EnablePipelining = false }, peer), d)
					taken := len(peer.Messages()) == 1
					for _, r := range d.Results {
						if r.Response.OK() && !taken {
							t.Errorf("%s is given as delivered, and it isn't", results(d))
						}
						if taken && !r.Response.OK() {
							t.Errorf("it is delivered, and the result is %s", results(d))
						}
						if !r.Response.OK() && r.Response.Code != code {
							t.Errorf("result %s", results(d))
						}
					}
					if err == nil && len(d.Results) != 1 {
						t.Errorf("neither error nor result")
					}
					if code == 421 && err == nil {
						t.Error("421 left the session alive")
					}
				})
			})
		}
	}
}

func TestLocalRefusals(t *testing.T) {
	t.Parallel()
	const (
		no8 = "554 5.6.3 KumoMTA internal: DATA is 8bit, destination does not support 8BITMIME. " +
			"Conversion via msg:check_fix_conformance during reception is required []"
		noUTF8 = "554 5.6.7 KumoMTA internal: envelope is 8bit, destination does not support SMTPUTF8. []"
	)
	for _, tt := range []struct {
		name, ext string
		ignore    bool
		from      string
		to        []string
		body      string
		want      string
		mail      string // "" is none
	}{
		{"8-bit", "8BITMIME", false, "a@x.test", []string{"b@y.test"}, "é\r\n", "0: " + okDot, "MAIL FROM:<a@x.test> BODY=8BITMIME"},
		{"7-bit", "8BITMIME", false, "a@x.test", []string{"b@y.test"}, "e\r\n", "0: " + okDot, "MAIL FROM:<a@x.test>"},
		{"8-bit to none", "HELP", false, "a@x.test", []string{"b@y.test"}, "é\r\n", "0: " + no8, ""},
		{"8-bit ignored", "HELP", true, "a@x.test", []string{"b@y.test"}, "é\r\n", "0: " + okDot, "MAIL FROM:<a@x.test>"},
		{"utf8 recipient", "SMTPUTF8", false, "a@x.test", []string{"é@y.test"}, "e\r\n", "0: " + okDot, "MAIL FROM:<a@x.test> SMTPUTF8"},
		{"utf8 sender", "SMTPUTF8", false, "é@x.test", []string{"b@y.test"}, "e\r\n", "0: " + okDot, "MAIL FROM:<é@x.test> SMTPUTF8"},
		{"utf8 recipient to none", "HELP", false, "a@x.test", []string{"é@y.test", "b@y.test"}, "e\r\n", "0: " + noUTF8 + "; 1: " + okDot, "MAIL FROM:<a@x.test>"},
		{"utf8 sender to none", "HELP", false, "é@x.test", []string{"b@y.test", "c@y.test"}, "e\r\n", "0: " + noUTF8 + "; 1: " + noUTF8, ""},
		{"utf8 domain", "HELP", false, "a@bücher.test", []string{"b@y.test"}, "e\r\n", "0: " + okDot, "MAIL FROM:<a@xn--bcher-kva.test>"},
		{"injection", "HELP", false, "a@x.test", []string{"b@y.test>\r\nRCPT TO:<c@z.test"}, "e\r\n",
			`0: 553 5.1.3 KumoMTA internal: the recipient address "b@y.test>\r\nRCPT TO:<c@z.test" has a control character []`, ""},
		{"bad sender", "HELP", false, "a b@x test", []string{"b@y.test"}, "e\r\n",
			`0: 553 5.1.7 KumoMTA internal: the sender address "a b@x test" has a domain with ' ' in it []`, ""},
		{"quoted", "HELP", false, `a b@x.test`, []string{"b@y.test"}, "e\r\n", "0: " + okDot, `MAIL FROM:<"a b"@x.test>`},
		{"size", "SIZE 1", false, "a@x.test", []string{"b@y.test"}, "123456\r\n", "0: " + okDot, "MAIL FROM:<a@x.test> SIZE=8"},
	} {
		for _, overlap := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " overlap ", overlap), func(t *testing.T) {
				t.Parallel()
				peer := smtptest.NewPeer(t, nil, smtptest.Extensions("PIPELINING", tt.ext))
				s := connect(t, egress(nil), pathTo(func(c *mtakit.PathConfig) { c.Ignore8BitChecks = tt.ignore; c.EnableRset = false }, peer))
				d := delivery(tt.from, tt.body, tt.to...)
				if overlap {
					if err := s.Send(t.Context(), delivery("", "first\r\n", "b@y.test"), func() *mtakit.Delivery { return d }); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Send(t.Context(), d, nil); err != nil {
					t.Fatal(err)
				}
				wantResults(t, d, tt.want)
				got := ""
				for _, c := range peer.Commands() {
					if strings.HasPrefix(c, "MAIL") && !strings.HasPrefix(c, "MAIL FROM:<>") {
						got = c
					}
				}
				if got != tt.mail {
					t.Errorf("sent %q, want %q", got, tt.mail)
				}
				if err := s.Send(t.Context(), delivery("", "last\r\n", "b@y.test"), nil); err != nil {
					t.Errorf("the next one: %v", err)
				}
			})
		}
	}
}

func TestLMTP(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil, smtptest.LMTP, func(p *smtptest.Peer) {
		p.Reply("RCPT", "550 5.1.1 who?").If("<b@")
		p.Reply(".", "452 4.2.2 quota").If("c@y.test")
	})
	s := connect(t, egress(nil), pathTo(func(c *mtakit.PathConfig) { c.UseLMTP = true }, peer))
	if got := s.Info().Protocol; got != "LMTP" {
		t.Errorf("protocol is %s", got)
	}
	last := delivery("a@x.test", "y\r\n", "d@y.test")
	d := delivery("a@x.test", "x\r\n", "b@y.test", "c@y.test", "d@y.test")
	if err := s.Send(t.Context(), d, func() *mtakit.Delivery { return last }); err != nil {
		t.Fatal(err)
	}
	wantResults(t, d, "0: 550 5.1.1 who? [RCPT TO:<b@y.test>]; 1: 452 4.2.2 quota [.]; 2: "+okDot)
	if err := s.Send(t.Context(), last, nil); err != nil {
		t.Fatal(err)
	}
	wantResults(t, last, "0: "+okDot)
}

// TestPipeliningDoesNotHang sends more than fits between the two sides, over a connection that holds nothing.
func TestPipeliningDoesNotHang(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]*smtptest.Network{"buffered": {}, "unbuffered": {Unbuffered: true}, "sockets": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var peer *smtptest.Peer
			if n == nil {
				peer = smtptest.NewPeer(t, nil)
			} else {
				peer = newPeer(t, n, "192.0.2.1:25")
			}
			s := connect(t, egress(n), pathTo(nil, peer))
			to := make([]string, 1000)
			for i := range to {
				to[i] = fmt.Sprintf("recipient%d@y.test", i)
			}
			a, b := delivery("a@x.test", strings.Repeat("x\r\n", 50<<10), to...), delivery("a@x.test", "y\r\n", to...)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := s.Send(ctx, a, func() *mtakit.Delivery { return b }); err != nil {
				t.Fatal(err)
			}
			if err := s.Send(ctx, b, nil); err != nil {
				t.Fatal(err)
			}
			if len(a.Results) != 1000 || len(b.Results) != 1000 || len(peer.Messages()) != 2 {
				t.Errorf("%d and %d results, %d messages", len(a.Results), len(b.Results), len(peer.Messages()))
			}
		})
	}
}

func TestKeptConnection(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]*smtptest.Network{"buffered": {}, "unbuffered": {Unbuffered: true}, "sockets": nil} {
		for i, tt := range []struct {
			name string
			do   func(*smtptest.Peer)
			want string
		}{
			{"quiet", func(*smtptest.Peer) {}, ""},
			{"closed", func(p *smtptest.Peer) { p.Disconnect() }, "kept connection: the peer closed the connection"},
			{"spoke", func(p *smtptest.Peer) { p.Say("421 4.4.2 idle too long") }, "kept connection: the peer answered 421 4.4.2 idle too long"},
		} {
			if name == "unbuffered" && tt.name == "spoke" {
				continue // a net.Pipe cannot be looked at
			}
			t.Run(name+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				var peer *smtptest.Peer
				if n == nil {
					peer = smtptest.NewPeer(t, nil)
				} else {
					peer = newPeer(t, n, fmt.Sprintf("192.0.2.1:%d", 1000+i))
				}
				s := connect(t, egress(n), pathTo(nil, peer))
				if err := s.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil); err != nil {
					t.Fatal(err)
				}
				tt.do(peer)
				if tt.name == "closed" {
					if err := peer.WaitIdle(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				d := delivery("b@x.test", "x\r\n", "b@y.test")
				err := s.Send(t.Context(), d, nil)
				if tt.want == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if !errors.Is(err, mtakit.ErrNotAttempted) || !strings.Contains(err.Error(), tt.want) || len(d.Results) > 0 {
					t.Errorf("got %v and %s, want %s", err, results(d), tt.want)
				}
			})
		}
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	silent := func(verb string) func(*smtptest.Peer) {
		return func(p *smtptest.Peer) { p.On(verb).Delay(time.Hour) }
	}
	for _, tt := range []struct {
		name   string
		script func(*smtptest.Peer)
		set    func(*mtakit.PathConfig)
		after  time.Duration
		want   string // in the error, or in the result
	}{
		{"banner", silent("CONNECT"), func(c *mtakit.PathConfig) { c.BannerTimeout = 7e9 }, 7 * time.Second, "connect to 192.0.2.1:25 and read initial banner: Timed Out waiting 7s for the banner"},
		{"ehlo", silent("EHLO"), func(c *mtakit.PathConfig) { c.EHLOTimeout = 8e9 }, 8 * time.Second, "Timed Out waiting 8s for response to EHLO client.test"},
		{"starttls", silent("STARTTLS"), nil, 5 * time.Second, "Timed Out waiting 5s for response to STARTTLS"},
		{"handshake", func(p *smtptest.Peer) { p.On("STARTTLS").Then(func(c net.Conn) { io.Copy(io.Discard, c) }) }, nil, 10 * time.Second, "Timed Out waiting 5s for the TLS handshake"},
		{"mail", silent("MAIL"), func(c *mtakit.PathConfig) { c.MailTimeout = 9e9 }, 9 * time.Second, "Timed Out waiting 9s for response to MAIL FROM:<a@x.test> SIZE=3"},
		{"rcpt", silent("RCPT"), func(c *mtakit.PathConfig) { c.RcptTimeout = 11e9 }, 11 * time.Second, "Timed Out waiting 11s for response to RCPT TO:<b@y.test>"},
		{"data", silent("DATA"), func(c *mtakit.PathConfig) { c.DataTimeout = 12e9 }, 12 * time.Second, "Timed Out waiting 12s for response to DATA"},
		{"end", silent("."), func(c *mtakit.PathConfig) { c.DataDotTimeout = 13e9 }, 13 * time.Second, "Timed Out waiting 13s for response to ."},
		{"default", silent("."), nil, 5 * time.Minute, "Timed Out waiting 5m for response to ."},
		{"drip", func(p *smtptest.Peer) {
			p.On("MAIL").Mute().Then(func(c net.Conn) {
				for {
					if _, err := c.Write([]byte("250-x\r\n")); err != nil {
						return
					}
					time.Sleep(20 * time.Second)
				}
			})
		}, nil, 5 * time.Minute, "Timed Out waiting 5m for response to MAIL FROM:<a@x.test> SIZE=3"},
		{"continuation", func(p *smtptest.Peer) {
			p.Reply("MAIL", "250-x\r\n").Raw().Then(func(c net.Conn) { io.Copy(io.Discard, c) })
		}, nil, time.Minute, "Timed Out waiting 1m for response to MAIL FROM:<a@x.test> SIZE=3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n smtptest.Network
				peer := newPeer(t, &n, "192.0.2.1:25", tt.script)
				p := pathTo(tt.set, peer)
				if tt.name == "starttls" || tt.name == "handshake" {
					peer.SetTLS(smtptest.NewCA(t).Config("mx1.test"))
					p.EnableTLS = mtakit.TLSRequired
				}
				start := time.Now()
				d := delivery("a@x.test", "x\r\n", "b@y.test")
				err := send(t.Context(), t, egress(&n), p, d)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error is %v, want %q", err, tt.want)
				}
				if got := time.Since(start); got != tt.after {
					t.Errorf("after %v, want %v", got, tt.after)
				}
				if strings.Contains("mail rcpt data end default drip continuation", tt.name) {
					wantResults(t, d, "0: 421 4.4.2 KumoMTA internal: failed to send message to unspecified->mx.test@smtp_client mx1.test [192.0.2.1]:25: "+tt.want+" []")
				}
			})
		})
	}
}

func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n smtptest.Network
		peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) {
			p.On("DATA").Then(func(c net.Conn) { time.Sleep(time.Hour) })
		})
		start := time.Now()
		d := delivery("a@x.test", strings.Repeat("x\r\n", 200<<10), "b@y.test")
		err := send(t.Context(), t, egress(&n), pathTo(func(c *mtakit.PathConfig) { c.DataDotTimeout = 90e9 }, peer), d)
		if err == nil || time.Since(start) != 90*time.Second || !strings.Contains(results(d), "421 4.4.2 ") ||
			!strings.Contains(results(d), "Timed Out waiting 1m 30s to write the message") {
			t.Errorf("after %v: %v, %s", time.Since(start), err, results(d))
		}
		if asError(t, err).Unknown {
			t.Error("nobody can have taken half a message")
		}
	})
}

// TestContextCuts ends the context in every phase.
func TestContextCuts(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var n smtptest.Network
				peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) { p.On(verb).Delay(time.Minute) })
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("we are stopping"))
				defer cancel()
				start := time.Now()
				d := delivery("a@x.test", "x\r\n", "b@y.test")
				err := send(ctx, t, egress(&n), pathTo(nil, peer), d)
				if err == nil || !strings.Contains(err.Error(), "we are stopping") || time.Since(start) != time.Second {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				if len(d.Results) != 0 {
					t.Error(results(d))
				}
			})
		})
	}
	t.Run("afterwards", func(t *testing.T) {
		t.Parallel()
		peer := smtptest.NewPeer(t, nil)
		s := connect(t, egress(nil), pathTo(nil, peer))
		for range 3 { // each Send has a context of its own that ends after it
			ctx, cancel := context.WithCancel(t.Context())
			if err := s.Send(ctx, delivery("a@x.test", "x\r\n", "b@y.test"), nil); err != nil {
				t.Error(err)
			}
			cancel()
		}
	})
}
