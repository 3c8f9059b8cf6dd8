package smtpserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

// Twenty forms of an end of data, with a message smuggled behind each. Whatever a reader takes for the end, there is one message or none.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const smuggled = "MAIL FROM:<evil@src.test>\r\nRCPT TO:<victim@dst.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
	for _, mode := range []smtpserver.LineEndings{smtpserver.Deny, smtpserver.Allow, smtpserver.Fix} {
		for _, end := range []string{
			"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\n.\r", "\r.\n", "\r\n.\x00\r\n", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n\x00.\r\n",
			"\n\n.\r\n", "\r\n..\r\n", "\n..\n", "\r\n. \r\n", "\r\n.\t\n", "\n\r.\r\n", "\r\n\r.\r\n", "\n.\n\n",
		} {
			h := start(t, &smtpserver.Server{Options: smtpserver.Options{InvalidLineEndings: mode}})
			out := h.talk("EHLO x\r\n" + envelope + "DATA\r\nSubject: one\r\n\r\ntext" + end + smuggled + "\r\n.\r\nNOOP\r\nQUIT\r\n")
			got := h.got()
			if len(got) > 1 || strings.Contains(out, "evil@src.test") {
				t.Errorf("mode %d, end %q: %d messages, replies %q", mode, end, len(got), out)
			}
			if !strings.Contains(out, "goggles") {
				t.Errorf("mode %d, end %q: commands behind the data were not read: %q", mode, end, out)
			}
			if len(got) == 1 && mode == smtpserver.Fix {
				if s := strings.ReplaceAll(got[0].text, "\r\n", ""); strings.ContainsAny(s, "\r\n") {
					t.Errorf("end %q: text %q has bare line ends", end, got[0].text)
				}
			}
			if n := len(got); mode == smtpserver.Allow && n != 1 {
				t.Errorf("end %q: %d messages are kept as they are, want 1: %q", end, n, out)
			}
		}
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	opt := func(change func(*smtpserver.Options)) (o smtpserver.Options) {
		o.MaxMessageSize, o.LineLengthHardLimit = 100, 30
		if change != nil {
			change(&o)
		}
		return o
	}
	mode := func(m smtpserver.LineEndings) smtpserver.Options {
		return opt(func(o *smtpserver.Options) { o.InvalidLineEndings = m })
	}
	const ok = "250 OK ids="
	line := strings.Repeat("x", 30)
	for _, tt := range []struct {
		name, data, reply, text string
		opt                     smtpserver.Options
	}{
		{"plain", "a\r\n\r\nb\r\n.\r\n", ok, "a\r\n\r\nb\r\n", opt(nil)},
		{"dots", "..a\r\n...\r\n.b\r\n..\r\n.\r\n", ok, ".a\r\n..\r\nb\r\n.\r\n", opt(nil)},
		{"empty", ".\r\n", ok, "", opt(nil)},
		{"one empty line", "\r\n.\r\n", ok, "\r\n", opt(nil)},
		{"8-bit and NUL", "\xff\x00\xfe\r\n.\r\n", ok, "\xff\x00\xfe\r\n", opt(nil)},
		{"size at the limit", strings.Repeat("12345678\r\n", 10) + ".\r\n", ok, strings.Repeat("12345678\r\n", 10), opt(nil)},
		{"size over the limit", strings.Repeat("12345678\r\n", 10) + "\r\n.\r\n", "552 5.3.4 message too big", "", opt(nil)},
		{"size far over the limit", strings.Repeat("12345678\r\n", 100000) + ".\r\n", "552 5.3.4 message too big", "", opt(nil)},
		{"stuffed dots don't count", strings.Repeat("..345678\r\n", 11) + ".\r\n", ok, strings.Repeat(".345678\r\n", 11), opt(nil)},
		{"line at the limit", line + "\r\n.\r\n", ok, line + "\r\n", opt(nil)},
		{"line over the limit", line + "x\r\n.\r\n", "500 5.2.3 line too long", "", opt(nil)},
		{"stuffed line at the limit", ".." + line[1:] + "\r\n.\r\n", ok, "." + line[1:] + "\r\n", opt(nil)},
		{"bare LF denied", "a\nb\r\n.\r\n", "552 5.6.0 message data must use CRLF for line endings", "", mode(smtpserver.Deny)},
		{"bare CR denied", "a\rb\r\n.\r\n", "552 5.6.0 message data must use CRLF for line endings", "", mode(smtpserver.Deny)},
		{"allowed", "a\nb\rc\r\n.\r\n", ok, "a\nb\rc\r\n", mode(smtpserver.Allow)},
		{"fixed", "a\nb\rc\n\r\nd\r\r\n.\r\n", ok, "a\r\nb\r\nc\r\n\r\nd\r\n\r\n", mode(smtpserver.Fix)},
		{"a fixed dot", "a\n.\nb\r\n.\r\n", ok, "a\r\n.\r\nb\r\n", mode(smtpserver.Fix)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{Options: tt.opt})
			out := replies(h.talk(envelope + "DATA\r\n" + tt.data + mail + "QUIT\r\n"))
			if len(out) != 5 || !strings.HasPrefix(out[3], tt.reply) {
				t.Fatalf("got %q, want %q as the fourth", out, tt.reply)
			}
			if out[4] != "250 OK <a@src.test>" {
				t.Errorf("the transaction is still open: %q", out[4])
			}
			mail := h.got()
			if tt.reply != ok {
				if len(mail) != 0 {
					t.Errorf("got %q, want nothing", mail[0].text)
				}
				return
			}
			if len(mail) != 1 || mail[0].text != tt.text {
				t.Errorf("got %+v, want the text %q", mail, tt.text)
			}
		})
	}
}

// A text that almost doubles when its line ends are repaired is larger than any pooled buffer.
func TestFixedTextGrows(t *testing.T) {
	t.Parallel()
	const lines = 700 << 10
	h := start(t, &smtpserver.Server{Options: smtpserver.Options{InvalidLineEndings: smtpserver.Fix}})
	data := strings.Repeat("\n", lines-1) + "\r\n"
	if got := last(h.talk(envelope + "DATA\r\n" + data + ".\r\nQUIT\r\n")); !strings.HasPrefix(got, "250 OK ids=") {
		t.Errorf("got %q", got)
	}
	if got := h.got(); len(got) != 1 || got[0].text != strings.Repeat("\r\n", lines) {
		t.Errorf("%d messages were delivered, or another text", len(got))
	}
}

// However the bytes of a session are cut into packets, replies and messages are the same.
func FuzzConversation(f *testing.F) {
	f.Add([]byte("EHLO x\r\n"+message+message+"QUIT\r\n"), []byte{3, 0, 40})
	f.Add([]byte(envelope+"DATA\r\n.\r\n"+envelope+"DATA\r\n..a\n.\r\n\r\n.\r\nRSET\r\n"), []byte{0})
	f.Add([]byte(envelope+"DATA\r\n"+strings.Repeat("x", 2000)+"\r\n.\r\n"+mail), []byte{255})
	f.Add([]byte(envelope+"DATA\r\n"+strings.Repeat("x\r\n", 1100)+".\r\n"+mail), []byte{0}) // discarded
	f.Add([]byte("AUTH PLAIN\r\n*\r\nSTARTTLS\r\nxx\r\nXCLIENT ADDR=1.2.3.4\r\n"), []byte{7})
	f.Fuzz(func(t *testing.T, input, sizes []byte) {
		if bytes.Contains(bytes.ToUpper(input), []byte("STARTTLS")) {
			return // whether something is behind it depends on the cuts
		}
		input = append(input, "\r\n.\r\nQUIT\r\nRSET\r\n.\r\nQUIT\r\n"...)
		run := func(cut func(i int) int) (string, string) {
			h := start(t, &smtpserver.Server{
				Options: smtpserver.Options{MaxMessageSize: 3000, AllowXCLIENT: new(true), RelayHosts: prefixes("0.0.0.0/0", "::/0")},
				Limits:  smtpserver.Limits{Errors: 10},
			})
			c := h.dial("192.0.2.1:4000")
			out := make(chan string)
			go func() {
				b, _ := io.ReadAll(c)
				c.Close()
				out <- string(b)
			}()
			rest := input
			for i := 0; len(rest) > 0; i++ {
				n := min(len(rest), cut(i))
				if _, err := c.Write(rest[:n]); err != nil {
					break
				}
				rest = rest[n:]
			}
			replies := <-out
			var texts strings.Builder
			for _, m := range h.got() {
				fmt.Fprintf(&texts, "%q %q %q\n", m.Sender, m.To, m.text)
				replies = strings.Replace(replies, m.ID.String(), "ID", 1)
			}
			return replies, texts.String()
		}
		r1, m1 := run(func(int) int { return len(input) })
		r2, m2 := run(func(i int) int {
			if len(sizes) == 0 {
				return 1
			}
			return 1 + int(sizes[i%len(sizes)])
		})
		if r1 != r2 || m1 != m2 {
			t.Errorf("%q at once:\n%s%s\nin pieces:\n%s%s", input, r1, m1, r2, m2)
		}
	})
}

// Messages of one transaction share the text, and the buffer is not used again before the last body is closed.
func TestSharedText(t *testing.T) {
	t.Parallel()
	var kept []mtakit.Body
	h := start(t, &smtpserver.Server{Deliver: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
		for _, s := range batch {
			kept = append(kept, s.Body)
		}
		return nil
	}})
	send := func(line string) {
		h.talk(envelope + rcpt + "DATA\r\n" + line + "\r\n.\r\nQUIT\r\n")
	}
	send("one")
	first, second := kept[0].(mtakit.ChunkedBody), kept[1].(mtakit.ChunkedBody)
	if a, b := first.Chunks(nil)[1], second.Chunks(nil)[1]; &a[0] != &b[0] {
		t.Error("the text was copied")
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err == nil {
		t.Error("the second Close succeeded")
	}
	send("two")
	if got := readAll(t, second); !strings.HasSuffix(got, "one\r\n") {
		t.Errorf("an open body changed to %q", got)
	}
	if _, err := first.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a closed body can be read")
	}
	for _, b := range kept[1:] {
		b.Close()
	}
}

func TestBodyReadAt(t *testing.T) {
	t.Parallel()
	var body mtakit.Body
	h := start(t, &smtpserver.Server{Deliver: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
		body = batch[0].Body
		return nil
	}})
	h.talk(message + "QUIT\r\n")
	whole := []byte(readAll(t, body))
	for off := range len(whole) + 2 {
		for _, n := range []int{0, 1, 7, len(whole) + 1} {
			p := make([]byte, n)
			got, err := body.ReadAt(p, int64(off))
			want, wantErr := bytes.NewReader(whole).ReadAt(make([]byte, n), int64(off))
			if got != want || (err == io.EOF) != (wantErr == io.EOF) || !bytes.Equal(p[:got], whole[min(off, len(whole)):][:got]) {
				t.Fatalf("ReadAt(%d bytes, %d) = %d, %v; want %d, %v", n, off, got, err, want, wantErr)
			}
		}
	}
	body.Close()
}

// What Deliver returns, and what the client is told.
func TestDeliverErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"full", fmt.Errorf("/var/spool: %w", mtakit.ErrSpoolFull), "452 4.3.1 mx.test disk is too full. Try later"},
		{"unhealthy", fmt.Errorf("/var/spool: %w", mtakit.ErrUnhealthy), "421 4.3.2 mx.test the spool is not accepting writes. Try later"},
		{"overloaded", mtakit.ErrOverloaded, "452 4.3.1 mx.test load shedding. Try later"},
		{"closed", mtakit.ErrClosed, "421 4.3.2 mx.test shutting down"},
		{"other", errors.New("/var/spool: no"), "421 4.3.0 mx.test technical difficulties"},
		{"reject", &mtakit.Reject{Response: mtakit.Response{Code: 550, Text: "no"}}, "550 no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{})
			h.fail = tt.err
			if got := last(h.talk(message + "QUIT\r\n")); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A Deliver that panics may have given the bodies to somebody before.
func TestDeliverPanics(t *testing.T) {
	t.Parallel()
	var body mtakit.Body
	h := start(t, &smtpserver.Server{Deliver: func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
		body = batch[0].Body
		panic("oops")
	}})
	if got, want := last(h.talk(message+"QUIT\r\n")), "421 4.3.0 mx.test technical difficulties"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := readAll(t, body); !strings.HasSuffix(got, text) {
		t.Errorf("the body is %q", got)
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err           error
		connect, mail string
	}{
		{mtakit.ErrSpoolFull, "421 4.3.2 mx.test disk is too full. Try later", "452 4.3.1 mx.test disk is too full. Try later"},
		{mtakit.ErrUnhealthy, "421 4.3.2 mx.test the spool is not accepting writes. Try later", "421 4.3.2 mx.test the spool is not accepting writes. Try later"},
		{mtakit.ErrOverloaded, "421 4.3.2 mx.test load shedding. Try later", "452 4.3.1 mx.test load shedding. Try later"},
		{smtpserver.ErrStarting, "421 4.3.2 mx.test waiting for spool startup. Try again soon!", "421 4.3.2 mx.test waiting for spool startup. Try again soon!"},
		{errors.New("/secret"), "421 4.3.0 mx.test technical difficulties", "421 4.3.0 mx.test technical difficulties"},
	} {
		t.Run(tt.err.Error(), func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{Admit: func() error { return tt.err }})
			if got := h.talk("QUIT\r\n"); got != tt.connect+"\r\n" {
				t.Errorf("at connection: %q, want %q", got, tt.connect)
			}
			asked := 0
			h = start(t, &smtpserver.Server{Admit: func() error {
				if asked++; asked == 1 {
					return nil
				}
				return tt.err
			}})
			if got := replies(h.talk(mail + "QUIT\r\n"))[0]; got != tt.mail {
				t.Errorf("at MAIL: %q, want %q", got, tt.mail)
			}
		})
	}
}

// A text that turned out to be too large takes no memory from others while the rest of it comes.
func TestBodyMemoryOfDiscarded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := start(t, &smtpserver.Server{Options: smtpserver.Options{MaxMessageSize: 20 << 10}, Limits: smtpserver.Limits{BodyMemory: 33 << 10}})
		c := h.dial("192.0.2.1:1")
		expect(t, c, "220 ")
		go io.WriteString(c, envelope+"DATA\r\n"+strings.Repeat("0123456789\r\n", 2000)+"and so")
		for _, want := range []string{"250 ", "250 ", "354 "} {
			expect(t, c, want)
		}
		synctest.Wait()
		if got := last(h.talk(message + "QUIT\r\n")); !strings.HasPrefix(got, "250 OK ids=") {
			t.Errorf("another client is told %q", got)
		}
		io.WriteString(c, " on\r\n.\r\n")
		expect(t, c, "552 5.3.4 message too big")
		io.WriteString(c, message)
		for _, want := range []string{"250 ", "250 ", "354 ", "250 OK ids="} {
			expect(t, c, want)
		}
		c.Close()
	})
}

// When the memory for texts is used up, MAIL is refused; a text that grows too large in spite of that is refused at its end.
func TestBodyMemory(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Limits: smtpserver.Limits{BodyMemory: 10 << 10}})
	out := replies(h.talk(envelope + "DATA\r\n" + strings.Repeat("0123456789\r\n", 2000) + ".\r\n" + strings.Repeat(message, 20) + "QUIT\r\n"))
	if want := "452 4.3.1 message buffers are full. Try later"; out[3] != want {
		t.Errorf("got %q, want %q", out[3], want)
	}
	if n := len(h.got()); n != 20 {
		t.Errorf("the memory was not given back: %d of 20 messages were accepted; %q", n, out)
	}
	h = start(t, &smtpserver.Server{Limits: smtpserver.Limits{BodyMemory: 1}})
	if got, want := last(h.talk(mail+"QUIT\r\n")), "452 4.3.1 message buffers are full. Try later"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
