package httpapi

import (
	"math"
	"strconv"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue"
)

// messageShape is what is told about a message but for its id and text.
type messageShape struct {
	Sender    string           `json:"sender"`
	Recipient any              `json:"recipient"` // one string, or an array
	Meta      map[string]any   `json:"meta"`
	Due       *timestamp       `json:"due,omitempty"`          // in the listing of a queue
	Tries     *int             `json:"num_attempts,omitempty"` // likewise
	Schedule  *mtakit.Schedule `json:"scheduling,omitempty"`
}

func messageOf(m *mtakit.Message) messageShape {
	s := messageShape{Sender: m.Sender, Recipient: m.To, Meta: m.Meta, Schedule: m.Schedule}
	if len(m.To) == 1 {
		s.Recipient = m.To[0]
	}
	if m.Meta == nil {
		s.Meta = map[string]any{}
	}
	return s
}

type scheduledReply struct {
	Name        string      `json:"queue_name"`
	Scheduled   int         `json:"num_scheduled"`
	Config      queueConfig `json:"queue_config"`
	Delayed     int         `json:"delayed_metric"`
	Now         timestamp   `json:"now"`
	LastChanged timestamp   `json:"last_changed"`
	// and messages
}

// queueConfig is the settings of a scheduled queue with what is not set as null.
type queueConfig struct {
	*mtakit.QueueSettings
	MaxRetryInterval *mtakit.Duration    `json:"max_retry_interval"`
	EgressPool       *string             `json:"egress_pool"`
	MaxMessageRate   *mtakit.Rate        `json:"max_message_rate"`
	Protocol         any                 `json:"protocol"`
	TimerwheelTick   *mtakit.Duration    `json:"timerwheel_tick_interval"`
	ProviderName     *string             `json:"provider_name"`
	ShrinkPolicy     []mtakit.ShrinkStep `json:"shrink_policy"`
}

func queueConfigOf(s *mtakit.QueueSettings) queueConfig {
	c := queueConfig{
		QueueSettings: s, MaxRetryInterval: unlessZero(s.MaxRetryInterval), EgressPool: unlessZero(s.EgressPool), MaxMessageRate: unlessZero(s.MaxMessageRate),
		TimerwheelTick: unlessZero(s.TimerwheelTick), ProviderName: unlessZero(s.ProviderName), ShrinkPolicy: s.ShrinkPolicy,
	}
	if s.ShrinkPolicy == nil {
		c.ShrinkPolicy = []mtakit.ShrinkStep{}
	}
	switch p := s.Protocol; {
	case p.Maildir != nil, p.Custom != nil, p.Xfer != nil:
		c.Protocol = p
	case p.Internal != "":
	default:
		c.Protocol = map[string]smtpProtocol{"smtp": smtpProtocolOf(p.SMTP)}
	}
	return c
}

type smtpProtocol struct {
	MXList []any `json:"mx_list"`
	Secure bool  `json:"treat_mx_list_as_secure"`
}

func smtpProtocolOf(p *mtakit.SMTPProtocol) smtpProtocol {
	s := smtpProtocol{MXList: []any{}}
	if p == nil {
		return s
	}
	s.Secure = p.TreatMXListAsSecure
	for _, e := range p.MXList {
		if e.Addr == "" {
			s.MXList = append(s.MXList, e.Name)
		} else {
			s.MXList = append(s.MXList, e)
		}
	}
	return s
}

// unlessZero is v, or nil, which is null in JSON, if it is not set.
func unlessZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// pathConfig is the configuration of a path with the keys that clients know, and no others; what is not set is null.
type pathConfig struct {
	*mtakit.PathConfig
	MaxConnectionRate   *mtakit.Rate      `json:"max_connection_rate"`
	MaxMessageRate      *mtakit.Rate      `json:"max_message_rate"`
	SourceSelectionRate *mtakit.Rate      `json:"source_selection_rate"`
	EHLODomain          *string           `json:"ehlo_domain"`
	TLSCertificate      *mtakit.KeySource `json:"tls_certificate"`
	TLSPrivateKey       *mtakit.KeySource `json:"tls_private_key"`
	CipherList          *string           `json:"openssl_cipher_list"`
	CipherSuites        *string           `json:"openssl_cipher_suites"`
	OpenSSLOptions      *string           `json:"openssl_options,omitempty"`      // never told
	RustlsCipherSuites  *string           `json:"rustls_cipher_suites,omitempty"` // never told
	RememberBrokenTLS   *mtakit.Duration  `json:"remember_broken_tls"`
	AuthUsername        *string           `json:"smtp_auth_plain_username"`
	AuthPassword        *mtakit.KeySource `json:"smtp_auth_plain_password"`
	ProviderName        *string           `json:"provider_name"`
	ReadyQPoolName      *string           `json:"readyq_pool_name"`
	ShutdownTimeout     *mtakit.Duration  `json:"system_shutdown_timeout"`
	WatchdogTimeout     *mtakit.Duration  `json:"dispatcher_progress_watchdog_timeout"`
}

func pathConfigOf(c *mtakit.PathConfig) pathConfig {
	return pathConfig{
		PathConfig: c, MaxConnectionRate: unlessZero(c.MaxConnectionRate), MaxMessageRate: unlessZero(c.MaxMessageRate),
		SourceSelectionRate: unlessZero(c.SourceSelectionRate), EHLODomain: unlessZero(c.EHLODomain), TLSCertificate: c.TLSCertificate, TLSPrivateKey: c.TLSPrivateKey,
		CipherList: unlessZero(c.OpenSSLCipherList), CipherSuites: unlessZero(c.OpenSSLCipherSuites), RememberBrokenTLS: unlessZero(c.RememberBrokenTLS),
		AuthUsername: unlessZero(c.AuthPlainUsername), AuthPassword: c.AuthPlainPassword, ProviderName: unlessZero(c.ProviderName),
		ReadyQPoolName: unlessZero(c.ReadyQPoolName), ShutdownTimeout: unlessZero(c.SystemShutdownTimeout), WatchdogTimeout: unlessZero(c.DispatcherProgressWatchdogTimeout),
	}
}

// mx is a site that was found by MX records.
type mx struct {
	SiteName        string              `json:"site_name"`
	ByPreference    map[string][]string `json:"by_preference"`
	IsMX            bool                `json:"is_mx"`
	IsDomainLiteral bool                `json:"is_domain_literal"`
	IsSecure        bool                `json:"is_secure"`
}

// mxOf is nil for a site that was configured, and for protocols without hosts.
func mxOf(s *mtakit.Site, p mtakit.Protocol, domain string) *mx {
	if s.Ordered || p.ReadySuffix() != "smtp_client" {
		return nil
	}
	m := &mx{SiteName: s.Name, ByPreference: make(map[string][]string), IsMX: true, IsSecure: len(s.Hosts) > 0}
	for _, h := range s.Hosts {
		pref := strconv.Itoa(int(h.Pref))
		m.ByPreference[pref] = append(m.ByPreference[pref], h.Name)
		m.IsSecure = m.IsSecure && h.Secure
		m.IsDomainLiteral = m.IsDomainLiteral || len(h.Addrs) > 0
	}
	implied := len(s.Hosts) == 1 && s.Hosts[0].Name == domain // the domain itself, for want of records
	m.IsMX = !m.IsDomainLiteral && !implied
	return m
}

type readyReply struct {
	Name        string       `json:"queue_name"`
	MX          *mx          `json:"mx"`
	Source      string       `json:"egress_source"`
	Pool        string       `json:"egress_pool"`
	Protocol    string       `json:"protocol"`
	State       readyState   `json:"state"`
	Path        pathConfig   `json:"path_config"`
	Constraints constraints  `json:"constraints"`
	Scheduled   *[]string    `json:"scheduled_queue_names,omitempty"`
	Dispatchers []dispatcher `json:"dispatchers"`
	Now         timestamp    `json:"now"`
}

type readyState struct {
	Ready       int              `json:"ready_count"`
	Connections int              `json:"connection_count"`
	Throttled   *heldState       `json:"connection_rate_throttled"`
	Limited     *heldState       `json:"connection_limited"`
	Suspended   *readySuspension `json:"suspended"`
	Watchdog    mtakit.Duration  `json:"watchdog_threshold"`
}

type heldState struct {
	Context string    `json:"context"`
	Since   timestamp `json:"since"`
}

func readyStateOf(st *queue.ReadyStatus, now time.Time) readyState {
	s := readyState{Ready: st.ReadyQueue.Ready, Connections: st.Connections, Watchdog: mtakit.Duration(st.Watchdog)}
	if h := st.Held; h != nil {
		held := &heldState{h.Context, timestamp(h.Since)}
		if h.State == queue.ConnectionLimited {
			s.Limited = held
		} else {
			s.Throttled = held
		}
	}
	if r := st.Suspended; r != nil {
		s.Suspended = readySuspensionOf(r, now)
	}
	return s
}

// dispatcher is a session of a ready queue.
type dispatcher struct {
	ID           string          `json:"session_id"`
	StartedAt    timestamp       `json:"started_at"`
	Age          mtakit.Duration `json:"age"`
	Phase        any             `json:"phase"` // a string, or an object with one key
	Detail       *string         `json:"detail"`
	InPhase      mtakit.Duration `json:"time_in_current_phase"`
	Delivered    int64           `json:"messages_delivered"`
	Transfailed  int64           `json:"messages_transfailed"`
	Failed       int64           `json:"messages_failed"`
	OnConnection int             `json:"delivered_this_connection"`
	Rate         float64         `json:"overall_rate_per_sec"`
}

func dispatcherOf(s *queue.SessionStatus, now time.Time) dispatcher {
	d := dispatcher{
		ID: s.ID, StartedAt: timestamp(now.Add(-s.Age)), Age: mtakit.Duration(s.Age), Phase: s.Phase, Detail: unlessZero(s.Detail), InPhase: mtakit.Duration(s.InPhase),
		Delivered: s.Delivered, Transfailed: s.Deferred, Failed: s.Failed, OnConnection: s.OnConnection,
	}
	if s.Lease != "" {
		d.Phase = map[string]map[string]string{s.Phase: {"label": s.Lease}}
	}
	if s.Age > 0 {
		d.Rate = float64(s.Delivered+s.Deferred+s.Failed) / s.Age.Seconds()
	}
	return d
}

type constraints struct {
	Dispatchers     ceiling  `json:"max_concurrent_dispatchers"`
	Messages        *ceiling `json:"max_message_rate"`
	Declared        *string  `json:"max_message_rate_declared"`
	Connections     *ceiling `json:"max_connection_rate"`
	SourceSelection *ceiling `json:"max_source_selection_rate"`
}

type ceiling struct {
	Value   float64       `json:"value"`
	Source  ceilingSource `json:"source"`
	Display string        `json:"display"`
}

type ceilingSource struct {
	Kind queue.CeilingKind `json:"kind"`
	Name *string           `json:"name,omitempty"`
}

func constraintsOf(c queue.Ceilings) constraints {
	return constraints{
		*ceilingOf(&c.MaxConcurrentDispatchers), ceilingOf(c.MaxMessageRate), unlessZero(c.DeclaredMessageRate), ceilingOf(c.MaxConnectionRate),
		ceilingOf(c.MaxSourceSelectionRate),
	}
}

func ceilingOf(c *queue.Ceiling) *ceiling {
	if c == nil {
		return nil
	}
	v := c.Value
	if math.IsInf(v, 0) || math.IsNaN(v) { // there is no JSON for them
		v = math.MaxFloat64
	}
	return &ceiling{v, ceilingSource{c.By, unlessZero(c.Name)}, c.Display}
}

type resolveReply struct {
	Domain      string      `json:"domain"`
	Source      string      `json:"source"`
	MX          *mx         `json:"mx"`
	QueueName   string      `json:"queue_name"`
	Queue       queueConfig `json:"queue_config"`
	Path        pathConfig  `json:"path_config"`
	Constraints constraints `json:"constraints"`
}
