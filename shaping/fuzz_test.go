package shaping_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
)

// FuzzLoad: a file is either refused, each error with its place, or gives the same paths when it is named twice, or written over again
// by a file that says nothing.
func FuzzLoad(f *testing.F) {
	hazards, err := os.ReadFile("testdata/hazards.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(hazards), fileA, "[default]\nadditional_connection_limits={a=1}", "[[default.automation]]", "[provider.x]\nmatch=[{}]", "['dest.example']\nreplace_base=true\nsources.s.smtp_port=1"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file, nothing := filepath.Join(dir, "f.toml"), filepath.Join(dir, "nothing.toml")
		if os.WriteFile(file, []byte(text), 0o600) != nil || os.WriteFile(nothing, nil, 0o600) != nil {
			t.Skip()
		}
		cfg := shaping.Config{Files: []string{file}, Router: hazardSites}
		s, err := shaping.Load(t.Context(), cfg)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, file+":") {
					t.Fatalf("an error without a place: %s", line)
				}
			}
			return
		}
		for _, more := range []string{file, nothing} {
			cfg.Files = []string{file, more}
			twice, err := shaping.Load(t.Context(), cfg)
			if err != nil {
				t.Fatalf("with %s: %v", more, err)
			}
			for domain := range hazardSites {
				if a, b := described(t, s, domain), described(t, twice, domain); a != b {
					t.Fatalf("%s with %s:\n%s\n%s", domain, more, a, b)
				}
			}
		}
	})
}

func described(t *testing.T, s *shaping.Shaping, domain string) string {
	all, err := s.Explain(t.Context(), domain, "s", hazardSites.site(t, domain))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(all)
}

func BenchmarkPath(b *testing.B) {
	s := load(b, hazardSites, fileA)
	site := hazardSites.site(b, "dest.example")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Path(context.Background(), "dest.example", "ip1", site); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPathParallel(b *testing.B) {
	s := load(b, hazardSites, fileA)
	site := hazardSites.site(b, "dest.example")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Path(context.Background(), "dest.example", "ip1", site)
		}
	})
}

func TestPathAllocatesNothing(t *testing.T) {
	s := load(t, hazardSites, fileA)
	site := hazardSites.site(t, "dest.example")
	if n := testing.AllocsPerRun(100, func() { s.Path(context.Background(), "dest.example", "ip1", site) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The cost of a domain that is asked for the first time, of which most is matching it against the providers.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("providers=%d", n), func(b *testing.B) {
			var file strings.Builder
			for i := range n {
				fmt.Fprintf(&file, "[provider.p%d]\nmatch=[{MXSuffix='.mx%d.example'},{DomainSuffix='.d%d.example'}]\n", i, i, i)
			}
			s := load(b, hazardSites, file.String())
			site := &mtakit.Site{Name: "x", Hosts: []mtakit.Host{{Name: "a.mx.other.example"}, {Name: "b.mx.other.example"}}}
			names := make([]string, 1<<20)
			for i := range names {
				names[i] = fmt.Sprintf("dest%d.example", i)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := s.Path(context.Background(), names[i&(1<<20-1)], "ip1", site); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkRuleMatch(b *testing.B) {
	s, err := shaping.Load(context.Background(), hazards(b))
	if err != nil {
		b.Fatal(err)
	}
	reply := mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 7, 1}, Text: "try again in a while, there is nothing special about this reply"}
	for _, m := range s.Rules(context.Background(), "dest.example", "mx.dest.example") {
		for _, r := range m.Rules {
			b.Run(r.Patterns[0].String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r.Match(reply)
				}
			})
		}
	}
}
