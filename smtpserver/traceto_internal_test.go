package smtpserver

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		begun, read string
		authing     bool
		want        string
	}{
		{"", "EHLO x\r\n", false, "EHLO x\r\n"},
		{"", "AUTH PLAIN AHUAcA==\r\n", false, "AUTH PLAIN [hidden]\r\n"},
		{"", "auth  plain  AHUAcA==\r\n", false, "auth  plain [hidden]\r\n"},
		{"", "NOOP\r\nAUTH LOGIN\r\ndXNlcg==\r\ncGFzcw==\r\n", false, "NOOP\r\nAUTH LOGIN [hidden]\r\n"},
		{"AUTH PLAIN AHU", "AcA==\r\n", false, "[hidden]\r\n"},
		{"AUTH PL", "AIN AHUAcA==\r\n", false, "AIN [hidden]\r\n"},
		{"A", "UTH PLAIN AHUAcA==", false, "UTH PLAIN [hidden]\r\n"},
		{"", "AUTH PLAIN AHU", false, "AUTH PLAIN [hidden]\r\n"},
		{"", "cGFzcw==\r\n", true, "[hidden]\r\n"},
		{"MAIL FR", "OM:<author@x>\r\n", false, "OM:<author@x>\r\n"},
		{"", "AUTHOR x\r\n", false, "AUTHOR x\r\n"},
	} {
		s := &Session{authing: tt.authing}
		if got := s.withoutSecrets([]byte(tt.begun), []byte(tt.read)); string(got) != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.begun, tt.read, got, tt.want)
		}
	}
}

// However a conversation is cut into pieces, the secret does not show.
func FuzzWithoutSecrets(f *testing.F) {
	f.Add("NOOP\r\n", uint64(1))
	f.Add("EHLO AUTH\r\nRSET\r\n", uint64(7))
	f.Fuzz(func(t *testing.T, before string, seed uint64) {
		const secret = "c2VjcmV0c2VjcmV0c2VjcmV0"
		holdsPart := func(s string) bool {
			for i := 3; i <= len(secret); i++ {
				if strings.Contains(s, secret[i-3:i]) {
					return true
				}
			}
			return false
		}
		if before != "" && !strings.HasSuffix(before, "\n") || holdsPart(before) {
			return
		}
		in := []byte(before + "AUTH PLAIN " + secret + "\r\n")
		r := rand.New(rand.NewPCG(seed, 1))
		s, shown, line := &Session{}, []byte(nil), []byte(nil)
		for len(in) > 0 {
			n := 1 + r.IntN(len(in))
			shown = append(shown, s.withoutSecrets(line, in[:n])...)
			line = append(line, in[:n]...)
			if line = line[bytes.LastIndexByte(line, '\n')+1:]; len(line) > 16 { // too long
				line = nil
			}
			in = in[n:]
		}
		if holdsPart(string(shown)) {
			t.Fatalf("%q is shown", shown)
		}
	})
}
