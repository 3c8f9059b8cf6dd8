package smtpserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	gosmtp "net/smtp"
	"os"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

// listen serves on loopback until the test ends.
func listen(t testing.TB, srv *smtpserver.Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.Log = slog.New(slog.DiscardHandler)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
	})
	return l.Addr().String()
}

// texts that clients have to carry: dots, 8-bit, the longest lines, a size that makes the buffer grow several times.
func texts() map[string]string {
	r := rand.New(rand.NewPCG(1, 2))
	var big strings.Builder
	for big.Len() < 3<<20 {
		n := r.IntN(998)
		for range n {
			big.WriteByte([]byte("abc. \xff\x80")[r.IntN(7)])
		}
		big.WriteString("\r\n")
	}
	return map[string]string{
		"dots": ".\r\n..\r\n.a\r\n\r\n.\r\n", "8-bit": "\xff\xfe\x00\x80\r\n", "long lines": strings.Repeat(strings.Repeat("x", 998)+"\r\n", 50), "big": big.String(),
	}
}

// Real clients over TCP, with STARTTLS and AUTH: what they send arrives byte for byte.
func TestInterop(t *testing.T) {
	t.Parallel()
	certFile, keyFile, cert, _ := certificate(t, t.TempDir(), "mx.test")
	pair, err := smtpserver.LoadKeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	client := &tls.Config{RootCAs: roots, ServerName: "mx.test"}
	got := make(chan string, 1)
	addr := listen(t, &smtpserver.Server{
		Options: smtpserver.Options{Hostname: "mx.test", TLS: &tls.Config{GetCertificate: pair.GetCertificate}, TraceHeaders: &smtpserver.TraceHeaders{}},
		Auth:    users{"joe": "pw"},
		Deliver: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
			for _, s := range batch {
				got <- s.Message.Sender + " " + s.Message.To[0] + " " + s.Message.MetaString(mtakit.MetaAuthnID) + "\n" + readAll(t, s.Body)
				s.Body.Close()
			}
			return nil
		},
	})
	for name, text := range texts() {
		for _, mech := range []string{"PLAIN", "LOGIN"} {
			c, err := smtp.DialStartTLS(addr, client)
			if err != nil {
				t.Fatal(err)
			}
			auth := sasl.NewPlainClient("", "joe", "pw")
			if mech == "LOGIN" {
				auth = sasl.NewLoginClient("joe", "pw")
			}
			if err := c.Auth(auth); err != nil {
				t.Fatal(err)
			}
			if err := c.SendMail("a@src.test", []string{"b@dst.test"}, strings.NewReader(text)); err != nil {
				t.Fatalf("go-smtp, %s: %v", name, err)
			}
			if m := <-got; m != "a@src.test b@dst.test joe\n"+text {
				t.Errorf("go-smtp, %s: got %.200q (%d bytes)", name, m, len(m))
			}
			if err := c.Quit(); err != nil {
				t.Error(err)
			}
		}
		c, err := gosmtp.Dial(addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.StartTLS(client); err != nil {
			t.Fatal(err)
		}
		if err := c.Auth(gosmtp.PlainAuth("", "joe", "pw", "127.0.0.1")); err != nil {
			t.Fatal(err)
		}
		if err := c.Mail(""); err != nil {
			t.Fatal(err)
		}
		if err := c.Rcpt("b@dst.test"); err != nil {
			t.Fatal(err)
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
		if err := w.Close(); err != nil {
			t.Fatalf("net/smtp, %s: %v", name, err)
		}
		if m := <-got; m != " b@dst.test joe\n"+text {
			t.Errorf("net/smtp, %s: got %.200q (%d bytes)", name, m, len(m))
		}
		c.Quit()
		c.Close()
	}
}

// A client that is cut off in the middle of pipelined commands can still read why: the connection is not reset under it.
func TestLastReplyArrives(t *testing.T) {
	t.Parallel()
	addr := listen(t, &smtpserver.Server{Options: smtpserver.Options{Hostname: "mx.test"}, Limits: smtpserver.Limits{Errors: 1},
		Deliver: func(context.Context, []mtakit.Submission, mtakit.Durability) error { return nil }})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, strings.Repeat("XYZZY\r\n", 5000)); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(c)
	if err != nil || !bytes.HasSuffix(out, []byte("421 4.7.0 mx.test too many errors\r\n")) {
		t.Errorf("got %.100q … and %v", out[max(0, len(out)-100):], err)
	}
}

// Reads and writes of a session are counted at the connection: one each for a pipelined envelope, one each for the data.
func TestSystemCalls(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{})
	client, server := net.Pipe()
	n := &counting{Conn: pipe{server, addr("198.51.100.1:25"), addr("192.0.2.1:1")}}
	h.net.conns <- n
	buf := make([]byte, 4096)
	step := func(input string) string {
		io.WriteString(client, input)
		k, _ := client.Read(buf)
		return string(buf[:k])
	}
	expect(t, client, "220 ")
	for range 3 {
		before := *n
		if got := step(envelope + rcpt + rcpt + "DATA\r\n"); !strings.HasSuffix(got, "354 Send body; end with CRLF.CRLF\r\n") {
			t.Errorf("replies to the envelope: %q", got)
		}
		if got := step(text + ".\r\n"); !strings.HasPrefix(got, "250 OK ids=") {
			t.Errorf("reply to the data: %q", got)
		}
		if r, w := n.reads-before.reads, n.writes-before.writes; r != 2 || w != 2 {
			t.Errorf("%d reads and %d writes for a message, want 2 and 2", r, w)
		}
	}
	client.Close()
}

// counting counts calls that return; one goroutine uses it while the other waits for what it does.
type counting struct {
	net.Conn
	reads, writes int
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.reads++
	return n, err
}

func (c *counting) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

// Running out of descriptors is not the end of Serve.
func TestAcceptGoesOn(t *testing.T) {
	t.Parallel()
	h := &flaky{network: newNetwork(), failures: 3}
	srv := &smtpserver.Server{Log: slog.New(slog.DiscardHandler), Deliver: func(context.Context, []mtakit.Submission, mtakit.Durability) error { return nil }}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(h) }()
	client, server := net.Pipe()
	h.conns <- pipe{server, addr("198.51.100.1:25"), addr("192.0.2.1:1")}
	if out := exchange(t, client, "QUIT\r\n"); !strings.Contains(out, "221 ") {
		t.Errorf("got %q", out)
	}
	srv.Shutdown(t.Context())
	if err := <-served; err != smtpserver.ErrServerClosed {
		t.Error(err)
	}
	if err := srv.Serve(newNetwork()); err != smtpserver.ErrServerClosed {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	broken := newNetwork()
	broken.Close()
	srv = &smtpserver.Server{Deliver: srv.Deliver}
	if err := srv.Serve(broken); err == nil || err == smtpserver.ErrServerClosed {
		t.Errorf("Serve on a broken listener: %v", err)
	}
}

type flaky struct {
	*network
	failures int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", tooManyFiles{})}
	}
	return f.network.Accept()
}

type tooManyFiles struct{}

func (tooManyFiles) Error() string   { return "too many open files" }
func (tooManyFiles) Temporary() bool { return true }
func (tooManyFiles) Timeout() bool   { return false }
