package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runJSON runs send with --json and returns the exit code and the report.
func runJSON(t *testing.T, addr fmt.Stringer, args ...string) (code int, r report, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), append([]string{"--smtp", addr.String(), "--json", "--progress", "0"}, args...), &out, &errOut)
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Errorf("report %q, %v; stderr %s", &out, err, &errOut)
	}
	return code, r, errOut.String()
}

func TestSend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
	}{
		{"as it comes", nil},
		{"no pipelining", []string{"--no-pipelining"}},
		{"new connections", []string{"--per-connection", "3"}},
		{"at a rate", []string{"--rate", "10000/s"}},
		{"one connection", []string{"--connections", "1"}},
		{"encrypted", []string{"--starttls"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.NewPeer(t, nil, smtptest.StartTLS(smtptest.NewCA(t), "localhost"))
			ledger := filepath.Join(t.TempDir(), "ledger")
			code, r, stderr := runJSON(t, peer.Addr(), append(test.args, "--messages", "40", "--size", "2k", "--domain", "a.example", "--domain", "b.example", "--domains", "2",
				"--from", "s{conn}@x.example", "--to", "user{n}@{domain}", "--header", "X-Campaign: spring", "--ledger", ledger)...)
			if code != 0 || r.Acknowledged != 40 || r.Failed != 0 || r.Latency.Max < r.Latency.P50 || r.Latency.P50 <= 0 || stderr != "" {
				t.Errorf("exit code %d, report %+v, stderr %q", code, r, stderr)
			}
			b, err := os.ReadFile(ledger)
			if n := bytes.Count(b, []byte("\n")); err != nil || n != 40 {
				t.Errorf("the ledger has %d lines, %v", n, err)
			}
			to := map[string]bool{}
			for _, m := range peer.Messages() {
				if len(m.Data) != 2048 || !bytes.HasSuffix(m.Data, []byte("mail.\r\n")) {
					t.Errorf("a message has %d bytes, want 2048; it ends with %q", len(m.Data), m.Data[len(m.Data)-20:])
				}
				h, err := mail.ReadMessage(bytes.NewReader(m.Data))
				if err != nil {
					t.Fatal(err)
				}
				if id := h.Header.Get("X-Ledger-Id"); !strings.Contains(string(b), id+"\n") || h.Header.Get("Message-Id") != "<"+id+"@traffic-gen.example>" {
					t.Errorf("the header is %v", h.Header)
				}
				if h.Header.Get("X-Campaign") != "spring" || h.Header.Get("To") != "<"+m.To[0]+">" || !strings.HasPrefix(m.From, "s") {
					t.Errorf("from %s to %s, the header is %v", m.From, m.To, h.Header)
				}
				to[m.To[0]] = true
			}
			if len(to) != 40 || !to["user0@d0.a.example"] || !to["user1@d1.a.example"] || !to["user2@d0.b.example"] || !to["user39@d1.b.example"] {
				t.Errorf("the recipients are %v", to)
			}
			if conns := peer.Stats().Conns; test.name == "new connections" && conns < 14 || test.name == "one connection" && conns != 1 {
				t.Errorf("%d connections", conns)
			}
		})
	}
}

// On a kept connection a message costs two round trips: one to the reply to DATA, one to that to its end.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil)
	if code, r, _ := runJSON(t, peer.Addr(), "--messages", "50", "--connections", "1"); code != 0 || r.Acknowledged != 50 {
		t.Fatalf("exit code %d, %+v", code, r)
	}
	if n := peer.Stats().RoundTrips; n > 2*50+4 {
		t.Errorf("%d round trips for 50 messages", n)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, pipelining := range []string{"--pipelining", "--no-pipelining"} {
		t.Run(pipelining, func(t *testing.T) {
			t.Parallel()
			peer := smtptest.NewPeer(t, nil)
			peer.Reply("MAIL", "451 4.3.0 not now").If("<s3@")
			peer.Reply("RCPT", "550 5.1.1 no such user").If("user5@")
			peer.Reply("DATA", "452 4.3.1 full").After(7).Times(1)
			peer.Reply(".", "554 5.6.0 no").Times(2)
			peer.Reply("MAIL", "421 4.3.2 bye").If("<s9@")
			peer.On("RCPT").If("user12@").Mute().Hangup()
			code, r, _ := runJSON(t, peer.Addr(), pipelining, "--messages", "30", "--connections", "1", "--from", "s{n}@x", "--to", "user{n}@y")
			if code != 1 || r.Failed+r.Acknowledged != 30 || r.Acknowledged != int64(len(peer.Messages())) || r.ConnectionsFailed != 0 {
				t.Errorf("exit code %d, %d arrived, report %+v", code, len(peer.Messages()), r)
			}
			var got []string
			for _, f := range r.Failures {
				got = append(got, fmt.Sprint(f.Count, " ", f.Text))
			}
			text := strings.Join(got, "\n")
			for _, want := range []string{
				"1 MAIL: 451 4.3.0 not now", "1 RCPT: 550 5.1.1 no such user", "1 DATA: 452 4.3.1 full", "2 end of data: 554 5.6.0 no", "1 MAIL: 421 4.3.2 bye", "1 RCPT: ",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("the failures are\n%s\nwant %s", text, want)
				}
			}
		})
	}
}

func TestTolerate(t *testing.T) {
	t.Parallel()
	peer := smtptest.NewPeer(t, nil, smtptest.Bounce)
	var out, stderr bytes.Buffer
	code := run(t.Context(), []string{"--smtp", peer.Addr().String(), "--messages", "5", "--progress", "0", "--tolerate"}, &out, &stderr)
	if code != 0 || !strings.HasPrefix(out.String(), "0 messages acknowledged") || !strings.Contains(out.String(), "failed 5 times: ") {
		t.Errorf("exit code %d, %s", code, &out)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr()
	l.Close()
	code, r, stderr := runJSON(t, addr, "--messages", "5", "--timeout", "100ms", "--connections", "2")
	if code != 1 || r.ConnectionsFailed == 0 || !strings.Contains(stderr, "no connection for 100ms: ") {
		t.Errorf("exit code %d, %+v, %q", code, r, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut bytes.Buffer
	if code := run(ctx, []string{"--smtp", addr.String(), "--progress", "0"}, &out, &errOut); code != 0 || errOut.Len() > 0 {
		t.Errorf("interrupted before it began: exit code %d, %s", code, &errOut)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sent := write("sent", "a\nb\n")
	for _, test := range []struct {
		received, want string
		code           int
	}{
		{"a\nb\n", "sent=2 received=2 lost=0 repeated=0 unknown=0\n", 0},
		{"b\nb\nc\n", "sent=2 received=2 lost=1 repeated=1 unknown=1\nlost: a\n", 1},
	} {
		var out, stderr bytes.Buffer
		if code := run(t.Context(), []string{"compare", sent, write("received", test.received)}, &out, &stderr); code != test.code || out.String() != test.want {
			t.Errorf("exit code %d, %q, want %d, %q; %s", code, &out, test.code, test.want, &stderr)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		args       []string
	}{
		{"unknown", "unknown flag --sise", []string{"--sise", "1"}},
		{"negative number", "--messages is -1, want 0 or more", []string{"--messages=-1"}},
		{"no connections", "--connections is 0, want 1 or more", []string{"--connections=0"}},
		{"bad rate", "--rate: ", []string{"--rate=fast"}},
		{"bad size", `"10q" is not a number of bytes`, []string{"--size=10q"}},
		{"too big", "up to 1024M", []string{"--size=2000M"}},
		{"bad placeholder", "{x} is not known", []string{"--to=a{x}@b"}},
		{"bad address", "is not an address", []string{"--from=<a@b>"}},
		{"bad header", "is not NAME: VALUE", []string{"--header=X"}},
		{"bad time-out", "--timeout is 0s", []string{"--timeout=0s"}},
		{"no such file", "no such file", []string{"compare", "does-not-exist", "nor-this"}},
		{"missing argument", "expected", []string{"compare"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out, stderr bytes.Buffer
			code := run(t.Context(), test.args, &out, &stderr)
			if text := stderr.String(); code != 2 || !strings.Contains(text, test.want) || strings.Count(text, "\n") != 1 {
				t.Errorf("exit code %d, stderr %q, want %q", code, text, test.want)
			}
		})
	}
	var out, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &stderr); code != 0 || !strings.Contains(out.String(), "--per-connection") {
		t.Errorf("--help: exit code %d, %s", code, &out)
	}
}

func TestPercentiles(t *testing.T) {
	t.Parallel()
	var us []uint32
	for i := range 1001 {
		us = append(us, uint32(1000-i)*1000)
	}
	if got := percentiles(us); got != (latency{0, 500, 900, 990, 999, 1000}) {
		t.Errorf("percentiles = %+v", got)
	}
	if got := percentiles(nil); got != (latency{}) {
		t.Errorf("percentiles of nothing = %+v", got)
	}
}

func BenchmarkMessage(b *testing.B) {
	cfg, err := (&sendCmd{Connections: 1, Timeout: 1, Size: 10 << 10, From: template{"a@b"}, To: template{"user", "{n}", "@", "{domain}"}, Domain: []string{"x.example"}}).config()
	if err != nil {
		b.Fatal(err)
	}
	g := newGenerator(*cfg)
	var buf []byte
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		buf = g.appendMail(buf[:0], n, 1)
		buf = g.appendRcpt(buf, n, 1)
		buf = g.appendMessage(buf, n, 1, g.start)
	}
}
