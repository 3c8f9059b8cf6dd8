package smtpserver

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"time"
)

// Options are what a listener block says, and what changes it for some clients. A zero field leaves what the block around it, or the default,
// says; booleans are pointers (new(true)) so that an inner block can switch off. A value that is out of range is an error of Serve, or
// in a block of [Policy.Options] a fault of the policy.
//
// A block is applied like this: its fields, its Meta, then the block of Peer with the longest prefix that holds the client's address, then
// that of Via for our own. So Via beats Peer, and both beat the block they are in.
type Options struct {
	Hostname      string         // in banner, replies and Received; default os.Hostname
	Banner        string         // after the host name; default "KumoMTA"
	RelayHosts    []netip.Prefix // clients that may send anywhere; nil is 127.0.0.1 and ::1, an empty slice nobody
	BatchHandling BatchHandling  // default BifurcateAlways

	ClientTimeout         time.Duration // for a command, and for each read of data; default 60s
	DataProcessingTimeout time.Duration // for each callback, and from the end of the data to the reply; default 300s

	MaxMessagesPerConnection int         // counts recipients; default 10000
	MaxRecipientsPerMessage  int         // default 1024
	MaxMessageSize           int64       // octets without stuffed dots; default 20 MiB
	DataBufferSize           int         // the largest single read of data; default 128 KiB
	LineLengthHardLimit      int         // octets of a command or a line of data, without CRLF; default 998
	InvalidLineEndings       LineEndings // default Deny

	DeferredSpool *bool // accept as Volatile: a crash loses what was not yet delivered
	// DeferredQueue skips Policy.Received and puts the message into [mtakit.DeferredInjectQueue], where queue.Policy.DeferredInject does what
	// Received would have done: reception becomes as fast as it can be.
	DeferredQueue *bool
	AllowXCLIENT  *bool // default false
	// RequireProxyProtocol makes the PROXY header of HAProxy (1 or 2) a must; see [Server.ProxyFrom]. It is looked at before
	// Policy.Options is asked.
	RequireProxyProtocol *bool

	TraceHeaders *TraceHeaders // default Received and supplemental header

	// TLS is for STARTTLS; nil is a self-signed certificate, made when it is first needed. [KeyPair] reloads a certificate from files. Set
	// ClientCAs with ClientAuth tls.VerifyClientCertIfGiven to learn who the client is.
	TLS *tls.Config

	Meta map[string]any // merged into the metadata of the connection, until PROXY or XCLIENT tells of another client

	Peer map[netip.Prefix]Options // by the client's address
	Via  map[netip.Prefix]Options // by our address
}

// BatchHandling is how a transaction with several recipients becomes messages.
type BatchHandling uint8

// Ways of handling batches.
const (
	BatchInherit    BatchHandling = iota
	BifurcateAlways               // one message for each recipient, in order
	BatchByDomain                 // one message for each domain, in order of their first recipients
)

// LineEndings is what happens to data with a CR or LF that is not part of a CRLF.
type LineEndings uint8

// Ways of handling bare CR and LF.
const (
	LineEndingsInherit LineEndings = iota
	Deny                           // refuse with 552
	Allow                          // keep
	Fix                            // make each a CRLF
)

// TraceHeaders says what is put in front of a message.
type TraceHeaders struct {
	Received     bool     // a Received field (RFC 5321, 4.4), before Policy.Received is asked
	Supplemental bool     // a field that names recipient and metadata, to know returned mail by; after Policy.Received
	HeaderName   string   // of the supplemental field; "" is X-KumoRef
	IncludeMeta  []string // names of metadata in the supplemental field; null where unset
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}

func defaultOptions() Options {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return Options{
		Hostname: host, Banner: "KumoMTA", RelayHosts: loopback, BatchHandling: BifurcateAlways,
		ClientTimeout: time.Minute, DataProcessingTimeout: 5 * time.Minute,
		MaxMessagesPerConnection: 10000, MaxRecipientsPerMessage: 1024, MaxMessageSize: 20 << 20, DataBufferSize: 128 << 10,
		LineLengthHardLimit: 998, InvalidLineEndings: Deny,
		TraceHeaders: &TraceHeaders{Received: true, Supplemental: true},
	}
}

// apply lays b over o, for a client at peer that reached us at via.
func (o *Options) apply(b *Options, peer, via netip.Addr) {
	set(&o.Hostname, b.Hostname)
	set(&o.Banner, b.Banner)
	if b.RelayHosts != nil {
		o.RelayHosts = b.RelayHosts
	}
	set(&o.BatchHandling, b.BatchHandling)
	set(&o.ClientTimeout, b.ClientTimeout)
	set(&o.DataProcessingTimeout, b.DataProcessingTimeout)
	set(&o.MaxMessagesPerConnection, b.MaxMessagesPerConnection)
	set(&o.MaxRecipientsPerMessage, b.MaxRecipientsPerMessage)
	set(&o.MaxMessageSize, b.MaxMessageSize)
	set(&o.DataBufferSize, b.DataBufferSize)
	set(&o.LineLengthHardLimit, b.LineLengthHardLimit)
	set(&o.InvalidLineEndings, b.InvalidLineEndings)
	set(&o.DeferredSpool, b.DeferredSpool)
	set(&o.DeferredQueue, b.DeferredQueue)
	set(&o.AllowXCLIENT, b.AllowXCLIENT)
	set(&o.RequireProxyProtocol, b.RequireProxyProtocol)
	set(&o.TraceHeaders, b.TraceHeaders)
	set(&o.TLS, b.TLS)
	if len(b.Meta) > 0 {
		meta := maps.Clone(o.Meta) // o's may be the configuration's own
		if meta == nil {
			meta = make(map[string]any, len(b.Meta))
		}
		maps.Copy(meta, b.Meta)
		o.Meta = meta
	}
	if inner, ok := longestPrefix(b.Peer, peer); ok {
		o.apply(&inner, peer, via)
	}
	if inner, ok := longestPrefix(b.Via, via); ok {
		o.apply(&inner, peer, via)
	}
}

func set[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

func longestPrefix(blocks map[netip.Prefix]Options, a netip.Addr) (best Options, ok bool) {
	bits := -1
	for p, o := range blocks {
		if p.Bits() > bits && p.Contains(a) {
			bits, best, ok = p.Bits(), o, true
		}
	}
	return best, ok
}

// check finds values that mean nothing, in o and all blocks in it.
func (o *Options) check() error {
	for _, f := range [...]struct {
		name  string
		value int64
	}{
		{"ClientTimeout", int64(o.ClientTimeout)}, {"DataProcessingTimeout", int64(o.DataProcessingTimeout)},
		{"MaxMessagesPerConnection", int64(o.MaxMessagesPerConnection)}, {"MaxRecipientsPerMessage", int64(o.MaxRecipientsPerMessage)},
		{"MaxMessageSize", o.MaxMessageSize}, {"DataBufferSize", int64(o.DataBufferSize)}, {"LineLengthHardLimit", int64(o.LineLengthHardLimit)},
	} {
		if f.value < 0 {
			return fmt.Errorf("smtpserver: Options.%s is %d, want more than 0, or 0 for the default", f.name, f.value)
		}
	}
	if o.BatchHandling > BatchByDomain {
		return fmt.Errorf("smtpserver: Options.BatchHandling is %d, want BifurcateAlways or BatchByDomain", o.BatchHandling)
	}
	if o.InvalidLineEndings > Fix {
		return fmt.Errorf("smtpserver: Options.InvalidLineEndings is %d, want Deny, Allow or Fix", o.InvalidLineEndings)
	}
	if t := o.TraceHeaders; t != nil && !isFieldName(t.HeaderName) && t.HeaderName != "" {
		return fmt.Errorf("smtpserver: Options.TraceHeaders.HeaderName is %q, want the name of a header field", t.HeaderName)
	}
	for _, s := range [...]string{o.Hostname, o.Banner} {
		if !isPrintable(s) {
			return fmt.Errorf("smtpserver: Options.Hostname or Banner is %q, want printable characters", s)
		}
	}
	for _, blocks := range [...]map[netip.Prefix]Options{o.Peer, o.Via} {
		for p, b := range blocks {
			if err := b.check(); err != nil {
				return fmt.Errorf("%w (in the block for %s)", err, p)
			}
		}
	}
	return nil
}

func on(b *bool) bool { return b != nil && *b }

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// isFieldName: RFC 5322, 3.6.8.
func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return s != ""
}

// isPrintable says whether s is free of control characters.
func isPrintable[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
