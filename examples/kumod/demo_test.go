package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c := demoCmd{Duration: 3 * time.Second, Rate: 400, SMTP: "127.0.0.1:0", HTTP: "127.0.0.1:0", LogLevel: "error"}
	if code := c.run(t.Context(), out, t.Output()); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`answers at http://127\.0\.0\.1:\d+`,
		`(?m)^ +1s +in \d+/s`,
		`throttling\.example answers "421 4\.7\.0 `,
		`throttling\.example: max_message_rate = "10/s" for 20s`,
		`(?m)^quick\.example +accepts +(\d{3,}) .* [0-9]+ +$`,
		`(?m)^bouncing\.example .* 550 5\.1\.1 no such user$`,
		`(?m)^brokentls\.example +.* TLS`,
	} {
		if !regexp.MustCompile(want).Match(b) {
			t.Errorf("the output lacks %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", b)
	}
}
