package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/emersion/go-smtp"

	"github.com/mtakit/mtakit"
)

// Policy decides what is accepted. Every field may be nil. Callbacks run on the goroutine of the connection, those of several connections at
// the same time; ctx ends after [Options.DataProcessingTimeout] or with the Server. They may read everything of the Session and change what
// its Meta returns. The package comment has their order and says what errors mean.
type Policy struct {
	// Options is asked for each connection, and again after XCLIENT: a block to lay over the Server's, or nil.
	Options func(ctx context.Context, s *Session) (*Options, error)
	// Connect is asked before the banner. A refusal takes its place and ends the session.
	Connect func(ctx context.Context, s *Session) error
	// Ehlo is asked for EHLO, and for HELO with nil keywords. It returns the keywords to announce.
	Ehlo func(ctx context.Context, s *Session, domain string, keywords []string) ([]string, error)
	// Mail is asked for MAIL; sender is without <>, "" for the null sender.
	Mail func(ctx context.Context, s *Session, sender string) error
	// ListenerDomain tells how a domain is treated, nil for no special way. Domains are in lower case, "" for the null sender and
	// postmaster. Answers are kept for the session, until AUTH or XCLIENT makes it another's.
	ListenerDomain func(ctx context.Context, s *Session, domain string) (*ListenerDomain, error)
	// Rcpt is asked for RCPT, after relaying and limits were checked.
	Rcpt func(ctx context.Context, s *Session, rcpt string) error
	// Data is asked when the data is there; m has all recipients, and no ID as yet. It may change everything.
	Data func(ctx context.Context, s *Session, m *Mail) error
	// Split says which recipients make up a message each; nil leaves it to Options.BatchHandling.
	Split func(ctx context.Context, s *Session, m *Mail) ([][]string, error)
	// Received is asked for each message of the transaction. It may change everything but the ID; a Delay sets when the message is due.
	Received func(ctx context.Context, s *Session, m *Mail) error
	// Report is asked for each message whose recipient's domain logs reports: it says whether the message is one, and records it.
	Report func(ctx context.Context, s *Session, m *Mail, d *ListenerDomain) (Report, error)
	// Reply may rewrite a reply. Code 0 in the answer leaves it as it was.
	Reply func(s *Session, r mtakit.Response) mtakit.Response
}

// ListenerDomain is how mail of a domain is treated.
type ListenerDomain struct {
	RelayTo   bool           // mail to it is accepted from anywhere
	RelayFrom []netip.Prefix // clients that may send from it anywhere
	LogOOB    ReportMode     // bounces that come to it
	LogARF    ReportMode     // feedback reports (RFC 5965) that come to it
}

// ReportMode is what happens with a report. Other than Ignore, it makes its domain accept mail, and decides for reports whether
// they are passed on, whatever the relay rules say.
type ReportMode uint8

// Modes of reports.
const (
	Ignore ReportMode = iota
	LogThenDrop
	LogThenRelay
)

func (m ReportMode) String() string {
	return [...]string{"Ignore", "LogThenDrop", "LogThenRelay"}[min(m, LogThenRelay)]
}

// Report is what a message turned out to be.
type Report uint8

// Kinds of reports.
const (
	NoReport  Report = iota
	OOBReport        // a delivery status notification (RFC 3464)
	ARFReport        // a feedback report (RFC 5965)
)

// ErrStarting is for [Server.Admit]: the spool has not been read so far that messages can be taken.
var ErrStarting = errors.New("smtpserver: waiting for spool startup")

// verdict is the reply that err asks for, if it is one of the errors policy may answer with.
func verdict(err error) (r mtakit.Response, hangup, ok bool) {
	if e, is := errors.AsType[*mtakit.Reject](err); is {
		r, hangup = e.Response, e.Hangup
	} else if e, is := errors.AsType[*mtakit.Delay](err); is {
		r = mtakit.Response{Code: 451, Enhanced: [3]uint16{4, 7, 1}, Text: e.Reason}
	} else if e, is := errors.AsType[*smtp.SMTPError](err); is {
		r = mtakit.Response{Code: e.Code, Text: e.Message}
		for i, n := range e.EnhancedCode { // NoEnhancedCode is negative; unset is zero, which go-smtp fills
			r.Enhanced[i] = uint16(max(n, 0))
		}
		if e.EnhancedCode == smtp.EnhancedCodeNotSet && e.Code >= 400 {
			r.Enhanced = [3]uint16{uint16(e.Code / 100)}
		}
	}
	return r, hangup, r.Temporary() || r.Permanent()
}

// call runs a callback, which may take its time: the reply to a message that came before is not held back for so long, since a client that misses it sends the
// message again.
func call[T any](s *Session, ctx context.Context, name string, f func(context.Context) (T, error)) (v T, err error) {
	if s.pressing {
		s.flush() // the next write finds out if this one fails
	}
	return guard(s, ctx, name, f)
}

// guard runs a callback under a deadline, with a panic turned into an error.
func guard[T any](s *Session, ctx context.Context, name string, f func(context.Context) (T, error)) (v T, err error) {
	if _, has := ctx.Deadline(); !has { // that of the transaction
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opt.DataProcessingTimeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{name, p}
		}
		if s.trace != nil && s.trace.Callback != nil {
			s.trace.Callback(s, name, any(v), err)
		}
	}()
	return f(ctx)
}

// ask is call for a callback that has only an error to return.
func ask(s *Session, ctx context.Context, name string, f func(context.Context) error) error {
	_, err := call(s, ctx, name, func(ctx context.Context) (any, error) { return nil, f(ctx) })
	return err
}

type panicError struct {
	callback string
	value    any
}

func (e *panicError) Error() string { return fmt.Sprintf("panic in %s: %v", e.callback, e.value) }

// listenerDomain asks the policy about a domain, once per session.
func (s *Session) listenerDomain(ctx context.Context, domain string) (*ListenerDomain, error) {
	if s.srv.Policy.ListenerDomain == nil {
		return nil, nil
	}
	if d, ok := s.domains[domain]; ok {
		return d, nil
	}
	d, err := call(s, ctx, "get_listener_domain domain="+domain, func(ctx context.Context) (*ListenerDomain, error) {
		return s.srv.Policy.ListenerDomain(ctx, s, domain)
	})
	if err != nil {
		return nil, fmt.Errorf("get_listener_domain: %v", err) // not a place to refuse
	}
	if s.domains == nil || len(s.domains) >= 16 {
		s.domains = make(map[string]*ListenerDomain)
	}
	s.domains[domain] = d
	return d, nil
}

// mayRelay says whether the session may send from one domain to another, and what is special about the recipient's.
func (s *Session) mayRelay(ctx context.Context, sender, rcpt string) (relay bool, to *ListenerDomain, err error) {
	from, err := s.listenerDomain(ctx, lowerDomain(sender))
	if err != nil {
		return false, nil, err
	}
	if to, err = s.listenerDomain(ctx, lowerDomain(rcpt)); err != nil {
		return false, nil, err
	}
	peer := s.peer.Addr.Addr()
	return contains(s.opt.RelayHosts, peer) || from != nil && contains(from.RelayFrom, peer) || to != nil && to.RelayTo, to, nil
}

func (d *ListenerDomain) logsReports() bool {
	return d != nil && (d.LogOOB != Ignore || d.LogARF != Ignore)
}
