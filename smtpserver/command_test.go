package smtpserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/smtpserver"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

const (
	mail     = "MAIL FROM:<a@src.test>\r\n"
	rcpt     = "RCPT TO:<b@dst.test>\r\n"
	envelope = mail + rcpt
	text     = "Subject: hi\r\n\r\nhello\r\n"
	message  = envelope + "DATA\r\n" + text + ".\r\n"
)

// Every row of the table of commands.
func TestCommands(t *testing.T) {
	t.Parallel()
	small := smtpserver.Options{MaxRecipientsPerMessage: 2, MaxMessageSize: 100}
	for _, tt := range []struct {
		name, input string
		want        []string // replies; … at the end is "and anything"
		opt         smtpserver.Options
	}{
		{name: "line too long", input: "NOOP " + strings.Repeat("x", 994) + "\r\nNOOP\r\n",
			want: []string{"500 5.2.3 line too long", "250 the goggles do nothing"}},
		{name: "longest line", input: "NOOP " + strings.Repeat("x", 993) + "\r\n", want: []string{"250 the goggles do nothing"}},
		{name: "much too long", input: strings.Repeat("x", 100000) + "\r\nNOOP\r\n",
			want: []string{"500 5.2.3 line too long", "250 the goggles do nothing"}},
		{name: "not UTF-8", input: "MAIL FROM:<\xff@x>\r\nNOOP\r\n", want: []string{"501 5.5.2 Invalid UTF-8 in command", "250 the goggles do nothing"}},
		{name: "NUL", input: "NO\x00OP\r\n", want: []string{"501 Syntax error in command or arguments: control characters"}},
		{name: "CR inside", input: "NOOP\rRSET\r\n", want: []string{"501 Syntax error in command or arguments: control characters"}},
		{name: "LF alone ends a command", input: "NOOP\nNOOP\n", want: []string{"250 the goggles do nothing", "250 the goggles do nothing"}},
		{name: "empty", input: "\r\n", want: []string{"502 5.5.1 Command unimplemented"}},
		{name: "unparsable", input: "MAIL FOR:<a@b>\r\n" + mail + "RCPT FROM:<a@b>\r\nDATA now\r\n", want: []string{
			"501 Syntax error in command or arguments", "250 OK <a@src.test>", "501 Syntax error in command or arguments", "501 Syntax error in command or arguments"}},
		{name: "parameters", input: "MAIL FROM:<a@b.test> SIZE=1 SIZE=2\r\nMAIL FROM:<a@b.test> X=\r\n" + mail + "RCPT TO:<a@b.test> =\r\n", want: []string{
			"501 Syntax error in command or arguments: bad parameter", "501 Syntax error in command or arguments: bad parameter",
			"250 OK <a@src.test>", "501 Syntax error in command or arguments: bad parameter"}},
		{name: "bad recipient", input: mail + "RCPT TO:<a b@c>\r\nRCPT TO:<a@b:25>\r\nRCPT TO:<>\r\n", want: []string{
			"250 OK <a@src.test>", "501 5.1.3 Invalid recipient address syntax", "501 5.1.3 Invalid recipient address syntax", "501 5.1.3 Invalid recipient address syntax"}},
		{name: "bad sender", input: "MAIL FROM:<a@@b>\r\nMAIL FROM:<postmaster>\r\n",
			want: []string{"501 5.1.7 Bad sender's mailbox address syntax", "501 5.1.7 Bad sender's mailbox address syntax"}},
		{name: "HELO", input: "HELO client.test\r\nHELO\r\nHELO a b\r\n",
			want: []string{"250 Hello client.test!", "501 Syntax error in command or arguments", "501 Syntax error in command or arguments"}},
		{name: "EHLO", input: "ehlo [192.0.2.9]\r\n", want: []string{"250-mx.test Aloha [192.0.2.9]", "250-PIPELINING", "250-ENHANCEDSTATUSCODES",
			"250-8BITMIME", "250-SMTPUTF8", "250 STARTTLS"}},
		{name: "EHLO with XCLIENT", input: "EHLO c\r\n", opt: smtpserver.Options{AllowXCLIENT: new(true)}, want: []string{"250-mx.test Aloha c", "250-PIPELINING",
			"250-ENHANCEDSTATUSCODES", "250-8BITMIME", "250-SMTPUTF8", "250-STARTTLS", "250 XCLIENT ADDR PORT DESTADDR DESTPORT"}},
		{name: "EHLO that would break a header", input: "EHLO a)(b\r\nEHLO a;b\r\n",
			want: []string{"501 Syntax error in command or arguments", "501 Syntax error in command or arguments"}},
		{name: "EHLO ends the transaction", input: mail + "HELO x\r\n" + rcpt,
			want: []string{"250 OK <a@src.test>", "250 Hello x!", "503 5.5.0 MAIL FROM must be issued first"}},
		{name: "RSET", input: mail + "RSET\r\n" + rcpt, want: []string{"250 OK <a@src.test>", "250 Reset state", "503 5.5.0 MAIL FROM must be issued first"}},
		{name: "MAIL twice", input: mail + mail, want: []string{"250 OK <a@src.test>", "503 5.5.0 MAIL FROM already issued; you must RSET first"}},
		{name: "null sender", input: "MAIL FROM:<>\r\n", want: []string{"250 OK <>"}},
		{name: "SIZE too big", input: "MAIL FROM:<a@b.test> SIZE=101\r\nMAIL FROM:<a@b.test> SIZE=100\r\n", opt: small,
			want: []string{"552 5.3.4 message too big", "250 OK <a@b.test>"}},
		{name: "too many recipients", input: envelope + rcpt + rcpt, opt: small,
			want: []string{"250 OK <a@src.test>", "250 OK <b@dst.test>", "250 OK <b@dst.test>", "452 4.5.3 too many recipients"}},
		{name: "too many on the connection", input: envelope + rcpt + rcpt + "RSET\r\n" + envelope, opt: smtpserver.Options{MaxMessagesPerConnection: 2}, want: []string{
			"250 OK <a@src.test>", "250 OK <b@dst.test>", "250 OK <b@dst.test>", "452 4.5.3 too many recipients on this connection",
			"250 Reset state", "250 OK <a@src.test>", "421 4.5.3 mx.test too many recipients on this connection"}},
		{name: "postmaster", input: mail + "RCPT TO:<postmaster>\r\n", want: []string{"250 OK <a@src.test>", "250 OK <postmaster>"}},
		{name: "DATA too early", input: "DATA\r\n" + mail + "DATA\r\n",
			want: []string{"503 5.5.0 MAIL FROM must be issued first", "250 OK <a@src.test>", "503 5.5.0 RCPT TO must be issued first"}},
		{name: "message", input: message, want: []string{"250 OK <a@src.test>", "250 OK <b@dst.test>", "354 Send body; end with CRLF.CRLF", "250 OK ids=…"}},
		{name: "unimplemented", input: "VRFY a\r\nEXPN a\r\nHELP\r\nLHLO a\r\nBDAT 3\r\nXYZZYXYZZY\r\n", want: slices.Repeat([]string{"502 5.5.1 Command unimplemented"}, 6)},
		{name: "AUTH without users", input: "AUTH PLAIN AGEAYg==\r\n", want: []string{"502 5.5.1 Command unimplemented"}},
		{name: "STARTTLS with argument", input: "STARTTLS x\r\n", want: []string{"501 Syntax error in command or arguments"}},
		{name: "XCLIENT not allowed", input: "XCLIENT ADDR=10.0.0.1\r\n", want: []string{"550 insufficient authorization"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, &smtpserver.Server{Options: tt.opt})
			got := replies(h.talk(tt.input + "QUIT\r\n"))
			if len(got) != len(tt.want) {
				t.Fatalf("got %q\nwant %q", got, tt.want)
			}
			for i, w := range tt.want {
				if w, open := strings.CutSuffix(w, "…"); got[i] != w && !(open && strings.HasPrefix(got[i], w)) {
					t.Errorf("reply %d is %q, want %q", i, got[i], w)
				}
			}
		})
	}
}

func TestGreetingAndGoodbye(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Options: smtpserver.Options{Banner: "at your service"}})
	want := "220 mx.test at your service\r\n221 So long, and thanks for all the fish!\r\n"
	if got := h.talk("QUIT\r\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Relay forms from scanners: from a stranger, to addresses that would lead elsewhere if somebody read them cleverly.
func TestOpenRelay(t *testing.T) {
	t.Parallel()
	h := start(t, &smtpserver.Server{Policy: smtpserver.Policy{
		ListenerDomain: func(_ context.Context, _ *smtpserver.Session, domain string) (*smtpserver.ListenerDomain, error) {
			if domain == "ours.test" {
				return &smtpserver.ListenerDomain{RelayTo: true}, nil
			}
			return nil, nil
		},
	}})
	for _, form := range []struct{ sender, rcpt string }{
		{"a@src.test", "v@victim.test"}, {"a@ours.test", "v@victim.test"}, {"a", "v@victim.test"}, {"", "v@victim.test"},
		{"a@[198.51.100.1]", "v@victim.test"}, {"a@localhost", "v@victim.test"}, {"a@mx.test", "v@victim.test"},
		{"a@ours.test", "v%victim.test@mx.test"}, {"a@ours.test", "v%victim.test@[198.51.100.1]"}, {"a@ours.test", "v%victim.test@"},
		{"a@ours.test", "v%victim.test"}, {"a@ours.test", `"v@victim.test"`}, {"a@ours.test", `"v%victim.test"`}, {"a@ours.test", `"v@victim.test"@mx.test`},
		{"a@ours.test", "v@victim.test@ours.test"}, {"a@ours.test", "v@victim.test@[198.51.100.1]"}, {"a@ours.test", "@mx.test:v@victim.test"},
		{"a@ours.test", "@ours.test:v@victim.test"}, {"a@ours.test", "victim.test!v"}, {"a@ours.test", "victim.test!v@mx.test"},
		{"a@ours.test", "victim.test!v@[198.51.100.1]"}, {"a@ours.test", "@ours.test,@victim.test:v"}, {"a@ours.test", "v@victim.test\\@ours.test"},
		{"a@ours.test", "ours.test!victim.test!v"},
	} {
		out := h.talkFrom("203.0.113.5:999", fmt.Sprintf("HELO x\r\nMAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nQUIT\r\n", form.sender, form.rcpt))
		if got := last(out); !strings.HasPrefix(got, "5") {
			t.Errorf("from <%s> to <%s>: %q", form.sender, form.rcpt, got)
		}
	}
	if got, want := last(h.talkFrom("203.0.113.5:999", envelope+"QUIT\r\n")), "550 5.7.1 relaying not permitted for 203.0.113.5:999"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := last(h.talkFrom("203.0.113.5:999", mail+"RCPT TO:<b@OURS.test>\r\nQUIT\r\n")), "250 OK <b@OURS.test>"; got != want {
		t.Errorf("to our own domain: got %q, want %q", got, want)
	}
}

// What a callback answers, and what the client is told.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	reject := &mtakit.Reject{Response: mtakit.Response{Code: 550, Enhanced: [3]uint16{5, 7, 1}, Text: "no\r\nQUIT \x1b"}}
	for _, tt := range []struct {
		name string
		err  error
		want string
		ends bool
	}{
		{"reject", reject, "550-5.7.1 no ", false},
		{"wrapped", fmt.Errorf("secret: %w", reject), "550-5.7.1 no ", false},
		{"hangup", &mtakit.Reject{Response: mtakit.Response{Code: 554, Text: "go"}, Hangup: true}, "554 go", true},
		{"421", &mtakit.Reject{Response: mtakit.Response{Code: 421, Text: "go"}}, "421 go", true},
		{"delay", &mtakit.Delay{Reason: "greylisted"}, "451 4.7.1 greylisted", false},
		{"go-smtp", &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "later"}, "451 4.2.1 later", false},
		{"go-smtp without enhanced code", &smtp.SMTPError{Code: 550, Message: "no"}, "550 5.0.0 no", false},
		{"go-smtp with none at all", &smtp.SMTPError{Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no"}, "550 no", false},
		{"other", errors.New("open /secret"), "421 4.3.0 mx.test technical difficulties", true},
		{"reject that accepts", &mtakit.Reject{Response: mtakit.Response{Code: 250}}, "421 4.3.0 mx.test technical difficulties", true},
		{"panic", nil, "421 4.3.0 mx.test technical difficulties", true},
	} {
		answer := func() error {
			if tt.err == nil {
				panic("secret")
			}
			return tt.err
		}
		for _, hook := range []struct {
			name   string
			policy smtpserver.Policy
			input  string
		}{
			{"connect", smtpserver.Policy{Connect: func(context.Context, *smtpserver.Session) error { return answer() }}, ""},
			{"options", smtpserver.Policy{Options: func(context.Context, *smtpserver.Session) (*smtpserver.Options, error) { return nil, answer() }}, ""},
			{"ehlo", smtpserver.Policy{Ehlo: func(context.Context, *smtpserver.Session, string, []string) ([]string, error) { return nil, answer() }}, "EHLO x\r\n"},
			{"mail", smtpserver.Policy{Mail: func(context.Context, *smtpserver.Session, string) error { return answer() }}, mail},
			{"rcpt", smtpserver.Policy{Rcpt: func(context.Context, *smtpserver.Session, string) error { return answer() }}, envelope},
			{"data", smtpserver.Policy{Data: func(context.Context, *smtpserver.Session, *smtpserver.Mail) error { return answer() }}, message},
			{"split", smtpserver.Policy{Split: func(context.Context, *smtpserver.Session, *smtpserver.Mail) ([][]string, error) { return nil, answer() }}, message},
		} {
			t.Run(hook.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := start(t, &smtpserver.Server{Policy: hook.policy})
				out := h.talk(hook.input + "NOOP\r\nQUIT\r\n")
				if !strings.Contains("\r\n"+out, "\r\n"+tt.want) {
					t.Fatalf("got %q, want %q in it", out, tt.want)
				}
				if strings.ContainsAny(out, "\x1b") || strings.Contains(out, "secret") {
					t.Errorf("the client was told %q", out)
				}
				first := hook.name == "connect" || hook.name == "options"
				if goes := strings.Contains(out, "goggles"); goes == (tt.ends || first) {
					t.Errorf("session goes on: %t\n%s", goes, out)
				}
				if n := len(h.got()); n != 0 {
					t.Errorf("%d messages were delivered", n)
				}
			})
		}
	}
}
