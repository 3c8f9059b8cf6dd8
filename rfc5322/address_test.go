package rfc5322_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mtakit/mtakit/rfc5322"
)

func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, local, domain, rest string }{
		{"a@b.test", "a", "b.test", ""},
		{"a.b@b.test> SIZE=1", "a.b", "b.test", "> SIZE=1"},
		{`"a b@\""@[192.0.2.1],x`, `"a b@\""`, "[192.0.2.1]", ",x"},
		{"ü@bücher.test:x", "ü", "xn--bcher-kva.test", ":x"},
		{"a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]", ">"},
		{"postmaster>", "postmaster", "", ""},
		{".a@b.test", "", "", ""}, {"a..b@b.test", "", "", ""}, {`"a`, "", "", ""}, {"", "", "", ""}, {"@b.test", "", "", ""}, {strings.Repeat("a", 256) + "@b.test", "", "", ""},
		{"a@-b.test", "a", "", ""}, {"a@b..test", "a", "", ""}, {"a@[300.0.0.1]", "a", "", ""}, {"a@", "a", "", ""}, {"a@" + strings.Repeat("b", 64) + ".test", "a", "", ""},
	} {
		local, rest, ok := rfc5322.CutLocalPart(c.in)
		if local != c.local || ok != (c.local != "") || local+rest != c.in {
			t.Errorf("%q: local part %q, rest %q, %v", c.in, local, rest, ok)
		}
		if given, cut := strings.CutPrefix(rest, "@"); ok && cut {
			domain, rest, ok := rfc5322.CutDomain(given)
			if domain != c.domain || ok != (c.domain != "") || ok && rest != c.rest || !ok && rest != given {
				t.Errorf("%q: domain %q, rest %q, %v", c.in, domain, rest, ok)
			}
		}
	}
}

// FuzzCut: what is cut off is cut off whole, and holds nothing that could end it.
func FuzzCut(f *testing.F) {
	for _, s := range []string{"a@b.test", `"a\"b"@[192.0.2.1]`, "ü@bücher.test", "[IPv6:::1]", "a.b", "\"\x01\"", "xn--a@xn--b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		if local, rest, ok := rfc5322.CutLocalPart(s); local+rest != s || ok && (local == "" || strings.ContainsAny(local, "\r\n\x00") || strings.ContainsAny(local, " @<>") && local[0] != '"') {
			t.Errorf("%q: local part %q, rest %q, %v", s, local, rest, ok)
		}
		domain, rest, ok := rfc5322.CutDomain(s)
		if !ok {
			return
		}
		if again, more, ok := rfc5322.CutDomain(domain + ">"); !ok || again != domain || more != ">" || !strings.HasSuffix(s, rest) || strings.ContainsAny(domain, " \r\n\x00@<>") {
			t.Errorf("%q: domain %q, rest %q; again %q, %q, %v", s, domain, rest, again, more, ok)
		}
	})
}
