package route

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestQuerySpelling(t *testing.T) {
	t.Parallel()
	const name = "a-rather-long-name.of-several-labels.example"
	spellings := map[string]bool{}
	for range 20 {
		q, err := newQuery(name, dns.TypeMX)
		if err != nil || len(q.packet) > 512 || !strings.EqualFold(q.name, name+".") {
			t.Fatalf("newQuery = %+v, %v", q, err)
		}
		spellings[q.name] = true
	}
	if len(spellings) < 19 {
		t.Errorf("%d spellings in 20 queries", len(spellings))
	}
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4) + "aaaaa"
	if q, err := newQuery(long, dns.TypeMX); len(long) != 253 || err != nil || !strings.EqualFold(q.name, long+".") {
		t.Errorf("longest name: %v", err)
	}
}

func TestUnescapeTXT(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   []string
		want string
	}{
		{[]string{"v=spf1 ", "-all"}, "v=spf1 -all"},
		{[]string{`a\"b\\c\;d`}, `a"b\c;d`},
		{[]string{`\000\195\188\255`}, "\x00ü\xff"},
		{[]string{`\1`, `\`}, `1\`},
		{nil, ""},
	} {
		if got := unescapeTXT(tt.in); got != tt.want {
			t.Errorf("unescapeTXT(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// FuzzAnswer reads packets that a server may send for a fixed question. Whatever they hold, the result is within the limits, and belongs to
// the question.
func FuzzAnswer(f *testing.F) {
	q, err := newQuery("www.example", dns.TypeA)
	if err != nil {
		f.Fatal(err)
	}
	q.id, q.name = 1, "wWw.example."
	for _, zone := range [][]string{
		{"www.example. 60 A 192.0.2.1"},
		{"www.example. 0 CNAME a.example.", "a.example. 4294967295 A 192.0.2.1"},
		{"www.example. CNAME www.example."},
		{"other.example. A 192.0.2.66", "www.example. MX 10 ."},
	} {
		m := new(dns.Msg)
		m.SetQuestion(q.name, dns.TypeA)
		m.Id, m.Response = 1, true
		m.Answer = records(f, zone...)
		packet, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
		f.Add(packet[:len(packet)-3])
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := q.read(packet, false)
		if err != nil {
			if m != nil {
				t.Fatalf("an error and a message: %v", err)
			}
			return
		}
		if m.Id != 1 || m.Question[0].Name != q.name || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			t.Fatalf("accepted: %v", m)
		}
		r := newReading("www.example")
		if err := r.add(m, dns.TypeA); err != nil {
			return
		}
		if r.links > maxLinks || r.ttl < 0 || r.ttl > maxTTL || r.links == 0 && r.name != "www.example" {
			t.Fatalf("reading %+v", r)
		}
		for _, rr := range r.rrs {
			if !sameName(rr.Header().Name, r.name) || rr.Header().Rrtype != dns.TypeA {
				t.Fatalf("%v is taken for an address of %s", rr, r.name)
			}
		}
		addrs, err := readAddr(r.rrs)
		if err == nil && (len(addrs) > maxRecords || slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.Is4() })) {
			t.Fatalf("addresses %v", addrs)
		}
	})
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	q, err := newQuery("www.example", dns.TypeA)
	if err != nil {
		t.Fatal(err)
	}
	q.name = "wWw.example."
	for _, tt := range []struct {
		name    string
		change  func(*dns.Msg)
		anyCase bool
		want    error
	}{
		{"as it should be", func(*dns.Msg) {}, false, nil},
		{"ID", func(m *dns.Msg) { m.Id++ }, true, errNotOurs},
		{"a query", func(m *dns.Msg) { m.Response = false }, true, errNotOurs},
		{"opcode", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, true, errNotOurs},
		{"no question", func(m *dns.Msg) { m.Question = nil }, true, errNotOurs},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, true, errNotOurs},
		{"name", func(m *dns.Msg) { m.Question[0].Name = "www2.example." }, true, errNotOurs},
		{"type", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX }, true, errNotOurs},
		{"class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, true, errNotOurs},
		{"case", func(m *dns.Msg) { m.Question[0].Name = "www.example." }, false, errCase},
		{"case over TCP", func(m *dns.Msg) { m.Question[0].Name = "www.example." }, true, nil},
		{"truncated", func(m *dns.Msg) { m.Truncated = true }, false, errTruncated},
		{"refused", func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }, false, rcodeError(dns.RcodeRefused)},
		{"refused in another case", func(m *dns.Msg) { m.Question[0].Name, m.Rcode = "www.example.", dns.RcodeRefused }, false, errCase},
		{"referral", func(m *dns.Msg) { m.Ns = records(t, "example. NS ns.example.") }, false, errReferral},
		{"no data (RFC 2308, type 1)", func(m *dns.Msg) { m.Ns = records(t, "example. NS ns.example.", "example. SOA ns. root. 1 2 3 4 5") }, false, nil},
		{"no data of an authority", func(m *dns.Msg) { m.Authoritative, m.Ns = true, records(t, "example. NS ns.example.") }, false, nil},
		{"unknown code", func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode = 3000 }, false, rcodeError(3000)},
	} {
		m := new(dns.Msg)
		m.SetQuestion(q.name, dns.TypeA)
		m.Id, m.Response = q.id, true
		tt.change(m)
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if _, err := q.read(packet, tt.anyCase); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func records(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var list []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rr)
	}
	return list
}
