package smtpclient_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

func ExampleEgress() {
	// A peer to talk to, on a network in memory.
	var network smtptest.Network
	l, err := network.Listen("192.0.2.25:25")
	if err != nil {
		log.Fatal(err)
	}
	peer := smtptest.Start(l)
	peer.Reply("RCPT", "550 5.1.1 no such user").If("<nobody@")
	defer peer.Close()

	egress := &smtpclient.Egress{Hostname: "mta.example.org", Dial: network.Dial}
	config := mtakit.DefaultPathConfig()
	path := &mtakit.Path{
		Name:       "unspecified->mx.example.com@smtp_client",
		Site:       &mtakit.Site{Name: "mx.example.com", Hosts: []mtakit.Host{{Name: "mx.example.com", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.25")}}}},
		PathConfig: &config,
	}
	session, err := egress.Connect(context.Background(), path)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()

	d := &mtakit.Delivery{
		Message: &mtakit.Message{Sender: "me@example.org", To: []string{"you@example.com", "nobody@example.com"}},
		Body:    mtakit.Bytes("Subject: hello\r\n\r\nHello.\r\n"),
		Rcpts:   []int{0, 1},
	}
	if err := session.Send(context.Background(), d, nil); err != nil {
		log.Fatal(err)
	}
	for _, r := range d.Results {
		fmt.Println(d.Message.To[r.Rcpt], r.Response)
	}
	// Output:
	// you@example.com 250 2.0.0 taken
	// nobody@example.com 550 5.1.1 no such user
}
