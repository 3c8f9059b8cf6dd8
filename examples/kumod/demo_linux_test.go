package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The demo shows what it promises within seconds, its table adds up, and it leaves nothing behind. On a busy machine the seconds may be long ones.
func TestDemo(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "demo", "--rate", "500", "--http", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asKumod+"=1", "TMPDIR="+temp)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events := []string{
		`answers at http://127\.0\.0\.1:\d+`,
		`(?m)^ +1s +in \d+/s`,
		`(?m)^ +4s +in \d+/s`,
		`throttling\.example answers "421 4\.7\.0 `,
		`throttling\.example: max_message_rate = "10/s" for 20s`,
		`mx\.blocking\.example@smtp_client is suspended for 10s, because of "451 4\.7\.1 blocked`,
	}
	var b []byte
	interrupted := false
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		b = append(append(b, lines.Bytes()...), '\n')
		seen := func(want string) bool { return regexp.MustCompile(want).Match(b) }
		if !interrupted && !slices.ContainsFunc(events, func(want string) bool { return !seen(want) }) {
			interrupted = true
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v: %s", err, &stderr)
	}
	for _, want := range append(events, `(?m)^bouncing\.example .* 550 5\.1\.1 no such user$`, `(?m)^brokentls\.example +.* TLS`) {
		if !regexp.MustCompile(want).Match(b) {
			t.Errorf("the output lacks %s", want)
		}
	}
	// The table: accepted, delivered, tries deferred, bounced, waiting, now.
	rows := regexp.MustCompile(`(?m)^(\S+) .*?  +(\d+)  +(\d+)  +(\d+)  +(\d+)  +(\d+)  +(\d+)/s`).FindAllStringSubmatch(string(b), -1)
	var sum, all [6]int
	for _, row := range rows {
		var n [6]int
		for i := range n {
			n[i], _ = strconv.Atoi(row[i+2])
		}
		if n[0] == 0 || n[0] != n[1]+n[3]+n[4] {
			t.Errorf("%s does not add up", row[0])
		}
		if row[1] == "all" {
			all = n
			continue
		}
		for i := range n {
			sum[i] += n[i]
		}
		if quick := row[1] == "quick.example"; quick && (n[1] < 100 || n[5] == 0) || (row[1] == "brokentls.example") != (n[1] == 0) {
			t.Errorf("%s is not what is to be expected", row[0])
		}
	}
	sum[5] = all[5] // which is rounded
	if len(rows) != 8 || sum != all {
		t.Errorf("%d rows are %v together, and all is %v", len(rows), sum, all)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if strings.Contains(string(b), "\x1b") {
		t.Error("there are control sequences in a pipe")
	}
	if t.Failed() {
		t.Logf("%s", b)
	}
}

// With --duration it ends by itself.
func TestDemoDuration(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "demo", "--duration", "1s", "--http", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asKumod+"=1", "TMPDIR="+t.TempDir())
	b, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(b), "\nAfter 1s:\n") {
		t.Errorf("%v: %s", err, b)
	}
}
