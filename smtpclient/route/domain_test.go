package route

import (
	"errors"
	"strings"
	"testing"
)

func TestParseDestination(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"lower case", "Example.COM", "example.com"},
		{"trailing dot", "example.com.", "example.com"},
		{"single label", "localhost", "localhost"},
		{"port", "example.com:2025", "example.com:2025"},
		{"underscore", "_mail.example_x.com", "_mail.example_x.com"},
		{"U-label", "Bücher.example", "xn--bcher-kva.example"},
		{"U-label with port", "bücher.example:26", "xn--bcher-kva.example:26"},
		{"U-label with underscore", "a_b.bücher.example", "a_b.xn--bcher-kva.example"},
		{"sharp s stays (IDNA2008)", "straße.de", "xn--strae-oqa.de"},
		{"ideographic full stop", "例え。テスト", "xn--r8jz45g.xn--zckzah"},
		{"A-label stays", "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"A-label in upper case", "XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"A-label that tables refuse stays", "xn--ls8h.la", "xn--ls8h.la"},
		{"broken A-label stays", "xn--0.example", "xn--0.example"},
		{"all digits", "1.2.3.4", "1.2.3.4"},
		{"longest label", strings.Repeat("a", 63) + ".x", strings.Repeat("a", 63) + ".x"},
		{"IPv4", "[192.0.2.1]", "[192.0.2.1]"},
		{"IPv6", "[IPv6:::1]", "[::1]"},
		{"IPv6, tag in lower case", "[ipv6:2001:DB8::1]", "[2001:db8::1]"},
		{"IPv6 without its tag", "[::1]", "[::1]"},
		{"IPv4 in IPv6", "[IPv6:::ffff:192.0.2.1]", "[192.0.2.1]"},
		{"port outside", "[192.0.2.1]:25", "[192.0.2.1]:25"},
		{"port inside", "[192.0.2.1:25]", "[192.0.2.1]:25"},
		{"IPv6 port outside", "[IPv6:::1]:25", "[::1]:25"},
	} {
		d, err := parseDestination(tt.in)
		if err != nil || d.String() != tt.want {
			t.Errorf("%s: parseDestination(%q) = %v, %v, want %s", tt.name, tt.in, d, err, tt.want)
		}
	}
	for _, tt := range []struct{ name, in string }{
		{"empty", ""}, {"dot", "."}, {"empty label", "a..b"}, {"leading dot", ".a"}, {"two trailing dots", "a.."},
		{"space", "a b"}, {"control", "a\x00b"}, {"line end", "a.example\r\n"}, {"at", "a@b"}, {"backslash", `a\.b`}, {"parenthesis", "(a|b).c"},
		{"long label", strings.Repeat("a", 64) + ".x"}, {"long name", strings.Repeat("a.", 127) + "x"},
		{"bad UTF-8", "a\xffb"}, {"U-label that IDNA refuses", "a\u200db.example"}, {"U-label too long", strings.Repeat("ü", 60) + ".x"},
		{"port 0", "a:0"}, {"port too large", "a:65536"}, {"no port", "a:"}, {"not a port", "a:smtp"}, {"port twice", "a:1:2"}, {"sign", "a:+25"},
		{"] is missing", "[192.0.2.1"}, {"] alone", "192.0.2.1]"}, {"empty literal", "[]"}, {"no address", "[mail.example]"},
		{"IPv4 with the tag of IPv6", "[IPv6:192.0.2.1]"}, {"zone", "[fe80::1%eth0]"}, {"zone with tag", "[IPv6:fe80::1%eth0]"},
		{"two ports", "[192.0.2.1:25]:26"}, {"port 0 inside", "[192.0.2.1:0]"}, {"text after", "[192.0.2.1]x"}, {"nested", "[[::1]:25]"},
	} {
		if d, err := parseDestination(tt.in); !errors.Is(err, ErrBadDomain) {
			t.Errorf("%s: parseDestination(%q) = %v, %v, want ErrBadDomain", tt.name, tt.in, d, err)
		}
	}
}

func FuzzDestination(f *testing.F) {
	for _, s := range []string{"example.com:25", "[1.2.3.4:25]", "[IPv6:::1]:26", "bücher.example", "xn--0.x.", "[::ffff:1.2.3.4]", "。"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDestination(s)
		if err != nil {
			if !errors.Is(err, ErrBadDomain) || len(err.Error()) > 2000 {
				t.Fatalf("error %v", err)
			}
			return
		}
		if d.addr.IsValid() == (d.name != "") {
			t.Fatalf("%q is a name and an address, or neither: %+v", s, d)
		}
		if strings.ContainsAny(d.name, "()|?:[]\\ ") || len(d.name) > 253 {
			t.Fatalf("%q gives the name %q", s, d.name)
		}
		again, err := parseDestination(d.String())
		if err != nil || again != d {
			t.Fatalf("%q is %v, which reads as %v, %v", s, d, again, err)
		}
	})
}
