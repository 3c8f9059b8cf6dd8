package mtakit_test

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
)

func TestParseHost(t *testing.T) {
	t.Parallel()
	addr := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	for _, test := range []struct {
		in   string
		want mtakit.Host
	}{
		{"mail.example", mtakit.Host{Name: "mail.example"}},
		{"MAIL.Example.", mtakit.Host{Name: "mail.example"}},
		{"mail.example:26", mtakit.Host{Name: "mail.example", Port: 26}},
		{"mail.example.:26", mtakit.Host{Name: "mail.example", Port: 26}},
		{"my_host", mtakit.Host{Name: "my_host"}},
		{"10.0.0.1", mtakit.Host{Name: "10.0.0.1", Addrs: addr("10.0.0.1")}},
		{"[10.0.0.1]", mtakit.Host{Name: "10.0.0.1", Addrs: addr("10.0.0.1")}},
		{"10.0.0.1:2525", mtakit.Host{Name: "10.0.0.1", Addrs: addr("10.0.0.1"), Port: 2525}},
		{"::1", mtakit.Host{Name: "::1", Addrs: addr("::1")}},
		{"[::1]", mtakit.Host{Name: "::1", Addrs: addr("::1")}},
		{"[::1]:25", mtakit.Host{Name: "::1", Addrs: addr("::1"), Port: 25}},
	} {
		if got, err := mtakit.ParseHost(test.in); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("ParseHost(%q) = %+v, %v, want %+v", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{
		"", ".", ":25", "host:", "host:0", "host:65536", "host:-1", "host:25:26", "a b", "a/b", "[::1", "::1]", "[[::1]]", "<host>", "10.0.0.1:0", "[host]", "[10.0.0.1]:x",
	} {
		if got, err := mtakit.ParseHost(in); err == nil {
			t.Errorf("ParseHost(%q) = %+v, want an error", in, got)
		}
	}
}

func TestListSite(t *testing.T) {
	t.Parallel()
	s, err := mtakit.ListSite("B.example:26", "10.0.0.1", "a.example")
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "mx_list:B.example:26,10.0.0.1,a.example" || !s.Ordered || !s.Expires.IsZero() || s.IsNull() || len(s.Hosts) != 3 {
		t.Errorf("ListSite = %+v", s)
	}
	for i, h := range s.Hosts {
		if int(h.Pref) != i {
			t.Errorf("host %d has preference %d", i, h.Pref)
		}
	}
	if _, err := mtakit.ListSite(); err == nil {
		t.Error("an empty list is a site")
	}
	if _, err := mtakit.ListSite("a.example", "b c"); err == nil {
		t.Error("a list with a bad host is a site")
	}
	if !(&mtakit.Site{Hosts: []mtakit.Host{{Name: "."}}}).IsNull() {
		t.Error("a null MX is not null")
	}
}

// FuzzParseHost: a host that was read and is written again is the same.
func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"mail.example:26", "[::1]:25", "10.0.0.1", "10.0.0.1.:25", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := mtakit.ParseHost(s)
		if err != nil {
			return
		}
		text := h.Name
		if h.Port != 0 {
			if strings.Contains(text, ":") {
				text = "[" + text + "]"
			}
			text += ":" + strings.TrimLeft(s[strings.LastIndexByte(s, ':')+1:], "0")
		}
		if again, err := mtakit.ParseHost(text); err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%q is %+v, written as %q, read as %+v, %v", s, h, text, again, err)
		}
	})
}

func TestDNSError(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	for _, test := range []struct {
		err  mtakit.DNSError
		want string
	}{
		{mtakit.DNSError{Name: "a.example", Type: "MX", NotFound: true}, "MX lookup for a.example failed: NXDOMAIN"},
		{mtakit.DNSError{Name: "a.example", Type: "A", Err: cause}, "A lookup for a.example failed: connection refused"},
	} {
		if got := test.err.Error(); got != test.want || errors.Is(&test.err, cause) != (test.err.Err != nil) {
			t.Errorf("Error = %q, want %q", got, test.want)
		}
	}
}
