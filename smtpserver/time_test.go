package smtpserver_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

// pause is for bubbles, where it costs nothing.
func pause(d time.Duration) { <-time.After(d) }

// drip writes s a byte at a time, until the other side has gone.
func drip(c net.Conn, s string, every time.Duration) {
	for i := range len(s) {
		if _, err := io.WriteString(c, s[i:i+1]); err != nil {
			return
		}
		pause(every)
	}
}

// Clients that say nothing, or too little, are told so and cut off: in virtual time.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	const idle = "421 4.3.2 mx.test idle too long\r\n"
	long := strings.Repeat("x", 990) + "\r\n"
	for _, tt := range []struct {
		name  string
		talk  func(net.Conn)
		after time.Duration // the connection ends
		want  string        // at the end of the output
	}{
		{"silence", func(net.Conn) {}, time.Minute, idle},
		{"silence in the transaction", func(c net.Conn) { io.WriteString(c, envelope) }, time.Minute, idle},
		{"silence in the data", func(c net.Conn) { io.WriteString(c, envelope+"DATA\r\nx") }, time.Minute, idle},
		{"a byte a second in a command", func(c net.Conn) { drip(c, "NOOP "+long, time.Second) }, time.Minute, idle},
		// 100 bytes a second are demanded after the first minute.
		{"a byte a second in the data", func(c net.Conn) {
			io.WriteString(c, envelope+"DATA\r\n")
			drip(c, strings.Repeat(long, 100), time.Second)
		}, time.Minute + 600*time.Millisecond, idle},
		{"a byte a second in data that is discarded", func(c net.Conn) {
			io.WriteString(c, envelope+"DATA\r\n"+strings.Repeat("x", 2000))
			drip(c, strings.Repeat(long, 100), time.Second)
		}, time.Minute + 20*time.Second + 800*time.Millisecond, idle},
		{"a command a minute", func(c net.Conn) {
			for range 100 {
				io.WriteString(c, "NOOP\r\n")
				pause(59 * time.Second)
			}
		}, 20 * 59 * time.Second, "421 4.7.0 mx.test too many commands without a message\r\n"},
		{"recipients for ever", func(c net.Conn) {
			io.WriteString(c, mail)
			for range 100 {
				io.WriteString(c, rcpt)
				pause(59 * time.Second)
			}
		}, 63 * 59 * time.Second, "421 4.3.2 mx.test session was open too long\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := start(t, &smtpserver.Server{
					Options: smtpserver.Options{MaxMessageSize: 1000},
					Limits:  smtpserver.Limits{Junk: 20, SessionTime: time.Hour},
				})
				begin := time.Now()
				c := h.dial("192.0.2.1:4000")
				done := make(chan struct{})
				go func() {
					defer close(done)
					tt.talk(c)
				}()
				out, _ := io.ReadAll(c)
				if got := time.Since(begin); got < tt.after || got > tt.after+time.Second {
					t.Errorf("cut off after %v, want %v", got, tt.after)
				}
				if !strings.HasSuffix(string(out), tt.want) {
					t.Errorf("got %q, want %q at the end", out, tt.want)
				}
				c.Close()
				<-done
			})
		})
	}
}

// A client that does not read holds up nobody but itself, and not for ever.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{})
		c := h.dial("192.0.2.1:4000")
		begin := time.Now()
		if _, err := io.WriteString(c, strings.Repeat("NOOP\r\n", 100)); err == nil {
			t.Error("the server read commands though its banner was not taken")
		}
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("cut off after %v, want 1m", got)
		}
	})
}

// Deliver and callbacks have until the deadline.
func TestProcessingTimeout(t *testing.T) {
	t.Parallel()
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, tt := range []struct {
		name, want string
		srv        *smtpserver.Server
	}{
		{"Deliver", "451 4.4.5 data_processing_timeout exceeded (spool)", &smtpserver.Server{
			Deliver: func(ctx context.Context, _ []mtakit.Submission, _ mtakit.Durability) error { return wait(ctx) }}},
		{"Received", "451 4.4.5 data_processing_timeout exceeded (rx)", &smtpserver.Server{Policy: smtpserver.Policy{
			Received: func(ctx context.Context, _ *smtpserver.Session, _ *smtpserver.Mail) error { return wait(ctx) }}}},
		{"Data that does not care", "451 4.4.5 data_processing_timeout exceeded (rx)", &smtpserver.Server{Policy: smtpserver.Policy{
			Data: func(context.Context, *smtpserver.Session, *smtpserver.Mail) error { pause(time.Hour); return nil }}}},
		{"Mail", "421 4.3.0 mx.test technical difficulties", &smtpserver.Server{Policy: smtpserver.Policy{
			Mail: func(ctx context.Context, _ *smtpserver.Session, _ string) error { return wait(ctx) }}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := start(t, tt.srv)
				if got := last(h.talk(message + "QUIT\r\n")); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// A client that sends the next envelope behind a message learns what became of the message before callbacks ponder over that envelope: it might give up and send
// the message again.
func TestReplyToDataDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{Rcpt: func(context.Context, *smtpserver.Session, string) error {
			pause(4 * time.Minute)
			return nil
		}}})
		c := h.dial("192.0.2.1:1")
		defer c.Close()
		expect(t, c, "220 ")
		io.WriteString(c, envelope+"DATA\r\n")
		for _, want := range []string{"250 ", "250 ", "354 "} {
			expect(t, c, want)
		}
		sent := time.Now()
		io.WriteString(c, text+".\r\n"+envelope+"DATA\r\n")
		expect(t, c, "250 OK ids=")
		if took := time.Since(sent); took > 0 {
			t.Errorf("the message was acknowledged after %v", took)
		}
		for _, want := range []string{"250 ", "250 ", "354 "} {
			expect(t, c, want)
		}
	})
}

// Shutdown: who is idle is told so at once; who sends a message may finish it; new connections are not taken.
func TestShutdown(t *testing.T) {
	t.Parallel()
	const bye = "421 4.3.2 mx.test shutting down\r\n"
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{})
		idle, sending := h.dial("192.0.2.1:1"), h.dial("192.0.2.1:2")
		expect(t, idle, "220 ")
		expect(t, sending, "220 ")
		go io.WriteString(sending, envelope+"DATA\r\nhalf a li")
		for _, want := range []string{"250 ", "250 ", "354 "} {
			expect(t, sending, want)
		}
		synctest.Wait()
		done := make(chan error)
		go func() { done <- h.srv.Shutdown(t.Context()) }()
		synctest.Wait()
		expect(t, idle, bye)
		if b, err := io.ReadAll(idle); len(b) > 0 || err != nil {
			t.Errorf("the idle session goes on: %q, %v", b, err)
		}
		pause(30 * time.Second)
		io.WriteString(sending, "ne\r\n.\r\n")
		expect(t, sending, "250 OK ids=")
		expect(t, sending, bye)
		sending.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if got := h.got(); len(got) != 1 || got[0].text != "half a line\r\n" {
			t.Errorf("delivered %v", got)
		}
	})
}

// What has been sent before the session was idle is answered first.
func TestShutdownWithBufferedInput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{Mail: func(context.Context, *smtpserver.Session, string) error {
			<-goOn
			return nil
		}}})
		c := h.dial("192.0.2.1:1")
		expect(t, c, "220 ")
		io.WriteString(c, message)
		synctest.Wait()
		done := make(chan error)
		go func() { done <- h.srv.Shutdown(t.Context()) }()
		synctest.Wait()
		close(goOn)
		for _, want := range []string{"250 ", "250 ", "354 ", "250 OK ids=", "421 4.3.2 mx.test shutting down"} {
			expect(t, c, want)
		}
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// When its context ends, Shutdown cuts off who is left.
func TestShutdownGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{})
		c := h.dial("192.0.2.1:1")
		expect(t, c, "220 ")
		go io.WriteString(c, envelope+"DATA\r\nhalf a li")
		for _, want := range []string{"250 ", "250 ", "354 "} {
			expect(t, c, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := h.srv.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown: %v, want the end of its context", err)
		}
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
			t.Errorf("the session goes on: %q, %v", b, err)
		}
		if n := len(h.got()); n != 0 {
			t.Errorf("%d messages were delivered", n)
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	const denied = "421 4.3.2 mx.test too many concurrent sessions. Try later\r\n"
	for _, tt := range []struct {
		name   string
		limits smtpserver.Limits
		denied string // an address that may not come in after two others from 192.0.2.1 and 2001:db8::1
		free   string // one that may
	}{
		{"in all", smtpserver.Limits{Connections: 2}, "203.0.113.1:1", ""},
		{"per address", smtpserver.Limits{PerAddress: 1}, "192.0.2.1:2", "192.0.2.2:1"},
		{"per /64", smtpserver.Limits{PerAddress: 1}, "[2001:db8::ffff]:1", "[2001:db8:0:1::1]:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := start(t, &smtpserver.Server{Limits: tt.limits})
				first, second := h.dial("192.0.2.1:1"), h.dial("[2001:db8::1]:1")
				expect(t, first, "220 ")
				expect(t, second, "220 ")
				if got := h.talkFrom(tt.denied, ""); got != denied {
					t.Errorf("got %q, want %q", got, denied)
				}
				if n := sample(h.srv, "total_connections_denied", "esmtp_listener"); n != 1 {
					t.Errorf("%v denied connections were counted, want 1", n)
				}
				if tt.free != "" {
					if got := h.talkFrom(tt.free, "QUIT\r\n"); !strings.HasPrefix(got, "220 ") {
						t.Errorf("from %s: %q", tt.free, got)
					}
				}
				first.Close()
				second.Close()
				synctest.Wait()
				if got := h.talkFrom(tt.denied, "QUIT\r\n"); !strings.HasPrefix(got, "220 ") {
					t.Errorf("after the others went: %q", got)
				}
			})
		})
	}
}

func TestEarlyTalker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{Limits: smtpserver.Limits{GreetPause: 2 * time.Second}})
		if got, want := h.talk("EHLO x\r\n"), "554 5.5.0 mx.test you have to wait for the greeting\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		c := h.dial("192.0.2.1:1")
		begin := time.Now()
		expect(t, c, "220 ")
		if got := time.Since(begin); got != 2*time.Second {
			t.Errorf("the banner came after %v, want 2s", got)
		}
		c.Close()
	})
}

// Errors end a session, but a message in between makes them good.
func TestErrorLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, bad string }{
		{"junk", "XYZZY\r\n"}, {"refused recipients", "RCPT TO:<@>\r\n"}, {"line too long", strings.Repeat("x", 2000) + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{Limits: smtpserver.Limits{Errors: 3}})
			bad := strings.Repeat(tt.bad, 3)
			if got, want := last(h.talk(bad+message+bad+message+bad+tt.bad+"NOOP\r\n")), "421 4.7.0 mx.test too many errors"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if n := len(h.got()); n != 2 {
				t.Errorf("%d messages, want 2", n)
			}
		})
	}
}

// sample is the value of one series.
func sample(c mtakit.Collector, family, label string) (v float64) {
	c.Collect(family, func(s mtakit.Sample) bool {
		if len(s.Labels) == 0 || s.Labels[0] == label {
			v = s.Value
			if s.Histogram != nil {
				_, _, n, _ := s.Histogram.Snapshot()
				v = float64(n)
			}
			return false
		}
		return true
	})
	return v
}
