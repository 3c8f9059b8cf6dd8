package shaping_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlclark/regexp2"
	"go.uber.org/goleak"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
)

func TestMain(m *testing.M) {
	code := m.Run()
	regexp2.StopTimeoutClock() // it would end by itself in a second
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var hazardSites = sites{
	"dest.example": {"mx.dest.example"}, "alias.example": {"mx.dest.example"}, "big.example": {"a.mx.big.example"},
	"late.example": {"mx.late.example"}, "dotted.example": {"a.mx.dotted.example"},
}

func hazards(t testing.TB) shaping.Config {
	t.Helper()
	return shaping.Config{Files: []string{"testdata/hazards.toml", "testdata/later.toml"}, Router: hazardSites, Checks: shaping.AllChecks()}
}

func TestHazards(t *testing.T) {
	t.Parallel()
	s, err := shaping.Load(t.Context(), hazards(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range s.Findings() {
		f.File = filepath.Base(f.File)
		got = append(got, f.String())
	}
	want := []string{
		"hazards.toml:38:18: warning: MXSuffix .mx.dotted.example. ends in a dot; it matches nothing, since names are compared without their last dot",
		"hazards.toml:41:19: warning: automation rules have no effect without traffic shaping automation",
		"hazards.toml:65:9: warning: regex: this needs backtracking, which may be slow: blocked(?! for (good|ever))",
		"later.toml:2:29: warning: automation rules have no effect without traffic shaping automation",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("findings:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for domain, want := range map[string]string{
		"dotted.example": "",
		"big.example":    "big.net_web.de",
		"late.example":   "late",
		"alias.example":  "",
	} {
		if got := s.Provider(t.Context(), domain); got != want {
			t.Errorf("provider of %s is %q, want %q", domain, got, want)
		}
	}
	var sources []string
	for name, at := range s.Sources() {
		sources = append(sources, fmt.Sprint(name, ":", at.Line))
	}
	if got, want := strings.Join(sources, ","), "my source name:25"; got != want {
		t.Errorf("sources: %s, want %s", got, want)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	s, err := shaping.Load(t.Context(), hazards(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	explain := func(domain, source string) {
		all, err := s.Explain(t.Context(), domain, source, hazardSites.site(t, domain))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			if o.Place != (mtakit.Place{}) || o.By != "" {
				got = append(got, fmt.Sprintf("%s = %s (%s:%d:%d, %s)", o.Option, o.Value, filepath.Base(o.Place.File), o.Place.Line, o.Place.Column, o.By))
			}
		}
	}
	explain("alias.example", "my source name")
	got = append(got, "")
	explain("big.example", "ip1")
	want := `connection_limit = {"limit":2,"force_local":false} (hazards.toml:26:20, site mx.dest.example source my source name)
max_connection_rate = "100/m" (hazards.toml:5:23, default)
max_deliveries_per_connection = 100 (hazards.toml:6:33, default)
consecutive_connection_failures_before_delay = 5 (hazards.toml:21:48, site mx.dest.example)
idle_timeout = "30s" (hazards.toml:23:16, site mx.dest.example)
enable_tls = "Opportunistic" (hazards.toml:20:14, site mx.dest.example)
remember_broken_tls = "3days" (hazards.toml:22:23, site mx.dest.example)

connection_limit = {"limit":10,"force_local":false} (hazards.toml:4:20, default)
additional_connection_limits.shaping-provider-big.net_web.de-ip1-limit = "20" (hazards.toml:30:29, provider big.net_web.de)
max_connection_rate = "100/m" (hazards.toml:5:23, default)
max_deliveries_per_connection = 100 (hazards.toml:6:33, default)
provider_name = "big.net_web.de" (hazards.toml:28:11, provider big.net_web.de)`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	all, err := s.Explain(t.Context(), "x.test", "s", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if o.Option == "max_ready" && (o.Value != "1024" || o.Place != mtakit.Place{} || o.By != "") {
			t.Errorf("a default is %+v", o)
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	cfg := hazards(t)
	cfg.Automation = true
	cfg.Files = append(cfg.Files, cfg.Files[0]) // a file named twice does not count twice
	s, err := shaping.Load(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	reply := func(code int, text string) mtakit.Response { return mtakit.Response{Code: code, Text: text} }
	tests := []struct {
		domain, site string
		reply        mtakit.Response
		want         string
	}{
		{"dest.example", "mx.dest.example", reply(421, "please slow down"), "[{Suspend  <nil>} {SetConfig max_message_rate 1/minute} {SetDomainConfig connection_limit 1}] {0 0 0s false} 1h30m0s rollup=true"},
		{"dest.example", "mx.dest.example", reply(451, "4.7.28 over the rate"), "[{Suspend  <nil>} {SetConfig max_message_rate 1/minute} {SetDomainConfig connection_limit 1}] {0 0 0s false} 1h30m0s rollup=true"},
		{"dest.example", "mx.dest.example", reply(550, "blocked for today"), "[{Bounce  <nil>}] {0 0 0s false} 15m0s rollup=true"},
		{"dest.example", "mx.dest.example", reply(550, "blocked for ever"), ""},
		{"dest.example", "elsewhere", reply(421, "please slow down"), ""},
		{"late.example", "x", reply(452, "too many recipients"), "[{Suspend  <nil>}] {2 0 1h0m0s false} 2h0m0s rollup=false"},
		{"big.example", "x", reply(550, "mailbox unavailable"), "[{SetConfig max_deliveries_per_connection 3}] {3 0 1h0m0s false} 1h0m0s rollup=false"},
		{"x.test", "x", reply(451, "KumoMTA internal: failed to connect to any candidate hosts"), "[{SuspendTenant  <nil>}] {0 0 0s false} 5m0s rollup=true"},
		{"late.example", "x", reply(451, "KumoMTA internal: too many recipients"), ""},
	}
	for _, tt := range tests {
		var got []string
		for _, m := range s.Rules(t.Context(), tt.domain, tt.site) {
			for _, r := range m.Rules {
				if r.Match(tt.reply) {
					got = append(got, fmt.Sprint(r.Actions, " ", structOf(r.Threshold), " ", r.Duration, " rollup=", m.Rollup))
				}
			}
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s %s: got  %s\nwant %s", tt.domain, tt.reply, strings.Join(got, "\n"), tt.want)
		}
	}
}

// structOf hides the String method.
func structOf(r mtakit.Rate) string {
	return fmt.Sprintf("{%d %d %v %v}", r.N, r.Burst, r.Per, r.Local)
}

func TestFindings(t *testing.T) {
	t.Parallel()
	dns := sites{"a.example": {"mx.a.example"}, "b.example": {"mx.a.example"}, "null.example": {"."}}
	tests := []struct {
		name  string
		files []string
		want  string
	}{
		{"syntax, in each file", []string{"[x", "{\"a.b\": 1,}"}, "a.toml:1:2: error: expected ']' to close table name\nb.json:1:2: error: a.b: expected a table of options for a domain, got the integer 1\nb.json:1:11: error: invalid character '}' looking for beginning of object key string"},
		{"not a table", []string{"smtp_port = 25\n[provider]\nx = 1"}, "a.toml:1:1: error: smtp_port: expected a table of options for a domain, got the integer 25\na.toml:3:1: error: provider.x: expected a table, got the integer 1"},
		{"JSON of another kind", []string{"{}", "{\"a.example\": null}"}, "b.json:1:15: error: null is not a value"},
		{"options", []string{"[default]\nconection_limit = 1\nconnection_limit = 'x'\nmax_ready = 0\nsmtp_port = 0\nmax_message_rate = 5\nidle_timeout = '5'\nenable_tls = 'yes'\nprohibited_hosts = ['10.0.0.0/8', '10.0.0.0/33']\n"},
			"a.toml:2:1: error: unknown key conection_limit; did you mean connection_limit?\n" +
				"a.toml:3:20: error: connection_limit: \"x\" is not a limit: the limit \"x\" is not a number\n" +
				"a.toml:4:13: error: max_ready: it must be 1 or larger\n" +
				"a.toml:5:13: error: smtp_port: it must be 1 or larger\n" +
				"a.toml:6:20: error: max_message_rate: expected a string, got the integer 5\n" +
				"a.toml:7:16: error: idle_timeout: invalid value: string \"5\", expected a duration: the unit \"\" is not known\n" +
				"a.toml:8:14: error: enable_tls: expected one of Opportunistic, OpportunisticInsecure, Required, RequiredInsecure, Disabled, got the string \"yes\"\n" +
				"a.toml:9:35: error: prohibited_hosts: \"10.0.0.0/33\" is neither an address nor a network in CIDR form"},
		{"OpenSSL and rustls", []string{"[default]\nopenssl_options = 'NO_SSLV2|NO_SSLV9'\nrustls_cipher_suites = ['TLS13_AES_128_GCM_SHA256', 'RC4']\n"},
			"a.toml:2:19: error: openssl_options: NO_SSLV9 is not an OpenSSL option\na.toml:3:53: error: rustls_cipher_suites: RC4 is not a valid rustls cipher suite"},
		{"sources", []string{"['a.example'.sources]\nip1 = 5\n['a.example'.sources.ip2]\nsmtp_prt = 25\nprovider_source_selection_rate='1/s'\n['b.example']\nsources = 1\n"},
			"a.toml:2:7: error: sources.ip1: expected a table of options, got the integer 5\na.toml:4:1: error: unknown key smtp_prt; did you mean smtp_port?\na.toml:5:1: error: unknown key provider_source_selection_rate\na.toml:6:2: warning: multiple domain blocks alias to the same site: mx.a.example: a.example, b.example\na.toml:7:11: error: sources: expected a table of sources, got the integer 1"},
		{"provider", []string{"[provider.p]\nmx_rollup = true\nmatch = [{Domain = 'x'}, 'y', {MXSuffix = 1}, {MXSuffix='a', HostName='b'}]\nprovider_connection_limit = 0\nprovider_max_message_rate = '1'\nsources.s.provider_source_selection_rate = 1\n[provider.q]\nmatch='x'\n"},
			"a.toml:2:1: error: unknown key mx_rollup\n" +
				"a.toml:3:11: error: unknown key Domain\n" +
				"a.toml:3:26: error: match: expected a table with one of DomainSuffix, MXSuffix and HostName, got the string \"y\"\n" +
				"a.toml:3:43: error: MXSuffix: expected a string, got the integer 1\n" +
				"a.toml:3:47: error: match: expected a table with one of DomainSuffix, MXSuffix and HostName, got a table\n" +
				"a.toml:4:29: error: provider_connection_limit: expected a limit of 1 or larger, got the integer 0\n" +
				"a.toml:5:29: error: provider_max_message_rate: \"1\" is not a rate: expected 'limit/period'\n" +
				"a.toml:6:44: error: provider_source_selection_rate: expected a string, got the integer 1\n" +
				"a.toml:8:7: error: match: expected an array of rules, got the string \"x\""},
		{"rules", []string{"[default]\nautomation = [{}, 5]\n[['a.example'.automation]]\nregex = ['(', 1]\naction = ['Suspnd', {SetConfig={name='max_ready', value='x'}}, {SetConfig={name='x', value=1}}, {SetConfig={}}, {SetCnfig={}}]\ntrigger = 'Later'\nduration = 'x'\nmatch_internl = true\n"},
			"a.toml:2:15: error: automation: regex is missing in the rule\n" +
				"a.toml:2:15: error: automation: action is missing in the rule\n" +
				"a.toml:2:15: error: automation: duration is missing in the rule\n" +
				"a.toml:2:15: warning: automation rules have no effect without traffic shaping automation\n" +
				"a.toml:2:19: error: automation: expected a rule, got the integer 5\n" +
				"a.toml:4:10: error: regex: error parsing regexp: missing closing ) in `(`\n" +
				"a.toml:4:15: error: regex: expected a string, got the integer 1\n" +
				"a.toml:5:11: error: action: expected one of Suspend SuspendTenant SuspendCampaign Bounce BounceTenant BounceCampaign, or {SetConfig = {name = …, value = …}}, or an array of them, got the string \"Suspnd\"\n" +
				"a.toml:5:57: error: max_ready: expected an integer from 0, got the string \"x\"\n" +
				"a.toml:5:81: error: unknown key x\n" +
				"a.toml:5:108: error: SetConfig: expected {name = OPTION, value = VALUE}\n" +
				"a.toml:5:114: error: unknown key SetCnfig; did you mean SetConfig?\n" +
				"a.toml:6:11: error: trigger: expected \"Immediate\" or {Threshold = \"N/period\"}, got the string \"Later\"\n" +
				"a.toml:7:12: error: duration: invalid value: string \"x\", expected a duration: a number is missing at \"x\"\n" +
				"a.toml:8:1: error: unknown key match_internl; did you mean match_internal?"},
		{"no effect", []string{"[default]\nmx_rollup=true\nsources.s.smtp_port=26\n['*.a.example']\n[gmail]\n['A.example']\nmx_rollup=false\n"},
			"a.toml:2:11: warning: mx_rollup has no effect in default\na.toml:3:1: warning: sources have no effect in default\n" +
				"a.toml:4:2: warning: domain *.a.example: there are no wildcards in shaping files; nothing matches this\n" +
				"a.toml:4:2: warning: error resolving MX for *.a.example: NXDOMAIN. Ignoring the shaping config for that domain.\n" +
				"a.toml:5:2: warning: Entry for domain 'gmail' consists of a single DNS label. Domain names in TOML sections need to be quoted like '[\"gmail.com\"]' otherwise the '.' will create a nested table rather than being added to the domain name.\n" +
				"a.toml:5:2: warning: error resolving MX for gmail: NXDOMAIN. Ignoring the shaping config for that domain.\n" +
				"a.toml:6:2: warning: domain A.example: names of domains are looked up in lower case; nothing matches this"},
		{"null MX, twice the same domain, overlap", []string{"['null.example']\n['a.example']\n", "['a.example']\n[provider.p]\nmatch=[{MXSuffix='a.example'}]\n"},
			"a.toml:1:2: warning: domain null.example has a NULL MX and cannot be used with mx_rollup=true. Ignoring the shaping config for that domain.\n" +
				"a.toml:2:2: warning: domain a.example is also matched by provider(s): p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, f := range shaping.Check(t.Context(), shaping.Config{Files: write(t, tt.files...), Router: dns, Checks: shaping.AllChecks()}) {
				f.File = filepath.Base(f.File)
				got = append(got, f.String())
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), tt.want)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	_, err := shaping.Load(t.Context(), shaping.Config{Files: []string{"https://x.example/shaping.toml", "testdata/none.toml"}})
	want := "https://x.example/shaping.toml: shaping files are read from disk, not over HTTP\ntestdata/none.toml: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = shaping.Load(t.Context(), shaping.Config{Files: write(t, "['a.example']\n")})
	if err == nil || !strings.HasSuffix(err.Error(), "a.toml:1:2: mx_rollup needs a router, and there is none") {
		t.Errorf("without a router: %v", err)
	}
	_, err = shaping.Load(t.Context(), shaping.Config{Files: write(t, "['a.example']\n"), Router: sites{}, Checks: shaping.Checks{DNSFail: mtakit.LevelError}})
	if err == nil {
		t.Error("a check at LevelError is no error")
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	files := write(t, "[default]\nsmtp_port = 26\n")
	type told struct {
		s   *shaping.Shaping
		err error
	}
	tell := make(chan told, 1)
	l, err := shaping.Watch(t.Context(), shaping.Config{Files: files}, func(s *shaping.Shaping, err error) { tell <- told{s, err} })
	if err != nil {
		t.Fatal(err)
	}
	old := l.Current()
	if err := l.Reload(t.Context()); err != nil || l.Current() != old {
		t.Errorf("the same files make another version: %v", err)
	}
	newer := write(t, "[default]\nsmtp_port = 27\n")
	if err := os.Rename(newer[0], files[0]); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-tell; got.s != l.Current() || got.err != nil {
		t.Errorf("told %+v", got)
	}
	if p, err := l.Path(t.Context(), "x.test", "s", nil); err != nil || p.SMTPPort != 27 {
		t.Errorf("smtp_port = %d, %v", p.SMTPPort, err)
	}
	if old.Hash() == l.Current().Hash() {
		t.Error("the hash is the same after a change")
	}
	select {
	case got := <-tell:
		t.Errorf("told again: %+v", got)
	case <-time.After(0):
	}
}
