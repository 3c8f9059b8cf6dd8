package spool_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
)

func Example() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	s, err := spool.Open(dir, spool.Options{})
	if err != nil {
		log.Fatal(err)
	}
	var ids mtakit.IDSource
	m := &mtakit.Message{
		ID: ids.New(time.Now()), Sender: "a@example.com", To: []string{"b@example.org"},
		Queue: mtakit.QueueName{Domain: "example.org"},
	}
	body := mtakit.Bytes("Subject: hello\r\n\r\nHi!\r\n")
	if err := s.Store(ctx, []mtakit.Submission{{Message: m, Body: body}}, mtakit.Durable); err != nil {
		log.Fatal(err)
	}
	// From here on it survives a power failure. The receiver does not answer, so:
	if err := s.Reschedule(ctx, m.ID, time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), 1); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}

	s, err = spool.Open(dir, spool.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for e, err := range s.Scan(ctx, ids.New(time.Now())) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Queue, "due", e.Due, "after", e.Tries, "attempt")
	}
	// Output: example.org due 2030-01-01 12:00:00 +0000 UTC after 1 attempt
}
