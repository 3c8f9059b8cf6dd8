package main

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The demo shows what it promises within seconds, its table adds up, and it leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "demo", "--duration", "5s", "--rate", "300", "--http", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asKumod+"=1", "TMPDIR="+temp)
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("it ends with %v", err)
	}
	for _, want := range []string{
		`answers at http://127\.0\.0\.1:\d+`,
		`(?m)^ +1s +in \d+/s`,
		`(?m)^ +4s +in \d+/s`,
		`throttling\.example answers "421 4\.7\.0 `,
		`throttling\.example: max_message_rate = "10/s" for 20s`,
		`mx\.blocking\.example@smtp_client is suspended for 10s, because of "451 4\.7\.1 blocked`,
		`(?m)^bouncing\.example .* 550 5\.1\.1 no such user$`,
		`(?m)^brokentls\.example +.* TLS`,
	} {
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
