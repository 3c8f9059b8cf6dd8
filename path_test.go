package mtakit_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
)

// pathFields are the names of KumoMTA's egress path configuration, with the defaults as they are written; "" is: not written.
var pathFields = map[string]string{
	"connection_limit": `{"limit":32,"force_local":false}`, "additional_connection_limits": `{}`, "max_connection_rate": ``, "max_message_rate": ``,
	"additional_message_rate_throttles": `{}`, "source_selection_rate": ``, "additional_source_selection_rates": `{}`,
	"max_deliveries_per_connection": `1024`, "max_recipients_per_batch": `100`, "max_ready": `1024`,
	"consecutive_connection_failures_before_delay": `100`, "smtp_port": `25`, "ehlo_domain": ``, "use_lmtp": `false`,
	"enable_tls": `"Opportunistic"`, "enable_mta_sts": `true`, "enable_dane": `false`, "enable_pipelining": `true`, "enable_rset": `true`,
	"tls_prefer_openssl": `false`, "tls_certificate": ``, "tls_private_key": ``, "openssl_cipher_list": ``, "openssl_cipher_suites": ``,
	"openssl_options": ``, "rustls_cipher_suites": ``, "remember_broken_tls": ``,
	"opportunistic_tls_reconnect_on_failed_handshake": `false`, "smtp_auth_plain_username": ``, "smtp_auth_plain_password": ``,
	"allow_smtp_auth_plain_without_tls": `false`, "allow_smtp_auth_plain_without_valid_certificate": `false`,
	"prohibited_hosts": `["127.0.0.0/8","::1","0.0.0.0","::"]`, "skip_hosts": `[]`, "ip_lookup_strategy": `"Ipv4AndIpv6"`,
	"reconnect_strategy": `"ConnectNextHost"`, "try_next_host_on_transport_error": `false`, "ignore_8bit_checks": `false`,
	"refresh_interval": `"1m"`, "refresh_strategy": `"Ttl"`, "dispatcher_wakeup_strategy": `"Aggressive"`,
	"maintainer_wakeup_strategy": `"Aggressive"`, "low_memory_reduction_policy": `"ShrinkDataAndMeta"`,
	"no_memory_reduction_policy": `"ShrinkDataAndMeta"`, "provider_name": ``, "readyq_pool_name": ``, "system_shutdown_timeout": ``,
	"dispatcher_progress_watchdog_timeout": ``, "aggressive_connection_opening": `false`,
	"connect_timeout": `"1m"`, "banner_timeout": `"1m"`, "ehlo_timeout": `"5m"`, "starttls_timeout": `"5s"`, "auth_timeout": `"1m"`,
	"mail_from_timeout": `"5m"`, "rcpt_to_timeout": `"5m"`, "data_timeout": `"5m"`, "data_dot_timeout": `"5m"`, "rset_timeout": `"5s"`, "idle_timeout": `"5s"`,
}

func TestPathConfigNames(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[mtakit.PathConfig]()
	var names []string
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if _, ok := pathFields[name]; !ok {
			t.Errorf("field %s is named %q, which is not in the reference", typ.Field(i).Name, name)
		}
		names = append(names, name)
	}
	for name := range pathFields {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing", name)
		}
	}
	b, err := json.Marshal(mtakit.DefaultPathConfig())
	var got map[string]json.RawMessage
	if err2 := json.Unmarshal(b, &got); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for name, want := range pathFields {
		if string(got[name]) != want {
			t.Errorf("the default of %s is %s, want %s", name, got[name], want)
		}
	}
}

func TestPathConfigJSON(t *testing.T) {
	t.Parallel()
	want := mtakit.DefaultPathConfig()
	want.AdditionalConnectionLimits = mtakit.NamedLimits{{Name: "a", Limit: mtakit.Limit{N: 3}}, {Name: "b", Limit: mtakit.Limit{N: 1, Local: true}}}
	want.AdditionalMessageRateThrottles = mtakit.NamedRates{{Name: "x", Rate: mtakit.Rate{N: 5, Per: time.Hour}}}
	want.MaxMessageRate = mtakit.Rate{N: 100, Per: time.Second, Burst: 2}
	want.SkipHosts = mtakit.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}
	want.TLSCertificate = &mtakit.KeySource{File: "cert.pem"}
	want.RustlsCipherSuites = []string{"A", "B"}
	want.RememberBrokenTLS = mtakit.Duration(time.Hour)
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got mtakit.PathConfig
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || string(again) != string(b) {
		t.Errorf("%s\nbecame\n%s, %v", b, again, err)
	}
	if err := json.Unmarshal([]byte(`{"additional_connection_limits":{"z":1,"a":"local:2"},"additional_source_selection_rates":{"q":"1/s","b":"2/m"}}`), &got); err != nil {
		t.Fatal(err)
	}
	if l := got.AdditionalConnectionLimits; len(l) != 2 || l[0].Name != "a" || !l[0].Limit.Local || l[1].Limit.N != 1 {
		t.Errorf("limits are %+v", l)
	}
	if r := got.AdditionalSourceSelectionRates; len(r) != 2 || r[0].Name != "b" || r[1].Rate.N != 1 {
		t.Errorf("rates are %+v", r)
	}
	for _, in := range []string{
		`{"additional_connection_limits":{"a":0}}`, `{"additional_message_rate_throttles":{"a":"x"}}`, `{"prohibited_hosts":["x"]}`,
		`{"prohibited_hosts":7}`, `{"tls_private_key":{"vault":"x"}}`, `{"connect_timeout":"soon"}`, `{"max_message_rate":"1"}`,
	} {
		if err := json.Unmarshal([]byte(in), new(mtakit.PathConfig)); err == nil {
			t.Errorf("%s is read", in)
		}
	}
}

func TestPathConfigLifetime(t *testing.T) {
	t.Parallel()
	c := mtakit.DefaultPathConfig()
	if got := c.TotalConnectionLifetime(); got != 1690*time.Second {
		t.Errorf("TotalConnectionLifetime is %v, want 1690s", got)
	}
	if got := c.TotalMessageSend(); got != 1200*time.Second {
		t.Errorf("TotalMessageSend is %v, want 1200s", got)
	}
}

func TestKeySource(t *testing.T) {
	t.Parallel()
	var k mtakit.KeySource
	if err := json.Unmarshal([]byte(`{"key_data":"secret"}`), &k); err != nil || string(k.Data) != "secret" || k.File != "" {
		t.Errorf("read as %+v, %v", k, err)
	}
	if b, err := json.Marshal(&k); err != nil || strings.Contains(string(b), "secret") {
		t.Errorf("written as %s, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`"key.pem"`), &k); err != nil || k.File != "key.pem" || k.Data != nil {
		t.Errorf("read as %+v, %v", k, err)
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	var p mtakit.Prefixes
	if err := json.Unmarshal([]byte(`["10.1.2.3/8","192.0.2.1","2001:db8::/32","::1"]`), &p); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Strings(), " "); got != "10.0.0.0/8 192.0.2.1 2001:db8::/32 ::1" {
		t.Errorf("Strings = %s", got)
	}
	for addr, want := range map[string]bool{
		"10.255.0.1": true, "11.0.0.1": false, "192.0.2.1": true, "192.0.2.2": false, "::ffff:10.0.0.1": true, "2001:db8:1::": true,
		"2001:db9::": false, "::1": true, "fe80::1%eth0": false, "::": false,
	} {
		if got := p.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Contains(%s) = %v", addr, got)
		}
	}
	for addr, want := range map[string]bool{"127.9.9.9": true, "::1": true, "0.0.0.0": true, "::": true, "::ffff:127.0.0.1": true, "192.0.2.1": false} {
		if got := mtakit.DefaultProhibitedHosts().Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("the default prohibits %s: %v", addr, got)
		}
	}
	if mtakit.Prefixes(nil).Contains(netip.Addr{}) {
		t.Error("nothing contains something")
	}
	if b, err := json.Marshal(mtakit.Prefixes(nil)); err != nil || string(b) != "[]" {
		t.Errorf("nil is written as %s, %v", b, err)
	}
}

// FuzzParsePrefix: what is printed is read as it was.
func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::1/32", "::ffff:1.2.3.4/100", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := mtakit.ParsePrefix(s)
		if err != nil {
			return
		}
		printed := mtakit.Prefixes{p}.Strings()[0]
		if again, err := mtakit.ParsePrefix(printed); err != nil || again != p {
			t.Fatalf("%q is %v, printed as %s, read as %v, %v", s, p, printed, again, err)
		}
		if !(mtakit.Prefixes{p}).Contains(p.Addr()) {
			t.Fatalf("%v does not contain its own address", p)
		}
	})
}
