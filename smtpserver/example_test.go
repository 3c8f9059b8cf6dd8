package smtpserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	gosmtp "net/smtp"
	"net/textproto"
	"strings"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

// A server that takes mail for one domain only and prints it.
func Example() {
	srv := &smtpserver.Server{
		Deliver: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
			for _, s := range batch {
				defer s.Body.Close()
				text, err := io.ReadAll(io.NewSectionReader(s.Body, 0, s.Body.Size()))
				if err != nil {
					return err
				}
				fmt.Printf("from %s to %s\n%s", s.Message.Sender, s.Message.To[0], strings.ReplaceAll(string(text), "\r\n", "\n"))
			}
			return nil // only now the client gets its 250
		},
		Options: smtpserver.Options{Hostname: "mx.example.org", TraceHeaders: &smtpserver.TraceHeaders{}},
		Policy: smtpserver.Policy{
			Rcpt: func(_ context.Context, _ *smtpserver.Session, rcpt string) error {
				if mtakit.Domain(rcpt) != "example.org" {
					return &mtakit.Reject{Response: mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 7, 1}, Text: "not one of ours"}}
				}
				return nil
			},
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()

	text := []byte("Subject: lunch\r\n\r\nAt noon?\r\n")
	for _, rcpt := range []string{"bob@example.org", "bob@example.com"} {
		if err := send(l.Addr().String(), "alice@example.net", rcpt, text); err != nil {
			if reply, ok := errors.AsType[*textproto.Error](err); ok {
				fmt.Println(reply.Code, reply.Msg)
			}
		}
	}
	srv.Shutdown(context.Background())
	fmt.Println(<-served)
	// Output:
	// from alice@example.net to bob@example.org
	// Subject: lunch
	//
	// At noon?
	// 550 5.7.1 not one of ours
	// smtpserver: server closed
}

// send is smtp.SendMail without STARTTLS, whose certificate the client would have to trust.
func send(addr, from, to string, text []byte) error {
	c, err := gosmtp.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	w.Write(text)
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}
