package smtpserver_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

// One message after the other over loopback from a client that costs next to nothing: pipelined envelope, then the data. B/op and allocs/op
// are the servers'.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"1KiB", 1 << 10}, {"10KiB", 10 << 10}, {"100KiB", 100 << 10}} {
		b.Run("mtakit/"+size.name, func(b *testing.B) {
			addr := listen(b, &smtpserver.Server{
				Options: smtpserver.Options{MaxMessagesPerConnection: 1 << 40},
				Deliver: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
					for _, s := range batch {
						s.Body.Close()
					}
					return nil
				},
			})
			benchmark(b, addr, size.bytes)
		})
		b.Run("go-smtp/"+size.name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := smtp.NewServer(backend{})
			srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
			done := make(chan struct{})
			go func() {
				defer close(done)
				srv.Serve(l)
			}()
			benchmark(b, l.Addr().String(), size.bytes)
			srv.Close()
			<-done
		})
	}
}

func benchmark(b *testing.B, addr string, size int) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	line := strings.Repeat("X", 76) + "\r\n"
	data := []byte("Subject: benchmark\r\n\r\n" + strings.Repeat(line, size/len(line)) + ".\r\n")
	head := []byte(envelope + "DATA\r\n")
	buf := make([]byte, 4096)
	read := func(until string) {
		for n := 0; ; {
			k, err := c.Read(buf[n:])
			if err != nil {
				b.Fatal(err)
			}
			if n += k; buf[n-1] == '\n' && bytes.Contains(buf[:n], []byte(until)) {
				return
			}
		}
	}
	read("220 ")
	io.WriteString(c, "EHLO x\r\n")
	read("\r\n250 ")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		c.Write(head)
		read("354 ")
		c.Write(data)
		read("250 ")
	}
}

// backend is a go-smtp server that reads messages into memory.
type backend struct{}

func (backend) NewSession(*smtp.Conn) (smtp.Session, error) { return session{}, nil }

type session struct{}

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (session) Data(r io.Reader) error               { _, err := io.ReadAll(r); return err }
