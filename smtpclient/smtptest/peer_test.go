package smtptest_test

import (
	"context"
	"io"
	"net/netip"
	"net/smtp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

func send(t *testing.T, addr, from string, to []string, body string) error {
	t.Helper()
	return smtp.SendMail(addr, nil, from, to, []byte(body))
}

func TestPeerAcceptsAndRemembers(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	body := "Subject: x\r\n\r\n.dot\r\n..two\r\nlast\r\n"
	if err := send(t, peer.Addr().String(), "a@x.test", []string{"b@y.test", "c@y.test"}, body); err != nil {
		t.Fatal(err)
	}
	m := peer.Messages()
	if len(m) != 1 || m[0].From != "a@x.test" || strings.Join(m[0].To, " ") != "b@y.test c@y.test" || string(m[0].Data) != body {
		t.Errorf("messages are %+v", m)
	}
}

func TestPresetsAndRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		preset smtptest.Preset
		want   string // in the error of the first attempt
		second string // and of the second
	}{
		{"accept", smtptest.Accept, "", ""},
		{"defer", smtptest.Defer, "451", "451"},
		{"bounce", smtptest.Bounce, "550", "550"},
		{"greylist", smtptest.Greylist(1), "450", ""},
		{"busy", smtptest.Busy, "421", "421"},
		{"after", func(p *smtptest.Peer) { p.Reply("DATA", "452 4.3.1 full").After(1) }, "", "452"},
		{"if", func(p *smtptest.Peer) { p.Reply("RCPT", "550 no").If("<z@") }, "", ""},
		{"hang up", func(p *smtptest.Peer) { p.On("MAIL").Mute().Hangup() }, "EOF", "EOF"},
		{"end", func(p *smtptest.Peer) { p.Reply(".", "554 5.6.0 spam").If("a@x") }, "554", "554"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.NewPeer(t, nil, tt.preset)
			for i, want := range []string{tt.want, tt.second} {
				err := send(t, peer.Addr().String(), "a@x.test", []string{"b@y.test"}, "x\r\n")
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("attempt %d: got %v, want %q", i+1, err, want)
				}
			}
		})
	}
}

func TestNetworkInBubble(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]*smtptest.Network{"buffered": {}, "unbuffered": {Unbuffered: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, err := n.Listen("192.0.2.1:25")
				if err != nil {
					t.Fatal(err)
				}
				smtptest.NewPeer(t, l, smtptest.Tarpit(time.Minute))
				start := time.Now()
				nc, err := n.Dial(t.Context(), netip.MustParseAddr("198.51.100.7"), netip.MustParseAddrPort("192.0.2.1:25"))
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				if got := nc.LocalAddr().String(); !strings.HasPrefix(got, "198.51.100.7:") {
					t.Errorf("local address is %s", got)
				}
				nc.SetReadDeadline(time.Now().Add(30 * time.Second))
				if _, err := nc.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "timeout") {
					t.Errorf("read before the banner: %v", err)
				}
				nc.SetReadDeadline(time.Time{})
				if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil || time.Since(start) != time.Minute {
					t.Errorf("banner after %v: %v", time.Since(start), err)
				}
			})
		})
	}
}

func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n smtptest.Network
		l, err := n.Listen("[2001:db8::25]:25")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n.Fail("192.0.2.9", smtptest.ErrBlackhole)
		n.Fail("198.51.100.9", smtptest.ErrUnplumbed)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, tt := range []struct{ local, remote, want string }{
			{"198.51.100.1", "192.0.2.1:25", "connection refused"},
			{"198.51.100.9", "[2001:db8::25]:25", "bind: cannot assign requested address"},
			{"198.51.100.1", "192.0.2.9:25", "deadline exceeded"},
		} {
			_, err := n.Dial(ctx, netip.MustParseAddr(tt.local), netip.MustParseAddrPort(tt.remote))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s to %s: got %v, want %s", tt.local, tt.remote, err, tt.want)
			}
		}
	})
}
