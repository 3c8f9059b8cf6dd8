package queue_test

import (
	"context"
	"fmt"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// printer is a mtakit.Session that delivers by printing.
type printer struct{ done chan<- struct{} }

func (p printer) Send(_ context.Context, d *mtakit.Delivery, _ func() *mtakit.Delivery) error {
	for _, n := range d.Rcpts {
		fmt.Println("to", d.Message.To[n])
		d.Results = append(d.Results, mtakit.Result{Rcpt: n, Response: mtakit.Response{Code: 250, Text: "printed"}})
	}
	close(p.done)
	return nil
}

func (printer) Info() *mtakit.SessionInfo { return &mtakit.SessionInfo{Protocol: "Print"} }
func (printer) Close() error              { return nil }

// An engine with a delivery of its own. Package spool has a durable Spool, smtpclient an Egress and smtpclient/route a Router.
func Example() {
	done := make(chan struct{})
	q, err := queue.New(queue.Config{
		Spool:  new(spooltest.Memory),
		Router: mtakit.RouterFunc(func(_ context.Context, domain string) (*mtakit.Site, error) { return &mtakit.Site{Name: domain}, nil }),
		Egress: mtakit.EgressFunc(func(_ context.Context, p *mtakit.Path) (mtakit.Session, error) {
			fmt.Println("by", p.Name)
			return printer{done}, nil
		}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- q.Run(ctx) }()

	m := &mtakit.Message{Sender: "me@here.example", To: []string{"you@there.example"}}
	if err := q.Submit(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes("Subject: hello\r\n\r\nhello\r\n")}}, mtakit.Durable); err != nil {
		fmt.Println(err)
	}
	<-done
	stop()
	fmt.Println(<-ended)
	// Output:
	// by unspecified->there.example@smtp_client
	// to you@there.example
	// <nil>
}
