package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mtakit/mtakit/smtpclient/smtptest"
)

// The test binary is kumod itself when asKumod is set, so that daemons under test are real processes, with the race detector where the test has it.
const asKumod = "MTAKIT_TEST_RUN_KUMOD"

func TestMain(m *testing.M) {
	if os.Getenv(asKumod) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// daemon is a running kumod.
type daemon struct {
	t          testing.TB
	cmd        *exec.Cmd
	smtp, http string
	spooled    int
	stderr     *lockedBuffer
	ended      chan error
	gone       atomic.Bool
}

var readyLine = regexp.MustCompile(`^kumod ready smtp=(\S+) http=(\S+) spool=(\d+)\n$`)

// start runs kumod on free ports and waits for its ready line. wrap goes before the command.
func start(t testing.TB, wrap []string, args ...string) *daemon {
	t.Helper()
	d, err := launch(t, wrap, args...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// launch is start for a kumod that may not get to its ready line.
func launch(t testing.TB, wrap []string, args ...string) (*daemon, error) {
	t.Helper()
	args = append([]string{"--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--hostname", "kumod.test"}, args...)
	argv := append(append(wrap[:len(wrap):len(wrap)], os.Args[0]), args...)
	d := &daemon{t: t, cmd: exec.Command(argv[0], argv[1:]...), stderr: &lockedBuffer{}, ended: make(chan error, 1)}
	d.cmd.Env = append(os.Environ(), asKumod+"=1")
	d.cmd.Stderr = d.stderr
	// What is wrapped dies with its wrapper, and both with a test that is cut off.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	m := readyLine.FindStringSubmatch(line)
	if m == nil {
		syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		d.cmd.Wait()
		return nil, fmt.Errorf("no ready line but %q (%v)\n%s", line, err, d.stderr)
	}
	d.smtp, d.http = m[1], m[2]
	fmt.Sscan(m[3], &d.spooled)
	go func() {
		io.Copy(io.Discard, out)
		err := d.cmd.Wait()
		d.gone.Store(true)
		d.ended <- err
	}()
	t.Cleanup(func() {
		if !d.gone.Load() {
			d.kill()
		}
		if t.Failed() {
			t.Logf("stderr of kumod:\n%s", d.stderr)
		}
	})
	return d, nil
}

func (d *daemon) kill() {
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.ended
}

// stop ends the daemon as an operator does and checks its exit code.
func (d *daemon) stop() {
	d.t.Helper()
	d.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-d.ended; err != nil {
		d.t.Fatalf("kumod ended with %v\n%s", err, d.stderr)
	}
}

func (d *daemon) get(path string) (int, string) {
	d.t.Helper()
	resp, err := http.Get("http://" + d.http + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// client is a connection to the daemon.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr string) (*client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{nc, bufio.NewReader(nc)}
	if _, err = c.reply("220"); err == nil {
		_, err = c.do("250", "EHLO client.test\r\n")
	}
	return c, err
}

func (c *client) reply(code string) (string, error) {
	c.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, code) {
			return line, fmt.Errorf("reply is %q, want %s", line, code)
		}
		return line, nil
	}
}

func (c *client) do(code, text string) (string, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	return c.reply(code)
}

// send hands over one message, dots stuffed already, and returns nil once it was acknowledged.
func (c *client) send(from, to, text string) error {
	for _, s := range [][2]string{{"250", "MAIL FROM:<" + from + ">\r\n"}, {"250", "RCPT TO:<" + to + ">\r\n"}, {"354", "DATA\r\n"}, {"250", text + ".\r\n"}} {
		if _, err := c.do(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

var ledgerID = regexp.MustCompile(`(?m)^X-Ledger: (\S+)\r$`)

// counted is how often each ledger id has arrived.
func counted(p *smtptest.Peer) map[string]int {
	n := make(map[string]int)
	for _, m := range p.Messages() {
		if id := ledgerID.FindSubmatch(m.Data); id != nil {
			n[string(id[1])]++
		}
	}
	return n
}

// drained waits until the daemon has no message left, neither in memory nor, while it is still being read, in the spool.
func (d *daemon) drained(most time.Duration) {
	d.t.Helper()
	for end := time.Now().Add(most); ; {
		_, text := d.get("/metrics")
		if strings.Contains(text, "\nmessage_count 0\n") && strings.Contains(text, "\nspool_messages 0\n") {
			return
		}
		if time.Now().After(end) {
			left := regexp.MustCompile(`(?m)^(message_count|spool_messages|scheduled_count|ready_count).* \d+$`).FindAllString(text, -1)
			d.t.Fatalf("messages are left after %v: %v", most, left)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A shutdown under load loses nothing and repeats nothing.
func TestShutdownUnderLoad(t *testing.T) {
	dir := t.TempDir()
	peer := smtptest.NewPeer(t, nil)
	args := []string{"--data", dir, "--relay-to", peer.Addr().String()}
	d := start(t, nil, args...)
	var acked sync.Map
	var wg sync.WaitGroup
	for w := range 10 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := dial(d.smtp)
			if err != nil {
				return
			}
			defer c.Close()
			for i := 0; ; i++ {
				id := fmt.Sprintf("w%d-%d", w, i)
				if c.send("a@x.test", "b@dest.test", "X-Ledger: "+id+"\r\n\r\ntext\r\n") != nil {
					return
				}
				acked.Store(id, true)
			}
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := peer.Wait(ctx, 200); err != nil {
		t.Fatal(err)
	}
	d.stop()
	wg.Wait()
	d = start(t, nil, args...)
	d.drained(30 * time.Second)
	d.stop()
	got := counted(peer)
	acked.Range(func(id, _ any) bool {
		if n := got[id.(string)]; n != 1 {
			t.Errorf("message %s arrived %d times", id, n)
		}
		return true
	})
}

// Messages arrive byte for byte behind the trace headers.
func TestBytes(t *testing.T) {
	peer := smtptest.NewPeer(t, nil)
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String())
	var big strings.Builder
	big.WriteString("Subject: big\r\n\r\n")
	for big.Len() < 20<<20-1000 {
		big.WriteString(strings.Repeat("0123456789", 7) + "\r\n")
	}
	texts := map[string]string{
		"dots":   "Subject: dots\r\n\r\n.\r\n..\r\n.a\r\nb.\r\n",
		"8-bit":  "Subject: gr\xc3\xbc\xc3\x9fe\r\n\r\n\x80\xff\xc3\xa4\r\n",
		"998":    "Subject: long\r\n\r\n" + strings.Repeat("x", 998) + "\r\n" + strings.Repeat(".", 998) + "\r\n",
		"empty":  "",
		"nobody": "Subject: none\r\n",
		"big":    big.String(),
	}
	c, err := dial(d.smtp)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		stuffed := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:]
		if err := c.send("a@x.test", name+"@dest.test", stuffed); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	d.drained(20 * time.Second)
	for _, m := range peer.Messages() {
		name, _, _ := strings.Cut(m.To[0], "@")
		want := texts[name]
		if !bytes.HasSuffix(m.Data, []byte(want)) {
			t.Errorf("%s: %d bytes do not end in the %d sent", name, len(m.Data), len(want))
		}
		head := string(m.Data[:len(m.Data)-len(want)])
		if !strings.HasPrefix(head, "X-KumoRef: ") || !strings.Contains(head, "\r\nReceived: from client.test (127.0.0.1)\r\n  by kumod.test (KumoMTA 127.0.0.1) \r\n  with ESMTP id ") {
			t.Errorf("%s: trace headers are %q", name, head)
		}
		delete(texts, name)
	}
	if len(texts) > 0 {
		t.Errorf("%d messages did not arrive", len(texts))
	}
	d.stop()
}

// Shaping takes effect, and a changed file does without a restart; one that is broken does not.
func TestShapingFile(t *testing.T) {
	peer := smtptest.NewPeer(t, nil)
	file := filepath.Join(t.TempDir(), "shaping.toml")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("[default]\nehlo_domain = \"one.test\"\nmax_deliveries_per_connection = 1\n")
	d := start(t, nil, "--data", t.TempDir(), "--relay-to", peer.Addr().String(), "--shaping", file)
	c, err := dial(d.smtp)
	if err != nil {
		t.Fatal(err)
	}
	hello := func() string {
		if err := c.send("a@x.test", "b@dest.test", "Subject: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		d.drained(10 * time.Second)
		all := peer.Messages()
		return all[len(all)-1].Hello
	}
	if h := hello(); h != "one.test" {
		t.Errorf("EHLO is %q", h)
	}
	write("[default]\nehlo_domain = 5\n")
	d.cmd.Process.Signal(syscall.SIGHUP)
	for end := time.Now().Add(time.Minute); !strings.Contains(d.stderr.String(), file+":2:15: "); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the broken file's place is not reported:\n%s", d.stderr)
		}
	}
	if h := hello(); h != "one.test" {
		t.Errorf("EHLO is %q after a broken file", h)
	}
	write("[default]\nehlo_domain = \"two.test\"\nmax_deliveries_per_connection = 1\n")
	d.cmd.Process.Signal(syscall.SIGHUP)
	for end := time.Now().Add(time.Minute); hello() != "two.test"; {
		if time.Now().After(end) {
			t.Fatal("the changed file has no effect")
		}
	}
	d.stop()
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"--bogus"}, 2, "kumod: unknown flag --bogus"},
		{[]string{"--dest-port", "x"}, 2, "--dest-port"},
		{[]string{"--relay-to", "a b"}, 2, `"a b" is not a host name`},
		{[]string{"--prohibited-hosts", "nonsense"}, 2, "--prohibited-hosts"},
		{[]string{"--prohibited-hosts", "nonsense", "--trust-http", "nonsense"}, 2, "; --trust-http: "},
		{[]string{"--smtp", "nonsense"}, 2, "--smtp: address nonsense: missing port"},
		{[]string{"--http", "127.0.0.1:70000"}, 2, "--http: address 70000: invalid port"},
		{[]string{"--dns", "127.0.0.1:domain"}, 2, `--dns: mtakit: host "127.0.0.1:domain": "domain" is not a port`},
		{[]string{"--tls-cert", "x"}, 2, "--tls-cert and --tls-key go together"},
		{[]string{"--http-tls"}, 2, "--http-tls needs --tls-cert and --tls-key"},
		{[]string{"--log-level", "loud"}, 2, "--log-level"},
		{[]string{"--data", t.TempDir(), "--shaping", "missing.toml", "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0"}, 1, "missing.toml"},
	} {
		t.Run(strings.Join(tt.args[:min(2, len(tt.args))], " "), func(t *testing.T) {
			cmd := exec.Command(os.Args[0], tt.args...)
			cmd.Env = append(os.Environ(), asKumod+"=1")
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tt.code {
				t.Errorf("ended with %v, want code %d", err, tt.code)
			}
			if !strings.Contains(string(out), tt.text) {
				t.Errorf("printed %q, want %q in it", out, tt.text)
			}
			if tt.code == 2 && strings.Count(string(out), "\n") != 1 {
				t.Errorf("printed more than a line: %q", out)
			}
		})
	}
}
