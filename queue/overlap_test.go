package queue_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/queue/queuetest"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// On a kept connection a transaction costs one round trip, however many recipients it has; the connection itself costs three: EHLO, the first envelope, and
// QUIT. What travels is counted at the peer.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	const n = 20
	for _, tt := range []struct {
		name         string
		rcpts, batch int
		peer         func(*smtptest.Peer)
		transactions int // of all messages
	}{
		{name: "one recipient", rcpts: 1, batch: 100, transactions: n},
		{name: "three recipients", rcpts: 3, batch: 100, transactions: n},
		{
			name: "the peer takes two of three", rcpts: 3, batch: 100, transactions: 2 * n,
			peer: func(p *smtptest.Peer) {
				for i := range n { // a rule for each message: those take turns
					p.Reply("RCPT", "452 4.5.3 too many").If(fmt.Sprintf("<u2@m%d.", i)).Times(1)
				}
			},
		},
		{
			name: "the peer refuses one of three", rcpts: 3, batch: 100, transactions: n,
			peer: func(p *smtptest.Peer) { p.Reply("RCPT", "550 5.1.1 who is that").If("<u1@") },
		},
		{name: "five recipients in batches of two", rcpts: 5, batch: 2, transactions: 3 * n},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var network smtptest.Network
				l, err := network.Listen("192.0.2.1:25")
				if err != nil {
					t.Fatal(err)
				}
				peer := smtptest.NewPeer(t, l)
				if tt.peer != nil {
					tt.peer(peer)
				}
				site := &mtakit.Site{Name: "peer.test", Hosts: []mtakit.Host{{Name: "peer.test", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}}
				egress := &smtpclient.Egress{Hostname: "mta.test", Dial: network.Dial}
				begin := make(chan struct{})
				mta := queuetest.New(t, queuetest.Options{
					Policy: pathPolicy(func(c *mtakit.PathConfig) {
						c.ConnectionLimit.N, c.MaxRecipientsPerBatch, c.EnableTLS = 1, tt.batch, mtakit.TLSDisabled
					}),
					Change: func(c *queue.Config) {
						c.Router = mtakit.RouterFunc(func(context.Context, string) (*mtakit.Site, error) { return site, nil })
						c.Egress = mtakit.EgressFunc(func(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
							<-begin // until all of the messages are there
							return egress.Connect(ctx, p)
						})
					},
				})
				for i := range n {
					m := &mtakit.Message{Sender: "a@x.test", Meta: map[string]any{mtakit.MetaRoutingDomain: "d.test"}}
					for j := range tt.rcpts {
						m.To = append(m.To, fmt.Sprintf("u%d@m%d.d.test", j, i))
					}
					mta.Submit(m, "Subject: x\r\n\r\nx\r\n")
				}
				mta.Settle()
				close(begin)
				mta.Drain(0)
				mta.Stop() // says QUIT
				if got := len(peer.Messages()); got != tt.transactions {
					t.Errorf("%d transactions, want %d", got, tt.transactions)
				}
				if got, want := peer.Stats(), tt.transactions+3; got.RoundTrips != want || got.Conns != 1 {
					t.Errorf("%d transactions on %d connections took %d round trips, want %d on one", tt.transactions, got.Conns, got.RoundTrips, want)
				}
			})
		})
	}
}
