package shaping_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/shaping"
)

// sites routes domains by a table: domain to hosts. Domains that are not in it do not resolve.
type sites map[string][]string

func (s sites) Route(_ context.Context, domain string) (*mtakit.Site, error) {
	hosts, ok := s[domain]
	if !ok {
		return nil, errors.New("NXDOMAIN")
	}
	site := &mtakit.Site{Name: strings.Join(hosts, "+")}
	for _, h := range hosts {
		site.Hosts = append(site.Hosts, mtakit.Host{Name: h})
	}
	return site, nil
}

func (s sites) site(t testing.TB, domain string) *mtakit.Site {
	t.Helper()
	site, err := s.Route(t.Context(), domain)
	if err != nil {
		t.Fatal(domain, err)
	}
	return site
}

// write makes files a.toml, b.toml … in a directory of its own; a text that begins with { is a .json.
func write(t testing.TB, texts ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for i, text := range texts {
		name := string(rune('a'+i)) + ".toml"
		if strings.HasPrefix(text, "{") {
			name = string(rune('a'+i)) + ".json"
		}
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files
}

func load(t testing.TB, r mtakit.Router, texts ...string) *shaping.Shaping {
	t.Helper()
	s, err := shaping.Load(t.Context(), shaping.Config{Files: write(t, texts...), Router: r})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// differs lists the options of a path that are not at their default.
func differs(t testing.TB, s *shaping.Shaping, domain, source string, site *mtakit.Site) string {
	t.Helper()
	all, err := s.Explain(t.Context(), domain, source, site)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range all {
		if o.By != "" {
			fmt.Fprintf(&b, "%s=%s ", o.Option, o.Value)
		}
	}
	return strings.TrimSpace(b.String())
}

const (
	fileA = `
[default]
connection_limit = 10
max_message_rate = "100/s"
["a.example"]
mx_rollup = false
connection_limit = 5
max_deliveries_per_connection = 10
sources.ip1.max_message_rate = "5/s"
[provider.P]
match = [{DomainSuffix = ".example"}]
provider_connection_limit = 20
enable_tls = "Required"
sources.ip1.connection_limit = 3
`
	fileB = `{"a.example": {"mx_rollup": false, "replace_base": true, "connection_limit": 7}}`
)

func TestPath(t *testing.T) {
	t.Parallel()
	dns := sites{
		"one.example": {"mx1.big.example", "mx2.big.example"}, "two.example": {"mx1.big.example", "mx2.big.example"},
		"mixed.example": {"mx1.big.example", "mx.other.example"}, "null.example": {"."}, "other.test": {"mx.other.example"},
		"big.test": {"mx1.big.example"},
	}
	const provider = `[provider.big]
match = [{MXSuffix = ".big.example"}, {HostName = "mx.big.test"}]
use_lmtp = true
`
	tests := []struct {
		name           string
		files          []string
		domain, source string
		want           string
	}{
		{"nothing", nil, "x.test", "ip1", ""},
		{"the reference's example", []string{fileA, fileB}, "a.example", "ip1",
			`connection_limit={"limit":7,"force_local":false} additional_connection_limits.shaping-provider-P-ip1-limit="20" max_message_rate="100/s" enable_tls="Required" provider_name="P"`},
		{"in the other order the base is gone", []string{fileB, fileA}, "a.example", "ip1",
			`connection_limit={"limit":5,"force_local":false} max_message_rate="5/s" max_deliveries_per_connection=10`},
		{"the first alone", []string{fileA}, "a.example", "ip1",
			`connection_limit={"limit":5,"force_local":false} additional_connection_limits.shaping-provider-P-ip1-limit="20" max_message_rate="5/s" max_deliveries_per_connection=10 enable_tls="Required" provider_name="P"`},
		{"another source", []string{fileA}, "a.example", "ip2",
			`connection_limit={"limit":5,"force_local":false} additional_connection_limits.shaping-provider-P-ip2-limit="20" max_message_rate="100/s" max_deliveries_per_connection=10 enable_tls="Required" provider_name="P"`},
		{"default alone", []string{fileA}, "b.test", "ip1", `connection_limit={"limit":10,"force_local":false} max_message_rate="100/s"`},
		{"a suffix is not a label", []string{"[provider.P]\nmatch=[{DomainSuffix='mail.net'}]\n"}, "notmail.net", "s", `provider_name="P"`},
		{"a suffix with a dot in front", []string{fileA}, "example", "s", `connection_limit={"limit":10,"force_local":false} max_message_rate="100/s"`},
		{"a suffix with a dot behind", []string{"[provider.P]\nmatch=[{DomainSuffix='x.net.'}]\n"}, "a.x.net", "s", ``},
		{"not a DNS name", []string{"[provider.P]\nmatch=[{DomainSuffix=''}]\n"}, "http://a/b", "s", ``},
		{"provider by all hosts", []string{provider}, "one.example", "s", `use_lmtp=true provider_name="big"`},
		{"provider by some of the hosts", []string{provider}, "mixed.example", "s", ``},
		{"provider by hosts that do not resolve", []string{provider}, "gone.example", "s", ``},
		{"provider and null MX", []string{provider}, "null.example", "s", ``},
		{"provider without match", []string{"[provider.big]\nuse_lmtp = true\n"}, "one.example", "s", ``},
		{"the match comes from another file", []string{"[[provider.big.automation]]\nregex='x'\naction='Suspend'\nduration='1h'", provider}, "one.example", "s", `use_lmtp=true provider_name="big"`},
		{"the last provider names it", []string{"[provider.b]\nmatch=[{DomainSuffix='e'}]\nsmtp_port=26\n[provider.a]\nmatch=[{DomainSuffix='e'}]\nsmtp_port=27\n"}, "one.example", "s", `smtp_port=27 provider_name="a"`},
		{"the source of an earlier provider beats a later provider", []string{"[provider.b]\nmatch=[{DomainSuffix='e'}]\nsources.s.smtp_port=26\n[provider.a]\nmatch=[{DomainSuffix='e'}]\nsmtp_port=27\n"}, "one.example", "s", `smtp_port=26 provider_name="b"`},
		{"provider limits", []string{"[provider.b]\nmatch=[{DomainSuffix='e'}]\nprovider_connection_limit='local:3'\nprovider_max_message_rate='5/s'\nsources.s.provider_source_selection_rate='1/h'\n"}, "one.example", "s",
			`additional_connection_limits.shaping-provider-b-s-limit="local:3" additional_message_rate_throttles.shaping-provider-b-s-rate="5/s" additional_source_selection_rates.shaping-provider-b-s-selection-rate="1/h" provider_name="b"`},
		{"a provider's rate from a later file", []string{"[provider.b]\nmatch=[{DomainSuffix='e'}]\n", "[provider.b]\nprovider_max_message_rate='5/s'\nprovider_source_selection_rate='1/h'\n"}, "one.example", "s",
			`additional_message_rate_throttles.shaping-provider-b-s-rate="5/s" additional_source_selection_rates.shaping-provider-b-s-selection-rate="1/h" provider_name="b"`},
		{"mx_rollup is for all domains of the site", []string{"['one.example']\nsmtp_port=26\nsources.s.use_lmtp=true\n"}, "two.example", "s", `smtp_port=26 use_lmtp=true`},
		{"blocks that share a site are merged in order", []string{"['one.example']\nsmtp_port=26\nmax_ready=2\n['two.example']\nsmtp_port=27\n"}, "one.example", "s", `max_ready=2 smtp_port=27`},
		{"mx_rollup that does not resolve", []string{"['gone.example']\nsmtp_port=26\n"}, "gone.example", "s", ``},
		{"without mx_rollup the domain alone", []string{"['one.example']\nmx_rollup=false\nsmtp_port=26\n"}, "two.example", "s", ``},
		{"domain over site, domain source over both", []string{"['two.example']\nsmtp_port=25\nmax_ready=5\nsources.s={max_ready=6,use_lmtp=true}\n['one.example']\nmx_rollup=false\nsmtp_port=26\nmax_ready=7\nsources.s.use_lmtp=false\n"}, "one.example", "s", `max_ready=6 smtp_port=26 use_lmtp=false`},
		{"additional tables are merged by name", []string{"[default]\nadditional_connection_limits={a=1,b=2}\nadditional_message_rate_throttles={z='1/s',y='2/s'}\n['one.example']\nadditional_connection_limits={b=3,c=4}\n"}, "one.example", "s",
			`additional_connection_limits.a="1" additional_connection_limits.b="3" additional_connection_limits.c="4" additional_message_rate_throttles.z="1/s" additional_message_rate_throttles.y="2/s"`},
		{"other tables are replaced", []string{"[default]\nprohibited_hosts=['10.0.0.0/8','10.1.0.1']\n['one.example']\nprohibited_hosts=['::1']\n"}, "one.example", "s", `prohibited_hosts=["::1"]`},
		{"sources of default are not applied", []string{"[default.sources.s]\nsmtp_port=26\n"}, "one.example", "s", ``},
		{"secrets are hidden", []string{"[default]\nsmtp_auth_plain_password={key_data='s3cret'}\n"}, "x.test", "s", `smtp_auth_plain_password={"key_data":"(hidden)"}`},
		{"replace_base of a later file forgets the earlier file's block only", []string{"[default]\nmax_ready=9\n['one.example']\nsmtp_port=26\nsources.s.use_lmtp=true\n", "['one.example']\nreplace_base=true\nidle_timeout='9s'\n"}, "one.example", "s", `max_ready=9 idle_timeout="9s"`},
		{"refresh_strategy may be said", []string{"[default]\nrefresh_strategy='Ttl'\n"}, "x.test", "s", `refresh_strategy="Ttl"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := load(t, dns, tt.files...)
			site := &mtakit.Site{Name: "gone", Hosts: []mtakit.Host{{Name: "gone"}}}
			if dns[tt.domain] != nil {
				site = dns.site(t, tt.domain)
			}
			if got := differs(t, s, tt.domain, tt.source, site); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			p, err := s.Path(t.Context(), tt.domain, tt.source, site)
			if err != nil {
				t.Fatal(err)
			}
			if want := mtakit.RefreshEpoch; p.RefreshStrategy != want && !strings.Contains(tt.want, "Ttl") {
				t.Errorf("refresh_strategy = %s, want %s", p.RefreshStrategy, want)
			}
		})
	}
}

// Every option is read into its field.
func TestEveryOption(t *testing.T) {
	t.Parallel()
	s := load(t, nil, `[default]
connection_limit = "local:5"
additional_connection_limits = {shared = 7}
enable_tls = "OpportunisticInsecure"
enable_mta_sts = false
enable_dane = true
enable_pipelining = false
enable_rset = false
tls_prefer_openssl = true
tls_certificate = "/c.pem"
tls_private_key = {key_data = "k"}
openssl_cipher_list = "HIGH"
openssl_cipher_suites = "TLS_AES_128_GCM_SHA256"
openssl_options = "NO_SSLV2|NO_TLSV1"
rustls_cipher_suites = ["tls13_aes_128_gcm_sha256"]
connect_timeout = 1
banner_timeout = 2
ehlo_timeout = "3s"
mail_from_timeout = "4s"
rcpt_to_timeout = "5s"
data_timeout = "6s"
data_dot_timeout = "7s"
rset_timeout = "8s"
idle_timeout = "9s"
starttls_timeout = 10.5
auth_timeout = "11s"
system_shutdown_timeout = "12s"
max_ready = 13
consecutive_connection_failures_before_delay = 0
smtp_port = 26
smtp_auth_plain_username = "u"
smtp_auth_plain_password = "/pw"
allow_smtp_auth_plain_without_tls = true
allow_smtp_auth_plain_without_valid_certificate = true
max_message_rate = "1_000/hr"
additional_message_rate_throttles = {m = "1/s"}
source_selection_rate = "100/5min"
additional_source_selection_rates = {s = "2/s"}
max_connection_rate = "local:10/s,max_burst=20"
max_deliveries_per_connection = 14
max_recipients_per_batch = 15
prohibited_hosts = []
skip_hosts = ["192.0.2.0/24"]
ip_lookup_strategy = "Ipv6ThenIpv4"
ehlo_domain = "me.example"
aggressive_connection_opening = true
refresh_interval = "16s"
refresh_strategy = "Ttl"
dispatcher_wakeup_strategy = "Relaxed"
maintainer_wakeup_strategy = "Relaxed"
provider_name = "pn"
remember_broken_tls = "3 days"
opportunistic_tls_reconnect_on_failed_handshake = true
use_lmtp = true
reconnect_strategy = "TerminateSession"
readyq_pool_name = "rp"
low_memory_reduction_policy = "NoShrink"
no_memory_reduction_policy = "ShrinkData"
try_next_host_on_transport_error = true
ignore_8bit_checks = true
dispatcher_progress_watchdog_timeout = "17s"
`)
	got, err := s.Path(t.Context(), "x.test", "s", nil)
	if err != nil {
		t.Fatal(err)
	}
	const sec = mtakit.Duration(time.Second)
	want := mtakit.PathConfig{
		ConnectionLimit:            mtakit.Limit{N: 5, Local: true},
		AdditionalConnectionLimits: mtakit.NamedLimits{{Name: "shared", Limit: mtakit.Limit{N: 7}}},
		EnableTLS:                  mtakit.TLSOpportunisticInsecure, EnableDANE: true, TLSPreferOpenSSL: true,
		TLSCertificate: &mtakit.KeySource{File: "/c.pem"}, TLSPrivateKey: &mtakit.KeySource{Data: []byte("k")},
		OpenSSLCipherList: "HIGH", OpenSSLCipherSuites: "TLS_AES_128_GCM_SHA256", OpenSSLOptions: "NO_SSLV2|NO_TLSV1",
		RustlsCipherSuites: []string{"tls13_aes_128_gcm_sha256"},
		ConnectTimeout:     1 * sec, BannerTimeout: 2 * sec, EHLOTimeout: 3 * sec, MailTimeout: 4 * sec, RcptTimeout: 5 * sec, DataTimeout: 6 * sec,
		DataDotTimeout: 7 * sec, RsetTimeout: 8 * sec, IdleTimeout: 9 * sec, StartTLSTimeout: 10*sec + sec/2, AuthTimeout: 11 * sec,
		SystemShutdownTimeout: 12 * sec, MaxReady: 13, SMTPPort: 26,
		AuthPlainUsername: "u", AuthPlainPassword: &mtakit.KeySource{File: "/pw"},
		AllowAuthPlainWithoutTLS: true, AllowAuthPlainWithoutValidCertificate: true,
		MaxMessageRate:                 mtakit.Rate{N: 1000, Per: time.Hour},
		AdditionalMessageRateThrottles: mtakit.NamedRates{{Name: "m", Rate: mtakit.Rate{N: 1, Per: time.Second}}},
		SourceSelectionRate:            mtakit.Rate{N: 100, Per: 5 * time.Minute},
		AdditionalSourceSelectionRates: mtakit.NamedRates{{Name: "s", Rate: mtakit.Rate{N: 2, Per: time.Second}}},
		MaxConnectionRate:              mtakit.Rate{N: 10, Burst: 20, Per: time.Second, Local: true},
		MaxDeliveriesPerConnection:     14, MaxRecipientsPerBatch: 15,
		ProhibitedHosts: mtakit.Prefixes{}, SkipHosts: mtakit.Prefixes{netip.MustParsePrefix("192.0.2.0/24")},
		IPLookupStrategy: mtakit.IPv6ThenIPv4, EHLODomain: "me.example", AggressiveConnectionOpening: true,
		RefreshInterval: 16 * sec, RefreshStrategy: mtakit.RefreshTTL,
		DispatcherWakeupStrategy: mtakit.Relaxed, MaintainerWakeupStrategy: mtakit.Relaxed, ProviderName: "pn",
		RememberBrokenTLS: 3 * 86400 * sec, OpportunisticTLSReconnectOnFailedHandshake: true, UseLMTP: true,
		ReconnectStrategy: mtakit.TerminateSession, ReadyQPoolName: "rp",
		LowMemoryReductionPolicy: mtakit.NoShrink, NoMemoryReductionPolicy: mtakit.ShrinkData,
		TryNextHostOnTransportError: true, Ignore8BitChecks: true, DispatcherProgressWatchdogTimeout: 17 * sec,
	}
	if g, w := fmt.Sprintf("%+v", *got), fmt.Sprintf("%+v", want); stripPointers(g) != stripPointers(w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	for i, k := range []*mtakit.KeySource{got.TLSCertificate, got.TLSPrivateKey, got.AuthPlainPassword} {
		if w := []*mtakit.KeySource{want.TLSCertificate, want.TLSPrivateKey, want.AuthPlainPassword}[i]; k.File != w.File || string(k.Data) != string(w.Data) {
			t.Errorf("key %d is %v, want %v", i, k, w)
		}
	}
}

func stripPointers(s string) string {
	fields := strings.Fields(s)
	for i, f := range fields {
		if before, _, ok := strings.Cut(f, ":0x"); ok {
			fields[i] = before
		}
	}
	return strings.Join(fields, " ")
}

func TestBase(t *testing.T) {
	t.Parallel()
	base := mtakit.DefaultPathConfig()
	base.SMTPPort, base.MaxReady = 2525, 7
	s, err := shaping.Load(t.Context(), shaping.Config{Files: write(t, "[default]\nsmtp_port = 26\n"), Base: &base})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Path(t.Context(), "x.test", "s", nil)
	if err != nil || p.SMTPPort != 26 || p.MaxReady != 7 {
		t.Errorf("smtp_port = %d, max_ready = %d, %v", p.SMTPPort, p.MaxReady, err)
	}
}

func TestPathIsMemoised(t *testing.T) {
	t.Parallel()
	dns := sites{"a.example": {"mx.a.example"}, "b.test": {"mx.b.test"}, "c.test": {"mx.c.test"}}
	asked := 0
	router := mtakit.RouterFunc(func(ctx context.Context, d string) (*mtakit.Site, error) {
		asked++
		return dns.Route(ctx, d)
	})
	s := load(t, router, fileA+"[provider.Q]\nmatch=[{MXSuffix='.a.example'}]\n")
	path := func(domain, source string, site *mtakit.Site) *mtakit.PathConfig {
		t.Helper()
		p, err := s.Path(t.Context(), domain, source, site)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	asked = 0
	p := path("a.example", "ip1", dns.site(t, "a.example"))
	if asked != 0 {
		t.Error("the router was asked although the site is known")
	}
	if p != path("a.example", "ip1", dns.site(t, "a.example")) {
		t.Error("the same question has another answer")
	}
	if p.ProviderName != "P" {
		t.Errorf("provider is %q; the block for the source comes last, and it is P's", p.ProviderName)
	}
	q := path("a.example", "ip2", dns.site(t, "a.example"))
	if q.ProviderName != "Q" {
		t.Errorf("provider is %q", q.ProviderName)
	}
	if p == q {
		t.Error("sources with limits of their own share a configuration")
	}
	if path("b.test", "ip1", dns.site(t, "b.test")) != path("c.test", "ip9", dns.site(t, "c.test")) {
		t.Error("domains that nothing is said about do not share one configuration")
	}
	list, err := mtakit.ListSite("smart.host")
	if err != nil {
		t.Fatal(err)
	}
	if path("a.example", "ip2", list) != q || asked != 1 {
		t.Errorf("with a list of hosts the domain's own hosts count: the router was asked %d times", asked)
	}
	// A look-up that fails is made again.
	for range 2 {
		path("gone.test", "ip1", nil)
	}
	if asked != 3 {
		t.Errorf("the router was asked %d times, want 3", asked)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped"))
	if _, err := s.Path(ctx, "gone.test", "ip1", nil); err == nil || err.Error() != "stopped" {
		t.Errorf("err = %v", err)
	}
}
