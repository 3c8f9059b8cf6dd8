package smtpclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mtakit/mtakit"
)

// Egress is [mtakit.Egress] over SMTP and LMTP. The zero value works. Its exported fields must not be changed once it is in use; it
// must not be copied, and is safe for concurrent use. It is a [mtakit.Collector] too.
type Egress struct {
	// Resolver finds the addresses of hosts. Nil is the system's, without a cache of its own.
	Resolver mtakit.Resolver

	// Hostname is what we call ourselves where neither path nor source has a name. "" is the name of the machine.
	Hostname string

	// Dial makes a TCP connection from local, which is invalid where the system chooses, to remote. Nil is the system's.
	Dial func(ctx context.Context, local netip.Addr, remote netip.AddrPort) (net.Conn, error)

	// RootCAs is what certificates are verified with. Nil is the system's store, which SSL_CERT_FILE and SSL_CERT_DIR move.
	RootCAs *x509.CertPool

	// TLSConfig has the last word on how the connection to a host is encrypted.
	TLSConfig func(p *mtakit.Path, host string, c *tls.Config)

	// Trace gives the functions that follow a session; it, and what it returns, may be nil.
	Trace func(p *mtakit.Path, sessionID string) *Trace

	// SourceFailed is told of failures that the health of a source is judged by; health is [HealthUnplumbed] or [HealthProxy]. It must
	// not block.
	SourceFailed func(s *mtakit.Source, health string, err error)

	// Log is where hosts are named that cannot be looked up. Nil is nowhere.
	Log *slog.Logger

	stats    stats
	sys      sync.Once
	sysRoots *x509.CertPool
	sysErr   error

	// mu guards what is remembered.
	mu        sync.Mutex
	brokenTLS map[string]time.Time // until when, by the name of the ready queue
	secrets   map[string]kept[[]byte]
	pairs     map[string]kept[*tls.Certificate]
}

var (
	_ mtakit.Egress    = (*Egress)(nil)
	_ mtakit.Collector = (*Egress)(nil)
	_ mtakit.Redialer  = (*session)(nil)
)

// Connect resolves the hosts of the path's site and goes through their addresses until one takes us: banner, EHLO, TLS and AUTH as
// the path says. The session is a [mtakit.Redialer]. The error is a [*mtakit.PathError] if no address may be used at all, else a
// [*ConnectError] with the reasons of every address.
func (e *Egress) Connect(ctx context.Context, p *mtakit.Path) (mtakit.Session, error) {
	if p.Site == nil {
		return nil, fmt.Errorf("smtpclient: the path %s has no site", p.Name)
	}
	if p.PathConfig == nil {
		c := mtakit.DefaultPathConfig()
		q := *p
		q.PathConfig = &c
		p = &q
	}
	s := &session{e: e, path: p}
	s.info.ID = newUUID()
	if e.Trace != nil {
		s.trace = e.Trace(p, s.info.ID)
	}
	plan, failed, err := e.plan(ctx, p)
	for _, ferr := range failed {
		s.trace.note(slog.LevelWarn, ferr.Error())
		if e.Log != nil {
			e.Log.WarnContext(ctx, "host skipped", "site", p.Site.Name, "err", ferr)
		}
	}
	if err != nil {
		s.trace.note(slog.LevelError, err.Error())
		return nil, err
	}
	if s.plan = plan; s.trace != nil && s.trace.Plan != nil {
		s.trace.Plan(plan)
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (e *Egress) resolver() mtakit.Resolver {
	if e.Resolver != nil {
		return e.Resolver
	}
	return systemResolver{}
}

// helloName is what we call ourselves.
func (e *Egress) helloName(p *mtakit.Path) string {
	name := p.EHLODomain
	if p.Source != nil {
		name = cmp.Or(name, p.Source.EHLODomain)
	}
	if name = cmp.Or(name, e.Hostname); name == "" {
		name, _ = os.Hostname()
	}
	return cmp.Or(name, "[127.0.0.1]")
}

// rememberBroken notes that TLS with the path's site doesn't work; isBroken asks.
func (e *Egress) rememberBroken(p *mtakit.Path) {
	d := p.RememberBrokenTLS.Std()
	if d <= 0 {
		if !p.OpportunisticTLSReconnectOnFailedHandshake {
			return
		}
		d = 15 * time.Minute
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.brokenTLS == nil {
		e.brokenTLS = map[string]time.Time{}
	}
	for name, until := range e.brokenTLS {
		if !now.Before(until) {
			delete(e.brokenTLS, name)
		}
	}
	e.brokenTLS[p.Name] = now.Add(d)
}

func (e *Egress) isBroken(p *mtakit.Path) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	until, ok := e.brokenTLS[p.Name]
	return ok && time.Now().Before(until)
}

// newUUID is a random UUID (RFC 9562, 5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

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
		s.trace.note(slog.LevelError, err.Error())
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
		return &Error{Phase: PhaseConnect, PeerName: c.Host, PeerAddr: c.Addr, Err: err}
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

// Send implements [mtakit.Session]; see [Conn.Send].
func (s *session) Send(ctx context.Context, d *mtakit.Delivery, next func() *mtakit.Delivery) error {
	if s.conn == nil {
		return notAttempted(errNoHosts)
	}
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
