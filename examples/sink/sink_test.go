package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mtakit/mtakit/examples/internal/sink"
)

// process is a running sink.
type process struct {
	addr string
	out  *bufio.Reader
	stop context.CancelFunc
	exit chan int
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	s := &process{out: bufio.NewReader(r), stop: cancel, exit: make(chan int, 1)}
	go func() {
		code := run(ctx, append([]string{"--listen", "127.0.0.1:0", "--progress", "0"}, args...), w, t.Output())
		w.Close()
		s.exit <- code
	}()
	line, err := s.out.ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "sink ready smtp=%s", &s.addr); err != nil || scanErr != nil {
		t.Fatalf("the sink says %q, %v", line, err)
	}
	t.Cleanup(cancel)
	return s
}

// end stops the sink and returns its summary.
func (s *process) end(t *testing.T) (sum sink.Summary) {
	t.Helper()
	s.stop()
	b, _ := io.ReadAll(s.out)
	if code := <-s.exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
	if err := json.Unmarshal(b, &sum); err != nil {
		t.Errorf("summary %q: %v", b, err)
	}
	return sum
}

func send(addr, to, body string) error {
	return smtp.SendMail(addr, nil, "from@sender.example", []string{to}, []byte(body))
}

func wantReply(t *testing.T, err error, want string) {
	t.Helper()
	var reply *textproto.Error
	got := ""
	if errors.As(err, &reply) {
		got = fmt.Sprint(reply.Code, " ", reply.Msg)
	} else if err != nil {
		got = "closed"
	}
	if got != want {
		t.Errorf("the answer is %q, want %q (%v)", got, want, err)
	}
}

func TestAccepts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, "--dump", filepath.Join(dir, "dump"), "--ledger", filepath.Join(dir, "ledger"), "--tls", "--hostname", "mx.example")
	c, err := smtp.Dial(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartTLS(&tls.Config{ServerName: "mx.example", InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	body := "X-Ledger-Id: id-1\r\nMessage-ID: <x@y>\r\n\r\n..dots\r\n.\r\n\r\n.end\r\n" + strings.Repeat("\x80long", 50_000) + "\r\n"
	for i, msg := range []string{body, "message-id: <2@y>\r\n\r\nX-Ledger-Id: not in the header\r\n", "\r\nno header\r\n"} {
		for _, err := range []error{c.Mail("a@b"), c.Rcpt("c@d"), c.Rcpt("e@f")} {
			wantReply(t, err, "")
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, msg)
		wantReply(t, w.Close(), "")
		if got, err := os.ReadFile(filepath.Join(dir, "dump", fmt.Sprintf("%08d.eml", i+1))); err != nil || string(got) != msg {
			t.Errorf("message %d was dumped as %.80q, %v", i, got, err)
		}
	}
	c.Quit()
	if b, err := os.ReadFile(filepath.Join(dir, "ledger")); err != nil || string(b) != "id-1\n<2@y>\n-\n" {
		t.Errorf("the ledger is %q, %v", b, err)
	}
	if sum := s.end(t); sum.Messages != 3 || sum.Recipients != 6 || sum.TLS != 1 || sum.Connections != 1 || sum.Replies["354"] != 3 || sum.Bytes < 250_000 {
		t.Errorf("summary %+v", sum)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	s := start(t,
		"--rule", "to=bounce*@* reply=550 5.1.1 no such user",
		"--rule", "on=rcpt to=grey@* first=1 reply=451 4.7.1 come back",
		"--rule", "on=mail from=limited@* rate=1/d,max_burst=1 reply=421 4.7.0 slow down",
		"--rule", "on=dot to=half@* percent=50 reply=452 4.3.1 full",
		"--rule", "on=data to=nodata@* reply=554 5.6.0 no",
		"--rule", "on=dot to=cut@* close",
		"--rule", "to=slow@* delay=1ms",
	)
	const msg = "\r\nhi\r\n"
	for _, test := range []struct{ to, want string }{
		{"user@d", ""},
		{"Bounce-1@d", "550 5.1.1 no such user"},
		{"grey@d", "451 4.7.1 come back"}, {"grey@d", ""},
		{"half@d", ""}, {"half@d", "452 4.3.1 full"}, {"half@d", ""}, {"half@d", "452 4.3.1 full"},
		{"nodata@d", "554 5.6.0 no"},
		{"cut@d", "closed"},
		{"slow@d", ""},
	} {
		wantReply(t, send(s.addr, test.to, msg), test.want)
	}
	for i, want := range []string{"", "421 4.7.0 slow down"} {
		c, err := smtp.Dial(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		wantReply(t, c.Mail("limited@d"), want)
		if err := c.Noop(); i == 1 && err == nil {
			t.Error("the connection stays open after a 421")
		}
		c.Close()
	}
	if sum := s.end(t); sum.Messages != 5 || sum.Replies["452"] != 2 || sum.Replies["550"] != 1 {
		t.Errorf("summary %+v", sum)
	}
}

// TestConversation is raw: each line in, each reply out, in one piece.
func TestConversation(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, test := range []struct{ name, in, want string }{
		{"pipelined", "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n..x\r\n.\r\nMAIL FROM:<> SIZE=5\r\nRCPT TO: <\"q>\\\"\"@d>\r\nDATA\r\n.\r\nQUIT\r\n",
			"220 250 250 250 354 250 250 250 354 250 221"},
		{"out of order", "RCPT TO:<a@b>\r\nDATA\r\nMAIL FROM:<a@b>\r\nDATA\r\nMAIL FROM:<a@b>\r\nRSET\r\nRCPT TO:<c@d>\r\nquit\r\n", "220 503 503 250 503 503 250 503 221"},
		{"nonsense", "MAIL FROM:a\r\nRCPT\r\nFOO\r\n\r\nSTARTTLS\r\nNOOP x\nVRFY x\r\nHELO x\r\nMAIL FROM:<a\r\nQUIT\r\n", "220 501 501 502 502 502 250 252 250 501 221"},
		{"a line without end", strings.Repeat("x", 5000), "220 500"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			io.WriteString(nc, test.in)
			b, err := io.ReadAll(nc)
			var codes []string
			for line := range strings.Lines(string(b)) {
				if line[3] == ' ' {
					codes = append(codes, line[:3])
				}
			}
			if got := strings.Join(codes, " "); got != test.want {
				t.Errorf("the replies are %s, want %s (%v)\n%s", got, test.want, err, b)
			}
		})
	}
}

func TestEndsAfterMessages(t *testing.T) {
	t.Parallel()
	s := start(t, "--messages", "2")
	for range 2 {
		wantReply(t, send(s.addr, "a@b", "\r\n"), "")
	}
	if b, err := io.ReadAll(s.out); err != nil || !strings.Contains(string(b), `"messages":2`) {
		t.Errorf("it said %q, %v", b, err)
	}
	if code := <-s.exit; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, flag, want string }{
		{"unknown", "--frobnicate", "unknown flag --frobnicate"},
		{"negative", "--messages=-1", "--messages is -1, want 0 or more"},
		{"empty rule", "--rule=to=x", "neither delay=, close nor reply="},
		{"unknown key", "--rule=foo=1 close", `"foo" is not known`},
		{"bad reply", "--rule=reply=99 x", "no reply on one line"},
		{"bad percentage", "--rule=percent=101 close", "up to 100"},
		{"bad count", "--rule=first=0 close", "1 or more"},
		{"bad rate", "--rule=rate=1 close", "expected 'limit/period'"},
		{"bad delay", "--rule=delay=soon", "invalid duration"},
		{"no delay", "--rule=delay=0s", "more than 0"},
		{"bad phase", "--rule=on=quit close", "want one of"},
		{"too early for the recipient", "--rule=on=mail to=x close", "not known yet"},
		{"too early for the sender", "--rule=on=ehlo from=x close", "not known yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out, stderr bytes.Buffer
			code := run(t.Context(), []string{test.flag}, &out, &stderr)
			if text := stderr.String(); code != 2 || out.Len() > 0 || !strings.Contains(text, test.want) || strings.Count(text, "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr %q, want %q", code, &out, text, test.want)
			}
		})
	}
	var out, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &stderr); code != 0 || !strings.Contains(out.String(), "--dump") {
		t.Errorf("--help: exit code %d, %q", code, &stderr)
	}
	if code := run(t.Context(), []string{"--listen", "nowhere"}, &out, &stderr); code != 1 {
		t.Errorf("an address that is none: exit code %d", code)
	}
}
