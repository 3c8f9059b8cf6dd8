package sourcefile_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping/sourcefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t testing.TB, texts ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for i, text := range texts {
		name := filepath.Join(dir, string(rune('a'+i))+".toml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files
}

func TestSources(t *testing.T) {
	t.Parallel()
	s, err := sourcefile.Load(write(t, `
[source."ip-1"]
source_address = "192.0.2.1"
ehlo_domain = "mx1.example"
remote_port = 2525
ha_proxy_server = "proxy.example:5000"
ha_proxy_source_address = "2001:db8::1"
suspend_when_unplumbed = {duration = "5m"}
suspend_when_proxy_unhealthy = {trigger = {Threshold = "3/min"}, duration = 60}
[source."ip-2"]
socks5_proxy_server = "127.0.0.1:1080"
socks5_proxy_source_address = "192.0.2.2"
socks5_proxy_username = "u"
socks5_proxy_password = {key_data = "p"}
ttl = "2m"
[pool.warm."ip-2"]
[pool.warm."ip-1"]
weight = 2
[pool.off."ip-1"]
weight = 0
[pool.empty]
`, `
[source."ip-1"]
ehlo_domain = "other.example"
[pool.warm."ip-1"]
weight = 3
[pool.warm.unspecified]
`))
	if err != nil {
		t.Fatal(err)
	}
	minute := mtakit.Duration(time.Minute)
	for _, want := range []*mtakit.Source{
		{Name: "ip-1", SourceAddress: netip.MustParseAddr("192.0.2.1"), EHLODomain: "other.example", RemotePort: 2525,
			HAProxyServer: "proxy.example:5000", HAProxySourceAddress: netip.MustParseAddr("2001:db8::1"),
			SuspendWhenUnplumbed:      &mtakit.HealthRule{Duration: 5 * minute},
			SuspendWhenProxyUnhealthy: &mtakit.HealthRule{Threshold: mtakit.Rate{N: 3, Per: time.Minute}, Duration: minute}, TTL: minute},
		{Name: "ip-2", SOCKS5Server: "127.0.0.1:1080", SOCKS5SourceAddress: netip.MustParseAddr("192.0.2.2"), SOCKS5Username: "u",
			SOCKS5Password: &mtakit.KeySource{Data: []byte("p")}, TTL: 2 * minute},
		{Name: "unspecified", TTL: minute},
	} {
		if got, err := s.Source(t.Context(), want.Name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
		}
	}
	for name, want := range map[string]string{
		"warm": "[{ip-2 1} {ip-1 3} {unspecified 1}]", "off": "[{ip-1 0}]", "empty": "[]", "unspecified": "[{unspecified 1}]",
	} {
		if got, err := s.Pool(t.Context(), name); err != nil || fmt.Sprint(got.Entries) != want {
			t.Errorf("pool %s: got %v, %v, want %s", name, got, err, want)
		}
	}
	if _, err := s.Pool(t.Context(), "none"); err == nil || err.Error() != "pool none is not defined" {
		t.Errorf("err = %v", err)
	}
	if _, err := s.Source(t.Context(), "none"); err == nil || err.Error() != "source none is not defined" {
		t.Errorf("err = %v", err)
	}
	at := mtakit.Place{File: "q.toml", Line: 1}
	names := func(yield func(string, mtakit.Place) bool) {
		for _, n := range []string{"ip-1", "warm", "unspecified"} {
			if !yield(n, at) {
				return
			}
		}
	}
	if got, want := fmt.Sprint([]mtakit.Finding(s.CheckNames(names, names))), "[q.toml:1: error: source warm is not defined q.toml:1: error: pool ip-1 is not defined]"; got != want {
		t.Errorf("CheckNames: got %s, want %s", got, want)
	}
	if f := s.CheckNames(nil, nil); f != nil {
		t.Error(f)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, want string }{
		{"top", "sources = 1\n", "a.toml:1:1: error: unknown key sources; did you mean source?"},
		{"tables", "source = 1\n[pool]\nx = 1\ny.z = 1\n", "a.toml:1:10: error: source: expected a table, got the integer 1\na.toml:3:5: error: pool.x: expected a table, got the integer 1\na.toml:4:7: error: pool.y.z: expected a table, got the integer 1"},
		{"source", "[source.s]\nsource_adress='192.0.2.1'\nsource_address='x'\nremote_port=70000\nsocks5_proxy_server='h'\n", "a.toml:2:1: error: unknown key source_adress; did you mean source_address?\n" +
			"a.toml:3:16: error: source_address: expected an IP address, got the string \"x\"\na.toml:4:13: error: remote_port: expected an integer from 0 to 65535, got the integer 70000\n" +
			"a.toml:5:21: warning: socks5_proxy_server has no effect without socks5_proxy_source_address\na.toml:5:21: error: socks5_proxy_server: expected HOST:PORT, got the string \"h\""},
		{"pool", "[pool.p.s]\nwieght=1\nweight=-1\n", "a.toml:1:9: error: pool 'p' references source 's' which is not defined\na.toml:2:1: error: unknown key wieght; did you mean weight?\na.toml:3:8: error: weight: expected an integer from 0, got the integer -1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := write(t, tt.file)
			var got []string
			for _, f := range sourcefile.Check(files) {
				f.File = filepath.Base(f.File)
				got = append(got, f.String())
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n"), tt.want)
			}
			if _, err := sourcefile.Load(files); err == nil {
				t.Error("Load is no error")
			}
		})
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	files := write(t, "[source.s]\n[pool.p.s]\n")
	told := make(chan error, 1)
	l, err := sourcefile.Watch(t.Context(), files, func(_ *sourcefile.Sources, err error) { told <- err })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], []byte("[source.s]\nehlo_domain='x'\n[pool.p.s]\nweight=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	if err := <-told; err != nil {
		t.Error(err)
	}
	if p, err := l.Pool(ctx, "p"); err != nil || p.Entries[0].Weight != 2 {
		t.Errorf("pool: %v, %v", p, err)
	}
	if s, err := l.Source(ctx, "s"); err != nil || s.EHLODomain != "x" {
		t.Errorf("source: %v, %v", s, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(files[0], []byte("[source"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(t.Context()); err == nil || <-told == nil {
		t.Error("Reload of a broken file is no error")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	s, err := sourcefile.Load(write(t, `[source.a]
ehlo_domain = "mx.example"
socks5_proxy_password = {key_data = "p"}
[pool.p.a]
weight = 2
[pool.p.unspecified]
`, `[source.a]
ehlo_domain = "other.example"
`))
	if err != nil {
		t.Fatal(err)
	}
	show := func(all []mtakit.Setting) (text string) {
		for _, o := range all {
			text += fmt.Sprintf("%s = %s (%s at %s:%d)\n", o.Option, o.Value, o.By, filepath.Base(o.Place.File), o.Place.Line)
		}
		return text
	}
	for _, c := range []struct{ got, want string }{
		{show(s.ExplainSource("a")), "ehlo_domain = \"other.example\" (source a at b.toml:2)\nsocks5_proxy_password = {\"key_data\":\"(hidden)\"} (source a at a.toml:3)\n"},
		{show(s.ExplainPool("p")), "a = 2 (pool p at a.toml:5)\nunspecified = 1 (pool p at a.toml:6)\n"},
		{show(s.ExplainSource("unspecified")) + show(s.ExplainPool("unspecified")) + show(s.ExplainPool("other")), ""},
	} {
		if c.got != c.want {
			t.Errorf("got\n%swant\n%s", c.got, c.want)
		}
	}
}
