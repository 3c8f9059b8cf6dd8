package smtpclient

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// Error is what ended a connection, or kept it from being of use. [errors.As] finds it through any wrapping.
type Error struct {
	Phase    Phase
	Command  string          // that was to be answered, without CRLF; a password is left out
	Response mtakit.Response // the reply, if the trouble is that; Code 0 is none
	PeerName string          // host name
	PeerAddr netip.AddrPort
	Err      error // what went wrong underneath; nil if the reply says it all
	// Unknown says that the end of a message was sent and no reply came: whether the peer has taken it is not known, and
	// another attempt may repeat it.
	Unknown bool

	text string // in place of what Error would make up
}

func (e *Error) Error() string {
	if e.text != "" {
		return e.text
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", e.PeerAddr)
	switch {
	case e.Unknown:
		b.WriteString("no reply after the end of the message, whether the peer has taken it is unknown")
	case e.Phase == PhaseConnect || e.Phase == PhaseBanner:
		b.Reset()
		fmt.Fprintf(&b, "connect to %s and read initial banner", e.PeerAddr)
	case e.Command != "":
		b.WriteString(e.Command)
	default:
		b.WriteString(string(e.Phase))
	}
	if e.Response.Code != 0 {
		fmt.Fprintf(&b, ": the peer answered %s", e.Response)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap is Err.
func (e *Error) Unwrap() error { return e.Err }

// Errors that the Err of an [*Error] may wrap.
var (
	// ErrProtocol: the peer doesn't keep to the protocol, and what it says next cannot be told from what it said before.
	ErrProtocol = errors.New("the peer breaks the protocol")
	// ErrReplyTooLong: a reply has a line over 4096 bytes, over 100 lines, or over 64 KiB.
	ErrReplyTooLong = errors.New("the reply is too long")
	// ErrNoCertificates: there is no CA certificate to verify the peer with.
	ErrNoCertificates = errors.New("this system has no CA certificates to verify it with: install the ca-certificates package, " +
		"or set SSL_CERT_FILE to a file with them, or choose enable_tls=OpportunisticInsecure to do without verification")
)

// timeoutError is the end of a wait that the path's configuration bounds.
type timeoutError struct {
	wait   time.Duration
	action string // "to write …" or "for response to …"
}

func (e *timeoutError) Error() string {
	return "Timed Out waiting " + mtakit.Duration(e.wait).String() + " " + e.action
}
func (e *timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// notAttempted wraps err so that the delivery costs no attempt.
func notAttempted(err error) error { return fmt.Errorf("%w: %w", mtakit.ErrNotAttempted, err) }

// SourceFailure is the way in which a source of mail, rather than its destination, has failed.
type SourceFailure string

// Failures of a source.
const (
	BindFailed      SourceFailure = "BindFailed"      // the source address could not be used, for another reason than the next
	Unplumbed       SourceFailure = "Unplumbed"       // it is not on this machine
	ProxyFailed     SourceFailure = "ProxyFailed"     // the proxy could not be reached
	ProxyBindFailed SourceFailure = "ProxyBindFailed" // the proxy has not got the source address
	ProxyHandshake  SourceFailure = "ProxyHandshake"  // the proxy refused or broke off
)

// SourceError says that a connection failed on this side of the net.
type SourceError struct {
	Source string
	Kind   SourceFailure
	Err    error
	text   string
}

func (e *SourceError) Error() string { return e.text }

// Unwrap is Err.
func (e *SourceError) Unwrap() error { return e.Err }

// ConnectError is that no host of a path could be used.
type ConnectError struct {
	Summary string // a sentence if all the errors are of one kind, with a space after it; else ""
	Errs    []error
}

func (e *ConnectError) Error() string {
	texts := make([]string, len(e.Errs))
	for i, err := range e.Errs {
		texts[i] = err.Error()
	}
	return e.Summary + strings.Join(texts, ", ")
}

// Unwrap is Errs.
func (e *ConnectError) Unwrap() []error { return e.Errs }

// connectError adds the summary.
func connectError(errs []error) *ConnectError {
	kind := func(err error) string {
		var src *SourceError
		if errors.As(err, &src) {
			switch src.Kind {
			case Unplumbed:
				return "All failures are related to having an unplumbed source address. Are the network interfaces provisioned correctly? "
			case ProxyBindFailed:
				return "All failures are related to the proxy server having an unplumbed source address. Are the network interfaces provisioned correctly on the proxy? "
			case ProxyFailed, ProxyHandshake:
				return "All failures are related to proxy connection issues. Is the proxy infrastructure online and healthy? "
			}
		}
		if e := (*Error)(nil); errors.As(err, &e) && e.Phase == PhaseHelloTLS && e.text != "" {
			return "All failures are related to OpportunisticInsecure STARTTLS. Consider setting enable_tls=Disabled for this site. "
		}
		return ""
	}
	e := &ConnectError{Errs: errs}
	for i, err := range errs {
		if k := kind(err); i == 0 {
			e.Summary = k
		} else if k != e.Summary {
			e.Summary = ""
		}
	}
	return e
}

// isTimeout says whether a deadline of ours has passed.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
