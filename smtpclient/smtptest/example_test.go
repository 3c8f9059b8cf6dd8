package smtptest_test

import (
	"context"
	"fmt"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// A peer that greylists, without sockets. In a test NewPeer makes it, and stops it at the end.
func Example() {
	var network smtptest.Network
	l, err := network.Listen("192.0.2.1:25")
	if err != nil {
		fmt.Println(err)
		return
	}
	peer := smtptest.Start(l, smtptest.Greylist(1))
	defer peer.Close()

	ctx := context.Background()
	site, err := mtakit.ListSite("192.0.2.1")
	if err != nil {
		fmt.Println(err)
		return
	}
	egress := &smtpclient.Egress{Dial: network.Dial}
	session, err := egress.Connect(ctx, &mtakit.Path{Site: site})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	for range 2 {
		d := &mtakit.Delivery{
			Message: &mtakit.Message{Sender: "a@example.com", To: []string{"b@example.org"}},
			Body:    mtakit.Bytes("Subject: hello\r\n\r\nHi!\r\n"), Rcpts: []int{0},
		}
		if err := session.Send(ctx, d, nil); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Results[0].Response)
	}
	for _, m := range peer.Messages() {
		fmt.Printf("from %s to %v: %q\n", m.From, m.To, m.Data)
	}
	// Output:
	// 450 4.2.0 greylisted
	// 250 2.0.0 taken
	// from a@example.com to [b@example.org]: "Subject: hello\r\n\r\nHi!\r\n"
}
