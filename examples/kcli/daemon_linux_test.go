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

// startKumod builds and starts the daemon, and ends it with the test.
func startKumod(t *testing.T, args ...string) *kumod {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "kumod")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../kumod").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(bin, append([]string{"--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--hostname", "kumod.test",
		"--log-level", "error"}, args...)...)
	cmd.Stderr = t.Output()
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

func want(t *testing.T, name, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(text) {
			t.Errorf("%s lacks %s:\n%s", name, p, text)
		}
	}
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
	d := startKumod(t, "--relay-to", l.Addr().String(), "--queues", queues)

	suspended := idOf(t, d.kcli("suspend", "--domain", "held.test", "--reason", "their request"))
	want(t, "suspend-list", d.kcli("suspend-list"), `"id": "`+suspended+`"`, `"domain": "held.test"`, `"reason": "their request"`)
	d.send("b@held.test")
	d.send("c@dest.test")
	summary := ""
	for end := time.Now().Add(20 * time.Second); !regexp.MustCompile(`(?m)^dest\.test +0`).MatchString(summary); {
		if time.Now().After(end) {
			t.Fatalf("dest.test has not got into its ready queue:\n%s", summary)
		}
		summary = d.kcli("queue-summary")
	}
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
	ready := regexp.MustCompile(`(?m)^queue:  (.*)$`).FindStringSubmatch(path)[1]
	inspection := d.kcli("inspect-ready-q", "--connections", "--config", ready)
	want(t, "inspect-ready-q", inspection, `^queue: `+regexp.QuoteMeta(ready)+`$`, `^connections: 1$`, `^  SESSION +DELIV TRANS FAIL`, `^    AttemptingConnection for `, `^  max_ready = `)
	session := regexp.MustCompile(`(?m)^  ([0-9a-f-]{36}) `).FindStringSubmatch(inspection)[1]

	// Watch how the connection is cut.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, w := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, []string{"--endpoint", "http://" + d.http, "trace-smtp-client", "--ready-queue", ready}, &console{out: w, err: t.Output(), now: time.Now})
		w.Close()
	}()
	d.kcli("abort-ready-q-conn", ready, session)
	d.send("d@dest.test")
	for lines := bufio.NewScanner(r); lines.Scan() && !strings.Contains(lines.Text(), "=== BeginSession"); {
	}
	cancel()
	go io.Copy(io.Discard, r)
	if code := <-exit; code != 0 {
		t.Errorf("trace: exit code %d", code)
	}

	want(t, "suspend-ready-q", d.kcli("suspend-ready-q", "--name", ready, "--reason", "x"), `"id"`)
	want(t, "suspend-ready-q-list", d.kcli("suspend-ready-q-list"), `"name": "`+regexp.QuoteMeta(ready)+`"`)
	bounce := strings.TrimSpace(d.kcli("bounce", "--domain", "held.test", "--reason", "purge"))
	for end := time.Now().Add(20 * time.Second); ; {
		list := d.kcli("bounce-list")
		if regexp.MustCompile(`(?m)^` + bounce + ` purge +\S+( \S+)? +1 domain=held\.test`).MatchString(list) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nothing is bounced:\n%s", list)
		}
	}
	d.kcli("bounce-cancel", "--id", bounce)
	d.kcli("suspend-cancel", "--id", suspended)
	want(t, "bounce-list", d.kcli("bounce-list"), `\AID REASON REMAIN BOUNCED CRITERIA\n\z`)
	d.kcli("rebind", "--domain", "dest.test", "--reason", "x", "--set", "tenant=vip")
	d.kcli("provider-summary")
	d.kcli("set-log-filter", "debug")
}
