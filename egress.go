package mtakit

import (
	"context"
	"errors"
	"net/netip"
)

// Egress opens sessions. SMTP, LMTP, maildir, HTTP and discard are implementations. It is called concurrently.
type Egress interface {
	// Connect opens a session on the path. The end of ctx ends the attempt, not the session. A [*PathError] settles every
	// message of the path; any other error means that no host could be reached, and its text says why for each.
	Connect(ctx context.Context, p *Path) (Session, error)
}

// EgressFunc is a function as an Egress.
type EgressFunc func(ctx context.Context, p *Path) (Session, error)

// Connect calls f.
func (f EgressFunc) Connect(ctx context.Context, p *Path) (Session, error) { return f(ctx, p) }

// EgressMap is an Egress that has one for each protocol, by [Protocol.MetricsName]: smtp_client, xfer, lua. Messages for others are kept, and the record says
// why. It is not changed once it is in use.
type EgressMap map[string]Egress

// Connect implements [Egress].
func (m EgressMap) Connect(ctx context.Context, p *Path) (Session, error) {
	if e := m[p.Protocol.MetricsName()]; e != nil {
		return e.Connect(ctx, p)
	}
	return nil, &PathError{Reason: "FailedToInsertIntoReadyQueue", Response: Response{Code: 451, Enhanced: [3]uint16{4, 3, 5},
		Text: Internal + "this program has no delivery by " + p.Protocol.ReadySuffix()}}
}

// Session delivers messages one after the other; one goroutine uses it.
type Session interface {
	// Send attempts d and appends one Result to d.Results for each recipient that was answered, whatever the answer. A
	// non-nil error means that the session is finished; recipients without a Result were not answered. If the error wraps
	// [ErrNotAttempted] the peer saw nothing of d. Send keeps d only if next announced it. The end of ctx cuts the session.
	//
	// next, unless nil, gives the delivery that follows d, or nil if there is none as yet. A session that can send the
	// envelope of the following message together with the end of this one calls it, at most once and before Send
	// returns; the delivery is then announced, and the next call of Send must be for it, unless the error was non-nil: then
	// nothing of it was accepted and it is to be sent elsewhere.
	Send(ctx context.Context, d *Delivery, next func() *Delivery) error
	// Info tells about the connection; it is valid until the next call of Send.
	Info() *SessionInfo
	// Close says goodbye, as politely as the state of the session allows, and gives up everything it holds.
	Close() error
}

// Redialer is a Session that may know of further hosts after its peer failed.
type Redialer interface {
	Session
	// Redial, after an error of Send, goes on with the next host, or with the same one as the path's reconnect strategy says.
	// An error means that there is none.
	Redial(ctx context.Context) error
}

// ErrNotAttempted: the peer closed, or the session ended, before anything of the delivery was sent; it costs no attempt.
var ErrNotAttempted = errors.New("mtakit: not attempted")

// Delivery is a message on its way through a session.
type Delivery struct {
	Message *Message
	Body    Body
	Pool    string   // the egress pool that its queue uses
	Rcpts   []int    // which of Message.To
	Results []Result // filled by Send
}

// Result is the peer's answer for one recipient.
type Result struct {
	Rcpt     int // index in Message.To
	Response Response
}

// SessionInfo is what records say about a session.
type SessionInfo struct {
	ID            string // a UUID
	PeerName      string // host name, as the site has it
	PeerAddr      netip.AddrPort
	Secure        bool           // the address came from a DNSSEC-secure answer
	LocalAddr     netip.AddrPort // the source address
	ProxyServer   netip.AddrPort
	ProxyProtocol string // haproxy, socks5 or ""
	Protocol      string // ESMTP, LMTP, Maildir …
	TLSVersion    string // TLSv1.3; "" without TLS
	TLSCipher     string
	TLSSubject    []string // KEY=VALUE of the peer's certificate
}

// PathError settles every message of a path at once: 5xx bounces it, anything else keeps it for another try.
type PathError struct {
	Response Response
	Reason   string // FailedDueToNullMx, MxResolvedToZeroHosts, MxWasProhibited, MxWasSkipped …
}

func (e *PathError) Error() string { return e.Response.String() }
