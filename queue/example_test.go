package queue_test

import (
	"context"
	"fmt"
	"time"

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

// Explain says where mail for an address would go, what decided so, and what is in its way.
func ExampleQueue_Explain() {
	settings := mtakit.DefaultQueueSettings()
	settings.RetryInterval = mtakit.Duration(5 * time.Minute)
	q, err := queue.New(queue.Config{
		Spool: new(spooltest.Memory),
		Router: mtakit.RouterFunc(func(_ context.Context, domain string) (*mtakit.Site, error) {
			return &mtakit.Site{Name: "mx." + domain}, nil
		}),
		Egress: mtakit.EgressMap{},
		Policy: queue.Policy{Settings: func(context.Context, mtakit.QueueName) (*mtakit.QueueSettings, error) { return &settings, nil }},
		Provenance: queue.Provenance{Settings: func(context.Context, mtakit.QueueName) ([]mtakit.Setting, error) { // of a file, by package queuefile
			return []mtakit.Setting{{Option: "retry_interval", By: "queue default", Place: mtakit.Place{File: "queues.toml", Line: 2}}}, nil
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	domain := "dest.example"
	q.Suspend(queue.Match{Domain: &domain}, "maintenance over there", time.Now().Add(time.Hour))

	x, err := q.Explain(context.Background(), queue.Subject{Address: "user@dest.example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("queue", x.Queue, "by", x.Sources[x.Chosen].ReadyQueue)
	for _, s := range x.Settings {
		if s.By != "" {
			fmt.Println(s.Option, "is", s.Value, "by", s.By, "at", s.Place)
		}
	}
	for _, h := range x.Holds {
		fmt.Println(h.Reason, "for", x.Next.Sub(x.Now).Round(time.Hour), "because of", h.Text)
	}
	// Output:
	// queue dest.example by unspecified->mx.dest.example@smtp_client
	// retry_interval is "5m" by queue default at queues.toml:2
	// suspended for 1h0m0s because of maintenance over there
}
