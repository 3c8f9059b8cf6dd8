// Embed is the smallest program that has an MTA inside: an application submits a message, with a retry policy of its own written in Go.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
	"github.com/mtakit/mtakit/smtpclient"
	"github.com/mtakit/mtakit/smtpclient/route"
	"github.com/mtakit/mtakit/spool"
)

func main() {
	to := flag.String("relay-to", "127.0.0.1:2526", "smart host")
	dir := flag.String("data", "./embed-data", "spool directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	store, err := spool.Open(*dir, spool.Options{})
	check(err)
	defer store.Close()
	router, err := route.Static(*to)
	check(err)
	q, err := queue.New(queue.Config{
		Spool: store, Router: router, Egress: &smtpclient.Egress{}, Log: slog.Default(),
		Record: mtakit.RecorderFunc(func(r *mtakit.Record) { fmt.Println(r.Time.Format(time.TimeOnly), r.Kind, r.To, r.Response) }),
		Policy: queue.Policy{Settings: func(_ context.Context, name mtakit.QueueName) (*mtakit.QueueSettings, error) {
			s := mtakit.DefaultQueueSettings()
			if name.Tenant == "password-resets" { // useless after ten minutes, so try hard for that long
				s.RetryInterval, s.MaxRetryInterval, s.MaxAge = mtakit.Duration(10*time.Second), mtakit.Duration(30*time.Second), mtakit.Duration(10*time.Minute)
			}
			return &s, nil
		}},
	})
	check(err)
	check(q.Submit(ctx, []mtakit.Submission{{
		Message: &mtakit.Message{Sender: "app@example.com", To: []string{"user@example.org"}, Meta: map[string]any{mtakit.MetaTenant: "password-resets"}},
		Body:    mtakit.Bytes("From: app@example.com\r\nTo: user@example.org\r\nSubject: Your new password\r\n\r\nHello!\r\n"),
	}}, mtakit.Durable))
	check(q.Run(ctx)) // until interrupted; what is not delivered waits in the spool for the next start
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}
