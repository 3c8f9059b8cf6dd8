package smtpserver

import (
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for _, tt := range []struct {
		name, in, want, rest string
		bad                  bool
	}{
		{name: "plain", in: "<a@b.example>", want: "a@b.example"},
		{name: "null", in: "<>", want: ""},
		{name: "null with parameters", in: "<> SIZE=1", want: "", rest: " SIZE=1"},
		{name: "space after the colon", in: "  <a@b.example>", want: "a@b.example"},
		{name: "no brackets", in: "a@b.example SIZE=3", want: "a@b.example", rest: " SIZE=3"},
		{name: "case is kept", in: "<Joe@EXAMPLE.com>", want: "Joe@EXAMPLE.com"},
		{name: "postmaster", in: "<PostMaster>", want: "PostMaster"},
		{name: "other without domain", in: "<root>", bad: true},
		{name: "quoted", in: `<"a b"@c.example>`, want: `"a b"@c.example`},
		{name: "quoted, with @ and >", in: `<"a@b>"@c.example> BODY=7BIT`, want: `"a@b>"@c.example`, rest: " BODY=7BIT"},
		{name: "quoted pair", in: `<"a\"\\b"@c.example>`, want: `"a\"\\b"@c.example`},
		{name: "quoted empty", in: `<""@c.example>`, want: `""@c.example`},
		{name: "quote not closed", in: `<"a@c.example>`, bad: true},
		{name: "tab in quotes", in: "<\"a\tb\"@c.example>", bad: true},
		{name: "source route", in: "<@x.example,@y.example:a@b.example>", want: "a@b.example"},
		{name: "source route without mailbox", in: "<@x.example:>", bad: true},
		{name: "source route, broken", in: "<@x.example,a@b.example>", bad: true},
		{name: "IPv4 literal", in: "<a@[192.0.2.1]>", want: "a@[192.0.2.1]"},
		{name: "IPv6 literal", in: "<a@[IPv6:2001:db8::1]>", want: "a@[IPv6:2001:db8::1]"},
		{name: "IPv6 without its tag", in: "<a@[2001:db8::1]>", bad: true},
		{name: "IPv6 with zone", in: "<a@[IPv6:fe80::1%eth0]>", bad: true},
		{name: "literal with garbage", in: "<a@[192.0.2.1]x>", bad: true},
		{name: "port", in: "<a@b.example:25>", bad: true},
		{name: "literal with port", in: "<a@[192.0.2.1]:25>", bad: true},
		{name: "UTF-8 local part", in: "<jörg@b.example>", want: "jörg@b.example"},
		{name: "IDN", in: "<jörg@bücher.example>", want: "jörg@xn--bcher-kva.example"},
		{name: "IDN, capital", in: "<a@BÜCHER.example>", want: "a@xn--bcher-kva.example"},
		{name: "A-label", in: "<a@xn--bcher-kva.example>", want: "a@xn--bcher-kva.example"},
		{name: "ideographic full stop", in: "<a@b。example>", want: "a@b.example"},
		{name: "underscore", in: "<a@my_host.example>", want: "a@my_host.example"},
		{name: "one label", in: "<a@localhost>", want: "a@localhost"},
		{name: "all of atext", in: "<!#$%&'*+-/=?^_`{|}~@b.example>", want: "!#$%&'*+-/=?^_`{|}~@b.example"},
		{name: "two dots", in: "<a..b@c.example>", bad: true},
		{name: "dot in front", in: "<.a@c.example>", bad: true},
		{name: "dot behind", in: "<a.@c.example>", bad: true},
		{name: "empty label", in: "<a@b..example>", bad: true},
		{name: "dot behind the domain", in: "<a@b.example.>", bad: true},
		{name: "hyphen in front", in: "<a@-b.example>", bad: true},
		{name: "label too long", in: "<a@" + long + ".example>", bad: true},
		{name: "label of 63", in: "<a@" + long[1:] + ".example>", want: "a@" + long[1:] + ".example"},
		{name: "domain too long", in: "<a@" + strings.Repeat("abcdefg.", 32) + "example>", bad: true},
		{name: "local part of 256", in: "<" + strings.Repeat(long, 4) + "@b.example>", bad: true},
		{name: "local part of 200", in: "<" + long + long + long + "@b.example>", want: long + long + long + "@b.example"},
		{name: "two at", in: "<a@b@c.example>", bad: true},
		{name: "no local part", in: "<@b.example>", bad: true},
		{name: "no domain", in: "<a@>", bad: true},
		{name: "not closed", in: "<a@b.example", bad: true},
		{name: "closed twice", in: "<a@b.example>>", bad: true},
		{name: "parameter glued on", in: "<a@b.example>SIZE=1", bad: true},
		{name: "space inside", in: "<a b@c.example>", bad: true},
		{name: "empty", in: "", bad: true},
		{name: "comment", in: "<a(x)@c.example>", bad: true},
		{name: "DEL", in: "<a\x7f@c.example>", bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, rest, err := parsePath(tt.in)
			if (err != nil) != tt.bad {
				t.Fatalf("parsePath(%q): %v, want an error: %t", tt.in, err, tt.bad)
			}
			if !tt.bad && (got != tt.want || rest != tt.rest) {
				t.Errorf("parsePath(%q) = %q, rest %q; want %q, %q", tt.in, got, rest, tt.want, tt.rest)
			}
		})
	}
}

// What is stored is sent to the next host in brackets: it must mean the same address there, and break out of nothing.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<a@b.example>", `<"a b"@c.d> SIZE=1`, "<@x,@y:a@b>", "a@[IPv6:::1]", "<jörg@bücher.example>", "<>", "<postmaster>", `<"\<"@x>`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isPrintable(s) {
			return // a command with control characters does not get that far
		}
		a, _, err := parsePath(s)
		if err != nil {
			return
		}
		for _, rest := range []string{"", " SIZE=1"} {
			again, r, err := parsePath("<" + a + ">" + rest)
			if err != nil || again != a || r != rest {
				t.Errorf("%q is %q; <%[2]s>%s is %q, rest %q, error %v", s, a, rest, again, r, err)
			}
		}
		if a != "" && !strings.Contains(s, a[:strings.LastIndexByte(a, '@')+1]) {
			t.Errorf("the local part of %q became %q", s, a)
		}
	})
}

func TestParseParams(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		size     int64
		bad      bool
	}{
		{name: "none", in: ""},
		{name: "size", in: " SIZE=1234", size: 1234},
		{name: "lower case, spaces", in: "  size=7   body=8bitmime ", size: 7},
		{name: "all of ours", in: " SIZE=7 BODY=7BIT SMTPUTF8", size: 7},
		{name: "others pass", in: " RET=HDRS ENVID=QQ314159 AUTH=<> X-FOO HOLDFOR=60", size: 0},
		{name: "DSN", in: " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b@c.example"},
		{name: "twice", in: " SIZE=1 size=2", bad: true},
		{name: "unknown twice", in: " X=1 x=2", bad: true},
		{name: "negative", in: " SIZE=-1", bad: true},
		{name: "plus", in: " SIZE=+1", bad: true},
		{name: "no number", in: " SIZE=", bad: true},
		{name: "no value", in: " SIZE", bad: true},
		{name: "too large", in: " SIZE=99999999999999999999", bad: true},
		{name: "binary", in: " BODY=BINARYMIME", bad: true},
		{name: "SMTPUTF8 with value", in: " SMTPUTF8=1", bad: true},
		{name: "no key", in: " =1", bad: true},
		{name: "two =", in: " A=b=c", bad: true},
		{name: "bad key", in: " A_B=c", bad: true},
		{name: "too many", in: " A B C D E F G H I", bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := parseParams(tt.in)
			if (err != nil) != tt.bad {
				t.Fatalf("parseParams(%q): %v, want an error: %t", tt.in, err, tt.bad)
			}
			if !tt.bad && p.size != tt.size {
				t.Errorf("parseParams(%q): size %d, want %d", tt.in, p.size, tt.size)
			}
		})
	}
}
