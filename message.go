package mtakit

import (
	"io"
	"strings"
	"time"
)

// Message is the envelope and metadata of a stored message. It is in memory only while the message is received,
// delivered or looked at; a waiting message is an [Entry]. A Message has one owner at a time and is not safe for
// concurrent use.
type Message struct {
	ID       ID
	Sender   string         // reverse-path without <>; "" is the null sender
	To       []string       // forward-paths without <>; at least one
	Meta     map[string]any // JSON values, whose whole numbers stay as they are; nil is empty. Names of ours are the Meta constants; yours begin with x_
	Queue    QueueName      // the scheduled queue; if zero, Submit derives it with [Message.DeriveQueue]
	Size     int64          // bytes of the body
	Due      time.Time      // zero is now
	Tries    int            // attempts that count
	Schedule *Schedule      // when it may be sent; nil is always
}

// Names of metadata that mtakit itself sets or reads.
const (
	MetaReceptionProtocol = "reception_protocol" // ESMTP, HTTP or LogRecord
	MetaReceivedFrom      = "received_from"      // peer, IP:port
	MetaReceivedVia       = "received_via"       // our side, IP:port
	MetaHostname          = "hostname"           // of the listener
	MetaEHLODomain        = "ehlo_domain"        // what the client called itself
	MetaAuthnID           = "authn_id"           // SMTP AUTH identity
	MetaAuthzID           = "authz_id"
	MetaTLSCipher         = "tls_cipher"
	MetaTLSProtocol       = "tls_protocol_version"
	MetaTLSPeerSubject    = "tls_peer_subject_name" // []string
	MetaQueue             = "queue"                 // a whole queue name, used as it is
	MetaTenant            = "tenant"
	MetaCampaign          = "campaign"
	MetaRoutingDomain     = "routing_domain"
)

// MetaString returns the metadata named key if it is a string, else "".
func (m *Message) MetaString(key string) string {
	s, _ := m.Meta[key].(string)
	return s
}

// DeriveQueue computes the name of the scheduled queue from the metadata queue, campaign, tenant and routing_domain
// and the domain of the first recipient. It fails with [*BadMetaError] if one of these is not a string.
func (m *Message) DeriveQueue() (QueueName, error) {
	var q QueueName
	for _, f := range [...]struct {
		key string
		dst *string
	}{{MetaQueue, nil}, {MetaCampaign, &q.Campaign}, {MetaTenant, &q.Tenant}, {MetaRoutingDomain, &q.Routing}} {
		v, ok := m.Meta[f.key]
		if !ok || v == nil {
			continue
		}
		s, ok := v.(string)
		if !ok {
			return QueueName{}, &BadMetaError{Key: f.key}
		}
		if f.dst == nil {
			return ParseQueueName(s), nil
		}
		*f.dst = s
	}
	if len(m.To) > 0 {
		q.Domain = strings.ToLower(Domain(m.To[0]))
	}
	return q, nil
}

// BadMetaError says that the metadata named Key has a type that its use does not allow.
type BadMetaError struct{ Key string }

func (e *BadMetaError) Error() string { return "mtakit: metadata " + e.Key + " is not a string" }

// Domain is what follows the last @ of an address; "" if there is none.
func Domain(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return address[i+1:]
	}
	return ""
}

// Body is the bytes of a stored message: CRLF line ends, dots not stuffed. ReadAt may be called concurrently.
// Whoever opened it closes it, or hands that duty on with it.
type Body interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// ChunkedBody is a Body whose bytes are in memory. Spools and sessions use Chunks in place of ReadAt where it is there.
type ChunkedBody interface {
	Body
	// Chunks appends slices to dst that in this order are the body. They are read-only and valid until Close.
	Chunks(dst [][]byte) [][]byte
}

// Bytes is a Body in memory; Close does nothing.
type Bytes []byte

// ReadAt implements [io.ReaderAt].
func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close does nothing.
func (b Bytes) Close() error { return nil }

// Size is len(b).
func (b Bytes) Size() int64 { return int64(len(b)) }

// Chunks implements [ChunkedBody].
func (b Bytes) Chunks(dst [][]byte) [][]byte { return append(dst, b) }

// Entry stands for a waiting message. A Scheduler holds millions and packs them.
type Entry struct {
	ID    ID
	Queue QueueName // strings shared by all entries of the queue
	Due   time.Time // to the second in a Scheduler; zero is now
	Tries int
}

// Submission is a message with its body, on the way from reception to the spool and the queue.
type Submission struct {
	Message *Message
	Body    Body
}
