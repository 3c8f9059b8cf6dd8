package mtakit

import (
	"strings"
	"time"
)

// QueueSettings is what policy decides for a scheduled queue. Its JSON names are those of KumoMTA's queue configuration; start
// from [DefaultQueueSettings].
type QueueSettings struct {
	RetryInterval    Duration        `json:"retry_interval"`              // base of the exponential backoff
	MaxRetryInterval Duration        `json:"max_retry_interval,omitzero"` // cap; 0 is none
	MaxAge           Duration        `json:"max_age"`                     // lifetime from the message's creation
	EgressPool       string          `json:"egress_pool,omitempty"`       // "" is "unspecified"
	MaxMessageRate   Rate            `json:"max_message_rate,omitzero"`   // from the scheduled into the ready queue
	Protocol         Protocol        `json:"protocol"`
	ReapInterval     Duration        `json:"reap_interval"` // an empty queue is forgotten after that long
	RefreshInterval  Duration        `json:"refresh_interval"`
	RefreshStrategy  RefreshStrategy `json:"refresh_strategy"`
	Strategy         string          `json:"strategy"` // of scheduling; one wheel serves all of them
	TimerwheelTick   Duration        `json:"timerwheel_tick_interval,omitzero"`
	ProviderName     string          `json:"provider_name,omitempty"`

	// What KumoMTA does not have: how the queue shares a ready queue with others. Those of a higher priority go first, all but one message in eight; of the
	// same priority each has Weight transactions at its turn; 0 is 1.
	Priority int `json:"priority,omitempty"`
	Weight   int `json:"weight,omitempty"`

	ShrinkPolicy []ShrinkStep `json:"shrink_policy,omitempty"`
}

// ShrinkStep says what stays in memory of a message that waits for Interval or longer.
type ShrinkStep struct {
	Interval Duration     `json:"interval"`
	Policy   ShrinkPolicy `json:"policy"`
}

// DefaultQueueSettings is what holds where policy says nothing.
func DefaultQueueSettings() QueueSettings {
	return QueueSettings{
		RetryInterval: Duration(20 * time.Minute), MaxAge: Duration(7 * day),
		ReapInterval: Duration(10 * time.Minute), RefreshInterval: Duration(time.Minute), RefreshStrategy: RefreshTTL,
		Strategy: "SingletonTimerWheel",
	}
}

// Protocol is how a queue's mail is delivered; the zero value is SMTP by MX. At most one field is set.
type Protocol struct {
	SMTP    *SMTPProtocol    `json:"smtp,omitempty"`
	Maildir *MaildirProtocol `json:"maildir,omitempty"`
	Custom  *CustomProtocol  `json:"custom_lua,omitempty"`
	Xfer    *XferProtocol    `json:"xfer,omitempty"`

	// Internal is one that only programs can choose, as ready queues' names have it: "httpinject:generator". An Egress has to know it.
	Internal string `json:"-"`
}

// SMTPProtocol sends to a list of hosts; an empty list is by MX.
type SMTPProtocol struct {
	MXList              []MXListEntry `json:"mx_list,omitempty"`
	TreatMXListAsSecure bool          `json:"treat_mx_list_as_secure,omitempty"`
}

// MXListEntry is a host as [ParseHost] reads it, or one with its address.
type MXListEntry struct {
	Name string `json:"name"`
	Addr string `json:"addr,omitempty"` // IP or IP:port; "" is: look the name up
}

// MaildirProtocol writes to maildirs.
type MaildirProtocol struct {
	Path     string `json:"maildir_path"`
	DirMode  uint32 `json:"dir_mode,omitempty"`
	FileMode uint32 `json:"file_mode,omitempty"`
}

// CustomProtocol is delivery by the application.
type CustomProtocol struct {
	Constructor     string   `json:"constructor"`
	BatchSize       int      `json:"batch_size"`
	MinBatchSize    int      `json:"min_batch_size"`
	MaxBatchLatency Duration `json:"max_batch_latency"`
}

// XferProtocol moves messages to another node.
type XferProtocol struct {
	Target string `json:"target"`
}

// ReadySuffix is the part of a ready queue's name after the @.
func (p Protocol) ReadySuffix() string {
	switch {
	case p.Maildir != nil:
		return "maildir:" + p.Maildir.Path
	case p.Custom != nil:
		return "lua:" + p.Custom.Constructor
	case p.Xfer != nil:
		return "xfer"
	case p.Internal != "":
		return p.Internal
	}
	return "smtp_client"
}

// MetricsName is the name of the protocol in metrics: the suffix up to a colon.
func (p Protocol) MetricsName() string {
	name, _, _ := strings.Cut(p.ReadySuffix(), ":")
	return name
}
