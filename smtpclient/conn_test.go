package smtpclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

func open(t *testing.T, n *smtptest.Network, peer *smtptest.Peer) *smtpclient.Conn {
	t.Helper()
	nc, err := n.Dial(t.Context(), netip.Addr{}, peer.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtpclient.NewConn(t.Context(), nc, smtpclient.Config{PeerName: "mx.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConn(t *testing.T) {
	t.Parallel()
	var n smtptest.Network
	ca := smtptest.NewCA(t)
	peer := newPeer(t, &n, "192.0.2.1:25", smtptest.StartTLS(ca, "mx.test"), smtptest.Extensions("pipelining", "Size 1000", "AUTH PLAIN LOGIN"))
	c := open(t, &n, peer)
	if g := c.Greeting(); g.Code != 220 || !strings.HasPrefix(g.Text, "peer.test ESMTP") {
		t.Errorf("greeting is %+v", g)
	}
	step := func(name string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	step("Hello", c.Hello(t.Context(), "client.test"))
	for keyword, want := range map[string]string{"PIPELINING": "", "SIZE": "1000", "AUTH": "PLAIN LOGIN", "STARTTLS": ""} {
		if got, ok := c.Extension(keyword); !ok || got != want {
			t.Errorf("%s is %q, %v", keyword, got, ok)
		}
	}
	step("StartTLS", c.StartTLS(t.Context(), &tls.Config{ServerName: "mx.test", RootCAs: ca.Pool()}))
	if _, ok := c.Extension("SIZE"); ok {
		t.Error("what was said in clear is still believed")
	}
	step("Hello", c.Hello(t.Context(), "client.test"))
	step("AuthPlain", c.AuthPlain(t.Context(), "user", "secret"))
	step("Reset", c.Reset(t.Context()))
	step("Send", c.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil))
	step("Quit", c.Quit(time.Second))
	step("Close", c.Close())
	want := []string{"EHLO client.test", "STARTTLS", "EHLO client.test", "AUTH PLAIN AHVzZXIAc2VjcmV0", "RSET", "MAIL FROM:<a@x.test> SIZE=3",
		"RCPT TO:<b@y.test>", "DATA", "QUIT"}
	if got := peer.Commands(); !slices.Equal(got, want) {
		t.Errorf("said %q", got)
	}
	if err := c.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil); !errors.Is(err, mtakit.ErrNotAttempted) {
		t.Errorf("Send on a closed connection: %v", err)
	}
}

func TestConnRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		verb, reply string
		do          func(context.Context, *smtpclient.Conn) error
		phase       smtpclient.Phase
	}{
		{"EHLO", "550 5.7.1 go away", func(ctx context.Context, c *smtpclient.Conn) error { return c.Hello(ctx, "client.test") }, smtpclient.PhaseHello},
		{"EHLO", "251 almost", func(ctx context.Context, c *smtpclient.Conn) error { return c.Hello(ctx, "client.test") }, smtpclient.PhaseHello},
		{"AUTH", "535 5.7.8 no", func(ctx context.Context, c *smtpclient.Conn) error { return c.AuthPlain(ctx, "u", "p") }, smtpclient.PhaseAuth},
		{"RSET", "451 4.3.0 no", func(ctx context.Context, c *smtpclient.Conn) error { return c.Reset(ctx) }, smtpclient.PhaseReset},
		{"STARTTLS", "454 4.7.0 no", func(ctx context.Context, c *smtpclient.Conn) error { return c.StartTLS(ctx, &tls.Config{}) }, smtpclient.PhaseStartTLS},
	} {
		t.Run(tt.verb+" "+tt.reply, func(t *testing.T) {
			t.Parallel()
			var n smtptest.Network
			peer := newPeer(t, &n, "192.0.2.1:25", func(p *smtptest.Peer) { p.Reply(tt.verb, tt.reply) })
			e := asError(t, tt.do(t.Context(), open(t, &n, peer)))
			if e.Phase != tt.phase || e.Response.String() != tt.reply || e.PeerName != "mx.test" || e.PeerAddr != peer.Addr() || !strings.HasPrefix(e.Command, tt.verb) {
				t.Errorf("error is %+v", e)
			}
		})
	}
}

// TestSystemResolver has no Resolver: the machine finds the name.
func TestSystemResolver(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	p := pathTo(func(c *mtakit.PathConfig) { c.SMTPPort, c.IPLookupStrategy = peer.Addr().Port(), mtakit.IPv4Only })
	p.Site = hosts(mtakit.Host{Name: "localhost"})
	s := connect(t, egress(nil), p)
	if got := s.Info().PeerAddr; got != peer.Addr() {
		t.Errorf("connected to %s", got)
	}
}

// TestKeptTLS keeps an encrypted connection, on which session tickets may be waiting.
func TestKeptTLS(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	peer := smtptest.NewPeer(t, nil, smtptest.StartTLS(ca, "mx1.test"))
	e := egress(nil)
	e.RootCAs = ca.Pool()
	s := connect(t, e, pathTo(func(c *mtakit.PathConfig) { c.EnableTLS = mtakit.TLSRequired }, peer))
	for range 3 {
		if err := s.Send(t.Context(), delivery("a@x.test", "x\r\n", "b@y.test"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := peer.Stats(); n.Conns != 1 || n.Handshakes != 1 {
		t.Errorf("%+v", n)
	}
}
