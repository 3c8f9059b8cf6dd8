package smtpclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// flood writes s until the other side has enough, at most 1 GiB.
func flood(s string) func(net.Conn) {
	block := []byte(strings.Repeat(s, max(1, 32<<10/len(s))))
	return func(c net.Conn) {
		for n := 0; n < 1<<30; n += len(block) {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}
}

// TestHostilePeers: whatever a peer says, memory stays flat, the attempt ends, and nothing is taken for delivered.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		reply string         // raw
		then  func(net.Conn) // after it
		want  error
		text  string
	}{
		{"endless lines", "250-x\r\n", flood("250-x\r\n"), smtpclient.ErrReplyTooLong, "100 lines"},
		{"endless long lines", "250-x\r\n", flood("250-" + strings.Repeat("y", 4000) + "\r\n"), smtpclient.ErrReplyTooLong, "bytes, and no end of it"},
		{"endless line", "250 ", flood("y"), smtpclient.ErrReplyTooLong, "a line of it has over 4096 bytes"},
		{"endless line after others", "250-x\r\n250 ", flood("y"), smtpclient.ErrReplyTooLong, "a line of it has over 4096 bytes"},
		{"another code", "250-x\r\n451 y\r\n", nil, mtakit.ErrBadReply, "the code changes from 250 to 451"},
		{"no code", "hello\r\n", nil, mtakit.ErrBadReply, `malformed reply: "hello"`},
		{"code below", "150 x\r\n", nil, mtakit.ErrBadReply, "malformed reply"},
		{"code above", "650 x\r\n", nil, mtakit.ErrBadReply, "malformed reply"},
		{"long code", "2500 x\r\n", nil, mtakit.ErrBadReply, "malformed reply"},
		{"empty line", "\r\n", nil, mtakit.ErrBadReply, "malformed reply"},
		{"NUL", "\x00\x00\r\n", nil, mtakit.ErrBadReply, "malformed reply"},
		{"no line end", "250 ok", nil, io.ErrUnexpectedEOF, "unexpected EOF"},
		{"hang-up", "", nil, io.EOF, "the peer closed the connection"},
		{"half a reply", "250-x\r\n", nil, io.ErrUnexpectedEOF, "unexpected EOF"},
	} {
		for _, verb := range []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."} {
			t.Run(tt.name+" at "+verb, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var n smtptest.Network
					peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) {
						r := p.Reply(verb, tt.reply).Raw().Hangup()
						if tt.then != nil {
							r.Then(tt.then)
						}
						if tt.reply == "" {
							r.Mute()
						}
					})
					d := delivery("a@x.test", "x\r\n", "b@y.test")
					err := send(t.Context(), t, egress(&n), pathTo(nil, peer), d)
					if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
						t.Errorf("got %v, want %v %q", err, tt.want, tt.text)
					}
					if len(d.Results) > 0 {
						t.Errorf("results are %s", results(d))
					}
				})
			})
		}
	}
}

func TestFloodKeepsMemoryFlat(t *testing.T) {
	peer := smtptest.NewPeer(t, nil, func(p *smtptest.Peer) { p.Reply("EHLO", "250 ").Raw().Then(flood("y")) })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := egress(nil).Connect(t.Context(), pathTo(nil, peer))
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("no error")
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes were allocated for an endless line", grown)
	}
}

func TestReplyBeforeCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ verb, reply, want string }{
		{"CONNECT", "220 hi\r\n250 early\r\n", `it answers what was not asked: "250 early\r\n"`},
		{"EHLO", "250 hi\r\n250 early\r\n", "kept connection: the peer answered 250 early"},
		{"DATA", "354 go\r\n250 thanks already\r\n", "it spoke before the message was sent"},
	} {
		t.Run(tt.verb, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) { p.Reply(tt.verb, tt.reply).Raw() })
			d := delivery("a@x.test", "x\r\n", "b@y.test")
			err := send(t.Context(), t, egress(&n), pathTo(func(c *mtakit.PathConfig) { c.EnablePipelining = tt.verb != "DATA" }, peer), d)
			if len(d.Results) > 0 || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got %v and %s, want %q", err, results(d), tt.want)
			}
		})
	}
}

// TestEarlyRefusal: a peer that has seen enough of a message says so and closes; its word counts.
func TestEarlyRefusal(t *testing.T) {
	t.Parallel()
	for _, n := range []*smtptest.Network{nil, {}} {
		presets := func(p *smtptest.Peer) {
			p.On("DATA").Then(func(c net.Conn) {
				io.ReadFull(c, make([]byte, 32<<10))
				io.WriteString(c, "552 5.3.4 too big\r\n")
				io.CopyN(io.Discard, c, 8<<20)
			})
		}
		var peer *smtptest.Peer
		if n == nil {
			peer = smtptest.NewPeer(t, nil, presets)
		} else {
			peer = newPeer(t, n, "192.0.2.1:25", presets)
		}
		d := delivery("a@x.test", strings.Repeat("x\r\n", 16<<20/3), "b@y.test")
		err := send(t.Context(), t, egress(n), pathTo(nil, peer), d)
		wantResults(t, d, "0: 552 5.3.4 too big [.]")
		if err == nil {
			t.Error("the session goes on in the middle of a message")
		}
	}
}

// TestHangUpAtEveryByte lets a peer that behaves hang up after each byte of what it has to say.
func TestHangUpAtEveryByte(t *testing.T) {
	t.Parallel()
	parts := []string{"220 hi\r\n", "250-hi\r\n250 PIPELINING\r\n", "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n", "250 2.0.0 taken\r\n"}
	total := len(strings.Join(parts, ""))
	for cut := range total + 1 {
		synctest.Test(t, func(t *testing.T) {
			var n smtptest.Network
			l, err := n.Listen("192.0.2.1:25")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan bool, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				left := cut
				buf := make([]byte, 4096)
				for i, p := range parts {
					if i > 0 {
						if _, err := c.Read(buf); err != nil {
							break
						}
					}
					k := min(left, len(p))
					c.Write([]byte(p[:k]))
					if left -= k; k < len(p) {
						break
					}
				}
				done <- true
			}()
			p := pathTo(nil)
			p.Site = addrSite("192.0.2.1:25")
			d := delivery("a@x.test", "x\r\n", "b@y.test")
			err = send(t.Context(), t, egress(&n), p, d)
			<-done
			if cut == total {
				if err != nil {
					t.Errorf("whole: %v", err)
				}
				wantResults(t, d, "0: 250 2.0.0 taken [.]")
				return
			}
			if err == nil || len(d.Results) > 0 {
				t.Errorf("cut at %d: %v and %s", cut, err, results(d))
			}
			var e *smtpclient.Error
			if wantUnknown := cut >= total-len(parts[3]); errors.As(err, &e) && e.Unknown != wantUnknown {
				t.Errorf("cut at %d: unknown outcome is %v: %v", cut, e.Unknown, err)
			}
		})
	}
}

func addrSite(addrs ...string) *mtakit.Site {
	s, err := mtakit.ListSite(addrs...)
	if err != nil {
		panic(err)
	}
	return s
}

// TestOddReplies are legal, or nearly.
func TestOddReplies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, reply, want string }{
		{"bare LF", "250 2.0.0 ok\n", "0: 250 2.0.0 ok [.]"},
		{"code alone", "250\r\n", "0: 250  [.]"},
		{"code and hyphen lines", "250-a\r\n250-\r\n250\r\n", "0: 250 a   [.]"},
		{"enhanced code of another class", "250 5.0.0 ok\r\n", "0: 250 5.0.0 ok [.]"},
		{"hundred lines", strings.Repeat("250-x\r\n", 99) + "250 y\r\n", "0: 250 " + strings.Repeat("x ", 99) + "y [.]"},
		{"longest line", "250 " + strings.Repeat("y", 4092) + "\r\n", "0: 250 " + strings.Repeat("y", 4092) + " [.]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) { p.Reply(".", tt.reply).Raw() })
			d := delivery("a@x.test", "x\r\n", "b@y.test")
			if err := send(t.Context(), t, egress(&n), pathTo(nil, peer), d); err != nil {
				t.Fatal(err)
			}
			wantResults(t, d, tt.want)
		})
	}
}

// TestFragments lets the peer's bytes arrive one by one.
func TestFragments(t *testing.T) {
	t.Parallel()
	n := smtptest.Network{Unbuffered: true}
	peer := newPeer(t, &n, "192.0.2.1:25")
	e := &smtpclient.Egress{Dial: func(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error) {
		c, err := n.Dial(ctx, local, remote)
		return byteConn{c}, err
	}}
	s := connect(t, e, pathTo(nil, peer))
	a, b := delivery("a@x.test", "1\r\n", "b@y.test"), delivery("b@x.test", "2\r\n", "b@y.test")
	if err := s.Send(t.Context(), a, func() *mtakit.Delivery { return b }); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	wantResults(t, a, "0: "+okDot)
	wantResults(t, b, "0: "+okDot)
}

// byteConn reads a byte at a time.
type byteConn struct{ net.Conn }

func (c byteConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:min(1, len(p))]) }

// FuzzConversation lets a peer say anything at all.
func FuzzConversation(f *testing.F) {
	f.Add([]byte("220 hi\r\n250-hi\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"))
	f.Add([]byte("220 hi\r\n250 hi\r\n550 no\r\n"))
	f.Add([]byte("220 hi\r\n250-hi\r\n250 PIPELINING\r\n250 ok\r\n451 no\r\n354 go\r\n554 no\r\n"))
	f.Fuzz(func(t *testing.T, script []byte) {
		client, server := net.Pipe()
		go func() {
			// The peer says its lines one by one, and takes whatever comes.
			go io.Copy(io.Discard, server)
			server.Write(script)
			server.Close()
		}()
		c, err := smtpclient.NewConn(t.Context(), client, smtpclient.Config{PeerName: "fuzz.test"})
		if err != nil {
			return
		}
		defer c.Close()
		if c.Hello(t.Context(), "client.test") != nil {
			return
		}
		d := delivery("a@x.test", "x\r\n", "b@y.test", "c@y.test")
		err = c.Send(t.Context(), d, nil)
		if err == nil && len(d.Results) != 2 {
			t.Errorf("no error, and %s", results(d))
		}
		for i, r := range d.Results {
			if r.Response.OK() && !bytes.Contains(script, []byte("354")) {
				t.Errorf("delivered without 354: %s", results(d))
			}
			if i > 0 && d.Results[i-1].Rcpt == r.Rcpt {
				t.Errorf("two results for one recipient: %s", results(d))
			}
		}
	})
}
