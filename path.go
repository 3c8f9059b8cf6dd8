package mtakit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"sort"
	"time"
)

// Path is one way out, from a source to a site, with the limits in force. It is immutable; a changed configuration makes a
// new one.
type Path struct {
	Name     string // of the ready queue: source->site@protocol
	Source   *Source
	Site     *Site
	Protocol Protocol
	*PathConfig
}

// PathConfig is what shaping decides for a path. Its JSON names are those of KumoMTA's egress path configuration; start from
// [DefaultPathConfig], the zero value has every limit at nothing.
type PathConfig struct {
	// Limits. Additional ones are shared by every path that names them.
	ConnectionLimit                          Limit       `json:"connection_limit"`
	AdditionalConnectionLimits               NamedLimits `json:"additional_connection_limits"`
	MaxConnectionRate                        Rate        `json:"max_connection_rate,omitzero"`
	MaxMessageRate                           Rate        `json:"max_message_rate,omitzero"`
	AdditionalMessageRateThrottles           NamedRates  `json:"additional_message_rate_throttles"`
	SourceSelectionRate                      Rate        `json:"source_selection_rate,omitzero"`
	AdditionalSourceSelectionRates           NamedRates  `json:"additional_source_selection_rates"`
	MaxDeliveriesPerConnection               int         `json:"max_deliveries_per_connection"`
	MaxRecipientsPerBatch                    int         `json:"max_recipients_per_batch"`
	MaxReady                                 int         `json:"max_ready"`
	ConsecutiveConnectionFailuresBeforeDelay int         `json:"consecutive_connection_failures_before_delay"`

	// Timeouts, one per phase of a session.
	ConnectTimeout  Duration `json:"connect_timeout"`
	BannerTimeout   Duration `json:"banner_timeout"`
	EHLOTimeout     Duration `json:"ehlo_timeout"`
	StartTLSTimeout Duration `json:"starttls_timeout"`
	AuthTimeout     Duration `json:"auth_timeout"`
	MailTimeout     Duration `json:"mail_from_timeout"`
	RcptTimeout     Duration `json:"rcpt_to_timeout"`
	DataTimeout     Duration `json:"data_timeout"`
	DataDotTimeout  Duration `json:"data_dot_timeout"`
	RsetTimeout     Duration `json:"rset_timeout"`
	IdleTimeout     Duration `json:"idle_timeout"`

	// The connection.
	SMTPPort                    uint16            `json:"smtp_port"`
	EHLODomain                  string            `json:"ehlo_domain,omitempty"`
	UseLMTP                     bool              `json:"use_lmtp"`
	EnablePipelining            bool              `json:"enable_pipelining"`
	EnableRset                  bool              `json:"enable_rset"`
	Ignore8BitChecks            bool              `json:"ignore_8bit_checks"`
	ProhibitedHosts             Prefixes          `json:"prohibited_hosts"`
	SkipHosts                   Prefixes          `json:"skip_hosts"`
	IPLookupStrategy            IPLookupStrategy  `json:"ip_lookup_strategy"`
	ReconnectStrategy           ReconnectStrategy `json:"reconnect_strategy"`
	TryNextHostOnTransportError bool              `json:"try_next_host_on_transport_error"`
	AggressiveConnectionOpening bool              `json:"aggressive_connection_opening"`

	// TLS and authentication.
	EnableTLS                                  TLSMode    `json:"enable_tls"`
	EnableMTASTS                               bool       `json:"enable_mta_sts"`
	EnableDANE                                 bool       `json:"enable_dane"`
	TLSPreferOpenSSL                           bool       `json:"tls_prefer_openssl"`
	TLSCertificate                             *KeySource `json:"tls_certificate,omitempty"`
	TLSPrivateKey                              *KeySource `json:"tls_private_key,omitempty"`
	OpenSSLCipherList                          string     `json:"openssl_cipher_list,omitempty"`
	OpenSSLCipherSuites                        string     `json:"openssl_cipher_suites,omitempty"`
	OpenSSLOptions                             string     `json:"openssl_options,omitempty"`
	RustlsCipherSuites                         []string   `json:"rustls_cipher_suites,omitempty"`
	RememberBrokenTLS                          Duration   `json:"remember_broken_tls,omitzero"`
	OpportunisticTLSReconnectOnFailedHandshake bool       `json:"opportunistic_tls_reconnect_on_failed_handshake"`
	AuthPlainUsername                          string     `json:"smtp_auth_plain_username,omitempty"`
	AuthPlainPassword                          *KeySource `json:"smtp_auth_plain_password,omitempty"`
	AllowAuthPlainWithoutTLS                   bool       `json:"allow_smtp_auth_plain_without_tls"`
	AllowAuthPlainWithoutValidCertificate      bool       `json:"allow_smtp_auth_plain_without_valid_certificate"`

	// Upkeep.
	ProviderName                      string          `json:"provider_name,omitempty"`
	RefreshInterval                   Duration        `json:"refresh_interval"`
	RefreshStrategy                   RefreshStrategy `json:"refresh_strategy"`
	DispatcherWakeupStrategy          WakeupStrategy  `json:"dispatcher_wakeup_strategy"`
	MaintainerWakeupStrategy          WakeupStrategy  `json:"maintainer_wakeup_strategy"`
	LowMemoryReductionPolicy          ShrinkPolicy    `json:"low_memory_reduction_policy"`
	NoMemoryReductionPolicy           ShrinkPolicy    `json:"no_memory_reduction_policy"`
	ReadyQPoolName                    string          `json:"readyq_pool_name,omitempty"`
	SystemShutdownTimeout             Duration        `json:"system_shutdown_timeout,omitzero"`
	DispatcherProgressWatchdogTimeout Duration        `json:"dispatcher_progress_watchdog_timeout,omitzero"`
}

// DefaultPathConfig is what holds where shaping says nothing.
func DefaultPathConfig() PathConfig {
	const s = Duration(time.Second)
	return PathConfig{
		ConnectionLimit: Limit{N: 32}, MaxDeliveriesPerConnection: 1024, MaxRecipientsPerBatch: 100, MaxReady: 1024,
		ConsecutiveConnectionFailuresBeforeDelay: 100,
		ConnectTimeout:                           60 * s, BannerTimeout: 60 * s, EHLOTimeout: 300 * s, StartTLSTimeout: 5 * s, AuthTimeout: 60 * s,
		MailTimeout: 300 * s, RcptTimeout: 300 * s, DataTimeout: 300 * s, DataDotTimeout: 300 * s, RsetTimeout: 5 * s, IdleTimeout: 5 * s,
		SMTPPort: 25, EnablePipelining: true, EnableRset: true,
		ProhibitedHosts:  DefaultProhibitedHosts(),
		IPLookupStrategy: IPv4AndIPv6, ReconnectStrategy: ConnectNextHost,
		EnableTLS: TLSOpportunistic, EnableMTASTS: true,
		RefreshInterval: 60 * s, RefreshStrategy: RefreshTTL, DispatcherWakeupStrategy: Aggressive, MaintainerWakeupStrategy: Aggressive,
		LowMemoryReductionPolicy: ShrinkDataAndMeta, NoMemoryReductionPolicy: ShrinkDataAndMeta,
	}
}

// DefaultProhibitedHosts is loopback and the unspecified addresses: mail that leads there would come back to this machine.
func DefaultProhibitedHosts() Prefixes {
	return Prefixes{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("::/128")}
}

// TotalConnectionLifetime is the longest that a connection lives without news; leases are taken for that long.
func (c *PathConfig) TotalConnectionLifetime() time.Duration {
	return (c.ConnectTimeout + c.BannerTimeout + c.EHLOTimeout + c.AuthTimeout + c.StartTLSTimeout + c.IdleTimeout).Std() + c.TotalMessageSend()
}

// TotalMessageSend is the longest that the transaction of one message takes.
func (c *PathConfig) TotalMessageSend() time.Duration {
	return (c.MailTimeout + c.RcptTimeout + c.DataTimeout + c.DataDotTimeout).Std()
}

// TLSMode says whether a session must, may or must not be encrypted, and whether the certificate is checked.
type TLSMode string

// Modes of TLS. Those named Insecure don't check the certificate.
const (
	TLSOpportunistic         TLSMode = "Opportunistic"
	TLSOpportunisticInsecure TLSMode = "OpportunisticInsecure"
	TLSRequired              TLSMode = "Required"
	TLSRequiredInsecure      TLSMode = "RequiredInsecure"
	TLSDisabled              TLSMode = "Disabled"
)

// IPLookupStrategy says which addresses of a host are used.
type IPLookupStrategy string

// Strategies for addresses. With "Then" the second family is used only if the first has none.
const (
	IPv4Only     IPLookupStrategy = "Ipv4Only"
	IPv6Only     IPLookupStrategy = "Ipv6Only"
	IPv4AndIPv6  IPLookupStrategy = "Ipv4AndIpv6"
	IPv6ThenIPv4 IPLookupStrategy = "Ipv6ThenIpv4"
	IPv4ThenIPv6 IPLookupStrategy = "Ipv4ThenIpv6"
)

// ReconnectStrategy says where a session goes on after its connection broke during a delivery.
type ReconnectStrategy string

// Strategies for broken connections.
const (
	TerminateSession  ReconnectStrategy = "TerminateSession"
	ReconnectSameHost ReconnectStrategy = "ReconnectSameHost"
	ConnectNextHost   ReconnectStrategy = "ConnectNextHost"
)

// RefreshStrategy says when settings are asked for again: after a time, or when the configuration epoch moves.
type RefreshStrategy string

// Strategies of refresh.
const (
	RefreshTTL   RefreshStrategy = "Ttl"
	RefreshEpoch RefreshStrategy = "Epoch"
)

// WakeupStrategy says how eagerly sessions are woken and opened.
type WakeupStrategy string

// Strategies of waking.
const (
	Aggressive WakeupStrategy = "Aggressive"
	Relaxed    WakeupStrategy = "Relaxed"
)

// ShrinkPolicy says what of a message is let go from memory.
type ShrinkPolicy string

// Policies of letting go.
const (
	ShrinkDataAndMeta ShrinkPolicy = "ShrinkDataAndMeta"
	ShrinkData        ShrinkPolicy = "ShrinkData"
	NoShrink          ShrinkPolicy = "NoShrink"
)

// Source is an address that mail leaves from. "unspecified" has no address: the system chooses.
type Source struct {
	Name          string     `json:"name"`
	EHLODomain    string     `json:"ehlo_domain,omitempty"` // used where the path has none
	SourceAddress netip.Addr `json:"source_address,omitzero"`
	RemotePort    uint16     `json:"remote_port,omitempty"` // overrides every other destination port

	HAProxyServer        string     `json:"ha_proxy_server,omitempty"` // host:port; engaged with the address below
	HAProxySourceAddress netip.Addr `json:"ha_proxy_source_address,omitzero"`
	SOCKS5Server         string     `json:"socks5_proxy_server,omitempty"` // host:port; engaged with the address below
	SOCKS5SourceAddress  netip.Addr `json:"socks5_proxy_source_address,omitzero"`
	SOCKS5Username       string     `json:"socks5_proxy_username,omitempty"`
	SOCKS5Password       *KeySource `json:"socks5_proxy_password,omitempty"`

	SuspendWhenUnplumbed      *HealthRule `json:"suspend_when_unplumbed,omitempty"`
	SuspendWhenProxyUnhealthy *HealthRule `json:"suspend_when_proxy_unhealthy,omitempty"`

	TTL Duration `json:"ttl"`
}

// HealthRule suspends a source for Duration after one failure, or after as many as Threshold says.
type HealthRule struct {
	Threshold Rate // zero is: at once
	Duration  Duration
}

// Unspecified is the name of the source, and of the pool with it alone, that exist without configuration.
const Unspecified = "unspecified"

// Pool is a set of sources with weights.
type Pool struct {
	Name    string      `json:"name"`
	Entries []PoolEntry `json:"entries"`
	TTL     Duration    `json:"ttl"`
}

// PoolEntry is a source in a pool. A weight of 0 takes it out of use.
type PoolEntry struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"`
}

// KeySource says where secret bytes are: in a file, or right here.
type KeySource struct {
	File string // path
	Data []byte // if File is ""
}

// NamedLimits are limits under names of their own, in the order of the configuration. In JSON they are an object.
type NamedLimits []NamedLimit

// NamedLimit is a limit shared by all that use its name.
type NamedLimit struct {
	Name  string
	Limit Limit
}

// NamedRates are rates under names of their own, in the order of the configuration. In JSON they are an object.
type NamedRates []NamedRate

// NamedRate is a rate shared by all that use its name.
type NamedRate struct {
	Name string
	Rate Rate
}

// MarshalJSON writes an object.
func (n NamedLimits) MarshalJSON() ([]byte, error) {
	return marshalOrdered(len(n), func(i int) (string, any) { return n[i].Name, n[i].Limit })
}

// MarshalJSON writes an object.
func (n NamedRates) MarshalJSON() ([]byte, error) {
	return marshalOrdered(len(n), func(i int) (string, any) { return n[i].Name, n[i].Rate })
}

// UnmarshalJSON reads an object; the entries are ordered by name.
func (n *NamedLimits) UnmarshalJSON(b []byte) error {
	var m map[string]Limit
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*n = nil
	for name, l := range m {
		*n = append(*n, NamedLimit{name, l})
	}
	sort.Slice(*n, func(i, j int) bool { return (*n)[i].Name < (*n)[j].Name })
	return nil
}

// UnmarshalJSON reads an object; the entries are ordered by name.
func (n *NamedRates) UnmarshalJSON(b []byte) error {
	var m map[string]Rate
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*n = nil
	for name, r := range m {
		*n = append(*n, NamedRate{name, r})
	}
	sort.Slice(*n, func(i, j int) bool { return (*n)[i].Name < (*n)[j].Name })
	return nil
}

func marshalOrdered(n int, at func(int) (string, any)) ([]byte, error) {
	b := []byte{'{'}
	for i := range n {
		name, v := at(i)
		if i > 0 {
			b = append(b, ',')
		}
		k, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		e, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, k...), ':'), e...)
	}
	return append(b, '}'), nil
}

// Prefixes is a set of networks. In JSON single addresses are written without their prefix length.
type Prefixes []netip.Prefix

// ParsePrefix reads an address or a network in CIDR form. IPv4 in IPv6 form becomes IPv4.
func ParsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("mtakit: %q is neither an address nor a network in CIDR form", s)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// Contains says whether a is in one of the networks; IPv4 addresses in IPv6 form count as IPv4.
func (p Prefixes) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range p {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// Strings lists the networks; single addresses are written without their prefix length.
func (p Prefixes) Strings() []string {
	s := make([]string, len(p))
	for i, n := range p {
		if s[i] = n.String(); n.IsSingleIP() {
			s[i] = n.Addr().String()
		}
	}
	return s
}

// MarshalJSON writes an array of strings.
func (p Prefixes) MarshalJSON() ([]byte, error) { return json.Marshal(p.Strings()) }

// UnmarshalJSON reads an array of addresses and networks.
func (p *Prefixes) UnmarshalJSON(b []byte) error {
	var s []string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*p = nil
	for _, t := range s {
		n, err := ParsePrefix(t)
		if err != nil {
			return err
		}
		*p = append(*p, n)
	}
	return nil
}

// MarshalJSON writes the path of the file; data is not shown.
func (k *KeySource) MarshalJSON() ([]byte, error) {
	if k.File != "" {
		return json.Marshal(k.File)
	}
	return []byte(`{"key_data":"(hidden)"}`), nil
}

// UnmarshalJSON reads the path of a file, or an object with key_data.
func (k *KeySource) UnmarshalJSON(b []byte) error {
	*k = KeySource{}
	if b[0] == '"' {
		return json.Unmarshal(b, &k.File)
	}
	var v struct {
		KeyData *string `json:"key_data"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil || v.KeyData == nil {
		return fmt.Errorf("mtakit: a key is the path of a file or {key_data = …}; other places are not supported")
	}
	k.Data = []byte(*v.KeyData)
	return nil
}
