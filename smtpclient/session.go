package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mtakit/mtakit"
)

// session is a connection with the candidates that are left.
type session struct {
	e     *Egress
	path  *mtakit.Path
	trace *Trace
	plan  []Candidate // next first
	cur   Candidate
	conn  *Conn // nil if there is none
	info  mtakit.SessionInfo
	clear bool // TLS has failed in this session: where it may be, the connection is in clear
}

// connect tries the candidates in turn.
func (s *session) connect(ctx context.Context) error {
	var errs []error
	for len(s.plan) > 0 {
		s.cur, s.plan = s.plan[0], s.plan[1:]
		err := s.attempt(ctx)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return errNoHosts
	}
	return connectError(errs)
}

var errNoHosts = errors.New("smtpclient: no further hosts")

// attempt makes a connection to the current candidate that is ready for mail.
func (s *session) attempt(ctx context.Context) error {
	p, c := s.path, s.cur
	if s.trace != nil && s.trace.Connecting != nil {
		s.trace.Connecting(c.Host, c.Addr)
	}
	start := time.Now()
	d, err := s.e.dial(ctx, p, c)
	if err != nil {
		err = &Error{Phase: PhaseConnect, PeerName: c.Host, PeerAddr: c.Addr, Err: err}
		s.trace.note(slog.LevelError, err.Error())
		return err
	}
	s.info = mtakit.SessionInfo{ID: s.info.ID, PeerName: c.Host, PeerAddr: c.Addr, Secure: c.Secure, Protocol: "ESMTP",
		LocalAddr: d.local, ProxyServer: d.proxy, ProxyProtocol: d.protocol}
	if p.UseLMTP {
		s.info.Protocol = "LMTP"
	}
	if s.trace != nil && s.trace.Connected != nil {
		s.trace.Connected(&s.info, time.Since(start))
	}
	conn, err := NewConn(ctx, d.Conn, Config{PeerName: c.Host, PeerAddr: c.Addr, Path: p.PathConfig, QueueName: p.Name, Trace: s.trace})
	if err != nil {
		return err
	}
	err = conn.Hello(ctx, s.e.helloName(p))
	verified := false
	if err == nil {
		verified, err = s.encrypt(ctx, conn)
	}
	if err == nil {
		err = s.authenticate(ctx, conn, verified)
	}
	if err != nil {
		if conn.dead == nil { // else the trace hears of it when the connection is closed
			s.trace.note(slog.LevelError, err.Error())
		}
		s.abandon(conn, err)
		return err
	}
	if t := conn.TLS(); t != nil {
		s.info.TLSVersion, s.info.TLSCipher = tlsVersions[t.Version], tls.CipherSuiteName(t.CipherSuite)
		if len(t.PeerCertificates) > 0 {
			s.info.TLSSubject = subject(t.PeerCertificates[0])
		}
	}
	s.conn = conn
	return nil
}

// abandon closes a connection that is of no use. A peer that waits for a handshake is not told QUIT in clear.
func (s *session) abandon(conn *Conn, err error) {
	var e *Error
	if errors.As(err, &e) && (e.Phase == PhaseHandshake || e.Phase == PhaseHelloTLS) {
		conn.Close()
		return
	}
	conn.Quit(min(phaseTimeout(s.path.PathConfig, PhaseIdle), 2*time.Second))
}

// encrypt does what the path's mode asks for, by what the peer offers and what is known of it. verified says whether the peer has
// proved who it is.
func (s *session) encrypt(ctx context.Context, conn *Conn) (verified bool, err error) {
	p, c := s.path, s.cur
	pos := s.e.posture(p, c)
	_, offered := conn.Extension("STARTTLS")
	switch {
	case pos.mode == mtakit.TLSDisabled:
		return false, nil
	case !offered && pos.required():
		return false, s.refuse(fmt.Sprintf("tls policy is %s but STARTTLS is not advertised by %s", pos.mode, c.Addr))
	case !offered, !pos.required() && (s.clear || s.e.isBroken(p)):
		return false, nil
	}
	cfg, err := s.e.tlsConfig(p, c, pos)
	if err != nil {
		return false, &Error{Phase: PhaseHandshake, PeerName: c.Host, PeerAddr: c.Addr, Err: err}
	}
	name := s.e.helloName(p)
	err = conn.StartTLS(ctx, cfg)
	handshake := err
	var e *Error
	switch errors.As(err, &e); {
	case err == nil:
		err = conn.Hello(ctx, name)
	case e.Phase != PhaseHandshake || ctx.Err() != nil:
		return false, err
	case isTimeout(err):
		// A peer, or something on the way to it, that cannot take the large first message of the key exchange is silent.
		if !c.classic {
			c.classic = true
			s.plan = append([]Candidate{c}, s.plan...)
		}
		return false, err
	}
	if err == nil {
		return pos.verify != nil, nil
	}
	if ctx.Err() != nil {
		return false, err
	}
	s.e.rememberBroken(p)
	s.clear = true
	if !pos.required() && p.OpportunisticTLSReconnectOnFailedHandshake {
		s.plan = append([]Candidate{c}, s.plan...)
		errors.As(err, &e)
		e.text = err.Error() + " will re-connect in the clear because opportunistic_tls_reconnect_on_failed_handshake=true"
		return false, err
	}
	if pos.mode != mtakit.TLSOpportunisticInsecure {
		return false, err
	}
	status := "OK"
	if handshake != nil { // the connection is as it was
		status = "failed: " + handshake.Error()
		if err = conn.Hello(ctx, name); err == nil {
			return false, nil
		}
	}
	errors.As(err, &e)
	e.Phase, e.text = PhaseHelloTLS, fmt.Sprintf("%s: EHLO after OpportunisticInsecure STARTTLS handshake status: %s: %v", c.Addr, status, err)
	return false, err
}

// refuse is an error of policy about the current candidate.
func (s *session) refuse(text string) error {
	return &Error{Phase: PhaseAuth, PeerName: s.cur.Host, PeerAddr: s.cur.Addr, text: text}
}

// authenticate does AUTH PLAIN if the path has a user, and if the password is safe.
func (s *session) authenticate(ctx context.Context, conn *Conn, verified bool) error {
	p := s.path
	if p.AuthPlainUsername == "" {
		return nil
	}
	if conn.TLS() == nil {
		if !p.AllowAuthPlainWithoutTLS {
			return s.refuse(fmt.Sprintf("TLS is not enabled and AUTH PLAIN is required. Skipping (%s)", s.cur.Addr))
		}
	} else if !verified && !p.AllowAuthPlainWithoutValidCertificate {
		return s.refuse(fmt.Sprintf("TLS peer certificate was not validated and AUTH PLAIN requires a valid certificate. Skipping (%s)", s.cur.Addr))
	}
	var password []byte
	if p.AuthPlainPassword != nil {
		var err error
		if password, err = s.e.secret(p.AuthPlainPassword); err != nil {
			return &Error{Phase: PhaseAuth, PeerName: s.cur.Host, PeerAddr: s.cur.Addr, Err: fmt.Errorf("smtp_auth_plain_password: %w", err)}
		}
	}
	return conn.AuthPlain(ctx, p.AuthPlainUsername, string(password))
}

// watch asks for a trace if there is none.
func (s *session) watch() {
	if s.trace != nil || s.e.Trace == nil {
		return
	}
	if s.trace = s.e.Trace(s.path, &s.info); s.conn != nil {
		s.conn.cfg.Trace = s.trace
	}
}

// Send implements [mtakit.Session]; see [Conn.Send].
func (s *session) Send(ctx context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	if s.conn == nil {
		return notAttempted(errNoHosts)
	}
	s.watch()
	err := s.conn.Send(ctx, d, next)
	if err != nil {
		s.conn.Close()
		s.conn = nil
	}
	return err
}

// Redial implements [mtakit.Redialer].
func (s *session) Redial(ctx context.Context) error {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	switch s.path.ReconnectStrategy {
	case mtakit.TerminateSession:
		s.plan = nil
	case mtakit.ReconnectSameHost:
		s.plan = append([]Candidate{s.cur}, s.plan...)
	}
	return s.connect(ctx)
}

// Info implements [mtakit.Session].
func (s *session) Info() *mtakit.SessionInfo { return &s.info }

// Close says QUIT and waits for the answer for at most the idle timeout.
func (s *session) Close() error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	return conn.Quit(phaseTimeout(s.path.PathConfig, PhaseIdle))
}
