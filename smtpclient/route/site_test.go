package route

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
)

func TestSiteName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, hosts, want string }{
		{"null MX", ".", ""},
		{"none", "", ""},
		{"one host", "mx.example.com", "mx.example.com"},
		{"one label", "localhost", "localhost"},
		{"two hosts", "m1.x.net m2.x.net", "(m1|m2).x.net"},
		{"yahoo", "mta5.am0.yahoodns.net mta6.am0.yahoodns.net mta7.am0.yahoodns.net", "(mta5|mta6|mta7).am0.yahoodns.net"},
		{"gmail", "gmail-smtp-in.l.google.com alt1.gmail-smtp-in.l.google.com alt2.gmail-smtp-in.l.google.com " +
			"alt3.gmail-smtp-in.l.google.com alt4.gmail-smtp-in.l.google.com", "(alt1|alt2|alt3|alt4)?.gmail-smtp-in.l.google.com"},
		{"optional", "in.l.example alt1.in.l.example alt2.in.l.example", "(alt1|alt2)?.in.l.example"},
		{"one optional label", "in.l.example alt1.in.l.example", "alt1?.in.l.example"},
		{"order of preference", "m2.x.net m1.x.net", "(m2|m1).x.net"},
		{"different domains", "mx.a.example mx.b.test", "mx.(a|b).(example|test)"},
		{"different depths", "x.l y.z.l", "y?.(x|z).l"},
		{"port", "a.example:2025", "a.example:2025"},
		{"port on all", "m1.x.net:2025 m2.x.net:2025", "(m1|m2).x.net:2025"},
		{"address", "192.0.2.1", "192.0.2.1"},
		{"IPv6", "::1", "::1"},
		{"IPv6 with port", "[::1]:25", "[::1]:25"},
		{"address with port", "192.0.2.1:25", "192.0.2.1:25"},
	} {
		var hosts []mtakit.Host
		for _, s := range strings.Fields(tt.hosts) {
			h := mtakit.Host{Name: s}
			if s != "." {
				var err error
				if h, err = mtakit.ParseHost(s); err != nil {
					t.Fatal(err)
				}
			}
			hosts = append(hosts, h)
		}
		if got := SiteName(hosts); got != tt.want {
			t.Errorf("%s: SiteName(%s) = %q, want %q", tt.name, tt.hosts, got, tt.want)
		}
	}
}

func TestSiteNameIsBounded(t *testing.T) {
	t.Parallel()
	var hosts []mtakit.Host
	for i := range 200 {
		hosts = append(hosts, mtakit.Host{Name: strings.Repeat("a", 50) + strconv.Itoa(i) + ".example"})
	}
	one := SiteName(hosts)
	hosts[199].Name = "b.example"
	if other := SiteName(hosts); len(one) != maxSiteName || len(other) != maxSiteName || one == other {
		t.Errorf("names of %d and %d bytes, want two of %d that differ", len(one), len(other), maxSiteName)
	}
}

// Of any hosts the name is what a slower reading of the rule gives, and each host matches it as a pattern.
func FuzzSiteName(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		hosts := make([]mtakit.Host, 1+r.IntN(8))
		port := uint16(r.IntN(2) * 2025)
		for i := range hosts {
			labels := make([]string, 1+r.IntN(5))
			for j := range labels {
				labels[j] = []string{"a", "b", "mx1", "mx-2", "_c"}[r.IntN(5)]
			}
			hosts[i] = mtakit.Host{Name: strings.Join(labels, "."), Port: port}
		}
		name := SiteName(hosts)
		if again := SiteName(slices.Clone(hosts)); again != name {
			t.Fatalf("%v: %q and then %q", hosts, name, again)
		}
		if naive := naiveSiteName(hosts); naive != name {
			t.Fatalf("%v: %q, want %q", hosts, name, naive)
		}
		pattern := sitePattern(name)
		for _, h := range hosts {
			if !pattern.MatchString(hostLabel(h)) {
				t.Fatalf("%v does not match %s, made of %q", h, pattern, name)
			}
		}
	})
}

// naiveSiteName goes through all hosts once for each position, from the right.
func naiveSiteName(hosts []mtakit.Host) string {
	var name string
	for at := 1; ; at++ {
		var labels []string
		missing, seen := false, map[string]bool{}
		for _, h := range hosts {
			all := strings.Split(hostLabel(h), ".")
			if at > len(all) {
				missing = true
			} else if l := all[len(all)-at]; !seen[l] {
				seen[l] = true
				labels = append(labels, l)
			}
		}
		if len(labels) == 0 {
			return strings.TrimSuffix(name, ".")
		}
		part := strings.Join(labels, "|")
		if len(labels) > 1 {
			part = "(" + part + ")"
		}
		if missing {
			part += "?"
		}
		name = part + "." + name
	}
}

// sitePattern is a site name as an expression, where an optional label takes its dot with it.
func sitePattern(name string) *regexp.Regexp {
	var b strings.Builder
	for i, part := range strings.Split(name, ".") {
		label, optional := strings.CutSuffix(part, "?")
		dot := `\.`
		if i == strings.Count(name, ".") {
			dot = ""
		}
		b.WriteString("((" + strings.Trim(label, "()") + ")" + dot + ")")
		if optional {
			b.WriteString("?")
		}
	}
	return regexp.MustCompile("^" + b.String() + "$")
}
