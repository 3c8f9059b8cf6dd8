package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kumod is a running daemon.
type kumod struct {
	t          *testing.T
	smtp, http string
}

// buildKumod builds the daemon.
func buildKumod(t *testing.T) (bin string) {
	t.Helper()
	bin = filepath.Join(t.TempDir(), "kumod")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../kumod").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// startKumod starts the daemon, and ends it with the test.
func startKumod(t *testing.T, bin string, args ...string) *kumod {
	t.Helper()
	cmd := exec.Command(bin, append([]string{"--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", t.TempDir(), "--hostname", "kumod.test",
		"--log-level", "error"}, args...)...)
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is cut off leaves nothing behind
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	d := &kumod{t: t}
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "kumod ready smtp=%s http=%s", &d.smtp, &d.http); err != nil || scanErr != nil {
		t.Fatalf("the daemon says %q, %v", line, err)
	}
	go io.Copy(io.Discard, out)
	return d
}

// send sends a message in clear.
func (d *kumod) send(to string) {
	d.t.Helper()
	c, err := smtp.Dial(d.smtp)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Mail("a@src.test"); err != nil {
		d.t.Fatal(err)
	}
	if err := c.Rcpt(to); err != nil {
		d.t.Fatal(err)
	}
	w, err := c.Data()
	if err == nil {
		io.WriteString(w, "Subject: x\r\n\r\nx\r\n")
		err = w.Close()
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// kcli runs a command that succeeds, and returns what it prints.
func (d *kumod) kcli(args ...string) string {
	d.t.Helper()
	var out, stderr bytes.Buffer
	if code := run(d.t.Context(), append([]string{"--endpoint", "http://" + d.http}, args...), &console{out: &out, err: &stderr, now: time.Now}); code != 0 {
		d.t.Errorf("kcli %q: exit code %d, %s", args, code, &stderr)
	}
	return out.String()
}

// await runs a command until it prints a line that the pattern matches, and returns what it prints then.
func (d *kumod) await(pattern string, args ...string) (out string) {
	d.t.Helper()
	line := regexp.MustCompile("(?m)" + pattern)
	for end := time.Now().Add(20 * time.Second); !line.MatchString(out); {
		if time.Now().After(end) {
			d.t.Fatalf("kcli %q never prints %s, but\n%s", args, pattern, out)
		}
		out = d.kcli(args...)
	}
	return out
}

func want(t *testing.T, name, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(text) {
			t.Errorf("%s lacks %s:\n%s", name, p, text)
		}
	}
}

// seesSession traces a ready queue until a session begins. There are messages for it all the while, as the trace tells nothing of what was before it.
func (d *kumod) seesSession(ready string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	r, w := io.Pipe()
	exit, begun := make(chan int, 1), make(chan struct{})
	go func() {
		exit <- run(ctx, []string{"--endpoint", "http://" + d.http, "trace-smtp-client", "--ready-queue", ready}, &console{out: w, err: d.t.Output(), now: time.Now})
		w.Close()
	}()
	go func() {
		for lines := bufio.NewScanner(r); lines.Scan() && !strings.Contains(lines.Text(), "=== BeginSession"); {
		}
		close(begun)
		io.Copy(io.Discard, r)
	}()
	for seen := false; !seen; {
		d.send("d@dest.test")
		select {
		case <-begun:
			seen = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		d.t.Error("no session begins")
	}
	cancel()
	if code := <-exit; code != 0 {
		d.t.Errorf("trace-smtp-client: exit code %d", code)
	}
}

// find is what the group of the pattern matches.
func find(t *testing.T, pattern, text string) string {
	t.Helper()
	m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%s is not in\n%s", pattern, text)
	}
	return m[1]
}

// idOf is the id in an answer.
func idOf(t *testing.T, text string) string {
	t.Helper()
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.ID == "" {
		t.Fatalf("%q has no id: %v", text, err)
	}
	return answer.ID
}

// A day of an operator, with the real daemon.
func TestKumod(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a destination that takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	queues := filepath.Join(t.TempDir(), "queues.toml")
	if err := os.WriteFile(queues, []byte("[queue.\"held.test\"]\nretry_interval = \"7m\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startKumod(t, buildKumod(t), "--relay-to", l.Addr().String(), "--queues", queues)

	suspended := idOf(t, d.kcli("suspend", "--domain", "held.test", "--reason", "their request"))
	want(t, "suspend-list", d.kcli("suspend-list"), `"id": "`+suspended+`"`, `"domain": "held.test"`, `"reason": "their request"`)
	d.send("b@held.test")
	d.send("c@dest.test")
	summary := d.await(`^dest\.test +0`, "queue-summary") // it is in its ready queue
	want(t, "queue-summary", summary, `^SITE +SOURCE +PROTO +D T C Q`, `unspecified +smtp_client`, `^SCHEDULED QUEUE COUNT`, `^held\.test +1 .*suspend: their request`)

	var inspected struct {
		Messages []struct {
			ID string `json:"id"`
		} `json:"messages"`
	}
	if err := json.Unmarshal([]byte(d.kcli("inspect-sched-q", "--want-body", "held.test")), &inspected); err != nil || len(inspected.Messages) != 1 {
		t.Fatal(err, inspected)
	}
	want(t, "inspect-message", d.kcli("inspect-message", "--want-body", inspected.Messages[0].ID), `"sender": "a@src\.test"`, `Subject: x`)
	want(t, "explain --id", d.kcli("explain", "--id", inspected.Messages[0].ID), `^queue: +held\.test$`, `^message: +`+inspected.Messages[0].ID, `^held: +suspended: their request, until .*, in 4m`,
		`^  retry_interval "7m" +queue held\.test, \S*queues\.toml:2 *$`, `^site: +\S+`, `^source unspecified: weight 1, 100% of the mail`)
	want(t, "explain", d.kcli("explain", "--all", "new@never.seen.test"), `^messages: +none$`, `^next attempt: \S+Z, now$`, `^  max_age +"7days" +default`, `^ +\d+ +32 32 +now +connection_limit `)
	path := d.kcli("resolve-egress-path", "dest.test")
	want(t, "resolve-egress-path", path, `^domain: dest\.test$`, `^queue:  unspecified->.*@smtp_client$`, `^connection_limit = `, `^concurrent dispatchers: `)
	ready := find(t, `^queue:  (.*)$`, path)
	inspection := d.await(`^    AttemptingConnection for `, "inspect-ready-q", "--connections", "--config", ready)
	want(t, "inspect-ready-q", inspection, `^queue: `+regexp.QuoteMeta(ready)+`$`, `^connections: 1$`, `^  SESSION +DELIV TRANS FAIL`, `^  max_ready = `)
	session := find(t, `^  ([0-9a-f-]{36}) `, inspection)

	want(t, "abort-ready-q-conn", d.kcli("abort-ready-q-conn", ready, session), `^aborted `+session+`$`)
	d.seesSession(ready)

	want(t, "suspend-ready-q", d.kcli("suspend-ready-q", "--name", ready, "--reason", "x"), `"id"`)
	want(t, "suspend-ready-q-list", d.kcli("suspend-ready-q-list"), `"name": "`+regexp.QuoteMeta(ready)+`"`)
	bounce := strings.TrimSpace(d.kcli("bounce", "--domain", "held.test", "--reason", "purge"))
	d.await(`^`+bounce+` purge +\S+( \S+)? +1 domain=held\.test`, "bounce-list")
	d.kcli("bounce-cancel", "--id", bounce)
	named := strings.TrimSpace(d.kcli("bounce", "--queue", "nobody.test", "--reason", "x"))
	want(t, "bounce-list", d.kcli("bounce-list"), `^`+named+` x .* queue=nobody\.test *$`)
	d.kcli("bounce-cancel", "--id", named)
	d.kcli("suspend-cancel", "--id", suspended)
	want(t, "bounce-list", d.kcli("bounce-list"), `\AID REASON REMAIN BOUNCED CRITERIA\n\z`)
	d.kcli("rebind", "--domain", "dest.test", "--reason", "x", "--set", "tenant=vip")
	d.kcli("provider-summary")
	d.kcli("set-log-filter", "debug")
}

// Mail moves to another node, and comes back from one that is not there.
func TestXfer(t *testing.T) {
	t.Parallel()
	bin := buildKumod(t)
	from, to := startKumod(t, bin), startKumod(t, bin)
	from.kcli("suspend", "--domain", "moved.test", "--reason", "maintenance")
	from.kcli("suspend", "--domain", "stays.test", "--reason", "maintenance")
	to.kcli("suspend", "--everything", "--reason", "maintenance", "--duration", "1h")
	from.send("a@moved.test")
	from.send("b@stays.test")
	from.await(`^moved\.test +1 `, "queue-summary")
	from.await(`^stays\.test +1 `, "queue-summary")
	from.kcli("xfer", "--domain", "moved.test", "--reason", "maintenance", "--target", "http://"+to.http)
	to.await(`^moved\.test +1 `, "queue-summary")

	const nowhere = "http://127.0.0.1:1/.xfer.kumomta.internal"
	from.kcli("xfer", "--queue", "stays.test", "--reason", "wrong port", "--target", "http://127.0.0.1:1")
	from.await(`^`+regexp.QuoteMeta(nowhere)+` +1 `, "queue-summary")
	from.kcli("xfer-cancel", "--reason", "wrong port", nowhere)
	from.await(`^stays\.test +1 .*suspend: maintenance`, "queue-summary")
}
