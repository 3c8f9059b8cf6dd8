package mtakit

import "strings"

// QueueName says which scheduled queue holds a message: campaign:tenant@domain!routing. Empty parts are unset.
// Domain is the lower-cased domain of the first recipient; Routing, if set, is the domain whose hosts take the mail
// instead.
type QueueName struct{ Campaign, Tenant, Domain, Routing string }

// ParseQueueName is the inverse of [QueueName.String]: it splits at the first @, the part before that at the first
// colon into campaign and tenant (without a colon it is the tenant), and the rest at the first exclamation mark.
// Every text is the name of some queue.
func ParseQueueName(s string) QueueName {
	var q QueueName
	rest := s
	if prefix, after, ok := strings.Cut(s, "@"); ok {
		rest = after
		if c, t, ok := strings.Cut(prefix, ":"); ok {
			q.Campaign, q.Tenant = c, t
		} else {
			q.Tenant = prefix
		}
	}
	q.Domain, q.Routing, _ = strings.Cut(rest, "!")
	return q
}

// String prints the name: campaign:tenant@domain, campaign:@domain, tenant@domain or domain, with !routing after it
// where that is set.
func (q QueueName) String() string {
	if q.Campaign == "" && q.Tenant == "" && q.Routing == "" {
		return q.Domain
	}
	return string(q.Append(make([]byte, 0, len(q.Campaign)+len(q.Tenant)+len(q.Domain)+len(q.Routing)+3)))
}

// Append appends what String returns.
func (q QueueName) Append(dst []byte) []byte {
	if q.Campaign != "" {
		dst = append(append(dst, q.Campaign...), ':')
	}
	dst = append(dst, q.Tenant...)
	if q.Campaign != "" || q.Tenant != "" {
		dst = append(dst, '@')
	}
	dst = append(dst, q.Domain...)
	if q.Routing != "" {
		dst = append(append(dst, '!'), q.Routing...)
	}
	return dst
}

// RoutingDomain is the domain whose hosts take the mail: Routing if set, else Domain.
func (q QueueName) RoutingDomain() string {
	if q.Routing != "" {
		return q.Routing
	}
	return q.Domain
}

// MarshalText returns String as bytes.
func (q QueueName) MarshalText() ([]byte, error) { return q.Append(nil), nil }

// UnmarshalText is [ParseQueueName].
func (q *QueueName) UnmarshalText(b []byte) error {
	*q = ParseQueueName(string(b))
	return nil
}

// NullQueue at reception means: accept, record the reception, keep nothing.
const NullQueue = "null"

// DeferredInjectQueue is the queue of messages that reception has accepted without asking policy about them: the engine asks in its place, and moves
// them to their queues.
const DeferredInjectQueue = "deferred_smtp_inject.kumomta.internal"
